"""What accuracy, F1, MCC, AUROC, AUPRC, Spearman, Pearson, R2 and error of predictions are, and when they are not.

One definition serves the value and the bootstrap: a value is a draw in which every example was drawn once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.data.labelled.examples import is_known
from umbel.data.labelled.task import Task
from umbel.evaluate.metrics import macro_f1_of, mcc_of
from umbel.evaluate.scores.predictions import Predictions
from umbel.evaluate.scores.weighted import Floats, Ints, confusion, correlation, rank_correlation, ranking

Array = npt.NDArray[Any]

ERRORS = frozenset({"mse"})
"""Metrics of which less is better."""
COLLAPSED_MCC = 0.02
"""Below it, in absolute value, a classifier is called collapsed; the same for Pearson's correlation."""
COLLAPSED_AUROC = 0.01
"""As near to 0.5 the mean AUROC of labels is called collapsed."""
COLLAPSED_SPREAD = 1e-3
"""Predictions with a smaller standard deviation, in standard deviations of the targets, are called constant."""
_THRESHOLD = 0.5


def metric_names(task: Task) -> tuple[str, ...]:
    """Name the metrics of a task, without those of single labels or outputs (``auroc:NAME``).

    Examples
    --------
    >>> metric_names(Task("regression", ("leaf",)))
    ('spearman', 'pearson', 'pearson2', 'r2', 'mse')
    """
    if task.is_numbers:
        return ("spearman", "pearson", "pearson2", "r2", "mse")
    if task.kind == "binary":
        return ("accuracy", "macro_f1", "f1", "mcc", "auroc", "auprc")
    return ("accuracy", "macro_f1", "mcc", "auroc", "auprc")


def oriented(metric: str, value: float) -> float:
    """Turn a value of a metric so that more is better: errors get a minus.

    Examples
    --------
    >>> oriented("mse:leaf", 2.0), oriented("mcc", 0.5)
    (-2.0, 0.5)
    """
    return -value if metric.partition(":")[0] in ERRORS else value


def score(task: Task, targets: Array, scores: Array) -> dict[str, float | None]:
    """Compute every metric of a task.

    Rows without a target (class -100, NaN) are left out.

    - ``accuracy``: share of rows whose most probable class (the first of equals) is right; of labels, the share of
      labels told right at 0.5.
    - ``macro_f1``: mean F1 of the classes, or of the labels at 0.5; one that is neither there nor said scores 0.
      ``f1`` (binary): of the second class.
    - ``mcc``: Matthews correlation (of labels their mean); 0 where it is not defined.
    - ``auroc``, ``auprc``: from the scores themselves, never thresholded; binary: of the second class; several
      classes: mean over classes, each against the rest; labels: mean over labels, also one by one as
      ``auroc:NAME``. AUPRC is average precision. Classes or labels of which there are no rows, or no others, are
      left out of the mean; None where none is left.
    - ``spearman``, ``pearson``, ``pearson2`` (its square), ``r2`` (1 - SSE / SST), ``mse``: of several outputs their
      means, and each as ``spearman:NAME``. With constant targets all but ``mse`` are None; with constant predictions
      the three correlations are 0.

    Parameters
    ----------
    task
        What was asked.
    targets, scores
        As in :class:`umbel.evaluate.scores.predictions.Predictions`.

    Returns
    -------
    Metric to value; None where it is not defined, never NaN.

    References
    ----------
    Fawcett 2006, "An introduction to ROC analysis", section 9 (several classes); Gorodkin 2004, "Comparing two
    K-category assignments by a K-category correlation coefficient", eq. 8.

    Examples
    --------
    >>> found = score(Task("binary", ("0", "1")), np.array([0, 1]), np.array([[0.8, 0.2], [0.7, 0.3]]))
    >>> found["accuracy"], found["mcc"], found["auroc"]
    (0.5, 0.0, 1.0)
    """
    table = MetricDraws.of(task, targets, scores, np.arange(len(targets)))
    return {name: defined(draws[0]) for name, draws in table.draws(np.ones((1, len(targets)))).items()}


def defined(value: float) -> float | None:
    """Turn NaN, which stands for what is not defined, into None."""
    return None if np.isnan(value) else float(value)


@dataclass(frozen=True, eq=False)
class MetricDraws:
    """Targets and scores of which the metrics are wanted for many draws of examples."""

    task: Task
    targets: Array
    scores: Array
    units: Ints

    @classmethod
    def of(cls, task: Task, targets: Array, scores: Array, units: Ints) -> MetricDraws:
        """Leave out rows without a target."""
        targets, scores = np.asarray(targets), np.asarray(scores)
        if task.kind == "bases":
            known = is_known(task, targets)
            targets, scores, units = targets[known], scores[known], units[known]
        return cls(task, targets, scores, np.ascontiguousarray(units, np.int64))

    def draws(self, weights: Floats) -> dict[str, Floats]:
        """Every metric in every draw.

        Parameters
        ----------
        weights
            How often each example was drawn, ``(draws, examples)``.

        Returns
        -------
        Metric to ``(draws,)``; NaN where it is not defined.
        """
        if self.task.is_numbers:
            return self._numbers(weights)
        return self._classes(weights) if self.task.is_classes else self._labels(weights)

    def _classes(self, weights: Floats) -> dict[str, Floats]:
        n_classes = self.task.n_outputs
        truth = self.targets.astype(np.int64)
        counts = confusion(truth, self.scores.argmax(axis=1), n_classes, weights, self.units)
        found = {"accuracy": _accuracy(counts), "macro_f1": macro_f1_of(counts)}
        if self.task.kind == "binary":
            found["f1"] = _f1(counts)
        found["mcc"] = mcc_of(counts)
        positives = (1,) if self.task.kind == "binary" else range(n_classes)
        curves = np.stack([ranking(truth == i, self.scores[:, i], weights, self.units) for i in positives])
        return found | {"auroc": mean_defined(curves[:, :, 0]), "auprc": mean_defined(curves[:, :, 1])}

    def _labels(self, weights: Floats) -> dict[str, Floats]:
        each: dict[str, list[Floats]] = {name: [] for name in ("accuracy", "macro_f1", "mcc", "auroc", "auprc")}
        for i in range(self.task.n_outputs):
            truth, said, units = self._column(i)
            counts = confusion((truth > 0).astype(np.int64), (said > _THRESHOLD).astype(np.int64), 2, weights, units)
            curves = ranking(truth > 0, said, weights, units)
            for name, value in zip(
                each, (_accuracy(counts), _f1(counts), mcc_of(counts), curves[:, 0], curves[:, 1]), strict=True
            ):
                each[name].append(value)
        return self._with_means(each, ("auroc", "auprc"))

    def _numbers(self, weights: Floats) -> dict[str, Floats]:
        each: dict[str, list[Floats]] = {name: [] for name in metric_names(self.task)}
        for i in range(self.task.n_outputs):
            truth, said, units = self._column(i)
            plain = correlation(truth, said, weights, units)
            each["spearman"].append(rank_correlation(truth, said, weights, units))
            each["pearson"].append(plain[:, 0])
            each["pearson2"].append(plain[:, 0] ** 2)
            each["r2"].append(plain[:, 2])
            each["mse"].append(plain[:, 1])
        return self._with_means(each, tuple(each) if self.task.n_outputs > 1 else ())

    def _column(self, i: int) -> tuple[Array, Array, Ints]:
        known = is_known(self.task, self.targets[:, i])
        return self.targets[known, i], self.scores[known, i], self.units[known]

    def _with_means(self, each: dict[str, list[Floats]], shown: tuple[str, ...]) -> dict[str, Floats]:
        found = {name: mean_defined(np.stack(values)) for name, values in each.items()}
        for metric in shown:
            found |= {f"{metric}:{name}": each[metric][i] for i, name in enumerate(self.task.names)}
        return found


def _accuracy(counts: Floats) -> Floats:
    total = counts.sum((-1, -2))
    return np.where(total > 0, np.trace(counts, axis1=-2, axis2=-1) / np.where(total > 0, total, 1), np.nan)


def _f1(counts: Floats) -> Floats:
    """F1 of class 1 of two; 0 where it is neither there nor said."""
    both = counts[:, 1, :].sum(-1) + counts[:, :, 1].sum(-1)
    return 2 * counts[:, 1, 1] / np.where(both > 0, both, 1)


def mean_defined(values: Floats) -> Floats:
    """Mean over the first axis of what is not NaN; NaN where all is.

    Examples
    --------
    >>> mean_defined(np.array([[1.0, np.nan], [2.0, np.nan]])).tolist()
    [1.5, nan]
    """
    known = ~np.isnan(values)
    n_known = known.sum(0)
    return np.where(n_known > 0, np.where(known, values, 0).sum(0) / np.maximum(n_known, 1), np.nan)


def why_collapsed(predictions: Predictions) -> str | None:
    """Say in words why the predictions show that training failed; None where they do not.

    - Classes: every row is given the same class, or |MCC| < 0.02. Not asked where one class alone is there.
    - Labels: the scores of each label are constant, or the mean AUROC is within 0.01 of 0.5.
    - Numbers: the standard deviation of what was said is below 0.001 of that of the targets in each output, or
      |mean Pearson| < 0.02. Not asked of outputs with constant targets.

    References
    ----------
    zhangtaolab/dnallmmark at 8d99daf: of 1,927 single-seed runs of its table, 101 have |MCC| < 0.02.

    Examples
    --------
    >>> task = Task("binary", ("0", "1"))
    >>> said = np.tile(np.array([[0.6, 0.4]], np.float32), (4, 1))
    >>> why_collapsed(Predictions(task, tuple("abcd"), np.array([0, 1, 0, 1]), said, np.arange(4)))
    "all 4 predictions are of class '0'"
    """
    task = predictions.task
    if task.is_classes:
        return _classes_collapsed(predictions)
    found = score(task, predictions.targets, predictions.scores)
    constant = [_is_constant(task, predictions, i) for i in range(task.n_outputs)]
    asked = [is_flat for is_flat in constant if is_flat is not None]
    if not asked:
        return None
    if all(asked):
        return "all predictions are the same" if len(asked) == 1 else "all predictions of each output are the same"
    if not task.is_numbers:
        auroc = found["auroc"]
        near = auroc is not None and abs(auroc - 0.5) < COLLAPSED_AUROC
        return f"the mean AUROC of the labels is {auroc:.3f}" if near else None
    pearson = found["pearson"]
    if pearson is not None and abs(pearson) < COLLAPSED_MCC:
        return f"Pearson's correlation is {pearson:.3f}"
    return None


def _classes_collapsed(predictions: Predictions) -> str | None:
    task = predictions.task
    known = is_known(task, predictions.targets) if task.kind == "bases" else np.full(len(predictions.targets), True)
    truth, said = predictions.targets[known], predictions.scores[known].argmax(axis=1)
    if len(np.unique(truth)) < 2:
        return None
    if (said == said[0]).all():
        return f"all {len(said)} predictions are of class {task.names[said[0]]!r}"
    mcc = score(task, truth, predictions.scores[known])["mcc"] or 0.0
    return f"MCC is {mcc:.3f}" if abs(mcc) < COLLAPSED_MCC else None


def _is_constant(task: Task, predictions: Predictions, i: int) -> bool | None:
    """Whether what was said of one output hardly varies; None where its targets do not."""
    known = is_known(task, predictions.targets[:, i])
    truth = predictions.targets[known, i].astype(np.float64)
    if not known.any() or truth.min() == truth.max():
        return None
    return bool(predictions.scores[known, i].astype(np.float64).std() < COLLAPSED_SPREAD * truth.std())
