import random

import pytest

from umbel.data.labelled.inference import infer_task, mixed_rows
from umbel.errors import LabelError


def infer(*columns, bp=50, names=None, **settings):
    names = names or [f"y{i}" if i else "label" for i in range(len(columns))]
    lengths = bp if isinstance(bp, list) else [bp] * len(columns[0])
    return infer_task(names, columns, lengths, "a.csv", **settings)


@pytest.mark.parametrize(
    ("cells", "kind", "names"),
    [
        (["0", "1", "1"], "binary", ("0", "1")),
        (["1.0", "0", "1"], "binary", ("0", "1")),
        (["-1", "1"], "binary", ("-1", "1")),
        (["promoter", "none"], "binary", ("none", "promoter")),
        (["True", "False"], "binary", ("False", "True")),
        (["Not", "Full", "Partial"], "multiclass", ("Full", "Not", "Partial")),
        (["2", "10", "1"], "multiclass", ("1", "2", "10")),
        ([str(i % 31) for i in range(310)], "multiclass", tuple(map(str, range(31)))),
        ([str(i % 31) for i in range(309)], "regression", ("label",)),
        ([str(2 * i % 31) for i in range(31)], "regression", ("label",)),
        ([str(i % 31 + 3) for i in range(3100)], "regression", ("label",)),
        (["0.5", "1"], "regression", ("label",)),
        (["-0.2166", "1.68", "5.2"], "regression", ("label",)),
        (["0;1;1", "0;0;0"], "multilabel", ("label-0", "label-1", "label-2")),
        (["[0, 1]", "[1 1]"], "multilabel", ("label-0", "label-1")),
        (["0110", "1111"], "multilabel", ("label-0", "label-1", "label-2", "label-3")),
        (["leaf;root", "leaf", "[]"], "multilabel", ("leaf", "root")),
        ([[0, 1], [1, 1]], "multilabel", ("label-0", "label-1")),
        ([[0, 2], [1]], "multilabel", ("0", "1", "2")),
        (["0.5,1.5", "1,2"], "regression", ("label-0", "label-1")),
        (["E" * 25 + "I" * 25, "I" * 49 + "."], "bases", ("E", "I")),
        (["0 1 " * 25, "1 1 " * 25], "bases", ("0", "1")),
        ([["O"] * 49 + ["B-CDS"], ["O"] * 50], "bases", ("B-CDS", "O")),
        ([[0] * 49 + [-100], [1] * 50], "bases", ("0", "1")),
    ],
)
def test_the_task_is_told_from_one_column(cells, kind, names):
    task, reason = infer(cells)
    assert (task.kind, task.names) == (kind, names)
    assert reason.startswith(f"{kind}, because column label holds ")


def test_the_task_does_not_depend_on_the_order_of_rows():
    cells = ["b", "a", "c"] * 5 + ["a"] * 2
    shuffled = random.Random(0).sample(cells, len(cells))
    assert infer(cells) == infer(shuffled)


@pytest.mark.parametrize(
    ("columns", "kind"),
    [(([0, "1"], ["1", "0"]), "multilabel"), ((["0.5", "1"], ["1", "0"]), "regression")],
)
def test_several_columns(columns, kind):
    task, reason = infer(*[[str(cell) for cell in column] for column in columns], names=["leaf", "root"])
    assert (task.kind, task.names) == (kind, ("leaf", "root")) and "columns leaf, root hold" in reason


def test_reasons():
    assert infer(["0"] * 312 + ["1"] * 188)[1] == (
        "binary, because column label holds 2 values: 0 (312), 1 (188); 1 is the positive class"
    )
    assert "whole numbers are classes if they are 10 or fewer" in infer(["0", "1", "2"])[1]
    assert "whole numbers too (whole numbers are classes if" in infer([str(i) for i in range(11)])[1]


@pytest.mark.parametrize(
    ("cells", "settings", "kind", "names"),
    [
        (["0", "1", "2"], {"kind": "regression"}, "regression", ("label",)),
        ([str(i) for i in range(40)], {"kind": "multiclass"}, "multiclass", tuple(map(str, range(40)))),
        (["a;b", "c"], {"kind": "binary"}, "binary", ("a;b", "c")),
        ([[0.5, None], [1, 2]], {"bin_bp": 25}, "bins", ("label",)),
        ([[[0.5, 1], [1, 2]]], {"bin_bp": 25}, "bins", ("label-0", "label-1")),
        (["0110", "0111"], {"kind": "binary"}, "binary", ("110", "111")),
    ],
)
def test_the_user_may_say_otherwise(cells, settings, kind, names):
    task, _ = infer(cells, **settings)
    assert (task.kind, task.names) == (kind, names) and task.bin_bp == settings.get("bin_bp", 1)


@pytest.mark.parametrize(
    ("columns", "settings", "text"),
    [
        ((["1", "1"],), {}, "column label holds one class only: 1 \\(2\\). Give examples of another class"),
        ((["0.5", "0.5"],), {}, "column label holds one value only: 0.5"),
        ((["a", "b", "c"],), {"kind": "binary"}, "column label holds 3 classes: .* That is multiclass, not binary"),
        ((["a", "b"],), {"kind": "regression"}, "column label holds no numbers"),
        ((["a", "b"], ["a", "b"]), {"kind": "binary"}, "a binary task has one label column, not 2"),
        (([[0.5, 1], [1.5]],), {}, r"give the bases of a bin \(bin_bp\)"),
        (([[0.5, 1], [1.5]],), {"kind": "bins"}, "how many bases a bin has is not said"),
        ((["0.5", "1"],), {"kind": "binary", "bin_bp": 4}, "bins of 4 bp are no binary task"),
        ((["1"], ["2"]), {"bin_bp": 4}, "bins are lists in one column, not in 2"),
    ],
)
def test_what_sets_no_task(columns, settings, text):
    with pytest.raises(LabelError, match=text):
        infer(*columns, **settings)


def test_text_among_numbers_is_the_fewer_of_both():
    assert mixed_rows([["0", "1", "unknown", "1"]], [9] * 4) == ([2], "text among numbers")
    assert mixed_rows([["a", "1", "b", "c"]], [9] * 4) == ([1], "a number among text")
    assert mixed_rows([["0;1", "1;1"]], [9] * 2) == ([], "")
    assert mixed_rows([["0" * 20, "0" * 10 + "E" * 10]], [20, 20]) == ([], "")
