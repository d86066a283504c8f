"""How far two models, or two states of one, send the same items to the same experts.

Shapes: T items, K top-k, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.evaluate.experts.statistics.units import Floats, percentiles, resampled
from umbel.evaluate.metrics import Estimate, Resamples


def tally(places: tuple[npt.NDArray[Any], ...], shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Count how often each place of an array of this shape is named; a place below 0 is none.

    Examples
    --------
    >>> tally((np.array([0, 1, 1]), np.array([2, 0, 0])), (2, 3)).tolist()
    [[0, 0, 1], [2, 0, 0]]
    """
    flat = np.zeros(places[0].shape, np.int64)
    is_place = np.ones(flat.shape, bool)
    for place, size in zip(places, shape, strict=True):
        flat = flat * size + place
        is_place &= place >= 0
    return np.bincount(flat[is_place], minlength=int(np.prod(shape))).reshape(shape)


def n_shared(experts_TK: npt.NDArray[Any], others_TK: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Count the experts that both chose for each item, ``(T,)``; -1, a choice that was lost, is shared with nobody.

    Parameters
    ----------
    experts_TK, others_TK
        ``(T, K)`` and ``(T, K')``, no expert twice in a row.

    Examples
    --------
    >>> n_shared(np.array([[0, 1], [2, -1]]), np.array([[1, 0], [-1, 3]])).tolist()
    [2, 0]
    """
    same = experts_TK[:, :, None] == others_TK[:, None, :]
    return (same & (experts_TK[:, :, None] >= 0)).sum((1, 2))


def overlap(experts_TK: npt.NDArray[Any], others_TK: npt.NDArray[Any]) -> Floats:
    """Part of each item's experts that the other chose too, ``(T,)``, 0 to 1; the order of choice does not matter.

    Raises
    ------
    ValueError
        If the two are not of the same items with the same number of experts.

    Examples
    --------
    >>> overlap(np.array([[0, 1], [2, 3]]), np.array([[1, 0], [2, 0]])).tolist()
    [1.0, 0.5]
    """
    a, b = np.asarray(experts_TK), np.asarray(others_TK)
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"choices of shape {a.shape} and {b.shape}: give (T, K) of the same items twice")
    return n_shared(a, b) / max(1, a.shape[1])


@dataclass(frozen=True)
class Saturation:
    """How far a router's choices are those that it ends with.

    Attributes
    ----------
    overlap
        Mean part of an item's experts that both chose: 1 on itself.
    first
        Part of the items whose first choice is the same.
    at_random
        K / E: the overlap of choices at random.
    by_load
        The overlap of independent choices with the two loads found: uneven loads agree by chance.
    """

    overlap: Estimate
    first: Estimate
    at_random: float
    by_load: float


def saturation(
    experts_TK: npt.NDArray[Any],
    others_TK: npt.NDArray[Any],
    *,
    n_experts: int,
    units_T: npt.NDArray[Any] | None = None,
    n_draws: int = 1000,
    seed: int = 0,
) -> Saturation:
    r"""Compare a router's choices at one checkpoint with those at another, on the same items.

    The mean over items of :math:`|A_t \cap B_t| / K`.

    Parameters
    ----------
    experts_TK, others_TK
        ``(T, K)`` experts chosen, no expert twice in a row.
    n_experts
        E of both.
    units_T
        The unit of each item, ``(T,)`` integers >= 0; without, there are no intervals.
    n_draws, seed
        Bootstrap draws of units, and what makes them the same each time.

    Raises
    ------
    ValueError
        If there are no items, or the two are not of the same ones.

    References
    ----------
    Muennighoff et al. 2024, "OLMoE", arXiv:2409.02060, section 5.1.

    Examples
    --------
    >>> found = saturation(np.array([[0], [1]]), np.array([[0], [3]]), n_experts=4)
    >>> found.overlap.value, found.at_random
    (0.5, 0.25)
    """
    both = overlap(experts_TK, others_TK)
    if not len(both):
        raise ValueError("the agreement of no items")
    a, b = np.asarray(experts_TK), np.asarray(others_TK)
    units = np.zeros(len(both), np.int64) if units_T is None else np.unique(units_T, return_inverse=True)[1]
    sums = np.stack([np.bincount(units, values) for values in (both, a[:, 0] == b[:, 0], np.ones(len(both)))], axis=1)

    def means(tables: Floats) -> Floats:
        return tables[..., :2] / tables[..., 2:]

    draws = resampled(means, sums, Resamples(len(sums), n_draws, seed))
    found = percentiles(means(sums.sum(0)), draws, len(sums))
    shares = [np.bincount(x.flatten(), minlength=n_experts) / len(both) for x in (a, b)]
    return Saturation(
        overlap=found.part(0).estimate(),
        first=found.part(1).estimate(),
        at_random=a.shape[1] / n_experts,
        by_load=float((shares[0] * shares[1]).sum() / a.shape[1]),
    )


def transitions(
    experts_TK: npt.NDArray[Any], others_TK: npt.NDArray[Any], n_experts: int, n_others: int | None = None
) -> npt.NDArray[np.int64]:
    """Count first choices here against first choices there.

    Parameters
    ----------
    experts_TK, others_TK
        ``(T, K)`` and ``(T, K')`` for the same items.
    n_experts, n_others
        Experts of the two; of both where only one is given.

    Returns
    -------
    ``(E, E')`` items.

    Raises
    ------
    ValueError
        If the two have different numbers of items.

    Examples
    --------
    >>> transitions(np.array([[0], [0], [1]]), np.array([[1], [1], [0]]), 2).tolist()
    [[0, 2], [1, 0]]
    """
    a, b = np.asarray(experts_TK)[:, 0].astype(np.int64), np.asarray(others_TK)[:, 0].astype(np.int64)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} items here and {len(b)} there: transitions are of the same items")
    return tally((a, b), (n_experts, n_experts if n_others is None else n_others))
