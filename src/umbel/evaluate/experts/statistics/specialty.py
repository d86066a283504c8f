"""How far an expert belongs to one class: its excess over the mean of classes, and its purity.

Shapes: C classes, E experts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.evaluate.experts.statistics.divergence import shares_of
from umbel.evaluate.experts.statistics.units import Floats

SMOOTHING = 0.5
"""In even shares: what is added to every share before the logarithm."""


def specialty(joint_CE: npt.NDArray[Any]) -> Floats:
    r"""How much more of a class an expert takes than of classes on average, in nats.

    :math:`\ln \frac{p_{ce} + a}{\bar p_e + a}`, :math:`a = 0.5 / E`, with :math:`p_{ce}` the part of class c that
    expert e takes and :math:`\bar p_e` its mean over classes with items, each weighing the same.

    Parameters
    ----------
    joint_CE
        ``(C, E)`` choices.

    Returns
    -------
    ``(C, E)``; 0 where the class is as the mean, and for dead experts; NaN for a class without items.

    References
    ----------
    Muennighoff et al. 2024, "OLMoE", arXiv:2409.02060, section 5.3 (domain specialisation, there without the mean).

    Examples
    --------
    >>> specialty(np.array([[8, 0], [0, 2]])).round(3).tolist()
    [[0.511, -1.099], [-1.099, 0.511]]
    """
    shares = shares_of(joint_CE)
    is_there = ~np.isnan(shares[:, 0])
    a = SMOOTHING / shares.shape[1]
    mean = shares[is_there].mean(0) if is_there.any() else np.full(shares.shape[1], np.nan)
    return np.log((shares + a) / (mean + a))


def purity(joint_CE: npt.NDArray[Any]) -> Floats:
    r"""Part of an expert's choices that would be of each class if all classes had as many items.

    :math:`p_{ce} / \sum_c p_{ce}`.

    Parameters
    ----------
    joint_CE
        ``(C, E)`` choices.

    Returns
    -------
    ``(C, E)``; columns add up to 1 over the classes with items. NaN for dead experts and classes without items.

    Examples
    --------
    >>> purity(np.array([[80, 0], [1, 1]])).round(3).tolist()
    [[0.667, 0.0], [0.333, 1.0]]
    """
    shares = shares_of(joint_CE)
    total = np.nansum(shares, 0)
    return np.divide(shares, total, out=np.full(shares.shape, np.nan), where=total > 0)
