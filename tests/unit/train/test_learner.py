"""A state gives back everything that changes, whoever wrote it and whoever reads it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ranks import run_ranks
from toys import toy_run

from umbel.config import ParallelConfig
from umbel.data.batches import TrainingBatches
from umbel.data.corpus.store import Corpus
from umbel.data.kmers import KmerTokens
from umbel.progress import Reporter
from umbel.train.learner import Learner, LossScale, untrained_model
from umbel.train.processes import World, join_world
from umbel.train.state import StateWriter, newest_state
from umbel.train.step import train_step

ONE, SILENT = KmerTokens(1), Reporter(quiet=True)


def run_of(optimiser="adamw", **parallel):
    run = toy_run(ema_decay=0.8)
    model = replace(run.model, n_experts=4, top_k=2, gating="bias", n_shared_experts=1)
    return replace(run, model=model, optim=replace(run.optim, kind=optimiser), parallel=ParallelConfig(**parallel))


def whole(learner):
    """Every tensor of a state, gathered, and its numbers."""
    found = {}
    for name, tensor in learner.tensors().items():
        found[name] = (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().numpy().copy()
    return found, learner.numbers()


def write(run, corpus, folder):
    with join_world("cpu") as world:
        learner = Learner(untrained_model(run, ONE), run, world)
        training = TrainingBatches(Corpus.open(corpus), run, ONE)
        for step in range(2):
            train_step(learner, training.micro_batches(step, 1, world.rank, world.size))
            learner.step += 1
        learner.cursor, learner.best = 7, {"step": 1, "loss": 1.25}
        states = StateWriter(folder, 2, world)
        states.save(2, learner.tensors(), learner.numbers())
        states.close()
        return whole(learner)


def read(run, folder):
    with join_world("cpu") as world:
        learner = Learner(untrained_model(replace(run, train=replace(run.train, seed=9)), ONE), run, world)
        learner.load(*newest_state(folder, SILENT))
        assert (learner.step, learner.cursor) == (2, 7)
        return whole(learner)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_states_pass_between_ways_of_sharing_bit_for_bit(kind, toy_corpus, tmp_path):
    ways = [
        (1, {}),
        (2, {"kind": "fsdp"}),
        (4, {"kind": "fsdp", "expert_processes": 2}),
        (2, {"kind": "ddp", "expert_processes": 2}),
    ]
    for number, (size, parallel) in enumerate(ways):
        folder = tmp_path / str(number)
        wanted, numbers = run_ranks(write, size, run_of(kind, **parallel), toy_corpus.path, folder)[0]
        keys = {name.rsplit(".", 1)[-1] for name in wanted if name.startswith("optimizer.")}
        assert keys == {"exp_avg", "exp_avg_sq", "step"} | ({"momentum_buffer"} if kind == "muon" else set())
        assert any(name.endswith("load_bias") and value.any() for name, value in wanted.items())
        other_size, other = ways[(number + 1) % len(ways)]
        for found, found_numbers in run_ranks(read, other_size, run_of(kind, **other), folder):
            assert found.keys() == wanted.keys()
            assert found_numbers == numbers
            for name, value in wanted.items():
                np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_the_loss_scale_is_part_of_a_state(tmp_path):
    world = World(torch.device("cpu"))
    run = toy_run()
    learner = Learner(untrained_model(run, ONE), run, world, torch.float16)
    learner.scale = LossScale(512.0, 17)
    states = StateWriter(tmp_path, 1, world)
    states.save(3, learner.tensors(), learner.numbers())
    states.close()
    other = Learner(untrained_model(run, ONE), run, world, torch.float16)
    other.load(*newest_state(tmp_path, SILENT))
    assert other.scale == LossScale(512.0, 17)
