"""A dev set made from training examples: near-copies together, classes alike, whatever the order of the file."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from umbel.data.labelled.copies import CopyRule, find_groups
from umbel.data.labelled.examples import Examples, is_known
from umbel.data.labelled.sketches import canonical_keys
from umbel.errors import LabelError

N_QUANTILES = 10
"""Parts of equal size that numbers are cut into, so that dev has its share of each."""

_LEAST_OF_SHARE = 0.5


def split_dev(examples: Examples, frac: float, seed: int, rule: CopyRule | None = None) -> tuple[Examples, Examples]:
    """Set a part of the examples aside as dev.

    Near-copies (:func:`.copies.find_groups`) go to one side together. Groups are taken in an order drawn from ``seed``
    and their sequences; one goes to dev if that brings the numbers of dev closer to ``frac`` of each class, label or
    tenth of the values. No class, label or tenth leaves the training side altogether, nor does dev go without one
    that has two groups to share, if single groups can be so shared out. So the share of dev is near ``frac``, and far
    from it only where groups are large. What lands in dev depends on sequences, targets and ``seed``, and neither on
    the order of rows nor on ids.

    Parameters
    ----------
    frac
        Share of the examples in dev, above 0 and below 1.

    Returns
    -------
    train, dev
        In the order of the file.

    Raises
    ------
    LabelError
        If all examples are near-copies of each other, so that one side would be empty; or if groups are so large that
        dev would have less than half of its share.
    ValueError
        If ``frac`` is no such share.

    Examples
    --------
    >>> from umbel.data.labelled.task import Task
    >>> codes = np.random.default_rng(0).integers(0, 4, (100, 60)).astype(np.uint8)
    >>> ids, targets = tuple(f"row-{i}" for i in range(100)), np.arange(100) % 2
    >>> examples = Examples(Task("binary", ("0", "1")), ids, tuple(codes), targets, "a.csv", np.arange(100))
    >>> train, dev = split_dev(examples, 0.1, seed=0)
    >>> len(train), dev.targets.sum(), len(dev)
    (90, np.int64(5), 10)
    """
    if not 0 < frac < 1:
        raise ValueError(f"frac is {frac}: give more than 0 and less than 1")
    group = np.unique(find_groups(examples, rule), return_inverse=True)[1]
    n_groups = int(group.max(initial=-1)) + 1
    if n_groups < 2:
        raise LabelError(
            f"all {len(examples):,} examples are near-copies of each other, so no dev set can be set aside. "
            "Give a dev file.",
            examples.source,
        )
    counts_of = _strata(examples)
    counts = np.zeros((n_groups, counts_of.shape[1]))
    np.add.at(counts, group, counts_of)
    is_dev = _choose(counts, _order(examples, group, n_groups, seed), frac)[group]
    n, n_dev, largest = len(examples), int(is_dev.sum()), int(counts[:, 0].max())
    if n_dev < _LEAST_OF_SHARE * frac * n:
        raise LabelError(
            f"near-copies are to stay together, and the largest group of them has {largest:,} of {n:,} examples: dev "
            f"would have {n_dev:,} in place of about {frac * n:,.0f}. Give a dev file, or count only closer sequences "
            "as near-copies (min_ani).",
            examples.source,
        )
    return examples.take(np.flatnonzero(~is_dev)), examples.take(np.flatnonzero(is_dev))


def _order(examples: Examples, group: npt.NDArray[np.int64], n_groups: int, seed: int) -> npt.NDArray[np.int64]:
    """Put groups in an order that depends on the seed and on what sequences are in them."""
    least = [b"\xff" * 17] * n_groups
    key = hashlib.blake2b(f"dev split {seed}".encode()).digest()
    for i, content in enumerate(canonical_keys(examples.codes)):
        drawn = hashlib.blake2b(content, key=key, digest_size=16).digest()
        least[group[i]] = min(least[group[i]], drawn)
    return np.array(sorted(range(n_groups), key=least.__getitem__), np.int64)


def _strata(examples: Examples) -> npt.NDArray[np.float64]:
    """Tell what dev is to have its share of, ``(n, strata)``: a row an example; the first column counts examples."""
    task, n = examples.task, len(examples)
    columns = [np.ones(n)]
    if task.kind in ("binary", "multiclass"):
        columns += [np.asarray(examples.targets) == c for c in range(task.n_outputs)]
    elif task.kind == "multilabel":
        columns += list(np.asarray(examples.targets).T)
    elif task.kind == "bases":
        columns += [np.array([(own == c).any() for own in examples.targets]) for c in range(task.n_outputs)]
    else:
        values = (
            np.asarray(examples.targets)[:, 0]
            if task.kind == "regression"
            else np.array([_mean_known(examples, i) for i in range(n)])
        )
        # By value, not by place in the sorted file, so that equal values are in one part.
        edges = np.quantile(values, np.arange(1, N_QUANTILES) / N_QUANTILES) if n else np.zeros(0)
        part = np.searchsorted(edges, values, side="right")
        columns += [part == q for q in range(N_QUANTILES)]
    return np.stack(columns, axis=1).astype(np.float64)


def _mean_known(examples: Examples, i: int) -> float:
    target = np.asarray(examples.targets[i])
    known = target[is_known(examples.task, target)]
    return float(np.sort(known.astype(np.float64)).mean()) if len(known) else 0.0


def _choose(counts: npt.NDArray[np.float64], order: npt.NDArray[np.int64], frac: float) -> npt.NDArray[np.bool_]:
    """Tell which groups go to dev, ``(groups,)``."""
    has = counts > 0
    n_groups_with = has.sum(axis=0)
    total = counts.sum(axis=0)
    wanted = np.where(n_groups_with > 1, np.maximum(total * frac, 1), 0)
    left, missing = total.copy(), wanted.copy()
    is_dev = np.zeros(len(counts), bool)
    for g in order.tolist():
        own = counts[g]
        keeps_training = ((left - own > 0) | (own == 0)).all()
        if keeps_training and np.abs(missing - own).sum() < np.abs(missing).sum() - 1e-9:
            is_dev[g] = True
            missing -= own
            left -= own
    if not is_dev.any():
        # Every group is larger than twice the share: the smallest that leaves all classes in training.
        sizes = counts[order, 0]
        possible = [g for g in order.tolist() if ((total - counts[g] > 0) | (counts[g] == 0)).all()]
        g = min(possible, key=lambda one: counts[one, 0]) if possible else int(order[np.argmin(sizes)])
        is_dev[g] = True
    return is_dev
