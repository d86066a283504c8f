"""Masked loss and accuracy by class of base (codon position, intron, ...), every row on the same hidden bases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.errors import CheckpointError
from umbel.evaluate.masked_loss import CHUNK_WINDOWS, Codes, Floats, Mask, RowSums, Scorer, hits
from umbel.evaluate.metrics import bootstrap_ratio
from umbel.genome.class_runs import NO_CLASS, Labels
from umbel.progress import Reporter, reporter_or_silent

MIN_WINDOWS = 5
"""Of a class that is seen in fewer windows nothing is told: an interval of four numbers is none."""


@dataclass(frozen=True)
class ClassedWindow:
    """A window whose bases have classes.

    Attributes
    ----------
    codes
        uint8 ``(L,)``: A 0, C 1, G 2, T 3, N 4.
    classes
        int16 ``(L,)``: index of the class of each base; -1 where it has none.
    hidden
        bool ``(L,)``: the bases that every row predicts, such as
        :func:`umbel.data.masking.hidden_positions` gives.
    """

    codes: Codes
    classes: Labels
    hidden: Mask


def score_classes(
    scorer: Scorer,
    windows: Sequence[ClassedWindow],
    n_classes: int,
    *,
    title: str = "loss by class",
    reporter: Reporter | None = None,
) -> RowSums:
    """Let one row predict the hidden bases of all windows, and sum by class.

    Parameters
    ----------
    scorer
        A predictor or a baseline.
    windows
        The same for every row.
    n_classes
        Classes are 0 to ``n_classes - 1``; hidden bases of class -1 are predicted and not counted.

    Raises
    ------
    CheckpointError
        If a prediction is not finite: such weights have no loss to report.
    ValueError
        If a class is not below ``n_classes``.

    Examples
    --------
    >>> from umbel.evaluate.markov import FlankModel, count_flanks_of
    >>> codes = np.array([0, 0, 0, 1], np.uint8)
    >>> window = ClassedWindow(codes, np.array([0, 0, 1, 1], np.int16), np.ones(4, bool))
    >>> score_classes(FlankModel(count_flanks_of([codes], 0), 0, 1.0), [window], 2).n_bases.tolist()
    [[2], [2]]
    """
    shape = (n_classes, len(windows))
    loss, correct, n_bases = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64)
    task = reporter_or_silent(reporter).start(title, len(windows), "windows")
    for first in range(0, len(windows), CHUNK_WINDOWS):
        chunk = windows[first : first + CHUNK_WINDOWS]
        predictions = scorer.masked_log_probs([w.codes for w in chunk], [w.hidden for w in chunk])
        for column, (window, log_probs) in enumerate(zip(chunk, predictions, strict=True), start=first):
            truth = window.codes[window.hidden].astype(np.int64)
            right, at_truth = hits(np.asarray(log_probs, np.float64), truth)
            if not np.isfinite(at_truth).all():
                raise CheckpointError(
                    f"{title}: the prediction for window {column} is not a number, or gives the true base no chance "
                    "at all. The weights have probably diverged: evaluate an earlier checkpoint."
                )
            classes = window.classes[window.hidden].astype(np.int64)
            if classes.max(initial=NO_CLASS) >= n_classes:
                raise ValueError(f"window {column} has class {classes.max()}, and there are {n_classes} classes")
            counted = classes != NO_CLASS
            for sums, values in ((loss, -at_truth), (correct, right), (n_bases, np.ones(len(truth), np.int64))):
                np.add.at(sums[:, column], classes[counted], values[counted])
        task.advance(len(chunk))
    task.close()
    return RowSums(loss, correct, n_bases)


def summarise_classes(
    rows: Mapping[str, RowSums], names: Sequence[str], *, model: str = "model", n_draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Make a table: loss and accuracy of each row in each class, and how far ``model`` is from each other row.

    Parameters
    ----------
    rows
        Row name to sums over the same windows.
    names
        Of the classes.
    model
        The row that is compared with the others.
    n_draws, seed
        Of the bootstrap over windows, which all rows of a class share.

    Returns
    -------
    Class name to ``n_bases``, ``n_windows``, ``rows`` (row to ``loss`` in nats and ``accuracy``, as value, low, high)
    and ``differences`` (``model`` minus row; a loss below 0: the model is better). A class that is seen in fewer than
    5 windows has ``n_bases``, ``n_windows`` and ``missing``, which says so.

    Raises
    ------
    ValueError
        If two rows did not predict the same bases, or names are not as many as classes.
    """
    counts = rows[model].n_bases
    for name, sums in rows.items():
        if not np.array_equal(sums.n_bases, counts):
            raise ValueError(f"row {name} did not predict the same hidden bases as {model}")
    if len(names) != len(counts):
        raise ValueError(f"{len(names)} names for {len(counts)} classes")
    table: dict[str, Any] = {}
    for number, (name, n_bases) in enumerate(zip(names, counts, strict=True)):
        found: dict[str, Any] = {"n_bases": int(n_bases.sum()), "n_windows": int((n_bases > 0).sum())}
        table[name] = found
        if found["n_windows"] < MIN_WINDOWS:
            found["missing"] = f"seen in {found['n_windows']} windows; {MIN_WINDOWS} are the least"
            continue

        def ratio(values: Floats, n_bases: npt.NDArray[np.int64] = n_bases) -> dict[str, float | None]:
            return bootstrap_ratio(values, n_bases, n_draws=n_draws, seed=seed).to_dict()

        found["rows"] = {
            row: {"loss": ratio(sums.loss[number]), "accuracy": ratio(sums.correct[number])}
            for row, sums in rows.items()
        }
        mine = rows[model]
        found["differences"] = {
            row: {
                "loss": ratio(mine.loss[number] - sums.loss[number]),
                "accuracy": ratio(mine.correct[number] - sums.correct[number]),
            }
            for row, sums in rows.items()
            if row != model
        }
    return table


def with_total(sums: RowSums) -> RowSums:
    """Put a class before the others that holds all of them.

    Examples
    --------
    >>> ones = np.ones((2, 3))
    >>> with_total(RowSums(ones, ones, ones.astype(int))).n_bases[0].tolist()
    [2, 2, 2]
    """
    return RowSums(*(np.concatenate([x.sum(0, keepdims=True), x]) for x in (sums.loss, sums.correct, sums.n_bases)))
