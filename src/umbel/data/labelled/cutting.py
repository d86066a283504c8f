"""Sequences longer than a model takes: refused, cut to a part, or cut into windows whose outputs are put together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from umbel.data.labelled.examples import Examples
from umbel.data.labelled.problems import row_list
from umbel.data.lengths import pieces
from umbel.errors import LabelError

Long = Literal["refuse", "crop_centre", "crop_start", "crop_end", "window"]
_KEPT = {"crop_centre": "the central", "crop_start": "the first", "crop_end": "the last"}


@dataclass(frozen=True)
class Fitted:
    """Examples of at most so many bases, and which part of which example each is.

    Attributes
    ----------
    examples
        What a model is shown. A part that is not whole is named ``id:first-last``, bases counted from 1.
    of
        int64 ``(m,)``: the example that each is of; ascending.
    starts
        int64 ``(m,)``: its first base in that example, from 0.
    n_whole
        Examples there were.
    told
        One line to print, empty where nothing was cut.
    """

    examples: Examples
    of: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    n_whole: int
    told: str

    def merge(self, outputs: Sequence[npt.NDArray[Any]] | npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Put the outputs of windows together, one a whole example.

        Of a sequence as a whole they are averaged, each window weighing the same; along the sequence they are joined
        end to end. Outputs of a cropped sequence are those of what is left of it.

        Parameters
        ----------
        outputs
            One an example of ``self.examples``: ``(outputs,)``, or along the sequence ``(bases or bins, outputs)``.

        Examples
        --------
        >>> from umbel.data.labelled.task import Task
        >>> long = np.zeros(5, np.uint8)
        >>> one = Examples(Task("regression", ("y",)), ("a",), (long,), np.ones((1, 1)), "a.csv", np.array([2]))
        >>> fitted = fit_lengths(one, 4, "window")
        >>> fitted.examples.ids, fitted.starts.tolist(), fitted.merge(np.array([[1.0], [2.0]]))
        (('a:1-4', 'a:2-5'), [0, 1], [array([1.5])])
        """
        if len(outputs) != len(self.of):
            raise ValueError(f"{len(outputs)} outputs for {len(self.of)} windows")
        first = np.searchsorted(self.of, np.arange(self.n_whole + 1))
        merged = []
        for i in range(self.n_whole):
            own = [np.asarray(outputs[m]) for m in range(first[i], first[i + 1])]
            along = self.examples.task.is_along_sequence
            merged.append(np.concatenate(own) if along else np.mean(own, axis=0, dtype=np.float64).astype(own[0].dtype))
        return merged


def fit_lengths(examples: Examples, max_bp: int, long: Long = "refuse") -> Fitted:
    """Make every sequence at most ``max_bp`` bases long, in the way the user chose.

    ``window`` cuts a longer sequence into windows that cover every base. Where the label is of the sequence as a whole,
    they are as few windows of exactly ``max_bp`` as there can be, evenly spaced, which overlap, and each has that
    label; along the sequence they stand side by side, differ by a base (or bin) at most, and each has its own part of
    the targets. ``crop_centre`` of bins begins at the bin nearest before.

    Parameters
    ----------
    max_bp
        At least 1; for bins a multiple of ``task.bin_bp``.
    long
        What happens to longer sequences.

    Raises
    ------
    LabelError
        If there are longer ones and ``long`` is ``refuse``, with their rows; or if bins would be cut.

    Examples
    --------
    >>> from umbel.data.labelled.task import Task
    >>> long = np.arange(5, dtype=np.uint8) % 4
    >>> one = Examples(Task("bases", ("x", "y")), ("a",), (long,), (np.arange(5) % 2,), "a.csv", np.array([2]))
    >>> fitted = fit_lengths(one, 3, "crop_centre")
    >>> fitted.examples.codes[0].tolist(), fitted.examples.targets[0].tolist(), fitted.starts.tolist()
    ([1, 2, 3], [1, 0, 1], [1])
    """
    if max_bp < 1:
        raise ValueError(f"max_bp is {max_bp}: give at least 1")
    lengths = np.array([len(codes) for codes in examples.codes], np.int64)
    is_long = lengths > max_bp
    n_long, n = int(is_long.sum()), len(examples)
    if not n_long:
        return Fitted(examples, np.arange(n), np.zeros(n, np.int64), n, "")
    bin_bp = examples.task.bin_bp if examples.task.kind == "bins" else 1
    if max_bp % bin_bp:
        raise LabelError(
            f"bins have {bin_bp:,} bp, and {max_bp:,} bp hold no whole number of them. Give a multiple (max_bp).",
            examples.source,
        )
    longest = int(lengths.argmax())
    there = f"{n_long:,} of {n:,} sequences are longer than {max_bp:,} bp"
    if long == "refuse":
        raise LabelError(
            f"{there}: {row_list(examples.rows[is_long].tolist())}; the longest, {examples.ids[longest]}, has "
            f"{lengths[longest]:,} bp. Say what is to happen to them (long): crop_centre, crop_start, crop_end, or "
            "window, which looks at all of a sequence in parts; or take more at once (max_bp).",
            examples.source,
            int(examples.rows[is_long].min()),
        )
    spans = [_spans(int(length), max_bp, long, bin_bp, examples.task.is_along_sequence) for length in lengths]
    of = np.repeat(np.arange(n), [len(own) for own in spans])
    flat = [span for own in spans for span in own]
    fitted = dataclasses.replace(
        examples.take(of),
        ids=tuple(
            examples.ids[i] if end - start == lengths[i] else f"{examples.ids[i]}:{start + 1}-{end}"
            for i, (start, end) in zip(of.tolist(), flat, strict=True)
        ),
        codes=tuple(examples.codes[i][start:end] for i, (start, end) in zip(of.tolist(), flat, strict=True)),
    )
    if examples.task.is_along_sequence:
        targets = tuple(
            examples.targets[i][start // bin_bp : -(-end // bin_bp)]
            for i, (start, end) in zip(of.tolist(), flat, strict=True)
        )
        fitted = dataclasses.replace(fitted, targets=targets)
    if long == "window":
        together = "joined" if examples.task.is_along_sequence else "averaged"
        told = (
            f"{there}, the longest {lengths[longest]:,}: cut into {int(is_long[of].sum()):,} windows, to be {together}"
        )
    else:
        n_lost = int(lengths.sum()) - sum(end - start for start, end in flat)
        told = (
            f"{there}, the longest {lengths[longest]:,}: {_KEPT[long]} {max_bp:,} bp are kept, {n_lost:,} bp in all "
            "are not looked at"
        )
    return Fitted(fitted, of, np.array([start for start, _ in flat], np.int64), n, told)


def _spans(n_bp: int, max_bp: int, long: Long, bin_bp: int, is_along: bool) -> list[tuple[int, int]]:
    """Parts of a sequence: start and end of each."""
    if n_bp <= max_bp:
        return [(0, n_bp)]
    spare = n_bp - max_bp
    if long == "crop_start":
        return [(0, max_bp)]
    if long == "crop_end":
        # Of bins, the last may be short, and no bin is cut.
        start = -(-spare // bin_bp) * bin_bp
        return [(start, n_bp)]
    if long == "crop_centre":
        start = spare // 2 // bin_bp * bin_bp
        return [(start, start + max_bp)]
    if is_along:
        n_bins = -(-n_bp // bin_bp)
        return [(start * bin_bp, min(end * bin_bp, n_bp)) for start, end in pieces(n_bins, max_bp // bin_bp)]
    n = -(-n_bp // max_bp)
    starts = [i * spare // (n - 1) for i in range(n)]
    return [(start, start + max_bp) for start in starts]
