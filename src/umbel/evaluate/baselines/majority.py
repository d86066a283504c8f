"""The same answer for everything: how often each class or label was seen in train, or the mean of each number."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from umbel.data.labelled.examples import Examples, is_known
from umbel.data.labelled.task import Task
from umbel.evaluate.baselines.interface import Array, require_splits
from umbel.evaluate.scores.predictions import Scores, flattened
from umbel.progress import Reporter


@dataclass(frozen=True)
class Majority:
    """Class frequencies, prevalence of each label, or mean of each output; of bases and bins over all of them.

    Its accuracy is the share of the commonest class, its AUROC 0.5, its AUPRC the prevalence, its R2 about 0.
    """

    name: str = "majority"

    def fit(self, train: Examples, dev: Examples, *, seed: int = 0, reporter: Reporter | None = None) -> FittedMajority:
        """Count train; nothing is chosen on dev, and no seed matters."""
        require_splits(train, dev)
        started = time.perf_counter()
        targets, _ = flattened(train.task, train.targets)
        answer = frequencies(train.task, targets)
        facts = {"chosen": {}, "n_parameters": len(answer), "seconds": time.perf_counter() - started}
        return FittedMajority(answer, facts)


@dataclass(frozen=True, eq=False)
class FittedMajority:
    """One answer, ``(outputs,)``."""

    answer: Array
    facts: dict[str, Any]

    def scores(self, examples: Examples) -> Scores:
        """Give the one answer for every row."""
        _, units = flattened(examples.task, examples.targets)
        return np.tile(self.answer.astype(np.float32), (len(units), 1))


def frequencies(task: Task, targets: Array) -> Array:
    """Share of each class or label, or mean of each output, of the targets that there are, ``(outputs,)`` float64.

    An output without any target gets 0; where no base has a class, all classes are as likely.

    Examples
    --------
    >>> frequencies(Task("binary", ("0", "1")), np.array([0, 1, 1, 1])).tolist()
    [0.25, 0.75]
    """
    if task.is_classes:
        known = targets[is_known(task, targets)] if task.kind == "bases" else targets
        counts = np.bincount(known, minlength=task.n_outputs).astype(np.float64)
        # Nothing known: all classes are as likely.
        return counts / counts.sum() if counts.sum() else np.full(task.n_outputs, 1 / task.n_outputs)
    known = is_known(task, targets)
    sums = np.where(known, targets, 0).sum(axis=0, dtype=np.float64)
    return sums / np.maximum(known.sum(axis=0), 1)
