"""Fitting to labelled examples: killed anywhere it ends in the same weights; micro-batches and frozen parts."""

import dataclasses
import math
import signal

import numpy as np
import pytest
import torch

from umbel.config import FinetuneConfig, ModelConfig
from umbel.data.kmers import KmerTokens
from umbel.data.labelled.examples import Examples
from umbel.data.labelled.lengths import Split
from umbel.data.labelled.task import Task
from umbel.model.hf import UmbelConfig, UmbelForSequenceClassification
from umbel.train.finetune.fitting import fit
from umbel.train.finetune.outputs import say_outputs
from umbel.train.state import newest_state

TASK = Task("binary", ("none", "tata"))
SHAPE = ModelConfig(n_layers=2, d_model=16, ffn_hidden=32, d_state=4)
TOKENS = KmerTokens(1)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def planted(n, seed, lengths=(24, 41)):
    """Random sequences, half of which hold TATATATA."""
    rng = np.random.default_rng(seed)
    codes, labels = [], np.arange(n) % 2
    for label in labels:
        sequence = rng.integers(0, 4, rng.integers(*lengths)).astype(np.uint8)
        if label:
            place = rng.integers(0, len(sequence) - 8)
            sequence[place : place + 8] = [3, 0] * 4
        codes.append(sequence)
    return Examples(TASK, tuple(f"s{i}" for i in range(n)), tuple(codes), labels, "planted", np.arange(n))


def model(seed=0):
    torch.manual_seed(seed)
    return UmbelForSequenceClassification(UmbelConfig(shape=dataclasses.asdict(SHAPE), num_labels=2))


def accuracy(examples, outputs):
    return float((np.stack(outputs).argmax(1) == examples.targets).mean())


def run(folder, net=None, judge=accuracy, *, lr=3e-3, before=None, n=60, **changes):
    settings = FinetuneConfig(**({"epochs": 3, "batch_size": 16, "patience": 0, "save_every_steps": 2} | changes))
    net = model() if net is None else net
    dev = planted(30, 2)
    found = fit(
        net,
        TOKENS,
        planted(n, 1),
        Split(dev, dev, tuple),
        settings,
        lr=lr,
        seed=5,
        folder=folder,
        judge=judge,
        before_first_step=before,
    )
    return net, found


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_it_learns_what_was_planted(tmp_path):
    net, found = run(tmp_path, lr=1e-2, n=160, epochs=6)
    fresh = planted(200, 9)
    assert accuracy(fresh, say_outputs(net, TOKENS, fresh, stranded=False)) > 0.8
    assert found.n_steps == 60 and len(found.history) == 6 and found.problem is None


@pytest.mark.parametrize("when", [1, 3, 5, 8])
def test_a_run_that_died_at_any_step_ends_in_the_same_weights(tmp_path, when, monkeypatch):
    whole, told = run(tmp_path / "whole")
    import umbel.train.finetune.fitting as fitting

    counts, true = [0], fitting._gradients

    def dying(*arguments):
        counts[0] += 1
        if counts[0] == when:
            raise RuntimeError("power cut")
        return true(*arguments)

    monkeypatch.setattr(fitting, "_gradients", dying)
    with pytest.raises(RuntimeError, match="power cut"):
        run(tmp_path / "cut")
    asked = []
    resumed, again = run(tmp_path / "cut", model(seed=77), before=asked.append)
    # Another network stood there: all that is trained came from the state.
    assert same(whole, resumed) if when > 2 else True
    assert (len(asked) == 1) == (when <= 2)
    if when > 2:
        assert told.best == again.best and told.n_tokens == again.n_tokens
        assert [h["loss"] for h in told.history] == [h["loss"] for h in again.history]


def test_micro_batches_change_nothing(tmp_path):
    weights = []
    for budget in (64, 10_000):
        net, _ = run(tmp_path / str(budget), epochs=2, micro_batch_tokens=budget, balance_coef=0.01)
        weights.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    # AdamW divides by the size of a gradient, so rounding is seen where a gradient is all rounding.
    assert (weights[0] - weights[1]).abs().max() < 2e-4


def test_it_ends_with_the_best_weights_and_stops_when_nothing_gets_better(tmp_path):
    scores, kept = iter([0.1, 0.9, 0.2, 0.3, 0.8]), []
    net = model()

    def judge(examples, outputs):
        kept.append({name: value.clone() for name, value in net.state_dict().items()})
        return next(scores)

    _, found = run(tmp_path, net, judge, epochs=9, patience=2)
    assert found.best == {"epoch": 2, "step": 8, "score": 0.9}
    assert len(found.history) == 4
    assert all(torch.equal(value, kept[1][name]) for name, value in net.state_dict().items())


def test_what_is_frozen_stays(tmp_path):
    net = model()
    net.backbone.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    run(tmp_path, net, epochs=1)
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"score.weight", "score.bias"}


def test_a_loss_that_is_not_finite_ends_the_run_and_is_told(tmp_path):
    net = model()
    net.score.weight.data.fill_(math.nan)
    _, found = run(tmp_path, net)
    assert found.problem == "the loss is nan at step 1"
    assert found.n_steps == 0 and found.best is None


def test_a_score_that_is_not_finite_is_never_the_best(tmp_path):
    scores = iter([math.nan, 0.1, math.nan])
    _, found = run(tmp_path, judge=lambda examples, outputs: next(scores))
    assert found.best["epoch"] == 2


@pytest.mark.parametrize("epoch", [1, 3])
def test_ctrl_c_saves_a_state_and_stops_also_at_the_last_step(tmp_path, epoch):
    looked = []

    def judge(examples, outputs):
        looked.append(1)
        if len(looked) == epoch:
            signal.raise_signal(signal.SIGINT)
        return 0.5

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, judge=judge)
    _, step, _ = newest_state(tmp_path, None)
    assert step == 4 * epoch
    _, found = run(tmp_path, judge=judge)
    assert found.n_steps == 12 and len(found.history) == 3
