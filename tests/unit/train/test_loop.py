"""Bad steps, stops and states in the loop; what a step itself does is in test_step.py."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toys import toy_run

from umbel.config import HealthConfig
from umbel.data.batches import TrainingBatches
from umbel.data.kmers import KmerTokens
from umbel.errors import RunError
from umbel.train import loop, pretrain, starting
from umbel.train.learner import Learner, untrained_model
from umbel.train.processes import World
from umbel.train.state import read_metrics
from umbel.train.step import train_step

CPU, ONE = torch.device("cpu"), KmerTokens(1)
BAD = 7
"""The step of the data whose loss is planted not to be finite."""


@pytest.fixture
def planted(monkeypatch):
    """Let the loss weights of one step of the data be infinite, wherever it is met."""

    def plant(learner, batches, **more):
        if learner.cursor == BAD:
            batches = [replace(b, weights=np.where(b.labels >= 0, np.inf, b.weights)) for b in batches]
        return train_step(learner, batches, **more)

    monkeypatch.setattr(loop, "train_step", plant)


def with_health(**health):
    return replace(toy_run(), health=HealthConfig(**health))


def by_hand(corpus, run, cursors):
    """Take steps on these steps of the data and no others; None is a step without one."""
    learner = Learner(untrained_model(run, ONE), run, World(CPU))
    training = TrainingBatches(corpus, run, ONE)
    for cursor in cursors:
        if cursor is not None:
            train_step(learner, training.micro_batches(cursor, run.train.micro_batch_windows))
        learner.step += 1
    return learner.model.state_dict()


def assert_same_weights(folder, wanted):
    for name, found in load_file(folder / "checkpoint" / "model.safetensors").items():
        assert torch.equal(found, wanted[name]), name


def events(folder):
    return [record for record in read_metrics(folder / "metrics.jsonl") if record["kind"] == "event"]


def test_a_bad_step_stops_the_run_and_other_settings_take_it_past(planted, toy_corpus, tmp_path):
    run, folder = with_health(on_bad_step="stop"), tmp_path / "run"
    for _ in range(2):
        with pytest.raises(RunError, match=r"step 8: the loss is .*\. The run stopped; .*health\.on_bad_step=skip"):
            pretrain.pretrain(run, toy_corpus.path, folder)
    pretrain.pretrain(with_health(on_bad_step="skip"), toy_corpus.path, folder)
    assert_same_weights(folder, by_hand(toy_corpus, run, [*range(7), None, *range(8, 12)]))
    facts = json.loads((folder / "run.json").read_text())
    assert facts["earlier"] == [["config.health.on_bad_step: stop -> skip"]]


def test_a_skipped_step_leaves_the_weights_and_is_told(planted, toy_corpus, tmp_path):
    folder = tmp_path / "run"
    run = with_health(on_bad_step="skip")
    pretrain.pretrain(run, toy_corpus.path, folder)
    assert_same_weights(folder, by_hand(toy_corpus, run, [*range(7), None, *range(8, 12)]))
    (event,) = events(folder)
    assert (event["step"], event["event"]) == (8, "skipped")
    assert "the weights were left as they were: the loss is" in event["text"]
    steps = [record for record in read_metrics(folder / "metrics.jsonl") if record["kind"] == "train"]
    assert [record["step"] for record in steps] == list(range(1, 13))
    assert "loss" not in steps[7] and "grad_norm" not in steps[7]


def test_a_rollback_returns_to_the_last_state_and_leaves_out_the_batches_since(planted, toy_corpus, tmp_path):
    run, folder = with_health(on_bad_step="rollback"), tmp_path / "run"
    pretrain.pretrain(run, toy_corpus.path, folder)
    assert_same_weights(folder, by_hand(toy_corpus, run, [*range(5), *range(8, 15)]))
    (event,) = events(folder)
    assert (event["step"], event["event"], event["from_step"]) == (5, "rolled back", 8)
    told = [record["step"] for record in read_metrics(folder / "metrics.jsonl") if record["kind"] == "train"]
    assert told == list(range(1, 13))


def test_a_rollback_before_the_first_state_begins_anew(planted, toy_corpus, tmp_path):
    run = with_health(on_bad_step="rollback")
    run = replace(run, train=replace(run.train, save_every_steps=12))
    pretrain.pretrain(run, toy_corpus.path, tmp_path / "run")
    assert_same_weights(tmp_path / "run", by_hand(toy_corpus, run, range(8, 20)))


@pytest.mark.parametrize("stop_after", [6, 8, 9, 11])
def test_a_run_killed_about_a_rollback_ends_the_same(stop_after, planted, toy_corpus, tmp_path, monkeypatch):
    run, folder, inner = with_health(on_bad_step="rollback"), tmp_path / "run", loop.train_step
    met = []

    def failing(learner, batches, **more):
        met.append(learner.cursor)
        if learner.cursor == stop_after and met.count(stop_after) == 1:
            raise MemoryError
        return inner(learner, batches, **more)

    monkeypatch.setattr(loop, "train_step", failing)
    with pytest.raises(MemoryError):
        pretrain.pretrain(run, toy_corpus.path, folder)
    pretrain.pretrain(run, toy_corpus.path, folder)
    assert_same_weights(folder, by_hand(toy_corpus, run, [*range(5), *range(8, 15)]))


def test_a_run_that_finds_nothing_but_bad_steps_is_given_up(toy_corpus, tmp_path, monkeypatch):
    def plant(learner, batches, **more):
        batches = [replace(b, weights=np.where(b.labels >= 0, np.inf, b.weights)) for b in batches]
        return train_step(learner, batches, **more)

    monkeypatch.setattr(loop, "train_step", plant)
    with pytest.raises(RunError, match=r"step 3: 3 bad steps with none taken between"):
        pretrain.pretrain(with_health(on_bad_step="skip", max_bad_steps=3), toy_corpus.path, tmp_path / "run")


def test_a_layer_that_uses_one_expert_alone_stops_the_run(toy_corpus, tmp_path, monkeypatch):
    def unable_to_choose(run, tokens):
        model = untrained_model(run, tokens)
        torch.nn.init.zeros_(model.backbone.layers[1].ffn.router.weight.requires_grad_(False))
        return model

    monkeypatch.setattr(starting, "untrained_model", unable_to_choose)
    run = with_health(collapse_steps=4)
    with pytest.raises(
        RunError, match=r"step 4: layer 1 has sent every token to expert 0 since step 1, and the other 2"
    ):
        pretrain.pretrain(run, toy_corpus.path, tmp_path / "run")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_stops(number, toy_corpus, toy_training, tmp_path, monkeypatch):
    def signalled(learner, batches, **more):
        if learner.step == 6:
            os.kill(os.getpid(), number)
        return train_step(learner, batches, **more)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "train_step", signalled)
        pretrain.pretrain(toy_run(), toy_corpus.path, folder)
    states = sorted(path.name for path in (folder / "state").iterdir())
    assert states[-1] == "step-000000008", "the step after the one that heard of it"
    pretrain.pretrain(toy_run(), toy_corpus.path, folder)
    names = ("checkpoint", "best")
    assert all(
        (folder / name / "model.safetensors").read_bytes() == (toy_training / name / "model.safetensors").read_bytes()
        for name in names
    )


def test_the_best_checkpoint_is_that_of_the_lowest_validation_loss(toy_corpus, tmp_path, monkeypatch):
    losses = iter([2.0, 1.5, 1.7, 1.5, 1.6, 1.8])
    monkeypatch.setattr(loop, "validate", lambda *_: {"loss": next(losses), "accuracy": 0.5})
    run = toy_run(eval_every_steps=2)
    pretrain.pretrain(run, toy_corpus.path, tmp_path / "run")
    wanted = by_hand(toy_corpus, run, range(4))
    for name, found in load_file(tmp_path / "run" / "best" / "model.safetensors").items():
        assert torch.equal(found, wanted[name]), name
