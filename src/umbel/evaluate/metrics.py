"""Numbers with intervals: every estimate is resampled over windows or blocks, with one seed.

The same ``Resamples`` object must serve all rows of a table: then differences between rows are paired.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score, matthews_corrcoef

LEVEL = 0.95
Floats = npt.NDArray[np.float64]

# Draws times units held at once, so that a million windows need no terabyte.
_CHUNK_ENTRIES = 20_000_000


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; ``low`` and ``high`` are None where fewer than two units were seen.

    Examples
    --------
    >>> Estimate(1.5, 1.0, 2.0).to_dict()
    {'value': 1.5, 'low': 1.0, 'high': 2.0}
    """

    value: float
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, float | None]:
        """As plain JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Resamples:
    """Bootstrap draws of ``n_units`` windows or blocks, with replacement, the same for all who ask.

    Parameters
    ----------
    n_units
        How many windows or blocks there are, >= 1.
    n_draws
        How many times to draw ``n_units`` of them.
    seed
        Same seed, same draws.

    References
    ----------
    Efron & Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3 (percentile interval).

    Examples
    --------
    >>> Resamples(n_units=3, n_draws=2, seed=0).sums(np.ones(3)).tolist()
    [3.0, 3.0]
    """

    n_units: int
    n_draws: int
    seed: int

    def sums(self, values: npt.NDArray[Any]) -> Floats:
        """Sum of ``values`` ``(n_units, ...)`` over each draw, ``(n_draws, ...)``."""
        if len(values) != self.n_units:
            raise ValueError(f"{len(values)} values for {self.n_units} units")
        flat = np.asarray(values, np.float64).reshape(self.n_units, -1)
        sums = np.concatenate([drawn @ flat for drawn in self.weights()])
        return sums.reshape(self.n_draws, *np.shape(values)[1:])

    def weights(self) -> Iterator[Floats]:
        """Yield how often each unit was drawn, ``(some draws, n_units)`` at a time, for all draws in their order."""
        if self.n_draws * self.n_units <= _CHUNK_ENTRIES:
            yield _drawn(self.n_units, self.n_draws, self.seed)
            return
        rng = np.random.default_rng(self.seed)
        n_rows = max(1, _CHUNK_ENTRIES // self.n_units)
        for first in range(0, self.n_draws, n_rows):
            yield _draw(rng, self.n_units, min(n_rows, self.n_draws - first))


def _draw(rng: np.random.Generator, n_units: int, n_draws: int) -> Floats:
    return rng.multinomial(n_units, np.full(n_units, 1.0 / n_units), size=n_draws).astype(np.float64)


@lru_cache(maxsize=2)
def _drawn(n_units: int, n_draws: int, seed: int) -> Floats:
    """Keep the draws that every cell of a table asks for again."""
    return _draw(np.random.default_rng(seed), n_units, n_draws)


def perplexity(loss: float) -> float:
    """Effective number of bases the model hesitates between, ``exp(loss)``; ``loss`` in nats.

    Examples
    --------
    >>> round(perplexity(math.log(4)), 6)
    4.0
    """
    return math.exp(loss)


def interval(value: float, draws: Floats, n_units: int) -> Estimate:
    """Percentile interval of ``draws`` around ``value``; none where there were fewer than two units."""
    if n_units < 2:
        return Estimate(float(value), None, None)
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(draws, [tail, 100 - tail])
    return Estimate(float(value), float(low), float(high))


def bootstrap_ratio(
    numerators: npt.NDArray[Any], denominators: npt.NDArray[Any], *, n_draws: int = 1000, seed: int = 0
) -> Estimate:
    """Ratio of sums over windows or blocks, with a 95 % percentile interval.

    Parameters
    ----------
    numerators, denominators
        One entry per unit, ``(n_units,)``: for example summed loss, and number of hidden bases.
        Units whose denominator is 0 hold nothing to measure and are left out.
    n_draws, seed
        Bootstrap draws, and what makes them the same each time. Two calls with the same
        denominators see the same draws, so the interval of a paired difference is that of
        ``bootstrap_ratio(numerators_a - numerators_b, denominators)``.

    Raises
    ------
    ValueError
        If no unit has a denominator above 0, or a number is not finite.

    Examples
    --------
    >>> bootstrap_ratio(np.array([2.0, 2.0]), np.array([1, 1]))
    Estimate(value=2.0, low=2.0, high=2.0)
    """
    numerators, denominators = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if not (np.isfinite(numerators).all() and np.isfinite(denominators).all()):
        raise ValueError("a ratio of numbers that are not finite")
    used = denominators > 0
    n_units = int(used.sum())
    if not n_units:
        raise ValueError("a ratio with nothing in the denominator")
    numerators, denominators = numerators[used], denominators[used]
    sums = Resamples(n_units, n_draws, seed).sums(np.stack([numerators, denominators], axis=1))
    return interval(numerators.sum() / denominators.sum(), sums[:, 0] / sums[:, 1], n_units)


@dataclass(frozen=True)
class Classification:
    """How one classifier did on labelled windows that lie in blocks.

    Attributes
    ----------
    macro_f1, mcc
        The two scores with block-bootstrap intervals.
    macro_f1_draws, mcc_draws
        The scores of every draw, ``(n_draws,)``: differences of two classifiers' draws are paired.
    n_blocks
        Blocks that were resampled.
    """

    macro_f1: Estimate
    mcc: Estimate
    macro_f1_draws: Floats
    mcc_draws: Floats
    n_blocks: int


def macro_f1_of(confusion: Floats) -> Floats:
    """Macro-averaged F1 of confusion matrices ``(..., true, predicted)``; a class never seen nor said scores 0."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    both = confusion.sum(-1) + confusion.sum(-2)
    return (2 * hits / np.where(both > 0, both, 1)).mean(-1)


def mcc_of(confusion: Floats) -> Floats:
    """Matthews correlation of confusion matrices ``(..., true, predicted)``; 0 where it is not defined.

    References
    ----------
    Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient", eq. 8.
    """
    true, said, total = confusion.sum(-1), confusion.sum(-2), confusion.sum((-1, -2))
    hits = np.trace(confusion, axis1=-2, axis2=-1)
    covariance = hits * total - (true * said).sum(-1)
    spread = (total**2 - (true**2).sum(-1)) * (total**2 - (said**2).sum(-1))
    return np.where(spread > 0, covariance / np.sqrt(np.where(spread > 0, spread, 1)), 0.0)


def classification(
    labels: npt.NDArray[Any],
    predictions: npt.NDArray[Any],
    blocks: npt.NDArray[Any],
    n_classes: int,
    *,
    n_draws: int = 1000,
    seed: int = 0,
) -> Classification:
    """Macro-F1 and MCC with 95 % intervals from resampling whole blocks.

    The scores are scikit-learn's. The draws use the same two formulas on summed per-block
    confusion matrices, because 1,000 calls of scikit-learn would take longer than the probe.

    Parameters
    ----------
    labels, predictions
        Class ids ``0..n_classes - 1``, ``(n,)``.
    blocks
        Block id of each window, ``(n,)`` integers. Neighbours in a genome resemble each other, so
        that resampling single windows would give intervals that are too narrow.
    n_classes, n_draws, seed
        Number of classes, bootstrap draws and their seed.

    Examples
    --------
    >>> perfect = classification(np.array([0, 1, 0, 1]), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), 2)
    >>> perfect.macro_f1.value, perfect.mcc.low
    (1.0, 1.0)
    """
    _, block_index = np.unique(blocks, return_inverse=True)
    n_blocks = int(block_index.max()) + 1
    confusion = np.zeros((n_blocks, n_classes, n_classes))
    np.add.at(confusion, (block_index, labels, predictions), 1)
    draws = Resamples(n_blocks, n_draws, seed).sums(confusion)
    f1 = f1_score(labels, predictions, labels=np.arange(n_classes), average="macro", zero_division=0)
    f1_draws, mcc_draws = macro_f1_of(draws), mcc_of(draws)
    return Classification(
        macro_f1=interval(float(f1), f1_draws, n_blocks),
        mcc=interval(float(matthews_corrcoef(labels, predictions)), mcc_draws, n_blocks),
        macro_f1_draws=f1_draws,
        mcc_draws=mcc_draws,
        n_blocks=n_blocks,
    )


def paired_difference(a: Classification, b: Classification) -> dict[str, Estimate]:
    """Scores of ``a`` minus those of ``b`` on the same windows, with intervals from shared draws."""
    return {
        "macro_f1": interval(a.macro_f1.value - b.macro_f1.value, a.macro_f1_draws - b.macro_f1_draws, a.n_blocks),
        "mcc": interval(a.mcc.value - b.mcc.value, a.mcc_draws - b.mcc_draws, a.n_blocks),
    }
