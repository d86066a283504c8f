"""Whole clusters of sequences, drawn or left out: intervals, the bias of a statistic, and how many clusters count.

Shapes: U units, ... any further dimensions of a table, D draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.evaluate.metrics import LEVEL, Estimate, Resamples

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""From tables ``(n, ...)``, already summed over units, to one answer each ``(n, ...)``."""

# Numbers that a statistic has in hand at once.
_CHUNK_ENTRIES = 4_000_000


def effective_units(items_U: npt.NDArray[Any]) -> float:
    r"""Count the equal units that would carry as much information as these unequal ones.

    :math:`(\sum_u n_u)^2 / \sum_u n_u^2`: U where all are equal, 1 where one unit holds everything, 0 without items.

    References
    ----------
    Kish 1965, "Survey Sampling", section 11.7.

    Examples
    --------
    >>> effective_units(np.array([10, 10, 10])), effective_units(np.array([98, 1, 1])) < 1.05
    (3.0, True)
    """
    items = np.asarray(items_U, np.float64)
    squares = np.square(items).sum()
    return float(items.sum() ** 2 / squares) if squares > 0 else 0.0


def resampled(
    statistic: Statistic, tables_U: npt.NDArray[Any], resamples: Resamples, *, entries: int | None = None
) -> Floats:
    """Compute a statistic of the sum of units, for every bootstrap draw of units.

    Parameters
    ----------
    statistic
        Takes tables ``(n, ...)``; called for some draws at a time.
    tables_U
        ``(U, ...)`` counts of each unit.
    resamples
        Which units were drawn; the same object gives paired draws for all tables of the same units.
    entries
        Numbers that the statistic holds for one draw, where that is more than the table has.

    Returns
    -------
    ``(D, ...)``, one answer a draw.

    Raises
    ------
    ValueError
        If there are not as many units as the draws are for.

    Examples
    --------
    >>> resampled(lambda tables: tables.sum(-1), np.ones((3, 2)), Resamples(3, 2, seed=0)).tolist()
    [6.0, 6.0]
    """
    tables = np.asarray(tables_U, np.float64)
    if len(tables) != resamples.n_units:
        raise ValueError(f"{len(tables)} units in the table, and draws of {resamples.n_units}")
    flat = tables.reshape(len(tables), -1)
    n_rows = _rows(entries or flat.shape[1])
    return np.concatenate(
        [
            statistic((drawn[first : first + n_rows] @ flat).reshape(-1, *tables.shape[1:]))
            for drawn in resamples.weights()
            for first in range(0, len(drawn), n_rows)
        ]
    )


@dataclass(frozen=True)
class Jackknife:
    """A statistic, and what becomes of it when units are left out one by one; arrays of the statistic's shape.

    Attributes
    ----------
    value
        Of all units.
    corrected
        ``value - bias``. Of a quantity that cannot be negative it may be: only so is it right on average. NaN where
        a single unit holds all there is of a class.
    bias
        By how much the value is too large on average.
    std_error
        Standard error of the value.
    """

    value: Floats
    corrected: Floats
    bias: Floats
    std_error: Floats


def jackknife(statistic: Statistic, tables_U: npt.NDArray[Any], *, entries: int | None = None) -> Jackknife:
    r"""Estimate bias and standard error of a statistic by leaving out each unit in turn.

    :math:`\text{bias} = (U - 1) (\overline{\theta_{-u}} - \theta)`, :math:`\text{se}^2 = \frac{U - 1}{U} \sum_u
    (\theta_{-u} - \overline{\theta_{-u}})^2`. Divergences and informations of counts are too large, by about the number
    of experts over twice the number of independent choices; bases of one unit are not independent, units are.

    Parameters
    ----------
    statistic
        Takes tables ``(n, ...)``; called for some units at a time.
    tables_U
        ``(U, ...)`` counts of each unit. Units without any are no units.
    entries
        Numbers that the statistic holds for one table, where that is more than the table has.

    References
    ----------
    Efron & Tibshirani 1993, "An Introduction to the Bootstrap", eq. 10.19 and 11.5.

    Examples
    --------
    The variance with divisor U, which is too small by a U-th of the variance:

    >>> x = np.array([1.0, 2.0, 6.0])
    >>> moments = np.stack([np.ones(3), x, x**2], 1)
    >>> variance = lambda sums: sums[:, 2] / sums[:, 0] - (sums[:, 1] / sums[:, 0]) ** 2
    >>> bool(np.isclose(jackknife(variance, moments).corrected, x.var(ddof=1)))
    True
    """
    tables = np.asarray(tables_U, np.float64)
    tables = tables[tables.reshape(len(tables), -1).any(1)]
    n_units, total = len(tables), tables.sum(0)
    value = statistic(total[None])[0]
    if n_units < 2:
        nothing = np.full_like(value, np.nan)
        return Jackknife(value, nothing, nothing, nothing)
    n_rows = _rows(entries or total.size)
    without = np.concatenate([statistic(total - tables[first : first + n_rows]) for first in range(0, n_units, n_rows)])
    mean = without.mean(0)
    bias = (n_units - 1) * (mean - value)
    std_error = np.sqrt((n_units - 1) / n_units * np.square(without - mean).sum(0))
    return Jackknife(value, value - bias, bias, std_error)


@dataclass(frozen=True)
class Estimates:
    """An answer with its 95 % interval, in arrays of one shape; NaN where there is none.

    Attributes
    ----------
    value, low, high
        The same shape.
    """

    value: Floats
    low: Floats
    high: Floats

    def part(self, place: int) -> Estimates:
        """Give one answer of those along the first dimension."""
        return Estimates(self.value[place], self.low[place], self.high[place])

    def estimate(self) -> Estimate:
        """Give a single answer as an :class:`~umbel.evaluate.metrics.Estimate`."""
        low, high = float(self.low), float(self.high)
        return Estimate(float(self.value), None if np.isnan(low) else low, None if np.isnan(high) else high)


def percentiles(value: Floats, draws: Floats, n_units: int) -> Estimates:
    """Percentile interval of ``(D, ...)`` draws; draws that are NaN (none of a class was drawn) are left out.

    Parameters
    ----------
    value
        ``(...)``: the answer for all units.
    n_units
        Fewer than two have no interval.

    Examples
    --------
    >>> percentiles(np.array(2.0), np.array([1.0, 2.0, 3.0]), n_units=3).estimate()
    Estimate(value=2.0, low=1.05, high=2.95)
    """
    value = np.asarray(value, np.float64)
    low, high = np.full(value.shape, np.nan), np.full(value.shape, np.nan)
    if n_units < 2:
        return Estimates(value, low, high)
    tail = 50 * (1 - LEVEL)
    whole = ~np.isnan(draws).any(0)
    if whole.all():
        low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
        return Estimates(value, np.asarray(low), np.asarray(high))
    flat, low_flat, high_flat = draws.reshape(len(draws), -1), low.reshape(-1), high.reshape(-1)
    for place in np.flatnonzero(~np.isnan(flat).all(0) & ~np.isnan(value).reshape(-1)):
        some = flat[:, place]
        low_flat[place], high_flat[place] = np.percentile(some[~np.isnan(some)], [tail, 100 - tail])
    return Estimates(value, low, high)


def corrected(
    statistic: Statistic,
    tables_U: npt.NDArray[Any],
    resamples: Resamples,
    *,
    entries: int | None = None,
    draws: Floats | None = None,
) -> Estimates:
    """Take the jackknife's bias off a statistic, and give it an interval that can hold zero.

    Divergences of counts are never negative and always too large, and draws of units are too large once more: their
    plain percentiles lie above zero even where nothing differs. Here the draws are moved so that their mean is the
    corrected value.

    Parameters
    ----------
    statistic, tables_U, resamples, entries
        As for :func:`resampled` and :func:`jackknife`.
    draws
        What :func:`resampled` gave, where that is known already.

    References
    ----------
    Efron & Tibshirani 1993, "An Introduction to the Bootstrap", sections 10.6 and 11.

    Examples
    --------
    >>> found = corrected(lambda sums: sums[:, 0] / sums[:, 1], np.ones((5, 2)), Resamples(5, 10, seed=0))
    >>> found.estimate()
    Estimate(value=1.0, low=1.0, high=1.0)
    """
    value = jackknife(statistic, tables_U, entries=entries).corrected
    if draws is None:
        draws = resampled(statistic, tables_U, resamples, entries=entries)
    seen = ~np.isnan(draws)
    mean = np.where(seen, draws, 0).sum(0) / np.maximum(seen.sum(0), 1)
    return percentiles(value, draws - mean + value, resamples.n_units)


def _rows(entries: int) -> int:
    return max(1, _CHUNK_ENTRIES // max(1, entries))
