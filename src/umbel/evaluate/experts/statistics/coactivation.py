"""Which experts are taken together, where items take several.

Shapes: E experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.evaluate.experts.statistics.units import Floats

_MAX_STEPS = 2_000
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Coactivation:
    """How often two experts are taken by one item; all ``(E, E)``, NaN on the diagonal and where an expert is dead.

    Attributes
    ----------
    n
        Items that took both.
    observed
        N_ij / N_i: of the items of the row's expert, the part that took the column's too. A row adds up to K - 1.
    expected
        The same if experts joined each other as often as their loads make them; rows add up to K - 1 too.
    lift
        ``observed / expected``, symmetric: 1 by chance.
    """

    n: Floats
    observed: Floats
    expected: Floats
    lift: Floats


def coactivation(pairs_EE: npt.NDArray[Any], n_items: int) -> Coactivation:
    r"""Compare how often experts are taken together with what their loads alone would give.

    An item never takes an expert twice, so that the product of two loads is no expectation: its rows would not add up
    to K - 1, and all pairs would look rare. Expected are the pairs of quasi-independence, :math:`a_i a_j` off the
    diagonal and nothing on it, with the sums of rows as observed, found by proportional fitting.

    Parameters
    ----------
    pairs_EE
        ``(E, E)``, symmetric: items that took both; on the diagonal how often each expert was taken.
    n_items
        Items, N; each took K >= 2 experts.

    Raises
    ------
    ValueError
        If the counts are not symmetric, or not those of so many items.

    References
    ----------
    Muennighoff et al. 2024, "OLMoE", arXiv:2409.02060, section 5.2 (N_ij / N_i, here over all pairs of the top k);
    Goodman 1968, J. Am. Stat. Assoc. 63:1091 (quasi-independence).

    Examples
    --------
    >>> found = coactivation(np.array([[4, 2, 2], [2, 4, 2], [2, 2, 4]]), n_items=6)
    >>> found.lift.round(6).tolist()
    [[nan, 1.0, 1.0], [1.0, nan, 1.0], [1.0, 1.0, nan]]
    """
    pairs = np.asarray(pairs_EE, np.float64)
    taken = np.diagonal(pairs).copy()
    top_k = taken.sum() / n_items if n_items else 0.0
    both = pairs - np.diag(taken)
    if not np.array_equal(pairs, pairs.T):
        raise ValueError("pairs of experts are not symmetric")
    if top_k < 2 or top_k % 1 or not np.array_equal(both.sum(1), (top_k - 1) * taken):
        raise ValueError(
            f"{taken.sum():.0f} choices and {both.sum() / 2:.0f} pairs of {n_items} items are not those of items that "
            "all take the same number of experts, 2 or more"
        )
    fitted = _quasi_independent(both)
    dead = taken == 0
    n = both.copy()
    n[np.ix_(dead, dead)] = np.nan
    n[dead], n[:, dead] = np.nan, np.nan
    np.fill_diagonal(n, np.nan)
    rows = np.where(dead, np.nan, taken)[:, None]
    lift = np.divide(n, fitted, out=np.full(n.shape, np.nan), where=fitted > 0)
    return Coactivation(n, n / rows, np.where(np.isnan(n), np.nan, fitted) / rows, lift)


def _quasi_independent(both: Floats) -> Floats:
    """Fit ``a_i a_j`` off the diagonal to the sums of rows of a symmetric table."""
    sums = both.sum(1)
    a = sums / np.sqrt(max(sums.sum(), 1))
    for _ in range(_MAX_STEPS):
        others = a.sum() - a
        # The square root keeps two experts that are always together from taking turns.
        new = np.sqrt(a * np.divide(sums, others, out=np.zeros_like(sums), where=others > 0))
        if np.abs(new - a).max(initial=0) <= _TOLERANCE * max(1.0, a.max(initial=0)):
            break
        a = new
    fitted = np.outer(a, a)
    np.fill_diagonal(fitted, 0)
    return fitted
