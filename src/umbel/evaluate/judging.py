"""Dev scores: what decides between epochs, learning rates and settings; higher is always better."""

from __future__ import annotations

import math

from umbel.data.labelled.examples import Examples
from umbel.data.labelled.task import Task
from umbel.errors import ConfigError, RunError
from umbel.evaluate.scores.definitions import metric_names, oriented, score
from umbel.evaluate.scores.predictions import Predictions
from umbel.train.finetune.fitting import Judge
from umbel.train.finetune.outputs import Outputs

_DEFAULTS = {
    "binary": "mcc",
    "multiclass": "mcc",
    "bases": "macro_f1",
    "multilabel": "auprc",
    "regression": "r2",
    "bins": "r2",
}


def metric_for(task: Task, wish: str = "") -> str:
    """Give the metric that decides, ``wish`` or the usual one of the task.

    Raises
    ------
    ConfigError
        If the task has no metric of that name.

    Examples
    --------
    >>> metric_for(Task("binary", ("no", "yes")))
    'mcc'
    """
    known = metric_names(task)
    if wish and wish not in known:
        raise ConfigError(f"a {task.kind} task has no metric {wish!r}; it has {', '.join(known)}")
    return wish or _DEFAULTS[task.kind]


def quality(predictions: Predictions, metric: str) -> float:
    """Give one metric of predictions so that more is better; NaN where it is not defined."""
    value = score(predictions.task, predictions.targets, predictions.scores)[metric]
    return math.nan if value is None else oriented(metric, value)


def judge_by(metric: str) -> Judge:
    """Make what :func:`umbel.train.finetune.fitting.fit` asks after every epoch; outputs not finite are worth NaN."""

    def judge(examples: Examples, outputs: Outputs) -> float:
        try:
            return quality(Predictions.from_logits(examples.task, examples.ids, examples.targets, outputs), metric)
        except RunError:
            return math.nan

    return judge
