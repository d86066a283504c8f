"""How unusual a score is among random variants of the same kind and length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from umbel.genome.variant import Variant
from umbel.predict.variants.scores import Values
from umbel.predict.variants.settings import SUBSTITUTIONS

LEAST_DRAWS = 10
"""With fewer random variants of a class nothing is said about its scores."""
# The standard deviation of a normal distribution in units of its median absolute deviation.
_DEVIATIONS = 1.4826


@dataclass(frozen=True, order=True)
class Shape:
    """What a score is expected to depend on, whatever the place.

    Attributes
    ----------
    n_ref, n_alt
        Bases that are replaced, and those that come instead; of a substitution both are the bases that differ.
    is_substitution
        Whether base by base is replaced; such variants get other scores.
    """

    n_ref: int
    n_alt: int
    is_substitution: bool

    def __str__(self) -> str:
        if self.is_substitution:
            return "substitution of 1 base" if self.n_ref == 1 else f"substitution of {self.n_ref} bases"
        if not self.n_ref:
            return f"insertion of {self.n_alt}"
        return f"deletion of {self.n_ref}" if not self.n_alt else f"replacement of {self.n_ref} by {self.n_alt}"


def shape_of(variant: Variant) -> Shape:
    """Give the shape of a variant.

    Examples
    --------
    >>> [str(shape_of(Variant("c", 0, ref, alt))) for ref, alt in (("A", "AT"), ("ACG", "TCA"), ("AC", "TTT"))]
    ['insertion of 1', 'substitution of 2 bases', 'replacement of 2 by 3']
    """
    least = variant.trimmed()
    if least.kind in SUBSTITUTIONS:
        return Shape(len(least.changed), len(least.changed), True)
    return Shape(len(least.ref), len(least.alt), False)


def _between(length: int, longest: int) -> list[tuple[int, float]]:
    """Find the lengths, of those that are drawn, between which a length lies, and how near it is to each (sum 1).

    Examples
    --------
    >>> _between(0, 50), _between(4, 50), _between(7, 50), _between(33, 50), _between(2, 2)
    ([(0, 1.0)], [(4, 1.0)], [(4, 0.75), (16, 0.25)], [(16, 0.5), (50, 0.5)], [(2, 1.0)])
    """
    if not length:
        return [(0, 1.0)]
    below = 1
    while min(4 * below, longest) <= length and below < longest:
        below = min(4 * below, longest)
    if length <= below:
        return [(below, 1.0)]
    above = min(4 * below, longest)
    share = (length - below) / (above - below)
    return [(below, 1 - share), (above, share)]


def classes_of(shape: Shape, longest: int) -> list[tuple[Shape, float]]:
    """Name the classes of random variants that a shape is compared with, and the weight of each (sum 1).

    Lengths of 1, 4, 16, 64, ... bases and the longest that is allowed are drawn; what lies between is interpolated
    linearly, so that a score which is linear in the lengths is calibrated exactly.

    Examples
    --------
    >>> [(str(c), w) for c, w in classes_of(Shape(0, 7, False), 50)]
    [('insertion of 4', 0.75), ('insertion of 16', 0.25)]
    """
    if shape.is_substitution:
        return [(Shape(n, n, True), weight) for n, weight in _between(shape.n_ref, longest)]
    return [
        (Shape(n_ref, n_alt, False), a * b)
        for n_ref, a in _between(shape.n_ref, longest)
        for n_alt, b in _between(shape.n_alt, longest)
    ]


def effect(column: str, scores: Values) -> Values:
    """Turn scores so that more is a stronger effect: how little the model expects the allele, or how much it changes.

    Examples
    --------
    >>> effect("llr", np.array([-2.0])).tolist(), effect("head_leaf", np.array([-2.0])).tolist()
    ([2.0], [2.0])
    """
    if column in ("llr", "pll"):
        return -scores
    return np.abs(scores) if column.startswith("head_") else scores


@dataclass(frozen=True)
class _Spread:
    """Random variants' scores of one class: sorted, their median, and their scale (normal standard deviation)."""

    values: Values
    median: float
    scale: float

    @classmethod
    def of(cls, values: Values) -> _Spread:
        median = float(np.median(values))
        return cls(np.sort(values), median, _DEVIATIONS * float(np.median(np.abs(values - median))))

    def percent_below(self, value: float) -> float:
        """Percent of the values below ``value``, of those equal to it the half."""
        first, last = np.searchsorted(self.values, value, "left"), np.searchsorted(self.values, value, "right")
        return 50.0 * float(first + last) / len(self.values)


class Calibration:
    """Percentiles and standard scores against random variants.

    Parameters
    ----------
    scores
        By class and column, ``(draws,)`` each.
    longest
        Longest allele, which decides what classes there are.

    Examples
    --------
    >>> drawn = {Shape(1, 1, True): {"llr": -np.arange(101.0)}}
    >>> Calibration(drawn, 50).of("llr", Shape(1, 1, True), -75.0)[0].round(2)
    np.float64(74.75)
    """

    def __init__(self, scores: Mapping[Shape, Mapping[str, Values]], longest: int):
        self._longest = longest
        self._spread: dict[tuple[Shape, str], tuple[_Spread, _Spread]] = {}
        for shape, columns in scores.items():
            for column, values in columns.items():
                known = values[np.isfinite(values)]
                if len(known) >= LEAST_DRAWS:
                    self._spread[shape, column] = (_Spread.of(known), _Spread.of(effect(column, known)))

    def of(self, column: str, shape: Shape, score: float) -> tuple[float, float]:
        """Compare a score with those of random variants of its kind and length.

        Returns
        -------
        percent
            Of the random variants, how many have a weaker :func:`effect`; those equal to it count half. 0 to 100.
        z
            ``(score - median) / (1.4826 MAD)``. NaN where all random variants score alike; both are NaN where there
            are too few.
        """
        classes = classes_of(shape, self._longest)
        if not np.isfinite(score) or any((one, column) not in self._spread for one, _ in classes):
            return np.nan, np.nan
        spreads = [(*self._spread[one, column], weight) for one, weight in classes]
        median = sum(weight * raw.median for raw, _, weight in spreads)
        scale = sum(weight * raw.scale for raw, _, weight in spreads)
        z = (score - median) / scale if scale else np.nan
        return self._percent([(turned, weight) for _, turned, weight in spreads], column, score), z

    @staticmethod
    def _percent(spreads: list[tuple[_Spread, float]], column: str, score: float) -> float:
        value = float(effect(column, np.array([score]))[0])
        if len(spreads) == 1:
            return np.float64(spreads[0][0].percent_below(value))
        # Between two classes the score is placed by where it lies in the spread of its own length.
        middle = sum(weight * spread.median for spread, weight in spreads)
        scale = sum(weight * spread.scale for spread, weight in spreads)
        stretched = all(spread.scale for spread, _ in spreads)
        place = (value - middle) / scale if stretched else value - middle
        return np.float64(
            sum(
                weight * spread.percent_below(spread.median + place * (spread.scale if stretched else 1.0))
                for spread, weight in spreads
            )
        )
