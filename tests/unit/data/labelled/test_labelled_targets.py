import numpy as np
import pytest

from umbel.data.labelled.targets import TargetParser, UnseenClassError, finite, gather_targets
from umbel.data.labelled.task import Task

NAN = float("nan")


@pytest.mark.parametrize(
    ("task", "names", "cells", "n_bp", "target"),
    [
        (Task("binary", ("0", "1")), ["label"], ["1.0"], 4, 1),
        (Task("multiclass", ("a", "b", "c")), ["label"], ["c"], 4, 2),
        (Task("multilabel", ("x", "y", "z")), ["label"], ["0;1;1"], 4, [0, 1, 1]),
        (Task("multilabel", ("x", "y", "z")), ["label"], ["011"], 4, [0, 1, 1]),
        (Task("multilabel", ("x", "y", "z")), ["label"], ["z|x"], 4, [1, 0, 1]),
        (Task("multilabel", ("x", "y", "z")), ["label"], ["[]"], 4, [0, 0, 0]),
        (Task("multilabel", ("0", "1", "2")), ["label"], [[2, 0]], 4, [1, 0, 1]),
        (Task("multilabel", ("x", "y")), ["y", "x"], ["1", "0"], 4, [0, 1]),
        (Task("regression", ("x", "y")), ["y", "x"], ["1.5", "-2"], 4, [-2, 1.5]),
        (Task("regression", ("x", "y")), ["label"], ["1.5;-2"], 4, [1.5, -2]),
        (Task("bases", ("E", "I")), ["label"], ["EEI."], 4, [0, 0, 1, -100]),
        (Task("bases", ("0", "1")), ["label"], ["0 1 1 -100"], 4, [0, 1, 1, -100]),
        (Task("bases", ("O", "B-CDS")), ["label"], [["B-CDS", "O"]], 2, [1, 0]),
        (Task("bins", ("x",), 3), ["label"], [[1, None, 0.5]], 7, [[1], [NAN], [0.5]]),
        (Task("bins", ("x", "y"), 4), ["label"], [[[1, 2], [3, NAN]]], 7, [[1, 2], [3, NAN]]),
        (Task("bins", ("x",), 4), ["label"], ["1;2"], 8, [[1], [2]]),
    ],
)
def test_a_row_becomes_its_target(task, names, cells, n_bp, target):
    np.testing.assert_array_equal(TargetParser(task, names).parse(cells, n_bp), target)


@pytest.mark.parametrize(
    ("task", "cells", "text"),
    [
        (Task("multilabel", ("x", "y", "z")), ["0;1"], "2 labels, the task has 3"),
        (Task("multilabel", ("x", "y", "z")), ["0101"], "4 labels, the task has 3"),
        (Task("regression", ("x",)), ["high"], "'high' is no number"),
        (Task("regression", ("x",)), ["inf"], "inf is not finite"),
        (Task("regression", ("x",)), ["1e39"], "1e39 is not finite"),
        (Task("regression", ("x",)), ["1;2"], "2 numbers, the task has 1"),
        (Task("bases", ("E", "I")), ["EEEII"], "labels for 5 bases, the sequence has 4|labels for 1 bases"),
        (Task("bins", ("x",), 3), [[1, 2, 3]], "3 bins, a sequence of 4 bp has 2 of 3 bp"),
        (Task("bins", ("x", "y"), 3), [[[1, 2], [3]]], "bin 2 has 1 numbers, the task has 2"),
        (Task("bins", ("x",), 3), [[None, NAN]], "nothing was measured in any bin"),
    ],
)
def test_labels_that_are_no_such_task(task, cells, text):
    with pytest.raises(ValueError, match=text):
        TargetParser(task, ["label"]).parse(cells, 4)


@pytest.mark.parametrize(
    ("task", "cell"),
    [
        (Task("binary", ("0", "1")), "2"),
        (Task("multilabel", ("x", "y")), "x;q"),
        (Task("bases", ("E", "I")), "EEIQ"),
    ],
)
def test_a_class_that_the_task_has_not(task, cell):
    with pytest.raises(UnseenClassError, match="is none of the 2"):
        TargetParser(task, ["label"]).parse([cell], 4)


def test_columns_of_another_task():
    with pytest.raises(ValueError, match="label columns are a, b, the task has x, y"):
        TargetParser(Task("regression", ("x", "y")), ["a", "b"])
    with pytest.raises(ValueError, match="a binary task has one label column, not 2: a, b"):
        TargetParser(Task("binary", ("x", "y")), ["a", "b"])
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        TargetParser(Task("multilabel", ("x", "y")), ["x", "y"]).parse(["0", "2"], 4)


def test_targets_are_gathered_as_examples_have_them():
    labels = gather_targets(Task("multilabel", ("x", "y")), [np.array([0, 1]), np.array([1, 1])])
    assert labels.dtype == np.float32 and labels.shape == (2, 2)
    assert gather_targets(Task("regression", ("x",)), [np.array([0.1])]).dtype == np.float32
    assert gather_targets(Task("binary", ("x", "y")), [1, 0]).dtype == np.int64
    assert isinstance(gather_targets(Task("bases", ("x", "y")), [np.array([0])]), tuple)
    assert finite("1e3") == 1000


def test_long_names_of_classes_are_cut_in_messages():
    # A column of whole sentences taken for classes must not fill the screen.
    task = Task("multiclass", tuple(f"{i}" + "x" * 900 for i in range(3)))
    with pytest.raises(UnseenClassError) as told:
        TargetParser(task, ["label"]).parse(["y" * 900], 4)
    assert len(str(told.value)) < 250
