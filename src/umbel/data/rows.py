"""Rows of one fixed length: a species' windows stand end to end in one stream, cut wherever a row is full.

Windows come in the order drawn for the epoch, each as ``[CLS]``, its tokens and ``[SEP]``; row r holds the
tokens ``r * row_tokens`` to ``(r + 1) * row_tokens`` of that stream. A window that is cut by a row's edge goes
on in the next row as a sequence of its own, with the same corruption; only an epoch's last row is padded. An
epoch is one of a species: each has a stream of its own, and a row holds windows of one species.

So a row can be made without those before it, once the number of tokens of every window is known. With k-mers
this number follows from the length, and windows with N are counted; it is the same on either strand. With a
learned vocabulary every window is counted on both strands, and the strand is drawn for (epoch, window) before
the stream is laid out.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from umbel.config import MaskingConfig
from umbel.data.corpus.store import Corpus
from umbel.data.kmers import KmerTokens
from umbel.data.masking import Example, reversed_in_epoch
from umbel.data.objectives import make_example
from umbel.data.train_windows import TrainWindows
from umbel.genome.sequence import revcomp
from umbel.progress import Reporter, reporter_or_silent

if TYPE_CHECKING:
    from umbel.data.tokenizers import Tokens

_PLACE_BITS = 40


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
    """Rows of exactly ``row_tokens`` tokens; each is a pure function of corpus, settings, seed, species and number.

    Parameters
    ----------
    corpus
        Where the windows lie.
    windows
        Which windows, by species; its seed is that of everything drawn here.
    row_tokens
        Length of a row.
    """

    def __init__(
        self,
        corpus: Corpus,
        windows: TrainWindows,
        masking: MaskingConfig,
        tokens: Tokens,
        row_tokens: int,
        reporter: Reporter | None = None,
    ):
        self._corpus, self._windows, self._masking, self._tokens = corpus, windows, masking, tokens
        self._row_tokens = row_tokens
        self._counts = count_tokens(corpus, windows.ids, tokens, reporter)
        self._first_rows = [[0] for _ in windows.species]
        # A window may be longer than many rows, and each of them holds a part of it.
        self._example = lru_cache(maxsize=4)(self._make_example)
        self._epochs = [lru_cache(maxsize=2)(partial(self._lay_out, s)) for s in range(len(windows.species))]

    def _reversed(self, species: int, epoch: int) -> np.ndarray:
        n = int(self._windows.n_windows[species])
        return reversed_in_epoch(self._masking, self._windows.seed, epoch, n, species)

    def _counts_of(self, species: int) -> np.ndarray:
        return self._counts[:, self._windows.firsts[species] : self._windows.firsts[species + 1]]

    def n_tokens(self, species: int, epoch: int) -> int:
        """Count the tokens of an epoch of a species, padding apart."""
        counts = self._counts_of(species)
        return int(np.where(self._reversed(species, epoch), counts[1], counts[0]).sum())

    def n_rows(self, species: int, epoch: int) -> int:
        """Count the rows of an epoch of a species."""
        return -(-self.n_tokens(species, epoch) // self._row_tokens)

    @cached_property
    def _has_even_epochs(self) -> list[bool]:
        """Whether the strands do not matter to the number of rows of a species, as is so with k-mers."""
        return [bool(np.array_equal(*self._counts_of(species))) for species in range(len(self._windows.species))]

    def _lay_out(self, species: int, epoch: int) -> _Epoch:
        order, is_reversed = self._windows.order(species, epoch), self._reversed(species, epoch)
        counts = self._counts_of(species)
        return _Epoch(order, is_reversed, np.cumsum(np.where(is_reversed, counts[1], counts[0])[order]))

    def find(self, species: int, number: int) -> tuple[int, int]:
        """Find the epoch of the row ``number`` of a species, and which of the epoch's rows it is."""
        if self._has_even_epochs[species]:
            return divmod(number, self.n_rows(species, 0))
        first_rows = self._first_rows[species]
        while first_rows[-1] <= number:
            first_rows.append(first_rows[-1] + self.n_rows(species, len(first_rows) - 1))
        epoch = bisect_right(first_rows, number) - 1
        return epoch, number - first_rows[epoch]

    def row(self, species: int, number: int) -> list[Example]:
        """Make the sequences of a row; the rows of a species count over all its epochs from 0."""
        epoch, row = self.find(species, number)
        ends = self._epochs[species](epoch).ends
        first, last = row * self._row_tokens, min((row + 1) * self._row_tokens, int(ends[-1]))
        parts = []
        first_place, last_place = np.searchsorted(ends, [first, last - 1], side="right").tolist()
        for place in range(first_place, last_place + 1):
            whole = self._example(species, epoch, place)
            start = int(ends[place]) - len(whole.input_ids)
            part = slice(max(0, first - start), last - start)
            parts.append(whole.part(part))
        return parts

    def _make_example(self, species: int, epoch: int, place: int) -> Example:
        laid = self._epochs[species](epoch)
        window = int(laid.order[place])
        codes, soft_mask = self._corpus.read_window(int(self._windows.of(species)[window]))
        if laid.is_reversed[window]:
            codes, soft_mask = revcomp(codes), soft_mask[::-1]
        # A stream of random numbers is told by the epoch and this: no two windows share one.
        sample = (species << _PLACE_BITS) + place
        return make_example(codes, soft_mask, self._masking, self._windows.seed, epoch, sample, self._tokens)
