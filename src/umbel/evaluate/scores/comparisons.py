"""Two models on the same examples: the difference of a metric, tests of it, and many tests at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from umbel.data.labelled.examples import is_known
from umbel.errors import RunError
from umbel.evaluate.scores.intervals import N_DRAWS, Bootstrap, bootstrap, percentile_interval, require_same_examples
from umbel.evaluate.scores.predictions import Predictions
from umbel.evaluate.scores.weighted import Floats


@dataclass(frozen=True)
class Difference:
    """A metric of row a minus that of row b, on the same examples.

    Attributes
    ----------
    metric
        Its name.
    value, low, high
        Difference of the means over seeds, with the 95 % interval of shared draws of examples and of
        seeds; None where the metric is not defined.
    p
        Two-sided, from the same draws: twice the smaller share of draws on either side of 0, each with one added.
    test, p_test
        A second test that does not depend on the metric: of examples told right (sign test; with one seed each this is
        McNemar's exact test), or of squared errors (paired t-test).
    n_better, n_worse
        Examples on which a is nearer to the truth than b, and the other way round.
    """

    metric: str
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    test: str
    p_test: float
    n_better: int
    n_worse: int

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def paired_difference(
    a: Bootstrap | Sequence[Predictions],
    b: Bootstrap | Sequence[Predictions],
    metric: str,
    *,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> Difference:
    """Compare two rows on the same examples.

    Parameters
    ----------
    a, b
        Predictions, one a seed; or what :func:`umbel.evaluate.scores.intervals.bootstrap` made of them, so that a
        table with many pairs is drawn once.
    metric
        A name of :func:`umbel.evaluate.scores.definitions.score`.
    n_draws, seed
        Of the bootstrap, where a and b are predictions.

    Raises
    ------
    RunError
        If the two are not about the same examples with the same targets, were drawn by other seeds, or there is no
        such metric.

    References
    ----------
    McNemar 1947, "Note on the sampling error of the difference between correlated proportions or percentages";
    Diebold & Mariano 1995, "Comparing predictive accuracy" (loss differentials); Davison & Hinkley 1997, "Bootstrap
    methods and their application", section 4.4 (one added to both counts).

    Examples
    --------
    >>> from umbel.data.labelled.task import Task
    >>> right = np.array([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.3, 0.7]], np.float32)
    >>> task, ids, truth = Task("binary", ("0", "1")), tuple("abcd"), np.array([0, 1, 0, 1])
    >>> good, bad = (Predictions(task, ids, truth, said, np.arange(4)) for said in (right, right[:, ::-1]))
    >>> found = paired_difference([good], [bad], "accuracy")
    >>> found.value, found.n_better, found.p_test
    (1.0, 4, 0.125)
    """
    drawn_a = a if isinstance(a, Bootstrap) else bootstrap(a, n_draws=n_draws, seed=seed)
    drawn_b = b if isinstance(b, Bootstrap) else bootstrap(b, n_draws=n_draws, seed=seed)
    require_same_examples(drawn_a.predictions[0], drawn_b.predictions[0])
    if metric not in drawn_a.draws:
        raise RunError(f"no metric {metric!r}; there are: {', '.join(drawn_a.draws)}")
    if drawn_a.seed != drawn_b.seed or len(drawn_a.draws[metric]) != len(drawn_b.draws[metric]):
        raise RunError("the two rows were resampled by other seeds or numbers of draws, so their draws are no pairs")
    test, p_test, n_better, n_worse = _test(drawn_a.predictions, drawn_b.predictions)
    first, second = drawn_a.estimate(metric).value, drawn_b.estimate(metric).value
    if first is None or second is None:
        return Difference(metric, None, None, None, None, test, p_test, n_better, n_worse)
    draws = drawn_a.draws[metric] - drawn_b.draws[metric]
    low, high = percentile_interval(draws, drawn_a.n_examples)
    p = None if low is None else bootstrap_p(draws)
    return Difference(metric, first - second, low, high, p, test, p_test, n_better, n_worse)


def bootstrap_p(draws: Floats) -> float:
    """Two-sided p of no difference: twice the smaller share of draws on either side of 0, one added to both counts.

    Examples
    --------
    >>> bootstrap_p(np.ones(999))
    0.002
    """
    known = draws[~np.isnan(draws)]
    smaller = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (smaller + 1) / (len(known) + 1))


def _test(a: Sequence[Predictions], b: Sequence[Predictions]) -> tuple[str, float, int, int]:
    loss_a, loss_b = (np.mean([example_losses(each) for each in row], axis=0) for row in (a, b))
    known = ~np.isnan(loss_a)
    # Means over seeds that are equal on paper may differ in their last digit.
    gain = np.where(np.isclose(loss_a, loss_b, rtol=1e-12, atol=1e-12), 0.0, loss_b - loss_a)[known]
    n_better, n_worse = int((gain > 0).sum()), int((gain < 0).sum())
    if not a[0].task.is_numbers:
        n = n_better + n_worse
        p = float(stats.binomtest(n_better, n).pvalue) if n else 1.0
        test = "McNemar exact" if len(a) == len(b) == 1 and not a[0].task.is_along_sequence else "sign test"
        return "sign test" if a[0].task.kind == "multilabel" else test, p, n_better, n_worse
    spread = float(gain.std(ddof=1)) if len(gain) > 1 else 0.0
    if spread == 0:
        return "paired t-test of squared errors", 1.0, n_better, n_worse
    t = float(gain.mean()) / (spread / np.sqrt(len(gain)))
    return "paired t-test of squared errors", float(2 * stats.t.sf(abs(t), len(gain) - 1)), n_better, n_worse


def example_losses(predictions: Predictions) -> Floats:
    """Share of wrong answers, or mean squared error, of each example, ``(examples,)``; NaN where it has no target."""
    task, targets, scores = predictions.task, predictions.targets, predictions.scores
    if task.is_classes:
        known = (is_known(task, targets) if task.kind == "bases" else np.full(len(targets), True))[:, None]
        losses = (scores.argmax(axis=1) != targets).astype(np.float64)[:, None]
    else:
        known = is_known(task, targets)
        truth = np.where(known, targets, 0).astype(np.float64)
        losses = (truth - scores) ** 2 if task.is_numbers else ((truth > 0) != (scores > 0.5)).astype(np.float64)
    sums, counts = np.zeros(predictions.n_examples), np.zeros(predictions.n_examples)
    np.add.at(sums, predictions.units, np.where(known, losses, 0).sum(axis=1))
    np.add.at(counts, predictions.units, known.sum(axis=1))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Adjust p of several comparisons, so that the chance of one false claim among all stays below the level.

    Parameters
    ----------
    p_values
        Name of a comparison to its p; None, where there was no test, stays None and is not counted.

    References
    ----------
    Holm 1979, "A simple sequentially rejective multiple test procedure".

    Examples
    --------
    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": None})
    {'a': 0.03, 'b': 0.06, 'c': 0.06, 'd': None}
    """
    known = sorted((p, name) for name, p in p_values.items() if p is not None)
    adjusted: dict[str, float | None] = dict.fromkeys(p_values)
    highest = 0.0
    for rank, (p, name) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        adjusted[name] = highest
    return adjusted
