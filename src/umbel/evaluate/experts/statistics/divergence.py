"""How differently classes of items are routed: Jensen-Shannon divergence, its floor, and what is taken off for bias.

Shapes: U units, C classes, E experts. Natural logarithms: nats, from 0 to ln 2 for two distributions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import entr

from umbel.evaluate.experts.statistics.units import (
    Estimates,
    Floats,
    corrected,
    percentiles,
    resampled,
)
from umbel.evaluate.metrics import Resamples


def shares_of(counts: npt.NDArray[Any]) -> Floats:
    """Divide counts ``(..., E)`` by their sum; NaN where there are none."""
    values = np.asarray(counts, np.float64)
    total = values.sum(-1, keepdims=True)
    return np.divide(values, total, out=np.full(values.shape, np.nan), where=total > 0)


def js_divergence(p: npt.NDArray[Any], q: npt.NDArray[Any]) -> Floats:
    r"""Jensen-Shannon divergence of two distributions over experts, in nats, 0 to ln 2.

    :math:`\frac12 KL(p \| m) + \frac12 KL(q \| m) = H(m) - \frac12 H(p) - \frac12 H(q)`, :math:`m = (p + q) / 2`.

    Parameters
    ----------
    p, q
        ``(..., E)`` counts or probabilities; each is divided by its sum.

    Returns
    -------
    ``(...)``; NaN where one of the two is empty.

    References
    ----------
    Lin 1991, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory 37:145, eq. 3.1 and
    theorem 5.

    Examples
    --------
    >>> float(js_divergence(np.array([1, 0]), np.array([0, 7]))) == math.log(2)
    True
    """
    p_E, q_E = shares_of(p), shares_of(q)
    found = entr((p_E + q_E) / 2).sum(-1) - (entr(p_E).sum(-1) + entr(q_E).sum(-1)) / 2
    # Rounding alone could leave the bounds.
    return np.clip(found, 0, math.log(2))


def generalised_js(p_CE: npt.NDArray[Any], weights_C: npt.NDArray[Any] | None = None) -> Floats:
    r"""Jensen-Shannon divergence of many distributions, in nats.

    :math:`H(\sum_c w_c p_c) - \sum_c w_c H(p_c)`, which is the mutual information of expert and class when classes come
    with probabilities w; 0 to min(ln C, ln E). Classes without items are left out.

    Parameters
    ----------
    p_CE
        ``(..., C, E)`` counts or probabilities; each row is divided by its sum.
    weights_C
        ``(C,)``, divided by their sum; equal by default, so that a frequent class does not hide the others.

    Returns
    -------
    ``(...)``; NaN where every class is empty.

    References
    ----------
    Lin 1991, IEEE Trans. Inf. Theory 37:145, eq. 5.1.

    Examples
    --------
    >>> float(generalised_js(np.eye(4))) == math.log(4)
    True
    """
    shares = shares_of(p_CE)
    is_there = ~np.isnan(shares[..., 0])
    weights = np.where(is_there, 1.0 if weights_C is None else np.asarray(weights_C, np.float64), 0.0)
    weights = shares_of(weights)
    shares = np.where(is_there[..., None], shares, 0.0)
    mixed = (weights[..., None] * shares).sum(-2)
    found = entr(mixed).sum(-1) - (weights * entr(shares).sum(-1)).sum(-1)
    return np.maximum(found, 0)


def bits(nats: npt.ArrayLike) -> Floats:
    """Nats in bits: divided by ln 2.

    Examples
    --------
    >>> float(bits(math.log(2)))
    1.0
    """
    return np.asarray(nats, np.float64) / math.log(2)


def normalised(js: npt.ArrayLike, n: int) -> Floats:
    """Divide a divergence or an information, in nats, by its bound ln n: 0 to 1.

    Parameters
    ----------
    n
        2 for a pair; for more classes the smaller of their number and that of experts. At least 2.

    Raises
    ------
    ValueError
        If n is below 2: one class, or one expert, cannot diverge.

    Examples
    --------
    >>> float(normalised(math.log(2), 2))
    1.0
    """
    if n < 2:
        raise ValueError(f"a divergence among {n} has no bound above 0: give two classes and two experts or more")
    return np.asarray(js, np.float64) / math.log(n)


def pairwise_js(joint_UCE: npt.NDArray[Any]) -> Floats:
    """Jensen-Shannon divergence of every two classes, ``(C, C)`` nats, symmetric, 0 on the diagonal.

    NaN where a class has no items.

    Examples
    --------
    >>> pairwise_js(np.array([[[4, 0], [0, 4], [0, 0]]])).round(2).tolist()
    [[0.0, 0.69, nan], [0.69, 0.0, nan], [nan, nan, nan]]
    """
    return _matrices(np.asarray(joint_UCE, np.float64).sum(0)[None])[0]


def _matrices(tables: Floats) -> Floats:
    """Divergences of every two classes of ``(n, C, E)`` tables, ``(n, C, C)``."""
    shares = shares_of(tables)
    entropy = entr(shares).sum(-1)
    n_classes = tables.shape[1]
    found = np.zeros((len(tables), n_classes, n_classes))
    for c in range(n_classes):
        # A class paired with itself is 0, and NaN if it is empty.
        found[:, c, c] = 0 * entropy[:, c]
        between = entr((shares[:, c, None] + shares[:, c + 1 :]) / 2).sum(-1)
        js = np.clip(between - (entropy[:, c, None] + entropy[:, c + 1 :]) / 2, 0, math.log(2))
        found[:, c, c + 1 :] = found[:, c + 1 :, c] = js
    return found


def split_half_floor(joint_UCE: npt.NDArray[Any], n_splits: int = 100, seed: int = 0) -> Floats:
    """Divergence that a class has from itself: between random halves of its own units, the mean over splits.

    A divergence of two classes that is no larger than this says nothing. It is a strict floor: halves are noisier than
    the wholes that are compared, by a factor of two.

    Parameters
    ----------
    joint_UCE
        ``(U, C, E)`` counts.
    n_splits
        Random splits of each class.
    seed
        Same seed, same splits.

    Returns
    -------
    ``(C,)`` nats; NaN for a class that is in fewer than two units.

    Examples
    --------
    >>> split_half_floor(np.array([[[3, 1], [0, 2]], [[6, 2], [0, 0]]])).tolist()
    [0.0, nan]
    """
    joint = np.asarray(joint_UCE, np.float64)
    floors = np.full(joint.shape[1], np.nan)
    for c, generator in enumerate(np.random.default_rng(seed).spawn(joint.shape[1])):
        units = joint[joint[:, c].any(1), c]
        if len(units) < 2:
            continue
        order = generator.random((n_splits, len(units))).argsort(1)
        half = (order < len(units) // 2) @ units
        floors[c] = js_divergence(half, units.sum(0) - half).mean()
    return floors


@dataclass(frozen=True)
class Divergences:
    """Divergences of every two classes at one router, in nats; NaN where a class has no items.

    Attributes
    ----------
    js
        ``(C, C)`` as counted, with percentile intervals over units. Noise makes it too large, draws of units even more:
        the interval of two classes that do not differ lies above 0, and may lie above the value.
    corrected
        ``(C, C)`` with the jackknife's bias taken off, and an interval that can hold 0; a negative value is 0
        with noise. No value for a class in a single unit.
    class_floor
        ``(C,)``: see :func:`split_half_floor`.
    """

    js: Estimates
    corrected: Estimates
    class_floor: Floats

    @property
    def floor(self) -> Floats:
        """Mean floor of the two classes, ``(C, C)``."""
        return (self.class_floor[:, None] + self.class_floor) / 2


def describe_divergences(
    joint_UCE: npt.NDArray[Any], *, n_draws: int = 1000, n_splits: int = 100, seed: int = 0
) -> Divergences:
    """Compare every two classes, with intervals, floor, and the bias taken off.

    Parameters
    ----------
    joint_UCE
        ``(U, C, E)`` counts.
    n_draws, n_splits, seed
        Bootstrap draws, splits for the floor, and what makes them the same each time.

    Examples
    --------
    >>> joint = np.random.default_rng(0).multinomial(50, [0.5, 0.5], size=(20, 2))
    >>> found = describe_divergences(joint, n_draws=100)
    >>> bool(found.js.low[0, 1] > 0), bool(found.corrected.low[0, 1] <= 0)
    (True, True)
    """
    joint = np.asarray(joint_UCE, np.float64)
    n_units, n_classes, n_experts = joint.shape
    entries = 2 * n_classes * n_experts
    resamples = Resamples(n_units, n_draws, seed)
    draws = resampled(_matrices, joint, resamples, entries=entries)
    return Divergences(
        js=percentiles(pairwise_js(joint), draws, n_units),
        corrected=corrected(_matrices, joint, resamples, entries=entries, draws=draws),
        class_floor=split_half_floor(joint, n_splits, seed),
    )
