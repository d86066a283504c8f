"""How differently each checkpoint routes the classes of a labelling, with the same draws of units for all.

Shapes: U units, C classes, E experts, D draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from umbel.evaluate.experts.compare.checkpoints import Checkpoint
from umbel.evaluate.experts.compare.counting import Sums
from umbel.evaluate.experts.compare.paired import Floats, Ints
from umbel.evaluate.experts.statistics.divergence import generalised_js, split_half_floor
from umbel.evaluate.experts.statistics.units import jackknife, percentiles, resampled
from umbel.evaluate.metrics import Resamples


@dataclass(frozen=True)
class Differentiation:
    """One router's divergence between the classes of a labelling.

    Attributes
    ----------
    value
        Generalised Jensen-Shannon divergence of the classes, all of one weight, in nats, bias taken off.
    raw
        As counted.
    low, high
        95 % interval of ``value``; None with fewer than two units.
    draws
        ``(D,)``: the same units drawn for every checkpoint, moved as ``value`` is from ``raw``.
    floor
        Mean over classes of the divergence between random halves of a class's own units.
    n_classes
        Classes that have items.
    bound
        ln of the smaller of classes and experts.
    """

    value: float
    raw: float
    low: float | None
    high: float | None
    draws: Floats
    floor: float | None
    n_classes: int
    bound: float


def differentiate(
    joint_UCE: Ints, *, n_draws: int = 1000, n_splits: int = 100, seed: int = 0
) -> Differentiation | None:
    """Say how differently the classes are routed; None where fewer than two have items in two units or more.

    Parameters
    ----------
    joint_UCE
        Choices by unit, class and expert. Units without items are left out, before they are drawn.

    Examples
    --------
    >>> apart = differentiate(np.tile([[9, 0], [0, 9]], (6, 1, 1)), n_draws=10)
    >>> round(apart.value, 4) == round(apart.bound, 4) == 0.6931, apart.floor
    (True, 0.0)
    """
    kept = (joint_UCE.any(2).sum(0)) >= 2
    joint = joint_UCE[:, kept].astype(np.float64)
    joint = joint[joint.any((1, 2))]
    n_classes, n_experts = joint.shape[1:]
    if n_classes < 2 or n_experts < 2:
        return None
    resamples = Resamples(len(joint), n_draws, seed)
    raw = float(generalised_js(joint.sum(0)))
    value = float(jackknife(generalised_js, joint).corrected)
    draws = resampled(generalised_js, joint, resamples)
    draws = draws - draws.mean() + value
    spread = percentiles(np.array(value), draws, len(joint)).estimate()
    floors = split_half_floor(joint, n_splits, seed)
    return Differentiation(
        value,
        raw,
        spread.low,
        spread.high,
        draws,
        None if np.isnan(floors).all() else float(np.nanmean(floors)),
        n_classes,
        math.log(min(n_classes, n_experts)),
    )


Found = dict[tuple[int, str, int], Differentiation]


def differentiate_all(
    checkpoints: Sequence[Checkpoint], sums: Sums, labellings: Sequence[str], *, n_draws: int, seed: int
) -> Found:
    """Do it for each checkpoint by number, labelling by name, and router by number."""
    found = {}
    for i in range(len(checkpoints)):
        for labelling in labellings:
            for m, site in enumerate(sums.sites[i]):
                one = differentiate(site.joint[labelling], n_draws=n_draws, seed=seed)
                if one is not None:
                    found[i, labelling, m] = one
    return found


def differentiation_rows(checkpoints: Sequence[Checkpoint], found: Found) -> list[dict[str, Any]]:
    """One row for each checkpoint, labelling and router; nats."""
    return [
        {
            "checkpoint": checkpoints[i].name,
            "is_control": checkpoints[i].is_control,
            "labelling": labelling,
            "site": m,
            "layer": checkpoints[i].sites[m].layer,
            "n_classes": one.n_classes,
            "js": one.value,
            "js_low": one.low,
            "js_high": one.high,
            "js_raw": one.raw,
            "floor": one.floor,
            "bound": one.bound,
        }
        for (i, labelling, m), one in found.items()
    ]
