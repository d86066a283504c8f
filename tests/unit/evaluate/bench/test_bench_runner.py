"""umbel bench on a planted suite: every row is there, numbers are those of the saved predictions, killed it goes on."""

import json

import numpy as np
import pytest

from umbel.config import BenchConfig, apply_settings
from umbel.data.labelled.examples import Examples
from umbel.data.labelled.task import Task
from umbel.errors import ConfigError, LabelError, RunError
from umbel.evaluate.bench.rows import ROWS
from umbel.evaluate.bench.runner import bench
from umbel.evaluate.scores.definitions import score
from umbel.evaluate.scores.predictions import Predictions
from umbel.evaluate.suites import load_suite, read_dataset
from umbel.evaluate.suites.own import OwnDataset, write_suite

FAST = ["finetune.epochs=1", "finetune.batch_size=16", "finetune.lr=[5e-3]", "n_draws=100"]


def planted(n, seed, kind):
    """Sequences whose share of G and C is the answer: a class, or a number."""
    rng = np.random.default_rng(seed)
    high = rng.uniform(0.2, 0.8, n)
    codes = tuple(rng.choice(4, 40, p=[(1 - h) / 2, h / 2, h / 2, (1 - h) / 2]).astype(np.uint8) for h in high)
    if kind == "classes":
        task, targets = Task("binary", ("at", "gc")), (high > 0.5).astype(np.int64)
    else:
        task, targets = Task("regression", ("leaf", "root")), np.stack([high, -high], 1).astype(np.float32)
    return Examples(task, tuple(f"{seed}-{i}" for i in range(n)), codes, targets, "planted", np.arange(n))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("suite") / "planted"
    datasets = {
        kind: OwnDataset(
            {"train": planted(60, 1, kind), "dev": planted(30, 2, kind), "test": planted(30, 3, kind)},
            "mcc" if kind == "classes" else "r2",
            stranded=False,
        )
        for kind in ("classes", "numbers")
    }
    write_suite(target, "planted", "Planted", datasets, licence="ours", page="here")
    return target


def run(checkpoint, folder, out, *more, **options):
    config = apply_settings(BenchConfig(), [*FAST, *more])
    return bench(checkpoint, folder / "suite.toml", folder, out, config=config, devices=("cpu",), **options)


@pytest.fixture(scope="module")
def probed(toy_training, folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "out"
    return out, run(toy_training, folder, out)


def test_a_suite_of_ones_own_comes_back_as_it_was(folder):
    suite = load_suite(folder / "suite.toml")
    for kind in ("classes", "numbers"):
        for split, seed, n in (("train", 1, 60), ("dev", 2, 30), ("test", 3, 30)):
            wrote, found = planted(n, seed, kind), read_dataset(suite, kind, folder)[split]
            assert all((a == b).all() for a, b in zip(wrote.codes, found.codes, strict=True))
            np.testing.assert_array_equal(wrote.targets, found.targets)
            assert found.task.names == wrote.task.names


def test_every_row_is_there_and_told_from_its_predictions(probed):
    out, result = probed
    assert json.loads((out / "bench.json").read_text()) == json.loads(json.dumps(result))
    for kind in ("classes", "numbers"):
        rows = result["datasets"][kind]["rows"]
        assert tuple(rows) == ROWS
        for row, told in rows.items():
            runs = sorted((out / "datasets" / kind / row).glob("seed-*"))
            assert len(runs) == (3 if row in ("random", "cnn") else 1)
            values = []
            for each in runs:
                said = Predictions.load(each / "test.parquet")
                values.append(score(said.task, said.targets, said.scores))
            for metric, found in told["metrics"].items():
                assert found["by_seed"] == pytest.approx([value[metric] for value in values])
        assert set(result["datasets"][kind]["differences"]) == set(ROWS) - {"model"}
    assert result["datasets"]["classes"]["rows"]["kmer"]["metrics"]["mcc"]["value"] > 0.5
    assert result["datasets"]["classes"]["rows"]["majority"]["metrics"]["mcc"]["value"] == 0
    assert (out / "leaderboard.html").is_file() and (out / "leaderboard.md").is_file()


def test_what_is_on_disk_is_not_computed_again(toy_training, folder, probed, monkeypatch):
    from umbel.evaluate.bench import rows

    out, result = probed
    monkeypatch.setattr(rows.Bench, "_fit", lambda *a: pytest.fail("computed again"))
    assert run(toy_training, folder, out) == result
    # What is damaged is.
    path = out / "datasets" / "classes" / "kmer" / "seed-0" / "test.parquet"
    kept = path.read_bytes()
    path.write_bytes(kept[:-20])
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        run(toy_training, folder, out)
    path.write_bytes(kept)


@pytest.mark.parametrize("method", ["full", "adapter"])
def test_tuned_rows_have_their_seeds(toy_training, folder, tmp_path, method):
    result = run(toy_training, folder, tmp_path / "o", f"method={method}", datasets=["classes"])
    for row in ("model", "random"):
        told = result["datasets"]["classes"]["rows"][row]
        assert [facts["seed"] for facts in told["facts"]] == [0, 1, 2]
        assert told["flops"] > 0 and len({facts["n_parameters"] for facts in told["facts"]}) == 1
    assert result["datasets"]["classes"]["rows"]["kmer"]["flops"] == 0


def test_a_run_that_collapses_is_tried_again_slower_and_told(toy_training, folder, tmp_path, monkeypatch):
    from umbel.evaluate.bench import tuned_rows

    rates, tune = [], tuned_rows.tune
    monkeypatch.setattr(tuned_rows, "tune", lambda *a, **k: rates.append(k["lr"]) or tune(*a, **k))
    monkeypatch.setattr(tuned_rows, "why_collapsed", lambda said: "planted" if len(rates) % 2 else None)
    result = run(toy_training, folder, tmp_path / "o", "method=full", datasets=["classes"])
    facts = result["datasets"]["classes"]["rows"]["model"]["facts"]
    assert rates[:2] == pytest.approx([5e-3, 5e-3 / 3])
    assert facts[0]["collapsed_tries"] == [{"lr": 5e-3, "why": "planted"}] and facts[0]["lr"] == pytest.approx(5e-3 / 3)


def test_a_limit_of_training_examples_is_told_and_leaves_test_whole(toy_training, folder, tmp_path):
    result = run(toy_training, folder, tmp_path / "o", "max_train=40", datasets=["classes"])
    data = result["datasets"]["classes"]["data"]
    assert data["found"] == {"train": 60, "dev": 30, "test": 30} and data["used"] == {
        "train": 40,
        "dev": 10,
        "test": 30,
    }
    assert any("train is 40 of 60" in line for line in result["datasets"]["classes"]["told"])


@pytest.mark.slow
def test_two_workers_find_the_same(toy_training, folder, probed, tmp_path):
    config = apply_settings(BenchConfig(), FAST)
    options = {"config": config, "devices": ("cpu", "cpu"), "threads": 1}
    assert (
        bench(toy_training, folder / "suite.toml", folder, tmp_path / "o", **options)["datasets"].keys()
        == probed[1]["datasets"].keys()
    )
    for path in sorted(probed[0].glob("datasets/*/*/*/test.parquet")):
        twin = tmp_path / "o" / path.relative_to(probed[0])
        np.testing.assert_allclose(Predictions.load(path).scores, Predictions.load(twin).scores, atol=1e-6)


def test_what_cannot_be_is_refused(toy_training, folder, tmp_path):
    with pytest.raises(ConfigError, match=r"finetune.seeds has 1 seeds, and a benchmark needs 3"):
        run(toy_training, folder, tmp_path / "o", "finetune.seeds=[0]")
    with pytest.raises(LabelError, match=r"files of 2 of 2 datasets of suite planted are not there"):
        bench(toy_training, folder / "suite.toml", tmp_path, tmp_path / "o", config=apply_settings(BenchConfig(), FAST))
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file"):
        run(toy_training, folder, tmp_path / "file")
    with pytest.raises(RunError, match="and no suite"):
        write_suite(tmp_path, "a", "a", {}, licence="", page="")
