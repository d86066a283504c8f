"""Arithmetic on stretches of one contig: int64 ``(n, 2)`` arrays of start and end, 0-based half-open.

*Merged* runs are sorted, not empty, and neither overlap nor touch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Runs = npt.NDArray[np.int64]


def as_runs(pairs: Iterable[tuple[int, int]]) -> Runs:
    """Give pairs of start and end as an array, ``(n, 2)``; no pairs give ``(0, 2)``.

    Examples
    --------
    >>> as_runs([]).shape
    (0, 2)
    """
    return np.array(list(pairs), np.int64).reshape(-1, 2)


def merge(runs: Runs, gap_bp: int = 0) -> Runs:
    """Sort runs in any order, and make one of those that overlap, touch, or lie at most ``gap_bp`` apart.

    Examples
    --------
    >>> merge(as_runs([(5, 9), (0, 3), (3, 4), (20, 20)])).tolist()
    [[0, 4], [5, 9]]
    """
    runs = runs[runs[:, 1] > runs[:, 0]]
    if not len(runs):
        return runs
    runs = runs[np.argsort(runs[:, 0], kind="stable")]
    reached = np.maximum.accumulate(runs[:, 1])
    is_first = np.concatenate(([True], runs[1:, 0] > reached[:-1] + gap_bp))
    last = np.append(np.flatnonzero(is_first)[1:] - 1, len(runs) - 1)
    return np.column_stack((runs[is_first, 0], reached[last]))


def subtract(runs: Runs, others: Runs) -> Runs:
    """Give what of merged ``runs`` is in none of the merged ``others``.

    Examples
    --------
    >>> subtract(as_runs([(0, 10), (20, 30)]), as_runs([(3, 5), (8, 22)])).tolist()
    [[0, 3], [5, 8], [22, 30]]
    """
    if not len(runs) or not len(others):
        return runs
    # Depth is +1 inside runs and -1 inside others, so what is left has depth 1.
    places = np.concatenate((runs[:, 0], runs[:, 1], others[:, 0], others[:, 1]))
    steps = np.repeat([1, -1, -1, 1], [len(runs), len(runs), len(others), len(others)])
    edges, which = np.unique(places, return_inverse=True)
    depth = np.cumsum(np.bincount(which, weights=steps, minlength=len(edges)).astype(np.int64))
    inside = np.flatnonzero(depth[:-1] == 1)
    return merge(np.column_stack((edges[inside], edges[inside + 1])))


def n_bases(runs: Runs) -> int:
    """Count the bases of merged runs.

    Examples
    --------
    >>> n_bases(as_runs([(0, 3), (5, 6)]))
    4
    """
    return int((runs[:, 1] - runs[:, 0]).sum())


def fill(values_L: npt.NDArray[Any], runs: Runs, start: int, value: np.generic) -> int:
    """Set what of merged runs lies in the stretch from ``start`` on that ``values_L`` stands for; give its length.

    Examples
    --------
    >>> values = np.zeros(4, np.uint8)
    >>> fill(values, as_runs([(0, 3), (5, 9)]), 2, np.uint8(7)), values.tolist()
    (2, [7, 0, 0, 7])
    """
    end = start + len(values_L)
    first = np.searchsorted(runs[:, 1], start, side="right")
    last = np.searchsorted(runs[:, 0], end, side="left")
    inside = np.clip(runs[first:last], start, end) - start
    for run_start, run_end in inside.tolist():
        values_L[run_start:run_end] = value
    return n_bases(inside)


def runs_where(flags: npt.NDArray[np.bool_], start: int = 0) -> Runs:
    """Find the runs of True; ``start`` is added to every position.

    Examples
    --------
    >>> runs_where(np.array([True, False, True, True]), start=10).tolist()
    [[10, 11], [12, 14]]
    """
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return edges.reshape(-1, 2).astype(np.int64) + start
