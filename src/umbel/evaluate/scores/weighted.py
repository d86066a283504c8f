"""Scores of weighted rows, for many draws of weights at once: sorted once, counted anew for every draw.

A weight of 2 is the row twice. ``weights`` are float64 ``(draws, units)``, and ``units`` int64 ``(rows,)`` says whose
weight a row has. What is not defined in a draw is NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def confusion(truth: Ints, said: Ints, n_classes: int, weights: Floats, units: Ints) -> Floats:
    """Weighted counts of (true class, said class), ``(draws, n_classes, n_classes)``.

    Examples
    --------
    >>> confusion(np.array([0, 1]), np.array([0, 0]), 2, np.array([[1.0, 2.0]]), np.arange(2)).tolist()
    [[[1.0, 0.0], [2.0, 0.0]]]
    """
    counts = np.zeros((len(weights), n_classes, n_classes))
    _count(truth, said, weights, units, counts)
    return counts


def ranking(is_positive: npt.NDArray[np.bool_], scores: npt.NDArray[Any], weights: Floats, units: Ints) -> Floats:
    """Area under the ROC curve and average precision, ``(draws, 2)``; NaN where a draw has one class only.

    Rows of equal score are one step of both curves: between a positive and a negative they count one half, and
    precision is read behind the last of them.

    References
    ----------
    Fawcett 2006, "An introduction to ROC analysis", algorithm 2 (ties); Davis & Goadrich 2006, "The relationship
    between precision-recall and ROC curves" (no interpolation between points of precision and recall).

    Examples
    --------
    >>> ranking(np.array([True, False]), np.array([0.7, 0.7]), np.ones((1, 2)), np.arange(2)).tolist()
    [[0.5, 0.5]]
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    is_last = np.append(ordered[1:] != ordered[:-1], True)
    found = np.empty((len(weights), 2))
    _rank(is_positive[order], is_last, weights, units[order], found)
    return found


def correlation(truth: npt.NDArray[Any], said: npt.NDArray[Any], weights: Floats, units: Ints) -> Floats:
    """Pearson's correlation, mean squared error, and 1 - SSE / SST, ``(draws, 3)``.

    The correlation is NaN where the truth is constant in a draw, and 0 where only what was said is. 1 - SSE / SST is
    NaN where the truth is constant.
    """
    found = np.empty((len(weights), 3))
    _correlate(np.asarray(truth, np.float64), np.asarray(said, np.float64), weights, units, found)
    return found


def rank_correlation(truth: npt.NDArray[Any], said: npt.NDArray[Any], weights: Floats, units: Ints) -> Floats:
    """Spearman's correlation, ``(draws,)``: Pearson's of ranks, of which equal values share the mean.

    NaN and 0 as in :func:`correlation`.

    Examples
    --------
    >>> rank_correlation(np.array([1.0, 2.0, 9.0]), np.array([0.1, 0.2, 0.3]), np.ones((1, 3)), np.arange(3)).tolist()
    [1.0]
    """
    orders = [np.argsort(values, kind="stable") for values in (truth, said)]
    ends = [
        np.append(values[order][1:] != values[order][:-1], True)
        for values, order in zip((truth, said), orders, strict=True)
    ]
    found = np.empty(len(weights))
    _rank_correlate(orders[0], ends[0], orders[1], ends[1], weights, units, found)
    return found


@njit(cache=True, nogil=True)
def _count(truth, said, weights, units, counts):  # type: ignore[no-untyped-def]
    for draw in range(len(weights)):
        for row in range(len(truth)):
            counts[draw, truth[row], said[row]] += weights[draw, units[row]]


@njit(cache=True, nogil=True)
def _rank(is_positive, is_last, weights, units, found):  # type: ignore[no-untyped-def]
    for draw in range(len(weights)):
        hits = misses = tied_hits = tied_misses = area = precision = 0.0
        for row in range(len(is_positive)):
            weight = weights[draw, units[row]]
            if is_positive[row]:
                tied_hits += weight
            else:
                tied_misses += weight
            if is_last[row]:
                area += tied_misses * (hits + tied_hits / 2)
                hits += tied_hits
                misses += tied_misses
                if tied_hits > 0:
                    precision += tied_hits * hits / (hits + misses)
                tied_hits = tied_misses = 0.0
        if hits > 0 and misses > 0:
            found[draw, 0] = area / (hits * misses)
            found[draw, 1] = precision / hits
        else:
            found[draw, :] = np.nan


@njit(cache=True, nogil=True)
def _correlate(truth, said, weights, units, found):  # type: ignore[no-untyped-def]
    for draw in range(len(weights)):
        total = sum_truth = sum_said = 0.0
        low_truth = low_said = np.inf
        high_truth = high_said = -np.inf
        for row in range(len(truth)):
            weight = weights[draw, units[row]]
            if weight > 0:
                total += weight
                sum_truth += weight * truth[row]
                sum_said += weight * said[row]
                low_truth, high_truth = min(low_truth, truth[row]), max(high_truth, truth[row])
                low_said, high_said = min(low_said, said[row]), max(high_said, said[row])
        if total == 0:
            found[draw, :] = np.nan
            continue
        mean_truth, mean_said = sum_truth / total, sum_said / total
        both = spread_truth = spread_said = errors = 0.0
        for row in range(len(truth)):
            weight = weights[draw, units[row]]
            if weight > 0:
                x, y = truth[row] - mean_truth, said[row] - mean_said
                both += weight * x * y
                spread_truth += weight * x * x
                spread_said += weight * y * y
                errors += weight * (truth[row] - said[row]) ** 2
        found[draw, 1] = errors / total
        if low_truth == high_truth or spread_truth == 0:
            found[draw, 0] = found[draw, 2] = np.nan
            continue
        found[draw, 2] = 1 - errors / spread_truth
        if low_said == high_said or spread_said == 0:
            found[draw, 0] = 0.0
        else:
            # Two roots, because the product of two small spreads may be too small for a float.
            found[draw, 0] = min(1.0, max(-1.0, both / np.sqrt(spread_truth) / np.sqrt(spread_said)))


@njit(cache=True, nogil=True)
def _fill_ranks(order, is_last, weights, units, ranks):  # type: ignore[no-untyped-def]
    """Mean rank of every row, counted from the middle of all; also their number, and whether all are equal."""
    total = 0.0
    for row in range(len(order)):
        total += weights[units[order[row]]]
    before = tied = 0.0
    first = n_groups = 0
    for row in range(len(order)):
        tied += weights[units[order[row]]]
        if is_last[row]:
            rank = before + tied / 2 - total / 2
            for i in range(first, row + 1):
                ranks[order[i]] = rank
            n_groups += tied > 0
            before += tied
            tied = 0.0
            first = row + 1
    return n_groups


@njit(cache=True, nogil=True)
def _rank_correlate(order_x, last_x, order_y, last_y, weights, units, found):  # type: ignore[no-untyped-def]
    ranks_x, ranks_y = np.empty(len(order_x)), np.empty(len(order_x))
    for draw in range(len(weights)):
        n_x = _fill_ranks(order_x, last_x, weights[draw], units, ranks_x)
        n_y = _fill_ranks(order_y, last_y, weights[draw], units, ranks_y)
        if n_x < 2:
            found[draw] = np.nan
            continue
        if n_y < 2:
            found[draw] = 0.0
            continue
        both = spread_x = spread_y = 0.0
        # Ranks of equal weights have the mean 0 already.
        for row in range(len(order_x)):
            weight = weights[draw, units[row]]
            both += weight * ranks_x[row] * ranks_y[row]
            spread_x += weight * ranks_x[row] ** 2
            spread_y += weight * ranks_y[row] ** 2
        found[draw] = min(1.0, max(-1.0, both / np.sqrt(spread_x * spread_y)))
