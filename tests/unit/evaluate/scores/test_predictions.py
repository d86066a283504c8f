import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import expit
from scipy.special import softmax as scipy_softmax

from umbel.data.labelled.examples import Examples
from umbel.data.labelled.task import IGNORED, Task
from umbel.errors import RunError
from umbel.evaluate.scores.predictions import Predictions, flattened, sigmoid, softmax

BINARY = Task("binary", ("0", "1"))


def drawn(kind, n=30, seed=0):
    rng = np.random.default_rng(seed)
    ids = tuple(f"seq {i}" for i in range(n))
    names = {"binary": ("no", "yes"), "regression": ("leaf", "root")}.get(kind, ("c a", 'c"b', "c:ü"))
    task = Task(kind, names, 16 if kind == "bins" else 1)
    rows = n
    if task.is_along_sequence:
        lengths = rng.integers(1, 9, n)
        rows = int(lengths.sum())
    if task.is_classes:
        targets = rng.integers(0, len(names), rows)
        logits = rng.normal(size=(rows, len(names))) * 5
        if kind == "bases":
            targets[::7] = IGNORED
    else:
        targets = rng.normal(size=(rows, len(names))).astype(np.float32)
        targets = (targets > 0).astype(np.float32) if kind == "multilabel" else targets
        logits = rng.normal(size=targets.shape)
        if kind == "bins":
            targets[3, 1] = np.nan
    if task.is_along_sequence:
        cuts = np.cumsum(lengths)[:-1]
        targets, logits = tuple(np.split(targets, cuts)), tuple(np.split(logits, cuts))
    return task, ids, targets, logits


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "regression", "bases", "bins"])
def test_what_is_saved_comes_back_bit_for_bit(kind, tmp_path):
    facts = {"model": "tiny", "seed": 3, "nested": {"a": [1, 2]}}
    first = Predictions.from_logits(*drawn(kind), facts)
    first.save(tmp_path / "p.parquet")
    again = Predictions.load(tmp_path / "p.parquet")
    assert again.scores.dtype == np.float32 and again.scores.tobytes() == first.scores.tobytes()
    np.testing.assert_array_equal(again.targets, first.targets)
    assert again.targets.dtype == first.targets.dtype
    np.testing.assert_array_equal(again.units, first.units)
    assert (again.task, again.ids, again.facts) == (first.task, first.ids, facts)
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]


def test_the_file_can_be_read_without_us(tmp_path):
    task, ids, targets, logits = drawn("bases", 4)
    Predictions.from_logits(task, ids, targets, logits).save(tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.column_names == ["id", "unit", "target", *(f"score:{name}" for name in task.names)]
    truth = [task.names[t] if t >= 0 else None for each in targets for t in each]
    assert table["target"].to_pylist() == truth
    assert table["id"].to_pylist() == [name for name, each in zip(ids, targets, strict=True) for _ in each]
    assert json.loads(table.schema.metadata[b"umbel-predictions"])["task"]["kind"] == "bases"


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression", "bins"])
def test_scores_of_logits_are_scipys(kind):
    task, ids, targets, logits = drawn(kind)
    flat = np.concatenate(logits) if kind == "bins" else logits
    expected = {"multiclass": lambda x: scipy_softmax(x, axis=1), "multilabel": expit}.get(kind, lambda x: x)(flat)
    np.testing.assert_array_equal(
        Predictions.from_logits(task, ids, targets, logits).scores, expected.astype(np.float32)
    )


def test_huge_logits_do_not_overflow():
    assert softmax(np.array([[1e30, -1e30]])).tolist() == [[1, 0]]
    assert sigmoid(np.array([1e30, -1e30])).tolist() == [1, 0]


def test_positions_lie_end_to_end():
    task, _, targets, _ = drawn("bins", 5)
    flat, units = flattened(task, targets)
    expected = [(i, *row) for i, each in enumerate(targets) for row in each.tolist()]
    np.testing.assert_array_equal(np.column_stack([units, flat]), np.array(expected))


def test_of_examples_takes_their_targets():
    examples = Examples(BINARY, ("a",), (np.zeros(3, np.uint8),), np.array([1]), "x.csv", np.array([1]))
    assert Predictions.of_examples(examples, np.array([[0.5, 0.5]])).targets.tolist() == [1]


def made(**change):
    given = {"task": BINARY, "ids": ("a", "b"), "targets": np.array([0, 1]), "units": np.arange(2)}
    return Predictions(**given | {"scores": np.full((2, 2), 0.5, np.float32)} | change)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"scores": np.array([[0.5, 0.5], [np.nan, 0.5]], np.float32)}, "1 of 2 predictions are NaN .* first for 'b'"),
        ({"scores": np.array([[np.inf, 0.5], [0.5, 0.5]], np.float32)}, "NaN or infinite, the first for 'a'"),
        ({"scores": np.array([[2, -1], [0.5, 0.5]], np.float32)}, "scores of 'a' are .* no probabilities"),
        ({"scores": np.array([[0.5, 0.5], [0.1, 0.1]], np.float32)}, "scores of 'b' are .* no probabilities"),
        ({"scores": np.zeros((2, 3), np.float32)}, r"scores \(2, 2\), not \(2,\) and \(2, 3\)"),
        ({"targets": np.array([0, 2])}, "a target is none of the 2 classes"),
        ({"ids": ("a", "a")}, "ids of examples are repeated"),
        ({"ids": ("a", "b", "c")}, "units must number the 3 examples"),
        ({"units": np.array([1, 0])}, "units must number"),
        (
            {"ids": (), "targets": np.empty(0, int), "units": np.empty(0, int), "scores": np.empty((0, 2))},
            "at least one",
        ),
    ],
)
def test_predictions_that_are_none_are_refused(change, text):
    with pytest.raises(RunError, match=text):
        made(**change)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(bad):
    with pytest.raises(RunError, match="NaN or infinite"):
        Predictions.from_logits(BINARY, ["a"], np.array([0]), np.array([[0.0, bad]]))


def test_another_number_of_positions_is_refused():
    task = Task("bases", ("a", "b"))
    with pytest.raises(RunError, match="example 'x' has 3 targets and 2 predictions"):
        Predictions.from_logits(task, ["x"], (np.zeros(3, int),), (np.zeros((2, 2)),))


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(RunError, match="no such file of predictions"):
        Predictions.load(tmp_path / "none.parquet")
    (tmp_path / "text").write_text("no parquet")
    with pytest.raises(RunError, match="cannot be read as predictions"):
        Predictions.load(tmp_path / "text")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other")
    with pytest.raises(RunError, match="not of predictions that umbel saved"):
        Predictions.load(tmp_path / "other")
    made().save(tmp_path / "good")
    table = pq.read_table(tmp_path / "good")
    pq.write_table(table.drop_columns(["score:1"]), tmp_path / "cut")
    with pytest.raises(RunError, match="the predictions are damaged"):
        Predictions.load(tmp_path / "cut")
    about = json.loads(table.schema.metadata[b"umbel-predictions"]) | {"format_version": 9}
    pq.write_table(table.replace_schema_metadata({"umbel-predictions": json.dumps(about)}), tmp_path / "later")
    with pytest.raises(RunError, match="format version 9, not 1"):
        Predictions.load(tmp_path / "later")
