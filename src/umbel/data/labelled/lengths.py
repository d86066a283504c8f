"""Sequences longer than a model takes: refused, cropped, or cut into windows whose outputs are put together again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from umbel.data.labelled.examples import Examples
from umbel.data.labelled.problems import row_list
from umbel.errors import ConfigError, LabelError

Long = Literal["refuse", "crop_centre", "crop_start", "crop_end", "window"]
Outputs = tuple[npt.NDArray[np.float32], ...]


@dataclass(frozen=True)
class Split:
    """Examples, and what a model is shown of them.

    Attributes
    ----------
    whole
        The examples that are scored: as they were read, but cropped where that was asked for.
    shown
        The same, or windows of them.
    fold
        From outputs for ``shown``, one array an example, to outputs for ``whole``.
    told
        A line about what was done; empty where nothing was.
    """

    whole: Examples
    shown: Examples
    fold: Callable[[Sequence[npt.NDArray[np.float32]]], Outputs]
    told: str = ""

    def __len__(self) -> int:
        return len(self.whole)


def fit_lengths(examples: Examples, max_bp: int, long: Long) -> Split:
    """See to sequences longer than ``max_bp``.

    Parameters
    ----------
    max_bp
        Longest sequence a model is shown.
    long
        ``refuse`` raises. ``crop_start`` keeps the first ``max_bp`` bases, ``crop_end`` the last, ``crop_centre`` those
        in the middle. ``window`` cuts into windows of ``max_bp``, as few as cover every base, evenly spread. Every
        window of a training sequence has its label; outputs of a sequence are the mean over its windows. Of bases and
        bins each window has its own targets, and an output comes from the window in whose middle it stands most.

    Raises
    ------
    LabelError
        If a sequence is longer and ``long`` is ``refuse``, naming rows.
    ConfigError
        If bins would be cut in two.

    Examples
    --------
    >>> from umbel.data.labelled.task import Task
    >>> task = Task("regression", ("y",))
    >>> codes = (np.array([0, 1, 2, 3, 0], np.uint8),)
    >>> split = fit_lengths(Examples(task, ("a",), codes, np.ones((1, 1)), "a.csv", np.array([2])), 3, "window")
    >>> [sequence.tolist() for sequence in split.shown.codes], split.fold([np.array([1.0]), np.array([3.0])])
    ([[0, 1, 2], [2, 3, 0]], (array([2.]),))
    """
    lengths = np.array([len(codes) for codes in examples.codes])
    long_ones = np.flatnonzero(lengths > max_bp)
    if not len(long_ones):
        return Split(examples, examples, tuple)
    rows, longest = examples.rows[long_ones], int(lengths.max())
    if long == "refuse":
        raise LabelError(
            f"{len(rows):,} of {len(examples):,} sequences are longer than the {max_bp:,} bases that the model takes "
            f"(the longest has {longest:,}): {row_list(rows)}. Say what to do about them with --set long=crop_centre, "
            "crop_start, crop_end or window, or raise max_bp",
            examples.source,
        )
    task = examples.task
    if task.kind == "bins" and max_bp % task.bin_bp:
        raise ConfigError(f"max_bp is {max_bp}, which cuts bins of {task.bin_bp} bp in two: take a multiple of it")
    told = f"{examples.source}: {len(rows):,} of {len(examples):,} sequences are longer than {max_bp:,} bp"
    if long == "window":
        return _windows(examples, max_bp, f"{told}, and are cut into windows")
    step = task.bin_bp if task.kind == "bins" else 1
    cropped = [_crop(int(n), max_bp, long, step) for n in lengths]
    cut = _pieces(examples, range(len(examples)), cropped)
    return Split(cut, cut, tuple, f"{told}; {long.replace('_', ' ')}: {int((lengths - max_bp).clip(0).sum()):,} bp go")


def _crop(n: int, max_bp: int, long: str, step: int) -> slice:
    if n <= max_bp:
        return slice(0, n)
    start = {"crop_start": 0, "crop_end": n - max_bp, "crop_centre": (n - max_bp) // 2}[long]
    start = start // step * step
    return slice(start, start + max_bp)


def window_starts(n: int, max_bp: int, step: int = 1) -> list[int]:
    """Give the starts of windows of ``max_bp`` over ``n`` bases: as few as can, evenly spread, on multiples of step.

    Examples
    --------
    >>> window_starts(10, 4), window_starts(3, 4)
    ([0, 3, 6], [0])
    """
    if n <= max_bp:
        return [0]
    last = -(-(n - max_bp) // step)
    gaps = -(-last * step // max_bp)
    return [round(i * last / gaps) * step for i in range(gaps + 1)]


def _pieces(examples: Examples, of: Sequence[int], places: Sequence[slice]) -> Examples:
    """Cut pieces out of examples, with their targets."""
    task = examples.task
    codes = tuple(examples.codes[i][place] for i, place in zip(of, places, strict=True))
    targets: Any
    if task.is_along_sequence:
        per = task.bin_bp if task.kind == "bins" else 1
        targets = tuple(
            examples.targets[i][place.start // per : -(-place.stop // per)] for i, place in zip(of, places, strict=True)
        )
    else:
        targets = np.asarray(examples.targets)[list(of)]
    return dataclasses.replace(examples.take(list(of)), codes=codes, targets=targets)


def _windows(examples: Examples, max_bp: int, told: str) -> Split:
    task = examples.task
    per = task.bin_bp if task.kind == "bins" else 1
    of: list[int] = []
    places: list[slice] = []
    for i, codes in enumerate(examples.codes):
        n = len(codes)
        for start in window_starts(n, max_bp, per):
            of.append(i)
            places.append(slice(start, min(n, start + max_bp)))
    shown = _pieces(examples, of, places)
    names = tuple(f"{examples.ids[i]}:{place.start + 1}-{place.stop}" for i, place in zip(of, places, strict=True))
    shown = dataclasses.replace(shown, ids=names)

    def fold(outputs: Sequence[npt.NDArray[np.float32]]) -> Outputs:
        mine: list[list[int]] = [[] for _ in examples.ids]
        for window, i in enumerate(of):
            mine[i].append(window)
        if not task.is_along_sequence:
            return tuple(np.mean([outputs[w] for w in windows], axis=0) for windows in mine)
        return tuple(_joined(outputs, [(w, places[w].start // per) for w in windows]) for windows in mine)

    return Split(examples, shown, fold, f"{told}, {len(shown):,} in all")


def _joined(outputs: Sequence[npt.NDArray[np.float32]], windows: Sequence[tuple[int, int]]) -> npt.NDArray[np.float32]:
    """Lay the outputs of overlapping windows end to end; neighbours meet in the middle of what they share."""
    parts, done = [], 0
    for place, (window, start) in enumerate(windows):
        end = start + len(outputs[window])
        if place + 1 < len(windows):
            end = (windows[place + 1][1] + end) // 2
        parts.append(outputs[window][done - start : end - start])
        done = end
    return np.concatenate(parts)
