"""The number of processes, and how they share the work, changes nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ranks import run_ranks
from toys import toy_packed_run, toy_placement_run, toy_run

from umbel.config import ParallelConfig
from umbel.data.batches import TrainingBatches
from umbel.data.corpus.store import Corpus
from umbel.data.tokenizers import make_tokens
from umbel.train.learner import Learner, untrained_model
from umbel.train.processes import join_world
from umbel.train.step import train_step, validate
from umbel.train.validation import validation_batches


def learnt(run, corpus, n_steps):
    """Take steps; give the first step's gradients (whole), the losses, and what validation says at the end."""
    torch.use_deterministic_algorithms(True)
    with join_world("cpu") as world:
        tokens = make_tokens(run.tokens)
        source = Corpus.open(corpus)
        training = TrainingBatches(source, run, tokens)
        learner = Learner(untrained_model(run, tokens), run, world)
        told, gradients = [], {}
        for step in range(n_steps):
            batches = training.micro_batches(step, run.train.micro_batch_windows, world.rank, world.size)
            report = train_step(learner, batches)
            assert report.problem is None
            told.append([report.metrics.get("loss", 0.0), report.metrics["grad_norm"], report.metrics["accuracy"]])
            if step == 0:
                parts = {name: p.grad for name, p in learner.model.named_parameters()}
                for name, part in learner.spread.saved(parts).items():
                    gradients[name] = (part.full_tensor() if hasattr(part, "full_tensor") else part).numpy().copy()
            learner.step += 1
        measured = validate(learner.model, validation_batches(source, run, tokens), world.device, None)
        weights = {name: tensor.numpy() for name, tensor in learner.spread.whole_weights().items()}
        return gradients, np.array(told), measured["loss"], weights, [layer.load for layer in report.layers]


RUNS = {
    "toy": toy_run(batch_windows=8, balance_coef=0.1, z_coef=0.01),
    "packed": toy_packed_run(batch_windows=8, balance_coef=0.1, z_coef=0.01),
    "placement": toy_placement_run(batch_windows=8, micro_batch_windows=1),
}
TWICE = replace(RUNS["toy"], model=replace(RUNS["toy"].model, n_experts=4, top_k=2, n_shared_experts=1))
RUNS["top-2"] = replace(
    TWICE, model=replace(TWICE.model, gating="bias"), optim=replace(TWICE.optim, kind="muon", schedule="wsd")
)


WAYS = {
    "ddp on 4": (4, ParallelConfig("ddp")),
    "fsdp on 2": (2, ParallelConfig("fsdp")),
    "ddp on 2": (2, ParallelConfig("ddp")),
    "fsdp on 4": (4, ParallelConfig("fsdp")),
    "fsdp on 2, recomputing": (2, ParallelConfig("fsdp", activation_checkpointing=True)),
    "experts on 2 of 4": (4, ParallelConfig("ddp", expert_processes=2)),
    "experts on 2 of 4, fsdp": (4, ParallelConfig("fsdp", expert_processes=2)),
    "experts on 4": (4, ParallelConfig("ddp", expert_processes=4)),
}
CASES = [
    pytest.param(name, way, id=f"{name}, {way}")
    for name in RUNS
    for way in WAYS
    # Four experts go every way, each other objective two of them.
    if name == "top-2" or way in ("ddp on 4", "fsdp on 2")
]


@pytest.fixture(scope="module")
def alone(toy_corpus):
    """What one process finds, for each run."""
    return {name: run_ranks(learnt, 1, run, toy_corpus.path, 3)[0] for name, run in RUNS.items()}


@pytest.mark.parametrize(("name", "way"), CASES)
def test_processes_find_the_gradients_and_losses_of_one(name, way, alone, toy_corpus):
    gradients, told, valid_loss, weights, loads = alone[name]
    size, parallel = WAYS[way]
    shared = replace(RUNS[name], parallel=parallel)
    for other in run_ranks(learnt, size, shared, toy_corpus.path, 3):
        for name, whole in gradients.items():
            difference = np.linalg.norm((other[0][name] - whole).ravel())
            assert difference <= 1e-6 * max(1e-3, np.linalg.norm(whole)), name
        assert other[1] == pytest.approx(told, rel=1e-6)
        assert other[2] == pytest.approx(valid_loss, rel=1e-6)
        assert other[4] == loads
        for name, whole in weights.items():
            assert np.abs(other[3][name] - whole).max() <= 1e-4, name
