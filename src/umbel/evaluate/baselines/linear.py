"""Straight cuts through features: logistic regression or ridge, with the penalty that dev likes best."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from umbel.data.labelled.examples import is_known
from umbel.data.labelled.task import Task
from umbel.errors import ConfigError
from umbel.evaluate.scores.definitions import oriented, score
from umbel.evaluate.scores.predictions import Scores

Array = npt.NDArray[Any]

PENALTIES = (10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4)
"""Strengths of the L2 penalty per train example that are tried, the strongest first."""
LOSS = "loss"
"""Select by the mean log loss of classes and labels, or squared error in variances of train: less is better."""
_LEAST_PROBABILITY = 1e-7
_ROWS_AT_ONCE = 8192


class _Model(Protocol):
    is_converged: bool
    n_parameters: int

    def scores(self, features: Any) -> Scores: ...


@dataclass(frozen=True, eq=False)
class LinearFit:
    """A linear model of the penalty chosen on dev.

    Attributes
    ----------
    penalty
        The one chosen, of those that were tried.
    dev_score
        What it was chosen by; more is better (losses and errors have a minus).
    is_converged
        Whether the optimiser got to the end.
    n_parameters, n_features
        Weights with intercepts, and columns.
    """

    model: _Model
    penalty: float
    dev_score: float
    select: str
    n_features: int

    @property
    def is_converged(self) -> bool:
        """Whether the optimiser got to the end."""
        return self.model.is_converged

    @property
    def n_parameters(self) -> int:
        """Weights and intercepts."""
        return self.model.n_parameters

    def scores(self, features: Any) -> Scores:
        """Probabilities or values, ``(n, outputs)`` float32."""
        with threadpool_limits(1):
            return self.model.scores(features)


def fit_linear(
    task: Task,
    train_features: Any,
    train_targets: Array,
    dev_features: Any,
    dev_targets: Array,
    *,
    penalties: Sequence[float] = PENALTIES,
    inverse_strengths: Sequence[float] | None = None,
    class_weight: Literal["balanced"] | None = None,
    select: str = LOSS,
) -> LinearFit:
    """Fit a linear model for each penalty on train, and keep the one that is best on dev.

    Classes: multinomial logistic regression; labels: one logistic regression each; numbers: ridge. Features are
    divided by their standard deviation in train (dense ones are centred as well; with a free intercept that moves the
    optimum nowhere), so that the penalty means the same for each.

    Parameters
    ----------
    task
        What is asked.
    train_features, dev_features
        ``(rows, features)`` float32, dense or CSR.
    train_targets, dev_targets
        ``(rows,)`` classes or ``(rows, outputs)``; rows or entries without a target are left out.
    penalties
        Strength of the penalty ``strength / 2 * |w|^2`` on the mean loss (half the squared error, for numbers), in the
        order in which the first of equals is kept.
    inverse_strengths
        Scikit-learn's C instead: the penalty is on the sum of losses (classes and labels).
    class_weight
        ``balanced``: each class weighs as much as the others.
    select
        ``loss``, or a metric of :func:`umbel.evaluate.scores.definitions.score`.

    Raises
    ------
    ConfigError
        If there is no such metric.

    Examples
    --------
    >>> task, x = Task("regression", ("y",)), np.arange(8.0)[:, None]
    >>> fit = fit_linear(task, x, 2 * x + 1, x, 2 * x + 1)
    >>> fit.penalty, np.round(fit.scores(np.array([[100.0]])), 0).tolist()
    (0.0001, [[201.0]])
    """
    train_features, train_targets = _known_rows(task, train_features, train_targets)
    dev_features, dev_targets = _known_rows(task, dev_features, dev_targets)
    tried = penalties if inverse_strengths is None else inverse_strengths
    ridge = _RidgePath(task, train_features, train_targets) if task.is_numbers else None
    spread = spread_of(task, train_targets)
    best: LinearFit | None = None
    # One thread: these products are small, two threads were measured 50 times slower on a busy machine, and the
    # result no longer depends on the number of cores.
    with threadpool_limits(1):
        for penalty in tried:
            model: _Model
            if ridge is not None:
                model = ridge.solve(penalty)
            else:
                inverse = penalty if inverse_strengths is not None else 1 / (penalty * max(1, train_features.shape[0]))
                model = _Logistic.fit(task, train_features, train_targets, inverse, class_weight)
            found = dev_score(task, dev_targets, model.scores(dev_features), select, spread)
            if best is None or found > best.dev_score:
                best = LinearFit(model, float(penalty), found, select, int(train_features.shape[1]))
    assert best is not None
    return best


def dev_score(task: Task, targets: Array, scores: Scores, select: str, spread: Array) -> float:
    """Say how good scores are on dev; more is better. ``spread`` ``(outputs,)`` is the variance of numbers in train.

    A metric that is not defined on dev counts as the worst.

    Examples
    --------
    >>> task = Task("binary", ("0", "1"))
    >>> dev_score(task, np.array([0, 1]), np.array([[1.0, 0.0], [0.5, 0.5]]), "accuracy", np.ones(2))
    0.5
    """
    if select == LOSS:
        return -_loss(task, targets, np.asarray(scores, np.float64), spread)
    found = score(task, targets, scores)
    if select not in found:
        raise ConfigError(f"no metric {select!r} to select by; there are: {LOSS}, {', '.join(found)}")
    value = found[select]
    return -np.inf if value is None else oriented(select, value)


def _loss(task: Task, targets: Array, scores: Array, spread: Array) -> float:
    if task.is_classes:
        rows = np.flatnonzero(targets >= 0)
        true = scores[rows, targets[rows]]
        return float(-np.log(np.clip(true, _LEAST_PROBABILITY, 1)).mean()) if len(true) else np.inf
    known = is_known(task, targets)
    truth = np.where(known, targets, 0).astype(np.float64)
    if task.is_numbers:
        losses = (truth - scores) ** 2 / spread
    else:
        said = np.clip(np.where(truth > 0, scores, 1 - scores), _LEAST_PROBABILITY, 1)
        losses = -np.log(said)
    return float(losses[known].mean()) if known.any() else np.inf


def spread_of(task: Task, targets: Array) -> Array:
    """Variance of each output in train; 1 where it does not vary."""
    if not task.is_numbers:
        return np.ones(task.n_outputs)
    columns = [targets[is_known(task, targets[:, i]), i].astype(np.float64) for i in range(task.n_outputs)]
    variances = np.array([column.var() if len(column) else 0.0 for column in columns])
    return np.where(variances > 0, variances, 1.0)


def _known_rows(task: Task, features: Any, targets: Array) -> tuple[Any, Array]:
    if task.kind != "bases":
        return features, targets
    known = is_known(task, targets)
    return features[known], targets[known]


class _Logistic:
    """One multinomial regression, or one regression a label."""

    def __init__(self, parts: Sequence[Pipeline | float], task: Task, is_converged: bool):
        self._parts, self._task, self.is_converged = parts, task, is_converged
        self.n_parameters = sum(
            1 if isinstance(part, float) else part[-1].coef_.size + part[-1].intercept_.size for part in parts
        )

    @classmethod
    def fit(cls, task: Task, features: Any, targets: Array, inverse: float, class_weight: str | None) -> _Logistic:
        columns = [targets] if task.is_classes else [targets[:, i] for i in range(task.n_outputs)]
        parts: list[Pipeline | float] = []
        is_converged = True
        for column in columns:
            known = np.full(len(column), True) if task.is_classes else is_known(task, column)
            rows = features if known.all() else features[known]
            truth = column[known] if task.is_classes else (column[known] > 0).astype(int)
            if len(np.unique(truth)) < 2:
                parts.append(float(truth[0]) if len(truth) else 0.0)
                continue
            part, got_there = _fit_logistic(rows, truth, inverse, class_weight)
            parts.append(part)
            is_converged &= got_there
        return cls(parts, task, is_converged)

    def scores(self, features: Any) -> Scores:
        n = features.shape[0]
        found = np.zeros((n, self._task.n_outputs), np.float32)
        if not self._task.is_classes:
            for i, part in enumerate(self._parts):
                found[:, i] = part if isinstance(part, float) else part.predict_proba(features)[:, 1]
            return found
        (part,) = self._parts
        if isinstance(part, float):
            found[:, int(part)] = 1
        else:
            # A class that train does not have gets probability 0.
            found[:, part[-1].classes_] = part.predict_proba(features)
        return found


def _fit_logistic(features: Any, truth: Array, inverse: float, class_weight: str | None) -> tuple[Pipeline, bool]:
    """Fit on standardised features; also say whether the optimiser got to the end."""
    pipeline = make_pipeline(
        StandardScaler(with_mean=not issparse(features)),
        LogisticRegression(C=inverse, class_weight=class_weight, max_iter=500, tol=1e-3),
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        pipeline.fit(features, truth)
    return pipeline, not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)


class _RidgePath:
    """Products of features and targets, from which the ridge of every penalty follows."""

    def __init__(self, task: Task, features: Any, targets: Array):
        self._task = task
        self._patterns: list[tuple[Array, _Products]] = []
        known = is_known(task, targets)
        patterns, which = np.unique(known, axis=1, return_inverse=True)
        with threadpool_limits(1):
            for i, pattern in enumerate(patterns.T):
                outputs = np.flatnonzero(which.ravel() == i)
                rows = features if pattern.all() else features[pattern]
                self._patterns.append((outputs, _Products(rows, targets[np.ix_(pattern, outputs)])))

    def solve(self, penalty: float) -> _Ridge:
        n_features = self._patterns[0][1].n_features
        weights, intercepts = np.zeros((n_features, self._task.n_outputs)), np.zeros(self._task.n_outputs)
        for outputs, products in self._patterns:
            weights[:, outputs], intercepts[outputs] = products.solve(penalty)
        return _Ridge(weights, intercepts)


class _Products:
    """Covariances of standardised features with each other and with targets, in float64."""

    def __init__(self, features: Any, targets: Array):
        n, self.n_features = features.shape
        self._is_empty = not n
        self._mean_y = targets.mean(axis=0, dtype=np.float64) if n else np.zeros(targets.shape[1])
        centred = targets.astype(np.float64) - self._mean_y
        square, cross = np.zeros((self.n_features,) * 2), np.zeros((self.n_features, targets.shape[1]))
        self._mean = np.zeros(self.n_features)
        if n:
            self._mean = np.asarray(features.mean(axis=0, dtype=np.float64)).ravel()
        for first in range(0, n, _ROWS_AT_ONCE):
            part = features[first : first + _ROWS_AT_ONCE]
            part = (part.toarray() if issparse(part) else part).astype(np.float64) - self._mean
            square += part.T @ part
            cross += part.T @ centred[first : first + _ROWS_AT_ONCE]
        spread = np.sqrt(np.diag(square) / max(n, 1))
        # Relative, because the spread of a constant is what rounding leaves.
        self._scale = np.where(spread > 1e-12 * np.abs(self._mean), spread, 1.0)
        self._scale[self._scale == 0] = 1.0
        self._square = square / max(n, 1) / np.outer(self._scale, self._scale)
        self._cross = cross / max(n, 1) / self._scale[:, None]

    def solve(self, penalty: float) -> tuple[Array, Array]:
        """Weights on the features as they came, and intercepts."""
        if self._is_empty:
            return np.zeros_like(self._cross), self._mean_y
        factor = cho_factor(self._square + penalty * np.eye(self.n_features), lower=True, overwrite_a=True)
        weights = cho_solve(factor, self._cross) / self._scale[:, None]
        return weights, self._mean_y - self._mean @ weights


class _Ridge:
    is_converged = True

    def __init__(self, weights: Array, intercepts: Array):
        self._weights, self._intercepts = weights, intercepts
        self.n_parameters = weights.size + intercepts.size

    def scores(self, features: Any) -> Scores:
        return np.asarray(features @ self._weights + self._intercepts, np.float32)
