"""Intervals of metrics, from resampling examples and seeds; rows of one table see the same resamples.

Level one draws examples with replacement: an example with all its bases, and the same for every seed and every row.
Level two draws as many seeds as there are, with replacement; rows with equally many draw the same places of their
lists, so that seeds that belong together stay pairs. The value of a draw is the mean over the seeds drawn. With few
seeds the second level is too narrow: of S seeds it shows (S - 1) / S of their variance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from umbel.errors import RunError
from umbel.evaluate.metrics import LEVEL, Resamples
from umbel.evaluate.scores.definitions import MetricDraws, score
from umbel.evaluate.scores.predictions import Predictions
from umbel.evaluate.scores.weighted import Floats

N_DRAWS = 1000
MAX_UNDEFINED_FRAC = 0.05
"""With more draws in which a metric is not defined there is no interval."""


@dataclass(frozen=True)
class SeedsEstimate:
    """A metric over several seeds, with its 95 % interval.

    Attributes
    ----------
    value
        Mean over seeds; None where the metric is not defined in one of them.
    low, high
        Of the bootstrap; None with fewer than two examples, or where more than 5 % of the draws have no value.
    sd
        Standard deviation over seeds (n - 1); None with one seed.
    by_seed
        Value of each seed.

    Examples
    --------
    >>> SeedsEstimate(0.5, 0.4, 0.6, None, (0.5,)).to_dict()
    {'value': 0.5, 'low': 0.4, 'high': 0.6, 'sd': None, 'by_seed': [0.5]}
    """

    value: float | None
    low: float | None
    high: float | None
    sd: float | None
    by_seed: tuple[float | None, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "sd": self.sd,
            "by_seed": list(self.by_seed),
        }


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Draws of the metrics of one row: several seeds on the same examples.

    Attributes
    ----------
    by_seed
        Metric to the value of each seed.
    draws
        Metric to its value in every draw, ``(n_draws,)``; NaN where it is not defined.
    n_examples, seed
        Examples drawn from, and what made the draws. Rows with the same two were drawn together.
    """

    by_seed: Mapping[str, tuple[float | None, ...]]
    draws: Mapping[str, Floats]
    n_examples: int
    seed: int
    predictions: tuple[Predictions, ...] = field(repr=False)

    def estimate(self, metric: str) -> SeedsEstimate:
        """Value and interval of one metric."""
        values = self.by_seed[metric]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return SeedsEstimate(None, None, None, None, values)
        low, high = percentile_interval(self.draws[metric], self.n_examples)
        sd = float(np.std(known, ddof=1)) if len(known) > 1 else None
        return SeedsEstimate(float(np.mean(known)), low, high, sd, values)


def bootstrap(predictions: Sequence[Predictions], *, n_draws: int = N_DRAWS, seed: int = 0) -> Bootstrap:
    """Draw examples and seeds ``n_draws`` times, and compute every metric of each draw.

    Parameters
    ----------
    predictions
        One a seed, on the same examples.
    n_draws, seed
        Number of draws, and what makes them the same each time.

    Raises
    ------
    RunError
        If the seeds were not predicted on the same examples with the same targets.
    """
    if not predictions:
        raise RunError("there are no predictions to compute intervals of: give those of at least one seed")
    first = predictions[0]
    for other in predictions[1:]:
        require_same_examples(first, other)
    resamples = Resamples(first.n_examples, n_draws, seed)
    tables = [MetricDraws.of(each.task, each.targets, each.scores, each.units) for each in predictions]
    chunks = [[table.draws(weights) for table in tables] for weights in resamples.weights()]
    seeds = _drawn_seeds(len(predictions), n_draws, seed)
    draws = {}
    for metric in chunks[0][0]:
        of_seeds = np.stack(
            [np.concatenate([chunk[i][metric] for chunk in chunks]) for i in range(len(predictions))], axis=1
        )
        # NaN where one of the seeds drawn has no value, as in the value itself.
        draws[metric] = np.take_along_axis(of_seeds, seeds, axis=1).mean(axis=1)
    values = [score(each.task, each.targets, each.scores) for each in predictions]
    by_seed = {metric: tuple(value[metric] for value in values) for metric in draws}
    return Bootstrap(by_seed, draws, first.n_examples, seed, tuple(predictions))


def _drawn_seeds(n_seeds: int, n_draws: int, seed: int) -> Any:
    """Draw the places of seeds in their list, ``(n_draws, n_seeds)``."""
    # A stream of its own, so that rows with several seeds see the examples that rows with one seed see.
    return np.random.default_rng([seed, n_seeds]).integers(0, n_seeds, (n_draws, n_seeds))


def intervals(predictions: Sequence[Predictions], *, n_draws: int = N_DRAWS, seed: int = 0) -> dict[str, SeedsEstimate]:
    """Every metric of one row, with intervals from resampling examples and seeds; see :func:`bootstrap`.

    Examples
    --------
    >>> from umbel.data.labelled.task import Task
    >>> said = np.array([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.3, 0.7]], np.float32)
    >>> one = Predictions(Task("binary", ("0", "1")), tuple("abcd"), np.array([0, 1, 0, 1]), said, np.arange(4))
    >>> found = intervals([one, one])["accuracy"]
    >>> found.value, found.low, found.sd
    (1.0, 1.0, 0.0)
    """
    drawn = bootstrap(predictions, n_draws=n_draws, seed=seed)
    return {metric: drawn.estimate(metric) for metric in drawn.draws}


def percentile_interval(draws: Floats, n_examples: int) -> tuple[float | None, float | None]:
    """Bounds of the middle 95 % of the draws that have a value; none where too few have."""
    known = draws[~np.isnan(draws)]
    if n_examples < 2 or len(known) < (1 - MAX_UNDEFINED_FRAC) * len(draws):
        return None, None
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(known, [tail, 100 - tail])
    return float(low), float(high)


def require_same_examples(a: Predictions, b: Predictions) -> None:
    """See that two sets of predictions are about the same examples, in the same order, with the same targets.

    Raises
    ------
    RunError
        If not; with the first difference.
    """
    if a.task != b.task:
        raise RunError(f"predictions of two tasks cannot be compared: {a.task} and {b.task}")
    if a.ids != b.ids:
        if len(a.ids) != len(b.ids):
            raise RunError(f"predictions of {len(a.ids)} and of {len(b.ids)} examples cannot be compared")
        i = next(i for i, (x, y) in enumerate(zip(a.ids, b.ids, strict=True)) if x != y)
        raise RunError(
            f"predictions of other examples cannot be compared: example {i + 1} is {a.ids[i]!r} and {b.ids[i]!r}"
        )
    if not np.array_equal(a.units, b.units) or not np.array_equal(a.targets, b.targets, equal_nan=a.task.is_numbers):
        raise RunError(
            f"the same {len(a.ids)} examples have other targets in the two sets of predictions. "
            "Predict both again with the same data."
        )
