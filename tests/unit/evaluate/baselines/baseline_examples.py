"""Examples of every kind of task, whose targets can be read from the sequence."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from umbel.data.labelled.examples import Examples
from umbel.data.labelled.task import IGNORED, Task

TASKS = {
    "binary": Task("binary", ("no", "yes")),
    "multiclass": Task("multiclass", ("a", "b", "c")),
    "multilabel": Task("multilabel", ("gc", "g")),
    "regression": Task("regression", ("gc", "a")),
    "bases": Task("bases", ("at", "gc")),
    "bins": Task("bins", ("gc", "a"), 8),
}


def drawn(kind: str, n: int = 120, seed: int = 0, n_bp: tuple[int, int] = (40, 70)) -> Examples:
    """Sequences of several lengths, with N; a target follows from shares of bases, or from the base before."""
    rng = np.random.default_rng([seed, n])
    task = TASKS[kind]
    codes, targets = [], []
    for _ in range(n):
        gc = rng.uniform(0.2, 0.8)
        sequence = rng.choice(4, int(rng.integers(*n_bp)), p=[(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2]).astype(
            np.uint8
        )
        sequence[0] = 4
        codes.append(sequence)
        targets.append(_target(task, sequence, gc))
    flat: Any = tuple(targets) if task.is_along_sequence else np.array(targets)
    ids = tuple(f"{seed}-{i}" for i in range(n))
    return Examples(task, ids, tuple(codes), flat, "made.csv", np.arange(1, n + 1))


def _target(task: Task, sequence: Any, gc: float) -> Any:
    is_gc, is_a = np.isin(sequence, (1, 2)), sequence == 0
    if task.kind == "binary":
        return int(gc > 0.5)
    if task.kind == "multiclass":
        return int(gc > 0.4) + int(gc > 0.6)
    if task.kind == "multilabel":
        return np.array([gc > 0.5, (sequence == 2).mean() > 0.25], np.float32)
    if task.kind == "regression":
        return np.array([is_gc.mean(), 100 + 10 * is_a.mean()], np.float32)
    if task.kind == "bases":
        truth = np.append(0, is_gc[:-1]).astype(np.int64)
        truth[:2] = IGNORED
        return truth
    starts = np.arange(0, len(sequence), task.bin_bp)
    bins = np.array([[part[s : s + task.bin_bp].mean() for part in (is_gc, is_a)] for s in starts], np.float32)
    bins[0, 1] = np.nan
    return bins


def with_other_targets(examples: Examples) -> Examples:
    """The same sequences, with targets that say nothing."""
    order = np.random.default_rng(5).permutation(len(examples))
    if isinstance(examples.targets, tuple):
        return dataclasses.replace(examples, targets=tuple(np.roll(each, 7, axis=0) for each in examples.targets))
    return dataclasses.replace(examples, targets=examples.targets[order])
