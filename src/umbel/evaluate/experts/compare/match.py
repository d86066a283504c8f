"""Experts of two models paired up, one to one: seeds number theirs at will, so only what they do can tell.

Shapes: U units, B blocks of units, C classes, E experts of the first model, F of the second, K top-k.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from umbel.evaluate.experts.compare.checkpoints import Checkpoint
from umbel.evaluate.experts.compare.counting import Sums
from umbel.evaluate.experts.compare.paired import Floats, Ints
from umbel.evaluate.experts.statistics.enrichment import log_odds
from umbel.evaluate.experts.statistics.matching import match_experts
from umbel.evaluate.metrics import Resamples, interval

BY = {"items": "the items they take", "profiles": "their enrichment over classes"}
MIN_CLASSES = 3
"""A correlation over fewer classes is 1 or -1, whatever the profiles."""


def assign(similarity_EF: npt.NDArray[Any]) -> Ints:
    """Give each expert of the first model one of the second, so that the similarities add up to most.

    Returns
    -------
    ``(E,)``: the expert of the second, -1 where it has fewer.

    References
    ----------
    Kuhn 1955, "The Hungarian method for the assignment problem", Naval Research Logistics 2:83.

    Examples
    --------
    >>> assign(np.array([[0.1, 0.9], [0.2, 0.8]])).tolist()
    [1, 0]
    """
    rows, columns = linear_sum_assignment(similarity_EF, maximize=True)
    partner = np.full(len(similarity_EF), -1)
    partner[rows] = columns
    return partner


@dataclass(frozen=True)
class Matched:
    """Experts of two routers paired up.

    Attributes
    ----------
    partner
        ``(E,)``: of each expert of the first.
    similarity
        ``(E, F)``, that by which they were paired, or a form of it that is fit to be shown.
    raw, value
        With experts of one number for each other (None where no two have a profile), and as paired.
    low, high
        95 % interval of ``value`` over units, the pairing as it is; None where there is none.
    held_out
        ``value`` on halves of the units that the pairing was not made on.
    chance, chance_high
        Mean, and 95th percentile (None of one alone), of the same when the second knows nothing of the first, paired
        as well as it goes.
    p
        Share of such that reach ``value``, itself among them; None where there is one only.
    """

    partner: Ints
    similarity: Floats
    raw: float | None
    value: float
    low: float | None
    high: float | None
    held_out: float | None
    chance: float
    chance_high: float | None
    p: float | None


def match_by_items(
    taken_BEF: Ints, turned_EF: Ints, top_k: tuple[int, int] = (1, 1), *, n_draws: int = 1000, seed: int = 0
) -> Matched:
    """Pair experts by the items that both took.

    ``value`` is the share of choices on which the two agree once experts are renumbered. Chance is the same with the
    second's items turned along each sequence, paired anew: two routers that know the composition of a sequence, and of
    its places nothing. ``similarity`` is items that both took over items that either took (Jaccard).

    Parameters
    ----------
    taken_BEF, turned_EF
        As :class:`umbel.evaluate.experts.compare.paired.PairSums` has them.
    top_k
        Of the two.

    Examples
    --------
    >>> swapped = np.array([[[0, 6], [4, 0]], [[0, 5], [5, 0]]])
    >>> found = match_by_items(swapped, np.array([[5, 5], [5, 5]]))
    >>> found.partner.tolist(), found.raw, found.value, found.chance
    ([1, 0], 0.0, 1.0, 0.5)
    """
    whole = taken_BEF.sum(0)
    partner = assign(whole)
    # An item is in the table once for each two that were chosen for it.
    n_choices = whole.sum() / min(top_k)
    value = _along(whole, partner).sum() / n_choices
    low = high = held_out = None
    if len(taken_BEF) > 1:
        agreed = np.array([_along(block, partner).sum() for block in taken_BEF], np.float64)
        size = taken_BEF.sum((1, 2)) / min(top_k)
        resamples = Resamples(len(agreed), n_draws, seed)
        drawn = resamples.sums(agreed) / np.maximum(resamples.sums(size), 1)
        spread = interval(float(value), drawn, len(agreed))
        low, high = spread.low, spread.high
        halves = [taken_BEF[::2].sum(0), taken_BEF[1::2].sum(0)]
        crossed = [_along(halves[1 - i], assign(halves[i])).sum() for i in range(2)]
        held_out = float(sum(crossed) / n_choices)
    either = whole.sum(1)[:, None] / top_k[1] + whole.sum(0)[None] / top_k[0] - whole
    return Matched(
        partner=partner,
        similarity=np.divide(whole, either, out=np.zeros(whole.shape), where=either > 0),
        raw=float(np.trace(whole) / n_choices),
        value=float(value),
        low=low,
        high=high,
        held_out=held_out,
        chance=float(_along(turned_EF, assign(turned_EF)).sum() / n_choices),
        chance_high=None,
        p=None,
    )


def _along(table: npt.NDArray[Any], partner: Ints) -> npt.NDArray[Any]:
    """Give the entries of experts and their partners."""
    rows = np.flatnonzero(partner >= 0)
    return table[rows, partner[rows]]


def match_by_profiles(
    profiles_EC: Floats, others_FC: Floats, *, n_permutations: int = 1000, seed: int = 0
) -> Matched | None:
    """Pair experts by the correlation of their profiles over classes; None where there is too little to go by.

    ``value`` is the mean correlation of pairs; ``similarity`` is NaN for an expert without a profile. Chance: the
    classes of the second's profiles are given each other's names, for all its experts alike, and experts are paired
    anew.

    Parameters
    ----------
    profiles_EC, others_FC
        Log-odds of experts for classes, NaN where there is none.

    Examples
    --------
    >>> a = np.random.default_rng(0).normal(size=(3, 8))
    >>> found = match_by_profiles(a, a[[2, 0, 1]], n_permutations=99)
    >>> found.partner.tolist(), round(found.value, 6), found.p
    ([1, 2, 0], 1.0, 0.01)
    """
    try:
        found = match_experts(profiles_EC, others_FC, n_relabellings=n_permutations, seed=seed)
    except ValueError:
        # Experts without a profile, or one class: no correlation.
        return None
    if found.n_features < MIN_CLASSES:
        return None
    diagonal = np.diagonal(found.alike)
    return Matched(
        partner=found.partner,
        similarity=found.alike,
        raw=None if np.isnan(diagonal).all() else float(np.nanmean(diagonal)),
        value=found.mean,
        low=None,
        high=None,
        held_out=None,
        chance=found.chance,
        chance_high=found.chance_high,
        p=found.p,
    )


def profiles_of(sums: Sums, checkpoint: int, site: int, labellings: Sequence[str]) -> Floats:
    """Give the log-odds of each expert for each class of all labellings, side by side: ``(E, C)``, NaN for none."""
    tables = []
    for name in labellings:
        joint_CE = sums.sites[checkpoint][site].joint[name].sum(0)
        tables.append(log_odds(joint_CE).T)
    n_experts = sums.sites[checkpoint][site].counts.shape[1]
    return np.concatenate(tables, 1) if tables else np.empty((n_experts, 0))


Matches = dict[tuple[int, int, int, str], Matched]


def match_all(
    checkpoints: Sequence[Checkpoint],
    sums: Sums,
    labellings: Sequence[str],
    *,
    n_draws: int,
    n_permutations: int,
    seed: int,
) -> Matches:
    """Pair experts of every two checkpoints that were laid side by side, by :data:`BY`, at every router.

    By profiles only where :data:`MIN_CLASSES` classes or more have items.
    """
    found: Matches = {}
    for (i, j), paired in sums.pairs.items():
        for m, pair in enumerate(paired):
            top_k = (checkpoints[i].sites[m].top_k, checkpoints[j].sites[m].top_k)
            found[i, j, m, "items"] = match_by_items(pair.taken, pair.turned, top_k, n_draws=n_draws, seed=seed)
            profiles = [profiles_of(sums, c, m, labellings) for c in (i, j)]
            by_profiles = match_by_profiles(*profiles, n_permutations=n_permutations, seed=seed)
            if by_profiles is not None:
                found[i, j, m, "profiles"] = by_profiles
    return found


def matching_rows(checkpoints: Sequence[Checkpoint], found: Matches) -> list[dict[str, Any]]:
    """One row for each two checkpoints, router, and way to pair experts up."""
    rows = []
    for (i, j, m, by), matched in found.items():
        a, b = checkpoints[i], checkpoints[j]
        rows.append(
            {
                "first": a.name,
                "second": b.name,
                "n_controls": int(a.is_control) + int(b.is_control),
                "site": m,
                "layer": a.sites[m].layer,
                "by": by,
                "raw": matched.raw,
                "matched": matched.value,
                "matched_low": matched.low,
                "matched_high": matched.high,
                "held_out": matched.held_out,
                "chance": matched.chance,
                "chance_high": matched.chance_high,
                "p": matched.p,
            }
        )
    return rows


def partner_rows(checkpoints: Sequence[Checkpoint], found: Matches) -> list[dict[str, Any]]:
    """One row for each two experts that were paired up."""
    return [
        {
            "first": checkpoints[i].name,
            "second": checkpoints[j].name,
            "site": m,
            "layer": checkpoints[i].sites[m].layer,
            "by": by,
            "expert_first": e,
            "expert_second": int(f),
            "similarity": float(matched.similarity[e, f]),
        }
        for (i, j, m, by), matched in found.items()
        for e, f in enumerate(matched.partner)
        if f >= 0
    ]


def seed_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Average :func:`matching_rows` over all pairs of trained checkpoints, beside pairs with random networks in them.

    ``control_high`` is the most that any of these ``n_control_pairs`` has: what seeds share beyond it was learnt.
    ``sd`` is the standard deviation, over seeds, of a seed's mean with all others; None with fewer than three. Pairs
    are not independent: each seed is in several.
    """
    found = []
    for site, layer, by in dict.fromkeys((row["site"], row["layer"], row["by"]) for row in rows):
        here = [row for row in rows if row["site"] == site and row["by"] == by]
        trained = [row for row in here if row["n_controls"] == 0]
        random = [row["matched"] for row in here if row["n_controls"] == 2]
        mixed = [row["matched"] for row in here if row["n_controls"] == 1]
        names = list(dict.fromkeys(name for row in trained for name in (row["first"], row["second"])))
        means = [np.mean([r["matched"] for r in trained if name in (r["first"], r["second"])]) for name in names]
        found.append(
            {"site": site, "layer": layer, "by": by, "n_seeds": len(names), "n_pairs": len(trained)}
            | {name: _mean(row[name] for row in trained) for name in ("raw", "matched", "chance")}
            | {"sd": float(np.std(means, ddof=1)) if len(means) > 2 else None}
            | {"random": _mean(random), "trained_to_random": _mean(mixed)}
            | {"control_high": max(random + mixed, default=None), "n_control_pairs": len(random + mixed)}
        )
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    some = [value for value in values if value is not None]
    return float(np.mean(some)) if some else None
