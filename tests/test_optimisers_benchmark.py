"""The benchmark of optimisers: which runs it makes, and that none is made twice."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from toys import toy_run

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def optimisers():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("optimisers")
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_arms_differ_in_what_they_say_and_fit_into_their_steps(optimisers):
    arms = optimisers.arms(60)
    plain = arms["AdamW, cosine"].run
    assert (plain.train.steps, plain.optim.warmup_steps) == (60, 10)
    assert arms["AdamW, cosine, averaged"].run == plain
    assert replace(arms["Muon, cosine"].run.optim, kind="adamw") == plain.optim
    assert replace(arms["AdamW, WSD"].run.optim, schedule="cosine") == plain.optim
    lengths = arms["AdamW, cosine, lengths"].run
    assert [(s.window_bp, s.steps) for s in lengths.train.length_stages] == [(128, 30), (256, 15)]
    assert replace(lengths.train, length_stages=()) == plain.train


def test_a_run_is_made_once_and_measured_with_both_weights(optimisers, toy_corpus, tmp_path, monkeypatch):
    run = toy_run(steps=3, batch_windows=2)
    runs = optimisers.Runs(tmp_path / "runs.json", toy_corpus, 0.5)
    found = runs(run, 1e-2, 1)
    assert 1 < found["loss"] < 3 and found["ema_loss"] != found["loss"]
    assert runs(run, 1e-2, 2) != found
    monkeypatch.setattr(optimisers, "train", None)
    again = optimisers.Runs(tmp_path / "runs.json", toy_corpus, 0.5)
    assert again(run, 1e-2, 1) == found
    assert len(json.loads((tmp_path / "runs.json").read_text())) == 2


@pytest.mark.parametrize(
    ("best", "tried"),
    [(5e-3, [2.5e-3, 5e-3, 1e-2, 2e-2]), (1e-2, [5e-3, 1e-2, 2e-2]), (2e-2, [5e-3, 1e-2, 2e-2, 4e-2])],
)
def test_a_grid_grows_where_its_best_lies_at_the_edge(best, tried, optimisers):
    def runs(run, lr, seed):
        assert seed == optimisers.CHOOSING_SEED
        return {"ema_loss": abs(lr - best), "loss": -lr}

    assert list(optimisers.choose_lr(optimisers.Arm(toy_run(), "ema_loss"), runs)) == tried
