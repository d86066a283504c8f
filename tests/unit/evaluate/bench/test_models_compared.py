"""Models against each other: from the predictions that their folders keep, and as a direct comparison says."""

import copy
import json

import pytest
from bench_fakes import predictions

from umbel.errors import RunError
from umbel.evaluate.bench.between import compare, find_runs
from umbel.evaluate.scores.comparisons import holm, paired_difference

BLIND = {"A": 0.05, "B": 0.5, "C": 0.5}


def written(folder, blind, draws=200):
    """A result of one dataset whose model has three seeds on disk."""
    result = {
        "config": {"n_draws": draws},
        "datasets": {"d": {"metric": "mcc", "rows": {"model": {"facts": [{"run": f"s{i}"} for i in range(3)]}}}},
    }
    for i in range(3):
        run = folder / "datasets" / "d" / "model" / f"s{i}"
        run.mkdir(parents=True)
        predictions("binary", blind, i).save(run / "test.parquet")
    (folder / "bench.json").write_text(json.dumps(result))
    find_runs(result, folder)
    return result


@pytest.fixture
def models(tmp_path):
    return {name: written(tmp_path / name, blind) for name, blind in BLIND.items()}


def test_pairs_are_what_a_direct_comparison_says(models):
    pairs = compare(models)
    assert [(pair.first, pair.second) for pair in pairs] == [("A", "B"), ("A", "C"), ("B", "C")]
    direct = {}
    for pair in pairs:
        a, b = ([predictions("binary", BLIND[name], i) for i in range(3)] for name in (pair.first, pair.second))
        told = paired_difference(a, b, "mcc", n_draws=200)
        direct[pair.first + pair.second] = told
        assert pair.difference["value"] == told.value and pair.difference["p"] == told.p
    adjusted = holm({name: told.p for name, told in direct.items()})
    assert [pair.difference["p_holm"] for pair in pairs] == list(adjusted.values())
    assert pairs[0].difference["low"] > 0 and pairs[2].difference["value"] == 0


def test_a_model_alone_or_without_predictions_is_not_compared(models):
    assert compare({"A": models["A"]}) == []
    bare = copy.deepcopy(models["B"])
    del bare["datasets"]["d"]["model_runs"]
    assert compare({"A": models["A"], "B": bare}) == []


def test_predictions_that_are_gone_are_told(models, tmp_path):
    (tmp_path / "B" / "datasets" / "d" / "model" / "s0" / "test.parquet").unlink()
    with pytest.raises(RunError, match="no such file of predictions"):
        compare(models)
