"""Loss, perplexity and accuracy at hidden bases of held-out windows, for a model and its baselines.

Every row predicts the same hidden bases, so that differences between rows are paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from umbel.data.masking import hidden_positions
from umbel.errors import CheckpointError
from umbel.evaluate.metrics import Estimate, bootstrap_ratio, perplexity
from umbel.progress import Reporter, reporter_or_silent

if TYPE_CHECKING:
    from umbel.data.corpus.store import Corpus

Codes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

CHUNK_WINDOWS = 64

BASES = ("all", "unmasked")
"""``all``: every hidden base. ``unmasked``: those that are not soft-masked (weight 0 on repeats)."""


class Scorer(Protocol):
    """What can be a row: the predictor, a baseline, or a test's fake."""

    def masked_log_probs(self, codes: Sequence[Codes], hidden: Sequence[Mask]) -> Sequence[npt.NDArray[Any]]:
        """Natural-log probabilities over A, C, G, T at the hidden bases, one ``(n_hidden_i, 4)`` a window."""


@dataclass(frozen=True)
class HiddenWindow:
    """One window as every row sees it."""

    codes: Codes
    soft_mask: Mask
    hidden: Mask


@dataclass(frozen=True)
class RowSums:
    """Sums per window for one row, each ``(n_sorts, n_windows)``: all hidden bases and unmasked ones, or each class.

    Attributes
    ----------
    loss
        Summed negative natural-log probability of the true base.
    correct
        Bases whose most probable letter is the true one; m letters that tie count 1/m each.
    n_bases
        Hidden bases.
    """

    loss: Floats
    correct: Floats
    n_bases: npt.NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"loss": self.loss.tolist(), "correct": self.correct.tolist(), "n_bases": self.n_bases.tolist()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RowSums:
        """Back from :meth:`to_dict`."""
        return cls(
            np.array(values["loss"], np.float64),
            np.array(values["correct"], np.float64),
            np.array(values["n_bases"], np.int64),
        )


def choose_windows(ids: npt.NDArray[np.int64], n_windows: int, seed: int) -> npt.NDArray[np.int64]:
    """Choose at most ``n_windows`` ids (0: all) without replacement, ascending; same seed, same choice.

    Examples
    --------
    >>> choose_windows(np.arange(5), 0, seed=0).tolist()
    [0, 1, 2, 3, 4]
    >>> len(choose_windows(np.arange(5), 3, seed=0))
    3
    """
    if n_windows == 0 or n_windows >= len(ids):
        return ids
    return np.sort(np.random.default_rng(seed).choice(ids, n_windows, replace=False))


def read_hidden(
    corpus: Corpus, ids: npt.NDArray[np.int64], *, seed: int, mask_frac: float
) -> Iterator[list[HiddenWindow]]:
    """Read windows in chunks of ``CHUNK_WINDOWS``, each with the bases that every row must predict."""
    for first in range(0, len(ids), CHUNK_WINDOWS):
        chunk = []
        for i in ids[first : first + CHUNK_WINDOWS].tolist():
            codes, soft_mask = corpus.read_window(i)
            chunk.append(HiddenWindow(codes, soft_mask, hidden_positions(codes, seed, i, mask_frac)))
        yield chunk


def score_windows(
    scorer: Scorer,
    corpus: Corpus,
    ids: npt.NDArray[np.int64],
    *,
    seed: int,
    mask_frac: float,
    title: str = "masked loss",
    reporter: Reporter | None = None,
) -> RowSums:
    """Let one row predict the hidden bases of windows ``ids``.

    Raises
    ------
    CheckpointError
        If a prediction is not finite: such weights have no loss to report.
    """
    loss, correct = np.zeros((2, len(ids))), np.zeros((2, len(ids)))
    n_bases = np.zeros((2, len(ids)), np.int64)
    task = reporter_or_silent(reporter).start(title, len(ids), "windows")
    column = 0
    for chunk in read_hidden(corpus, ids, seed=seed, mask_frac=mask_frac):
        predictions = scorer.masked_log_probs([w.codes for w in chunk], [w.hidden for w in chunk])
        for window, log_probs in zip(chunk, predictions, strict=True):
            truth = window.codes[window.hidden].astype(np.int64)
            right, at_truth = hits(np.asarray(log_probs, np.float64), truth)
            if not np.isfinite(at_truth).all():
                raise CheckpointError(
                    f"{title}: the prediction for corpus window {ids[column]} is not a number, or gives the true base "
                    "no chance at all. The weights have probably diverged: evaluate an earlier checkpoint."
                )
            for row, counted in enumerate((np.ones(len(truth), bool), ~window.soft_mask[window.hidden])):
                loss[row, column] = -at_truth[counted].sum()
                correct[row, column] = right[counted].sum()
                n_bases[row, column] = counted.sum()
            column += 1
        task.advance(len(chunk))
    task.close()
    return RowSums(loss, correct, n_bases)


def hits(log_probs: Floats, truth: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Share of a hit at each base (1/m where m letters tie for the top), and the true base's log-probability.

    Examples
    --------
    >>> hits(np.log([[0.4, 0.4, 0.1, 0.1]]), np.array([1]))[0].tolist()
    [0.5]
    """
    at_truth = np.take_along_axis(log_probs, truth[:, None], axis=1)[:, 0]
    top = log_probs.max(axis=1, initial=-np.inf)
    n_top = (log_probs == top[:, None]).sum(axis=1)
    return np.where(at_truth == top, 1.0 / np.maximum(n_top, 1), 0.0), at_truth


def _estimates(sums: RowSums, which: int, n_draws: int, seed: int) -> dict[str, Any]:
    n_bases = sums.n_bases[which]
    loss = bootstrap_ratio(sums.loss[which], n_bases, n_draws=n_draws, seed=seed)
    accuracy = bootstrap_ratio(sums.correct[which], n_bases, n_draws=n_draws, seed=seed)
    ends = (None if end is None else perplexity(end) for end in (loss.low, loss.high))
    return {
        "loss": loss.to_dict(),
        "perplexity": Estimate(perplexity(loss.value), *ends).to_dict(),
        "accuracy": accuracy.to_dict(),
    }


def summarise_rows(rows: dict[str, RowSums], *, n_draws: int, seed: int) -> dict[str, Any]:
    """Make the evaluation table: each row's numbers, and how far ``model`` is from each other row.

    Parameters
    ----------
    rows
        Row name to its sums; one is called ``model``. All must have seen the same hidden bases.
    n_draws, seed
        Of the bootstrap over windows.

    Returns
    -------
    ``rows``: for each row and each of :data:`BASES`, ``loss`` (nats), ``perplexity`` and ``accuracy`` as
    value, low, high. ``differences``: model minus row, ``loss`` (below 0: the model is better) and
    ``accuracy``. ``n_windows`` with a hidden base and ``n_bases`` for each of :data:`BASES`. Where no
    base was left to count, ``missing`` says so in place of numbers.

    Raises
    ------
    ValueError
        If two rows did not predict the same bases.
    """
    model = rows["model"]
    for name, sums in rows.items():
        if not np.array_equal(sums.n_bases, model.n_bases):
            raise ValueError(f"row {name} did not predict the same hidden bases as the model")
    table: dict[str, Any] = {"rows": {name: {} for name in rows}, "differences": {}, "n_windows": {}, "n_bases": {}}
    table["differences"] = {name: {} for name in rows if name != "model"}
    for which, bases in enumerate(BASES):
        n_bases = model.n_bases[which]
        table["n_bases"][bases], table["n_windows"][bases] = int(n_bases.sum()), int((n_bases > 0).sum())
        if not n_bases.any():
            reason = "no hidden base" if bases == "all" else "every hidden base is soft-masked"
            for name in rows:
                table["rows"][name][bases] = {"missing": reason}
            for name in table["differences"]:
                table["differences"][name][bases] = {"missing": reason}
            continue
        for name, sums in rows.items():
            table["rows"][name][bases] = _estimates(sums, which, n_draws, seed)
        for name in table["differences"]:
            table["differences"][name][bases] = {
                quantity: bootstrap_ratio(
                    getattr(model, quantity_sums)[which] - getattr(rows[name], quantity_sums)[which],
                    n_bases,
                    n_draws=n_draws,
                    seed=seed,
                ).to_dict()
                for quantity, quantity_sums in (("loss", "loss"), ("accuracy", "correct"))
            }
    return table
