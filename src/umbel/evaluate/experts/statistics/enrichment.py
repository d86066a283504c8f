"""Which experts take more or less of a class than of all else, tested against labels that are moved, not shuffled.

Shapes: U units, C classes, E experts, S moved labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.evaluate.experts.statistics.divergence import shares_of
from umbel.evaluate.experts.statistics.units import Floats, percentiles, resampled
from umbel.evaluate.metrics import Resamples

HALDANE = 0.5
_CHUNK_ENTRIES = 4_000_000


def log_odds(joint_CE: npt.NDArray[Any]) -> Floats:
    r"""Logarithm (natural) of the odds ratio of each expert and class, against all other experts and classes.

    :math:`\ln \frac{(a + 0.5) (d + 0.5)}{(b + 0.5) (c + 0.5)}`: a choices of the expert in the class, b of others in
    it, c of the expert elsewhere, d of others elsewhere.

    Parameters
    ----------
    joint_CE
        ``(..., C, E)`` choices.

    Returns
    -------
    ``(..., C, E)``; NaN where the class or the expert has no choices, or all there are.

    References
    ----------
    Haldane 1956, Ann. Hum. Genet. 20:309 (the halves).

    Examples
    --------
    >>> log_odds(np.array([[9, 3], [3, 9]])).round(3).tolist()
    [[1.997, -1.997], [-1.997, 1.997]]
    """
    a = np.asarray(joint_CE, np.float64)
    in_class, of_expert = a.sum(-1, keepdims=True), a.sum(-2, keepdims=True)
    total = in_class.sum(-2, keepdims=True)
    b, c = in_class - a, of_expert - a
    d = total - in_class - c
    found = np.log((a + HALDANE) * (d + HALDANE) / ((b + HALDANE) * (c + HALDANE)))
    is_there = (in_class > 0) & (of_expert > 0) & (in_class < total) & (of_expert < total)
    return np.where(is_there, found, np.nan)


@dataclass(frozen=True)
class Enrichment:
    """Every expert and class at one router; all ``(C, E)`` unless said otherwise.

    Attributes
    ----------
    n_joint
        Choices of the expert at items of the class.
    n_class
        ``(C,)`` choices at items of the class.
    share_in_class, share_overall
        Part of these that are the expert's; ``(E,)``: its part at items of any class.
    log2_odds
        See :func:`log_odds`, in powers of 2, with an interval over units; none where fewer than two units have the
        class.
    p
        Two-sided, from moved labels; NaN where ``reason`` says why. It is not corrected for the number of tests:
        give the p-values of all routers together to :func:`benjamini_hochberg`.
    z
        The log-odds minus its mean over moved labels, in their standard deviations.
    reason
        Empty where there is a p-value.
    """

    n_joint: Floats
    n_class: Floats
    share_in_class: Floats
    share_overall: Floats
    log2_odds: Floats
    low: Floats
    high: Floats
    p: Floats
    z: Floats
    reason: npt.NDArray[np.object_]


def enrichment(
    joint_UCE: npt.NDArray[Any], shifted_SCE: npt.NDArray[Any], n_draws: int = 1000, seed: int = 0
) -> Enrichment:
    r"""Measure and test the enrichment of every class in every expert.

    The log-odds are computed for the labels and for each moved labelling; :math:`p = 2 \min(\frac{1 + n_\ge}{1 + S},
    \frac{1 + n_\le}{1 + S})`, at most 1. Neighbouring bases have one label and like experts, so that a test that takes
    them for independent finds anything; turning the labels along the stretch keeps both tracks as they are, and breaks
    only what joins them.

    Parameters
    ----------
    joint_UCE
        ``(U, C, E)`` choices.
    shifted_SCE
        ``(S, C, E)``: the sums over units, with labels turned along each stretch by a random distance. For labellings
        of sequences give :func:`permutation`.
    n_draws, seed
        Bootstrap draws of units for the intervals, and what makes them the same each time.

    Raises
    ------
    ValueError
        If the two differ in classes or experts, or nothing was moved.

    References
    ----------
    Circular shifts: Gel et al. 2016, "regioneR", Bioinformatics 32:289. The 1 that is added: Phipson & Smyth 2010,
    Stat. Appl. Genet. Mol. Biol. 9:39.

    Examples
    --------
    >>> joint = np.array([[[9, 1], [2, 8], [0, 0]]] * 4)
    >>> shifted = np.array([[[20 + s, 20 - s], [24 - s, 16 + s], [0, 0]] for s in range(-4, 5)])
    >>> found = enrichment(joint, shifted, n_draws=20)
    >>> found.p.round(2).tolist(), found.reason[2, 0]
    ([[0.2, 0.2], [0.2, 0.2], [nan, nan]], 'no items of this class')
    """
    joint, shifted = np.asarray(joint_UCE, np.float64), np.asarray(shifted_SCE)
    total = joint.sum(0)
    if shifted.ndim != 3 or shifted.shape[1:] != total.shape or not len(shifted):
        raise ValueError(
            f"moved labels of shape {shifted.shape} beside counts of {total.shape}: give (S, C, E), S >= 1"
        )
    odds = log_odds(total)
    draws = resampled(log_odds, joint, Resamples(len(joint), n_draws, seed), entries=4 * total.size)
    interval = percentiles(odds, draws, len(joint))
    # Draws of one unit that has all of a class tell nothing of other units that might have it.
    is_spread = (joint.any(2).sum(0) >= 2)[:, None]
    tests = _test(odds, shifted)
    reason = _reasons(total, tests)
    return Enrichment(
        n_joint=total,
        n_class=total.sum(1),
        share_in_class=shares_of(total),
        share_overall=shares_of(total.sum(0)),
        log2_odds=odds / math.log(2),
        low=np.where(is_spread, interval.low, np.nan) / math.log(2),
        high=np.where(is_spread, interval.high, np.nan) / math.log(2),
        p=np.where(reason == "", tests.p, np.nan),
        z=np.where(reason == "", tests.z, np.nan),
        reason=reason,
    )


@dataclass(frozen=True)
class _Tests:
    p: Floats
    z: Floats
    n_moved: npt.NDArray[np.int64]
    is_fixed: npt.NDArray[np.bool_]


def _test(odds: Floats, shifted: npt.NDArray[Any]) -> _Tests:
    """Compare log-odds with those of moved labels."""
    above, below, seen = (np.zeros(odds.shape, np.int64) for _ in range(3))
    sums, squares = np.zeros(odds.shape), np.zeros(odds.shape)
    n_rows = max(1, _CHUNK_ENTRIES // (4 * odds.size))
    for first in range(0, len(shifted), n_rows):
        # Sums of differences from the value keep their digits where the spread is small.
        moved = log_odds(shifted[first : first + n_rows]) - odds
        there = ~np.isnan(moved)
        above += (moved >= 0).sum(0)
        below += (moved <= 0).sum(0)
        seen += there.sum(0)
        moved = np.where(there, moved, 0)
        sums += moved.sum(0)
        squares += np.square(moved).sum(0)
    n = np.maximum(seen, 1)
    mean = sums / n
    spread = np.sqrt(np.maximum(squares / n - mean**2, 0))
    p = np.minimum(1, 2 * (1 + np.minimum(above, below)) / (1 + seen))
    z = np.divide(-mean, spread, out=np.full(odds.shape, np.nan), where=spread > 0)
    return _Tests(p, z, seen, squares == 0)


def _reasons(total: Floats, tests: _Tests) -> npt.NDArray[np.object_]:
    """Say why there is no p-value; the first that holds."""
    in_class, of_expert = total.sum(1)[:, None], total.sum(0)[None]
    n = total.sum()
    cases = [
        (in_class == 0, "no items of this class"),
        (of_expert == 0, "no item chose this expert"),
        (in_class == n, "all items are of this class"),
        (of_expert == n, "every choice is this expert"),
        (tests.n_moved == 0, "moved labels leave no items of this class"),
        (tests.is_fixed, "moving the labels changes nothing here"),
    ]
    reason = np.full(total.shape, "", object)
    for holds, text in reversed(cases):
        reason[np.broadcast_to(holds, total.shape)] = text
    return reason


def permutation(joint_UCE: npt.NDArray[Any], n_permutations: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Give the units of a labelling of sequences each other's classes.

    Parameters
    ----------
    joint_UCE
        ``(U, C, E)`` choices; a unit has one class, or none, and then it takes no part.
    n_permutations
        S.
    seed
        Same seed, same permutations.

    Returns
    -------
    ``(S, C, E)`` sums over units, as :func:`enrichment` takes them.

    Raises
    ------
    ValueError
        If a unit has items of two classes: then its sequences cannot change places as a whole.

    Examples
    --------
    >>> joint = np.array([[[3, 0], [0, 0]], [[0, 0], [0, 5]]])
    >>> moved = permutation(joint, 20)
    >>> sorted({tuple(each.flatten().tolist()) for each in moved})
    [(0, 5, 3, 0), (3, 0, 0, 5)]
    """
    joint = np.asarray(joint_UCE, np.int64)
    has = joint.sum(2) > 0
    if (mixed := np.flatnonzero(has.sum(1) > 1)).size:
        raise ValueError(
            f"unit {mixed[0]} has items of {has[mixed[0]].sum()} classes: permuting classes of units is for labellings "
            "of whole sequences, where a unit has one"
        )
    used = has.any(1)
    classes, choices = has[used].argmax(1), joint[used].sum(1).astype(np.float64)
    n_classes, n_units = joint.shape[1], len(classes)
    rng = np.random.default_rng(seed)
    n_rows = max(1, _CHUNK_ENTRIES // max(1, n_classes * n_units))
    found = np.zeros((n_permutations, n_classes, joint.shape[2]), np.int64)
    for first in range(0, n_permutations, n_rows):
        part = found[first : first + n_rows]
        order = rng.permuted(np.tile(classes, (len(part), 1)), axis=1)
        # Sums of whole numbers below 2**53 are exact.
        part[:] = (order[:, None] == np.arange(n_classes)[:, None]).astype(np.float64) @ choices
    return found


def benjamini_hochberg(p: npt.NDArray[Any]) -> Floats:
    r"""Turn p-values into q-values: the false discovery rate at which each would just be called.

    :math:`q_{(i)} = \min_{j \ge i} p_{(j)} m / j` over the m p-values that are not NaN; these stay NaN.

    Parameters
    ----------
    p
        Of any shape, 0 to 1: all tests that are looked at together.

    Raises
    ------
    ValueError
        If one is outside 0 to 1.

    References
    ----------
    Benjamini & Hochberg 1995, J. R. Stat. Soc. B 57:289.

    Examples
    --------
    >>> benjamini_hochberg(np.array([0.01, np.nan, 0.04, 0.03])).tolist()
    [0.03, nan, 0.04, 0.04]
    """
    values = np.asarray(p, np.float64)
    is_there = ~np.isnan(values)
    some = values[is_there]
    if ((some < 0) | (some > 1)).any():
        raise ValueError("p-values are from 0 to 1")
    order = some.argsort(kind="stable")
    ranked = some[order] * len(some) / np.arange(1, len(some) + 1)
    found = np.empty_like(some)
    found[order] = np.minimum.accumulate(ranked[::-1])[::-1]
    q = np.full(values.shape, np.nan)
    q[is_there] = found
    return q
