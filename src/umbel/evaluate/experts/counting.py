"""The inner loops of a recording: one pass over the items of a stretch and a router; expert -1 is a dropped token."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[np.generic]
_AT_ONCE = 4


@njit(cache=True, nogil=True)
def count_choices(
    experts: Array,
    weights: Array,
    counted: Array,
    labels: Array,
    contexts: Array,
    counts_E: Array,
    weights_E: Array,
    joint_GE: Array,
    contexts_XE: Array,
    pairs_EE: Array,
) -> None:
    """Add the choices ``(T, K)`` of counted items to tables.

    Parameters
    ----------
    labels
        int16 ``(A, T)``: for each labelling a row of the table of classes, -1 for none.
    contexts
        int32 ``(T,)``: row of the table of contexts, -1 for none.
    """
    n_items, top_k = experts.shape
    for t in range(n_items):
        if not counted[t]:
            continue
        for k in range(top_k):
            e = experts[t, k]
            if e < 0:
                continue
            counts_E[e] += 1
            weights_E[e] += weights[t, k]
            for a in range(labels.shape[0]):
                g = labels[a, t]
                if g >= 0:
                    joint_GE[g, e] += 1
            x = contexts[t]
            if x >= 0:
                contexts_XE[x, e] += 1
            for m in range(top_k):
                if experts[t, m] >= 0:
                    pairs_EE[e, experts[t, m]] += 1


@njit(cache=True, nogil=True)
def count_scores(entropy: Array, margin: Array, counted: Array) -> tuple[float, float, int, int]:
    """Sum entropies and margins of counted items; also how many had either."""
    sum_entropy, sum_margin, n_entropy, n_margin = 0.0, 0.0, 0, 0
    for t in range(len(entropy)):
        if counted[t]:
            if not np.isnan(entropy[t]):
                sum_entropy += entropy[t]
                n_entropy += 1
            if not np.isnan(margin[t]):
                sum_margin += margin[t]
                n_margin += 1
    return sum_entropy, sum_margin, n_entropy, n_margin


@njit(cache=True, nogil=True)
def running_counts(experts: Array, counted: Array, n_experts: int) -> Array:
    """Count the choices before each item, int32 ``(T + 1, E)``."""
    n_items, top_k = experts.shape
    before = np.zeros((n_items + 1, n_experts), np.int32)
    for t in range(n_items):
        before[t + 1] = before[t]
        if counted[t]:
            for k in range(top_k):
                if experts[t, k] >= 0:
                    before[t + 1, experts[t, k]] += 1
    return before


@njit(cache=True, nogil=True)
def count_turned_runs(before_TE: Array, runs: Array, distances: Array, turned_SGE: Array) -> None:
    """Add the choices again, with the labels turned: item t gets the label of item t + d, around the end.

    Parameters
    ----------
    before_TE
        Of :func:`running_counts`.
    runs
        int64 ``(n, 3)``: start, end and row of the table of classes of each run of one label.
    distances
        0 to T, ``(S,)``.
    """
    n_items, n_experts = before_TE.shape[0] - 1, before_TE.shape[1]
    for s in range(len(distances)):
        d = distances[s] % n_items
        for r in range(len(runs)):
            start, end, g = runs[r, 0] - d, runs[r, 1] - d, runs[r, 2]
            if start >= 0 or end <= 0:
                shift = 0 if start >= 0 else n_items
                for e in range(n_experts):
                    turned_SGE[s, g, e] += before_TE[end + shift, e] - before_TE[start + shift, e]
            else:
                for e in range(n_experts):
                    tail = before_TE[n_items, e] - before_TE[start + n_items, e]
                    turned_SGE[s, g, e] += before_TE[end, e] + tail


@njit(cache=True, nogil=True)
def twice(experts: Array, counted: Array, nobody: int) -> Array:
    """Lay the choices end to end twice, int16 ``(2 T, K)``: turned, they need no look at the end.

    Where nothing counts, the choice is ``nobody``.
    """
    n_items, top_k = experts.shape
    found = np.empty((2 * n_items, top_k), np.int16)
    for t in range(n_items):
        for k in range(top_k):
            e = experts[t, k] if counted[t] and experts[t, k] >= 0 else nobody
            found[t, k] = e
            found[t + n_items, k] = e
    return found


@njit(cache=True, nogil=True)
def count_turned_items(twice_TK: Array, places: Array, rows: Array, distances: Array, turned_SGE: Array) -> None:
    """Do what :func:`count_turned_runs` does, item by item, for labels that change at nearly every one.

    Parameters
    ----------
    twice_TK
        Of :func:`twice`, with E for nobody.
    places, rows
        int32 and int16 ``(n,)``: the items that have a label, and its row of the table of classes.
    distances
        0 to T, ``(S,)``.
    """
    n_items, top_k = twice_TK.shape[0] // 2, twice_TK.shape[1]
    n_rows, n_experts = turned_SGE.shape[1], turned_SGE.shape[2]
    tables = np.empty((_AT_ONCE, n_rows, n_experts + 1), np.int64)
    ahead = np.empty(_AT_ONCE, np.int64)
    for first in range(0, len(distances), _AT_ONCE):
        n_here = min(_AT_ONCE, len(distances) - first)
        for s in range(_AT_ONCE):
            ahead[s] = n_items - distances[first + min(s, n_here - 1)] % n_items
        tables[:] = 0
        a, b, c, d = ahead
        for i in range(len(places)):
            row, place = rows[i], places[i]
            for k in range(top_k):
                # Neighbours mostly add to one cell, and each addition waits for the one before: so four tables in turn.
                tables[0, row, twice_TK[place + a, k]] += 1
                tables[1, row, twice_TK[place + b, k]] += 1
                tables[2, row, twice_TK[place + c, k]] += 1
                tables[3, row, twice_TK[place + d, k]] += 1
        for s in range(n_here):
            turned_SGE[first + s] += tables[s, :, :n_experts]


@njit(cache=True, nogil=True)
def count_around(experts: Array, counted: Array, codes: Array, around_EWB: Array) -> None:
    """Add the bases around each counted base to the table of its first choice, ``(E, W, 4)``."""
    n_items, half = len(codes), around_EWB.shape[1] // 2
    for t in range(n_items):
        if not counted[t] or experts[t, 0] < 0:
            continue
        table = around_EWB[experts[t, 0]]
        for w in range(max(-half, -t), min(half + 1, n_items - t)):
            base = codes[t + w]
            if base < 4:
                table[w + half, base] += 1


@njit(cache=True, nogil=True)
def count_paths(before: Array, experts: Array, counted: Array, paths_EE: Array) -> None:
    """Add the first choices of two routers that follow each other."""
    for t in range(len(before)):
        if counted[t] and before[t, 0] >= 0 and experts[t, 0] >= 0:
            paths_EE[before[t, 0], experts[t, 0]] += 1


@njit(cache=True, nogil=True)
def count_bins(experts: Array, weights: Array, counted: Array, bin_bp: int, n_EB: Array, weight_EB: Array) -> None:
    """Add choices and gate weights to whole bins of a stretch, ``(E, bins)``; what is left at its end is not in one."""
    top_k, n_bins = experts.shape[1], n_EB.shape[1]
    for t in range(n_bins * bin_bp):
        if counted[t]:
            for k in range(top_k):
                e = experts[t, k]
                if e >= 0:
                    n_EB[e, t // bin_bp] += 1
                    weight_EB[e, t // bin_bp] += weights[t, k]
