"""Means over the bins of a contig, from hidden states that come window by window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from umbel.data.vocabulary import are_real
from umbel.genome.sequence import Codes


@dataclass(frozen=True)
class OpenBin:
    """The first bin that is not finished: its number in the contig, and what its tokens add up to so far.

    Attributes
    ----------
    total
        ``(D,)`` float64, the sum of the hidden states.
    count
        How many they are.
    """

    number: int
    total: np.ndarray
    count: int = 0


def no_rows(width: int) -> pa.Table:
    """Make the table without rows."""
    nothing = np.zeros(0, np.int64)
    return _table("", nothing, nothing, nothing, np.zeros((0, width)), nothing)


def _table(
    contig: str, starts: np.ndarray, ends: np.ndarray, n_bases: np.ndarray, totals: np.ndarray, counts: np.ndarray
) -> pa.Table:
    means = totals / np.maximum(counts, 1)[:, None]
    flat = pa.array(means.astype(np.float32).ravel())
    return pa.table(
        {
            "contig": pa.array([contig] * len(starts), pa.string()),
            "start": pa.array(starts, pa.int64()),
            "end": pa.array(ends, pa.int64()),
            "n_bases": pa.array(n_bases, pa.int64()),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, totals.shape[1], mask=pa.array(counts == 0)),
        }
    )


class Bins:
    """The bins of one contig, every base in exactly one; the last may be shorter.

    A token counts where its first base lies, and only if it stands for real bases (A, C, G, T).

    Parameters
    ----------
    contig, codes
        Name and base codes, ``(L,)``.
    bin_bp
        Bases of a bin.
    opened
        Where to begin.

    Attributes
    ----------
    opened
        Where the tokens added so far end: what another ``Bins`` needs to go on.

    Examples
    --------
    >>> bins = Bins("chr1", np.array([0, 1, 2, 3, 0], np.uint8), 3, OpenBin(0, np.zeros(1)))
    >>> ids, starts = np.array([0, 7, 8, 9, 10]), np.array([0, 0, 1, 2, 3])
    >>> bins.add(ids, starts, np.array([[9.0], [1.0], [2.0], [3.0], [4.0]]), until=4).to_pylist()
    [{'contig': 'chr1', 'start': 0, 'end': 3, 'n_bases': 3, 'embedding': [2.0]}]
    >>> bins.add(np.array([7, 1]), np.array([4, 5]), np.array([[5.0], [9.0]]), until=5)["embedding"].to_pylist()
    [[4.5]]
    """

    def __init__(self, contig: str, codes: Codes, bin_bp: int, opened: OpenBin):
        self._contig, self._codes, self._bin_bp = contig, codes, bin_bp
        self.opened = opened

    def add(self, ids: np.ndarray, starts: np.ndarray, hidden: np.ndarray, until: int) -> pa.Table:
        """Take the next tokens of the contig, and give the rows of the bins that they finish.

        Parameters
        ----------
        ids, starts
            ``(T,)`` token ids, and the base at which each begins.
        hidden
            ``(T, D)``.
        until
            The base at which the token after these begins; L after the last.
        """
        first, length = self.opened.number, len(self._codes)
        finished = -(-length // self._bin_bp) if until >= length else until // self._bin_bp
        real = np.flatnonzero(are_real(ids))
        places = starts[real].astype(np.int64) // self._bin_bp - first
        # One more than is finished: the bin that stays open.
        totals = np.zeros((finished - first + 1, hidden.shape[1]))
        counts = np.zeros(len(totals), np.int64)
        totals[0], counts[0] = self.opened.total, self.opened.count
        if len(real):
            changes = np.flatnonzero(np.diff(places, prepend=-1))
            totals[places[changes]] += np.add.reduceat(hidden[real].astype(np.float64), changes, axis=0)
            counts += np.bincount(places, minlength=len(counts))
        self.opened = OpenBin(finished, totals[-1], int(counts[-1]))
        edges = np.arange(first, finished + 1) * self._bin_bp
        edges[-1] = min(edges[-1], length)
        known = self._codes[edges[0] : edges[-1]] < 4
        n_bases = np.add.reduceat(known, edges[:-1] - edges[0], dtype=np.int64) if finished > first else counts[:0]
        return _table(self._contig, edges[:-1], edges[1:], n_bases, totals[:-1], counts[:-1])
