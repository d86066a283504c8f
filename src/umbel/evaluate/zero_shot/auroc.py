"""Area under the ROC curve within strata, with intervals from resampling whole clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from umbel.evaluate.metrics import Resamples
from umbel.evaluate.scores.intervals import percentile_interval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def stratified_auroc(
    is_positive: npt.NDArray[np.bool_], scores: Floats, strata: Ints, weights: Floats, units: Ints
) -> Floats:
    """Share of pairs, one row of each class and both of one stratum, in which the positive row scores higher.

    Ties count one half. With one stratum it is the area under the ROC curve; with more it is the mean of the strata's
    areas, weighted by their pairs: what differs between strata only cannot raise it.

    Parameters
    ----------
    is_positive, scores, strata
        Of each row, ``(n,)``.
    weights
        ``(draws, units)``: a weight of 2 is each row of the unit twice.
    units
        ``(n,)``: whose weight a row has.

    Returns
    -------
    ``(draws,)``; NaN where no stratum of a draw has both classes.

    Examples
    --------
    >>> rows = np.array([True, False, True, False]), np.array([3.0, 2.0, 1.0, 0.0])
    >>> one, two = np.zeros(4, int), np.array([0, 0, 1, 1])
    >>> [stratified_auroc(*rows, s, np.ones((1, 4)), np.arange(4)).tolist() for s in (one, two)]
    [[0.75], [1.0]]
    """
    order = np.lexsort((-scores, strata))
    stratum, ordered = strata[order], scores[order]
    ends_stratum = np.append(stratum[1:] != stratum[:-1], True)
    is_last = ends_stratum | np.append(ordered[1:] != ordered[:-1], True)
    found = np.empty(len(weights))
    _areas(is_positive[order], is_last, ends_stratum, weights, units[order], found)
    return found


@njit(cache=True, nogil=True)
def _areas(is_positive, is_last, ends_stratum, weights, units, found):  # type: ignore[no-untyped-def]
    for draw in range(len(weights)):
        area = pairs = hits = misses = tied_hits = tied_misses = 0.0
        for row in range(len(is_positive)):
            weight = weights[draw, units[row]]
            if is_positive[row]:
                tied_hits += weight
            else:
                tied_misses += weight
            if is_last[row]:
                area += tied_misses * (hits + tied_hits / 2)
                hits += tied_hits
                misses += tied_misses
                tied_hits = tied_misses = 0.0
            if ends_stratum[row]:
                pairs += hits * misses
                hits = misses = 0.0
        found[draw] = area / pairs if pairs > 0 else np.nan


@dataclass(frozen=True, eq=False)
class Area:
    """An area with its draws: ``values`` one a score (several where random networks are averaged), ``draws``."""

    values: tuple[float, ...]
    draws: Floats
    n_units: int

    @property
    def value(self) -> float:
        """Mean over the scores."""
        return float(np.mean(self.values))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON, with the 95 % interval; none where fewer than two clusters were seen."""
        low, high = percentile_interval(self.draws, self.n_units)
        return {"value": self.value, "low": low, "high": high, "by_seed": list(self.values)}

    def minus(self, other: Area) -> dict[str, Any]:
        """Difference of the two, with an interval from the same draws."""
        low, high = percentile_interval(self.draws - other.draws, self.n_units)
        return {"value": self.value - other.value, "low": low, "high": high}


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two classes of rows, within strata, and the draws that all scores share.

    Parameters
    ----------
    is_positive, strata, clusters
        Of each row, ``(n,)``; clusters are what is resampled.
    n_draws, seed
        Of the bootstrap.
    """

    is_positive: npt.NDArray[np.bool_]
    strata: Ints
    clusters: Ints
    n_draws: int
    seed: int

    def area(self, scores: list[Floats]) -> Area:
        """Area of a score, or the mean of several."""
        _, units = np.unique(self.clusters, return_inverse=True)
        units = units.reshape(-1)
        n_units = int(units.max()) + 1
        once = np.ones((1, n_units))
        values = [float(self._of(each, once, units)[0]) for each in scores]
        drawn = np.zeros(self.n_draws)
        for each in scores:
            chunks = [self._of(each, w, units) for w in Resamples(n_units, self.n_draws, self.seed).weights()]
            drawn += np.concatenate(chunks) / len(scores)
        return Area(tuple(values), drawn, n_units)

    def _of(self, scores: Floats, weights: Floats, units: Ints) -> Floats:
        return stratified_auroc(self.is_positive, scores, self.strata, weights, units)

    def n_usable(self) -> tuple[int, int]:
        """Rows of each class (positive, negative) in strata that have both."""
        both = np.intersect1d(self.strata[self.is_positive], self.strata[~self.is_positive])
        usable = np.isin(self.strata, both)
        return int((usable & self.is_positive).sum()), int((usable & ~self.is_positive).sum())
