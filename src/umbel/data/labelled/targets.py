"""Labels of a file made into the targets of a task, cell by cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.data.labelled.cells import Cell, class_name, is_flags, is_missing, is_number, parts
from umbel.data.labelled.examples import Targets
from umbel.data.labelled.inference import NO_CLASS, base_parts
from umbel.data.labelled.task import IGNORED, Task

Target = int | npt.NDArray[Any]


class UnseenClassError(ValueError):
    """A class that the task does not have."""


class TargetParser:
    """Makes one row's label cells into its target.

    Parameters
    ----------
    task
        What the labels mean.
    names
        The label columns; where a task has several outputs and the file a column for each, they are found by name.

    Raises
    ------
    ValueError
        If the columns are not those of the task.

    Examples
    --------
    >>> TargetParser(Task("binary", ("no", "yes")), ["label"]).parse(["yes"], 4)
    1
    >>> TargetParser(Task("multilabel", ("leaf", "root")), ["root", "leaf"]).parse(["0", "1"], 4).tolist()
    [1.0, 0.0]
    """

    def __init__(self, task: Task, names: Sequence[str]):
        self.task = task
        self._index = {name: i for i, name in enumerate(task.names)}
        self._order = [0]
        if len(names) > 1:
            if task.kind not in ("multilabel", "regression"):
                raise ValueError(f"a {task.kind} task has one label column, not {len(names)}: {', '.join(names)}")
            if set(names) != set(task.names):
                raise ValueError(f"label columns are {', '.join(names)}, the task has {', '.join(task.names)}")
            self._order = [list(names).index(name) for name in task.names]

    def parse(self, cells: Sequence[Cell], n_bp: int) -> Target:
        """Make the target of a sequence of ``n_bp`` bases.

        Raises
        ------
        UnseenClassError
            If a class is none of the task's.
        ValueError
            If the label is anything else than the task asks for.
        """
        ordered = [cells[i] for i in self._order]
        if self.task.kind in ("binary", "multiclass"):
            return self._class(ordered[0])
        if self.task.kind == "multilabel":
            return self._labels(ordered)
        if self.task.kind == "regression":
            return self._numbers(ordered)
        return self._bases(ordered[0], n_bp) if self.task.kind == "bases" else self._bins(ordered[0], n_bp)

    def _class(self, cell: Cell) -> int:
        name = class_name(cell)
        if name not in self._index:
            raise UnseenClassError(f"{name[:40]!r} is none of the {len(self._index)} classes: {self._named()}")
        return self._index[name]

    def _named(self) -> str:
        names = list(self._index)
        return ", ".join(name[:40] for name in names[:10]) + (", ..." if len(names) > 10 else "")

    def _labels(self, cells: Sequence[Cell]) -> npt.NDArray[np.float32]:
        n = self.task.n_outputs
        (first, *others) = cells
        if others:
            flags = [class_name(cell) for cell in cells]
        elif isinstance(first, str) and is_flags(first) and (len(first) == n or class_name(first) not in self._index):
            flags = list(first)
        else:
            flags = [class_name(part) for part in parts(first)]
        is_set = not others and (len(flags) != n or set(flags) - {"0", "1"})
        target = np.zeros(n, np.float32)
        if is_set:
            if flags and not set(flags) - {"0", "1"} and not set(flags) <= set(self._index):
                raise ValueError(f"{len(flags)} labels, the task has {n}")
            for name in flags:
                if name not in self._index:
                    raise UnseenClassError(f"{name[:40]!r} is none of the {n} labels: {self._named()}")
                target[self._index[name]] = 1
            return target
        wrong = next((flag for flag in flags if flag not in ("0", "1")), None)
        if wrong is not None:
            raise ValueError(f"{wrong[:40]!r} is neither 0 nor 1")
        target[:] = [flag == "1" for flag in flags]
        return target

    def _numbers(self, cells: Sequence[Cell]) -> npt.NDArray[np.float32]:
        texts = parts(cells[0]) if len(cells) == 1 else [str(cell) for cell in cells]
        if len(texts) != self.task.n_outputs:
            raise ValueError(f"{len(texts)} numbers, the task has {self.task.n_outputs}")
        return np.array([finite(text) for text in texts], np.float32)

    def _bases(self, cell: Cell, n_bp: int) -> npt.NDArray[np.int64]:
        names = base_parts(cell, n_bp)
        if len(names) != n_bp:
            raise ValueError(f"labels for {len(names):,} bases, the sequence has {n_bp:,}")
        index = {name: IGNORED if name in NO_CLASS else self._class(name) for name in sorted(set(names))}
        return np.array([index[name] for name in names], np.int64)

    def _bins(self, cell: Cell, n_bp: int) -> npt.NDArray[np.float32]:
        rows = [entry if isinstance(entry, list) else [entry] for entry in cell] if not isinstance(cell, str) else None
        rows = [[part] for part in parts(cell)] if rows is None else rows
        n_bins = -(-n_bp // self.task.bin_bp)
        if len(rows) != n_bins:
            raise ValueError(f"{len(rows):,} bins, a sequence of {n_bp:,} bp has {n_bins:,} of {self.task.bin_bp:,} bp")
        target = np.full((n_bins, self.task.n_outputs), np.nan, np.float32)
        for i, row in enumerate(rows):
            if len(row) != self.task.n_outputs:
                raise ValueError(f"bin {i + 1} has {len(row)} numbers, the task has {self.task.n_outputs}")
            for j, value in enumerate(row):
                text = "" if value is None else str(value)
                if not is_missing(text):
                    target[i, j] = finite(text)
        if np.isnan(target).all():
            raise ValueError("nothing was measured in any bin")
        return target


def finite(text: str) -> float:
    """Read a number that a float32 can hold.

    Raises
    ------
    ValueError
        If it is no number, or not finite.

    Examples
    --------
    >>> finite("-0.25")
    -0.25
    """
    if not is_number(text):
        raise ValueError(f"{text[:40]!r} is no number")
    number = float(text)
    if not math.isfinite(number) or abs(number) > float(np.finfo(np.float32).max):
        raise ValueError(f"{text[:40]} is not finite")
    return number


def gather_targets(task: Task, targets: Sequence[Target]) -> Targets:
    """Put the targets of all examples into the form that :class:`~umbel.data.labelled.examples.Examples` has.

    Examples
    --------
    >>> gather_targets(Task("binary", ("0", "1")), [0, 1])
    array([0, 1])
    """
    if task.is_along_sequence:
        return tuple(np.asarray(target) for target in targets)
    if task.is_classes:
        return np.array(targets, np.int64)
    return np.array(targets, np.float32).reshape(len(targets), task.n_outputs)
