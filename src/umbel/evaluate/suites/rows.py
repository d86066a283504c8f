"""One labelled sequence as a publisher's file gives it, and the same as the array that the task wants."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.errors import LabelError
from umbel.evaluate.suites.manifest import Dataset
from umbel.genome.sequence import Codes, encode

_YES_NO = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0}


@dataclass(frozen=True, eq=False, slots=True)
class Row:
    """One labelled sequence."""

    name: str
    codes: Codes
    """uint8 ``(L,)``: A 0, C 1, G 2, T 3, N 4."""
    letters: dict[str, int]
    """How often each letter other than A, C, G and T was seen; all of them became N."""
    labels: tuple[str, ...] | npt.NDArray[np.float32]
    """Fields of the file, or what it holds for every bin."""
    number: int
    """Line of the file (FASTA: of the header), or place in the split where a split is many files; from 1."""
    path: Path
    line: int | None
    """1-based line of ``path``, for messages."""


def encoded(letters: bytes, path: Path, line: int | None) -> tuple[Codes, dict[str, int]]:
    """Turn letters into codes, and count those that are not A, C, G or T.

    Raises
    ------
    LabelError
        With file and line: no letters, or one that is no nucleotide.

    Examples
    --------
    >>> codes, letters = encoded(b"ACGN", Path("a.csv"), 2)
    >>> codes.tolist(), letters
    ([0, 1, 2, 4], {'N': 1})
    """
    if not letters:
        raise LabelError("the sequence is empty. Complete the file, or fetch it again.", path, line)
    try:
        codes, _, others = encode(letters)
    except ValueError as error:
        raise LabelError(f"the sequence is not DNA: {error}.", path, line) from error
    return codes, others


def count_outputs(dataset: Dataset, row: Row) -> int:
    """Tell how many classes, labels or outputs a dataset has; ``row`` says it where the manifest does not."""
    if dataset.classes or dataset.n_outputs:
        return len(dataset.classes) or int(dataset.n_outputs or 0)
    return len(_fields(row)) if isinstance(row.labels, tuple) else row.labels.shape[1]


def read_target(dataset: Dataset, row: Row, n_outputs: int) -> Any:
    """Turn the labels of a row into an index (classes) or float32 ``(n_outputs,)`` or ``(bins, n_outputs)``.

    Raises
    ------
    LabelError
        With file and line: another number of labels, an unknown class, or no number.
    """
    if not isinstance(row.labels, tuple):
        return row.labels
    labels = _fields(row) if dataset.task == "multilabel" else row.labels
    expected = 1 if dataset.task in ("binary", "multiclass") else n_outputs
    if len(labels) != expected:
        raise LabelError(f"{len(labels)} labels where {dataset.name} has {expected}.", row.path, row.line)
    if dataset.task in ("binary", "multiclass"):
        index = _index(dataset.classes).get(labels[0])
        if index is None:
            names = ", ".join(dataset.classes)
            raise LabelError(f"label {labels[0]!r} is no class of {dataset.name}: {names}.", row.path, row.line)
        return index
    try:
        values = [_YES_NO[text] if dataset.task == "multilabel" else float(text) for text in labels]
    except (KeyError, ValueError) as error:
        wanted = "0 or 1" if dataset.task == "multilabel" else "a number"
        wrong = next(text for text in labels if text not in _YES_NO and not (wanted == "a number" and _is_number(text)))
        raise LabelError(f"label {wrong!r} is not {wanted}.", row.path, row.line) from error
    if not all(math.isfinite(value) for value in values):
        raise LabelError("a label is not a finite number.", row.path, row.line)
    return np.array(values, np.float32)


@cache
def _index(classes: tuple[str, ...]) -> dict[str, int]:
    """Class of each number and each name; a name wins over the number of another class."""
    return {**{str(i): i for i in range(len(classes))}, **{name: i for i, name in enumerate(classes)}}


def _fields(row: Row) -> tuple[str, ...]:
    """Labels of a row; one field of several 0 and 1 is that many labels."""
    labels = row.labels
    assert isinstance(labels, tuple)
    if len(labels) == 1 and len(labels[0]) > 1 and set(labels[0]) <= {"0", "1"}:
        return tuple(labels[0])
    return labels


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
