"""Rows of one fixed length: an epoch's windows stand end to end in one stream, cut wherever a row is full.

Windows come in the order drawn for the epoch, each as ``[CLS]``, its tokens and ``[SEP]``; row r holds the
tokens ``r * row_tokens`` to ``(r + 1) * row_tokens`` of that stream. A window that is cut by a row's edge goes
on in the next row as a sequence of its own, with the same corruption; only an epoch's last row is padded.

So a row can be made without those before it, once the number of tokens of every window is known. With k-mers
this number follows from the length, and windows with N are counted; it is the same on either strand. With a
learned vocabulary every window is counted on both strands, and the strand is drawn for (epoch, window) before
the stream is laid out.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from umbel.config import MaskingConfig
from umbel.data.corpus.store import Corpus
from umbel.data.kmers import KmerTokens
from umbel.data.masking import Example, epoch_order, reversed_in_epoch
from umbel.data.objectives import make_example
from umbel.genome.sequence import revcomp
from umbel.progress import Reporter, reporter_or_silent

if TYPE_CHECKING:
    from umbel.data.tokenizers import Tokens


def count_tokens(corpus: Corpus, ids: np.ndarray, tokens: Tokens, reporter: Reporter | None = None) -> np.ndarray:
    """Count the tokens of windows, framing included.

    Parameters
    ----------
    ids
        ``(n,)`` window ids.

    Returns
    -------
    ``(2, n)`` int64: as the windows are, and as their reverse complements.
    """
    lengths, n_bases = corpus.window_sizes(ids)
    counts = np.zeros((2, len(ids)), np.int64)
    unknown = np.ones(len(ids), bool)
    is_kmer = isinstance(tokens, KmerTokens)
    if is_kmer:
        unknown = n_bases < lengths
        # Without N only the length matters, and most windows have the same: any bases tell the number.
        of_length = np.zeros(int(lengths.max(initial=0)) + 1, np.int64)
        for length in np.flatnonzero(np.bincount(lengths)):
            of_length[length] = len(tokens.encode(np.zeros(length, np.uint8)).ids)
        counts[:] = of_length[lengths]
    left = np.flatnonzero(unknown)
    task = reporter_or_silent(reporter).start("counting tokens", len(left), "windows")
    for i in left:
        codes, _ = corpus.read_window(int(ids[i]))
        counts[:, i] = len(tokens.encode(codes).ids)
        if not is_kmer:
            counts[1, i] = len(tokens.encode(revcomp(codes)).ids)
        task.advance()
    task.close()
    return counts


@dataclass(frozen=True)
class _Epoch:
    """One epoch's stream: the windows in order (indices), which are reversed, and where each one ends."""

    order: np.ndarray
    is_reversed: np.ndarray
    ends: np.ndarray


class PackedRows:
    """Rows of exactly ``row_tokens`` tokens; each is a pure function of corpus, settings, seed and its number.

    Parameters
    ----------
    corpus
        Where the windows of role ``train`` come from.
    row_tokens
        Length of a row.
    """

    def __init__(
        self,
        corpus: Corpus,
        masking: MaskingConfig,
        seed: int,
        tokens: Tokens,
        row_tokens: int,
        reporter: Reporter | None = None,
    ):
        self._corpus, self._masking, self._seed, self._tokens = corpus, masking, seed, tokens
        self._row_tokens = row_tokens
        self._window_ids = corpus.window_ids("train")
        self._counts = count_tokens(corpus, self._window_ids, tokens, reporter)
        self._first_rows = [0]
        # A window may be longer than many rows, and each of them holds a part of it.
        self._example = lru_cache(maxsize=4)(self._make_example)
        self._epoch = lru_cache(maxsize=2)(self._lay_out)

    def _reversed(self, epoch: int) -> np.ndarray:
        return reversed_in_epoch(self._masking, self._seed, epoch, len(self._window_ids))

    def n_tokens(self, epoch: int) -> int:
        """Count the tokens of an epoch, padding apart."""
        return int(np.where(self._reversed(epoch), self._counts[1], self._counts[0]).sum())

    def n_rows(self, epoch: int) -> int:
        """Count the rows of an epoch."""
        return -(-self.n_tokens(epoch) // self._row_tokens)

    def _lay_out(self, epoch: int) -> _Epoch:
        order, is_reversed = epoch_order(len(self._window_ids), self._seed, epoch), self._reversed(epoch)
        counts = np.where(is_reversed, self._counts[1], self._counts[0])
        return _Epoch(order, is_reversed, np.cumsum(counts[order]))

    def find(self, number: int) -> tuple[int, int]:
        """Find the epoch of the row ``number`` of the whole run, and which of the epoch's rows it is."""
        while self._first_rows[-1] <= number:
            self._first_rows.append(self._first_rows[-1] + self.n_rows(len(self._first_rows) - 1))
        epoch = bisect_right(self._first_rows, number) - 1
        return epoch, number - self._first_rows[epoch]

    def row(self, number: int) -> list[Example]:
        """Make the sequences of a row; rows count over all epochs from 0."""
        epoch, row = self.find(number)
        ends = self._epoch(epoch).ends
        first, last = row * self._row_tokens, min((row + 1) * self._row_tokens, int(ends[-1]))
        parts = []
        first_place, last_place = np.searchsorted(ends, [first, last - 1], side="right").tolist()
        for place in range(first_place, last_place + 1):
            whole = self._example(epoch, place)
            start = int(ends[place]) - len(whole.input_ids)
            part = slice(max(0, first - start), last - start)
            parts.append(whole.part(part))
        return parts

    def _make_example(self, epoch: int, place: int) -> Example:
        laid = self._epoch(epoch)
        window = int(laid.order[place])
        codes, soft_mask = self._corpus.read_window(int(self._window_ids[window]))
        if laid.is_reversed[window]:
            codes, soft_mask = revcomp(codes), soft_mask[::-1]
        return make_example(codes, soft_mask, self._masking, self._seed, epoch, place, self._tokens)
