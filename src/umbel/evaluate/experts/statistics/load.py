"""How evenly one router spreads its items over its experts.

Shapes: U units, E experts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.evaluate.experts.statistics.units import Estimates, Floats, percentiles, resampled
from umbel.evaluate.metrics import Resamples

STARVING = 0.05
"""An expert with less than this part of an even share starves."""
ITEMS_PER_EXPERT = 20
"""Choices that an even load must give each expert, before one without any is called dead."""


@dataclass(frozen=True)
class Load:
    """The load of one router; E experts, of which every item takes K.

    Attributes
    ----------
    load
        ``(E,)``: each expert's part of all choices, f, adding up to 1.
    max_over_mean
        E max f: 1 when even, at most ``max_over_mean_bound`` = E / K, because no item takes an expert twice.
    cv
        E std f: 0 when even, at most ``cv_bound`` = sqrt(E / K - 1).
    max_vio
        ``max_over_mean - 1`` (Wang et al. 2024).
    gini
        Gini coefficient of f: 0 when even, (E - K) / E at most.
    effective_experts
        exp H(f): E when even, K at least.
    entropy
        H(f) / ln E: 1 when even.
    dead
        Experts that nothing chose.
    starving
        Experts with f < 0.05 / E, the dead among them.
    is_enough
        There were at least 20 E / K items; with fewer, an expert may be without any by chance.

    References
    ----------
    Fedus et al. 2021, arXiv:2101.03961 (load); Wang et al. 2024, arXiv:2408.15664 (MaxVio).
    """

    load: Floats
    max_over_mean: float
    max_over_mean_bound: float
    cv: float
    cv_bound: float
    max_vio: float
    gini: float
    effective_experts: float
    entropy: float
    dead: tuple[int, ...]
    starving: tuple[int, ...]
    is_enough: bool


def describe_load(counts_E: npt.NDArray[Any], top_k: int, n_items: int) -> Load:
    r"""Describe how often each expert was chosen.

    With :math:`f_e = n_e / (K N)`: Gini :math:`= \sum_{ij} |f_i - f_j| / (2 E)`, :math:`H(f) = -\sum_e f_e \ln f_e`.

    Parameters
    ----------
    counts_E
        ``(E,)``: items that chose each expert.
    top_k
        Experts that every item takes.
    n_items
        N, at least 1.

    Raises
    ------
    ValueError
        If the counts are not those of so many items: rows were lost or counted twice.

    Examples
    --------
    >>> found = describe_load(np.array([6, 2, 0, 0]), top_k=1, n_items=8)
    >>> found.max_over_mean, found.max_over_mean_bound, found.dead, found.is_enough
    (3.0, 4.0, (2, 3), False)
    """
    counts = np.asarray(counts_E, np.float64)
    n_experts = len(counts)
    if n_items < 1:
        raise ValueError("the load of a router that saw no items")
    if counts.sum() != top_k * n_items or counts.max() > n_items:
        raise ValueError(
            f"{counts.sum():.0f} choices, at most {counts.max():.0f} of one expert, by {n_items} items that take "
            f"{top_k} different experts each: items were lost, or counted twice"
        )
    load = counts / counts.sum()
    some = load[load > 0]
    entropy = float(-(some * np.log(some)).sum())
    ranks = 2 * np.arange(1, n_experts + 1) - n_experts - 1
    return Load(
        load=load,
        max_over_mean=float(load.max() * n_experts),
        max_over_mean_bound=n_experts / top_k,
        cv=float(load.std() * n_experts),
        cv_bound=math.sqrt(n_experts / top_k - 1),
        max_vio=float(load.max() * n_experts) - 1,
        # The sum of all differences, from the sorted values.
        gini=float((ranks * np.sort(load)).sum() / n_experts),
        effective_experts=math.exp(entropy),
        entropy=max(0.0, entropy) / math.log(n_experts) if n_experts > 1 else 1.0,
        dead=tuple(np.flatnonzero(counts == 0).tolist()),
        starving=tuple(np.flatnonzero(load < STARVING / n_experts).tolist()),
        is_enough=n_items * top_k >= ITEMS_PER_EXPERT * n_experts,
    )


def load_intervals(counts_UE: npt.NDArray[Any], *, n_draws: int = 1000, seed: int = 0) -> Estimates:
    """Give each expert's part of all choices, ``(E,)``, with an interval over units.

    Examples
    --------
    >>> load_intervals(np.array([[3, 1], [6, 2]])).high.tolist()
    [0.75, 0.25]
    """
    counts = np.asarray(counts_UE, np.float64)

    def shares(tables: Floats) -> Floats:
        return tables / np.maximum(tables.sum(-1, keepdims=True), 1)

    draws = resampled(shares, counts, Resamples(len(counts), n_draws, seed))
    return percentiles(shares(counts.sum(0)), draws, len(counts))
