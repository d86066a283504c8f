"""Which expert of one model is which of another: experts have no names that two trainings share.

Shapes: A and B experts of the two, F features of an expert, such as its log-odds in each class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from umbel.evaluate.experts.statistics.units import Floats

Similarity = Callable[[Floats, Floats], Floats]
"""From profiles ``(A, F)`` and ``(B, F)`` to ``(A, B)``; larger is more alike."""


@dataclass(frozen=True)
class Matching:
    """The experts of two models, paired so that the sum of similarities is largest.

    Attributes
    ----------
    partner
        ``(A,)``: the expert of the other that each is paired with; -1 for none.
    similarity
        ``(A,)`` of each pair; NaN for none.
    alike
        ``(A, B)`` of every two; NaN where one has no profile.
    mean
        Over the pairs.
    chance
        Mean over random relabellings of the same, each paired anew as well as it can be: the best pairing of things
        that have nothing in common looks good too.
    chance_high
        95 % of the relabellings have less.
    unpaired
        Mean similarity of all pairs that could be made: pairing at random.
    p
        Part of the relabellings that reach the mean, (1 + n) / (1 + R).
    n_features
        Features compared. With few there are few relabellings, and no small p.
    left_out, others_left_out
        Experts without a profile: dead, or alike in all features.
    """

    partner: npt.NDArray[np.int64]
    similarity: Floats
    alike: Floats
    mean: float
    chance: float
    chance_high: float
    unpaired: float
    p: float
    n_features: int
    left_out: tuple[int, ...]
    others_left_out: tuple[int, ...]


def correlations(profile_AF: Floats, profile_BF: Floats) -> Floats:
    """Pearson correlation of every two rows, ``(A, B)``, -1 to 1; no row may be constant.

    Examples
    --------
    >>> correlations(np.array([[1.0, 2.0]]), np.array([[3.0, 9.0], [1.0, 0.0]])).round(6).tolist()
    [[1.0, -1.0]]
    """
    a, b = (x - x.mean(1, keepdims=True) for x in (profile_AF, profile_BF))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return np.clip(a @ b.T, -1, 1)


def match_experts(
    profile_a: npt.NDArray[Any],
    profile_b: npt.NDArray[Any],
    *,
    similarity: Similarity = correlations,
    n_relabellings: int = 200,
    seed: int = 0,
) -> Matching:
    """Pair the experts of two models by what they do, and say how much of the likeness is chance.

    Chance is what is left when the features of one model are permuted, the same way for all of its experts, and the
    experts are paired again: relabelling the classes keeps what each model's profiles look like and how they differ,
    and breaks only what the two models share.

    Parameters
    ----------
    profile_a, profile_b
        ``(A, F)`` and ``(B, F)``: the same features of both, such as log-odds per class. Experts whose row is NaN or
        constant are left out; so is then every feature that is NaN for an expert that is left.
    similarity
        Of two sets of profiles; Pearson correlation by default.
    n_relabellings
        R.
    seed
        Same seed, same relabellings.

    Raises
    ------
    ValueError
        If the features differ in number, or fewer than two features or no experts are left.

    References
    ----------
    Kuhn 1955, "The Hungarian method for the assignment problem", Nav. Res. Logist. Q. 2:83.

    Examples
    --------
    >>> profile = np.random.default_rng(0).normal(size=(4, 12))
    >>> found = match_experts(profile, profile[[2, 0, 3, 1]])
    >>> found.partner.tolist(), round(found.mean, 6), found.chance < 0.6
    ([1, 3, 0, 2], 1.0, True)
    """
    a, b = np.asarray(profile_a, np.float64), np.asarray(profile_b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"profiles of shape {a.shape} and {b.shape}: give the same features of both, (experts, F)")
    has_a, has_b = _has_profile(a), _has_profile(b)
    features = ~(np.isnan(a[has_a]).any(0) | np.isnan(b[has_b]).any(0))
    # Of what is left of its features, an expert's may be all alike.
    has_a, has_b = has_a & _has_profile(a[:, features]), has_b & _has_profile(b[:, features])
    n_features = int(features.sum())
    if not has_a.any() or not has_b.any() or n_features < 2:
        raise ValueError(
            f"{has_a.sum()} and {has_b.sum()} experts with a profile, of {n_features} features that all of them have: "
            "too few to match"
        )
    rows, others = a[has_a][:, features], b[has_b][:, features]
    alike = similarity(rows, others)
    i, j = linear_sum_assignment(alike, maximize=True)
    rng = np.random.default_rng(seed)
    by_chance = np.array(
        [_best_mean(similarity(rows, others[:, rng.permutation(n_features)])) for _ in range(n_relabellings)]
    )
    mean = float(alike[i, j].mean())
    ids_a, ids_b = np.flatnonzero(has_a), np.flatnonzero(has_b)
    partner, found = np.full(len(a), -1, np.int64), np.full(len(a), np.nan)
    partner[ids_a[i]], found[ids_a[i]] = ids_b[j], alike[i, j]
    everyone = np.full((len(a), len(b)), np.nan)
    everyone[np.ix_(ids_a, ids_b)] = alike
    return Matching(
        partner=partner,
        similarity=found,
        alike=everyone,
        mean=mean,
        chance=float(by_chance.mean()) if n_relabellings else float("nan"),
        chance_high=float(np.percentile(by_chance, 95)) if n_relabellings else float("nan"),
        unpaired=float(alike.mean()),
        p=(1 + int((by_chance >= mean - 1e-12).sum())) / (1 + n_relabellings),
        n_features=n_features,
        left_out=tuple(np.flatnonzero(~has_a).tolist()),
        others_left_out=tuple(np.flatnonzero(~has_b).tolist()),
    )


def _has_profile(profile: Floats) -> npt.NDArray[np.bool_]:
    """Mark rows with two different numbers."""
    seen = ~np.isnan(profile)
    largest = np.where(seen, profile, -np.inf).max(1, initial=-np.inf)
    smallest = np.where(seen, profile, np.inf).min(1, initial=np.inf)
    return largest > smallest


def _best_mean(alike: Floats) -> float:
    i, j = linear_sum_assignment(alike, maximize=True)
    return float(alike[i, j].mean())
