"""Bases to k-mer tokens and back, with the bases that every token stands for.

The vocabulary of k holds the special tokens, A C G T N, and every word of 2 to k bases. Words are counted from the
start of the sequence and anew after every N; what is left before an N or the end is one shorter word, so no base is
lost. With k = 1 these are the published single-nucleotide tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from umbel.data.vocabulary import BASE_ID, CLS_ID, N_ID, PAD_ID, SEP_ID, SPECIAL_TOKENS, WORD_ID
from umbel.errors import ConfigError
from umbel.genome.sequence import N

FRAMING = (CLS_ID, SEP_ID, PAD_ID)
"""What stands for no bases and may stand among them."""


@dataclass(frozen=True)
class Encoding:
    """One sequence as tokens, ``(T,)`` each, ``[CLS]`` first and ``[SEP]`` last.

    Attributes
    ----------
    ids
        int64 token ids.
    starts, ends
        int64 bases that each token stands for, 0-based half-open; empty at special tokens.
    """

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def token_of_base(self, n_bases: int) -> np.ndarray:
        """Give for each base the index of the token that stands for it, ``(n_bases,)``.

        Where several do (overlapping k-mers), it is the last to begin.

        Examples
        --------
        >>> KmerTokens(2).encode(np.array([0, 1, 2])).token_of_base(3).tolist()
        [1, 1, 2]
        """
        return np.searchsorted(self.starts[1:-1], np.arange(n_bases), side="right")


def framed(ids: np.ndarray, starts: np.ndarray, ends: np.ndarray, n_bases: int) -> Encoding:
    """Put ``[CLS]`` before and ``[SEP]`` after the tokens of a sequence."""
    return Encoding(
        np.concatenate(([CLS_ID], ids, [SEP_ID])).astype(np.int64, copy=False),
        np.concatenate(([0], starts, [n_bases])),
        np.concatenate(([0], ends, [n_bases])),
    )


def _single_bases(codes: np.ndarray) -> Encoding:
    """Encode one base a token; with few large arrays, because long windows go through here at every step."""
    n_bases = len(codes)
    ids, starts, ends = np.empty(n_bases + 2, np.int64), np.arange(-1, n_bases + 1), np.arange(n_bases + 2)
    ids[0], ids[-1], starts[0], ends[-1] = CLS_ID, SEP_ID, 0, n_bases
    np.add(codes, BASE_ID, out=ids[1:-1], casting="unsafe", dtype=np.int64)
    return Encoding(ids, starts, ends)


def require_bases(ids: np.ndarray, words: Sequence[str]) -> None:
    """See that every token stands for bases, apart from framing and padding.

    Raises
    ------
    ValueError
        At an id that stands for no known bases, such as ``[MASK]``.
    """
    for place, token in enumerate(ids.tolist()):
        if token not in FRAMING and not BASE_ID <= token < len(words):
            name = words[token] if 0 <= token < len(words) else "not in the vocabulary"
            raise ValueError(f"token {token} at {place} ({name}) stands for no bases")


class KmerTokens:
    """K-mers, side by side or one at every base.

    Parameters
    ----------
    k
        Bases in a word, 1 to 6.
    overlapping
        Words begin at every base of a stretch without N; a stretch shorter than k is one shorter word.

    Attributes
    ----------
    size
        Tokens in the vocabulary.
    words
        Every token as text, in the order of ids.
    first_word, n_words
        The ids of the words of exactly k bases: ``n_words`` of them from ``first_word`` on, in alphabetical order.
    lengths
        ``(size,)`` bases of each token; 0 at special tokens.
    shortest
        Bases of the shortest sequence that has tokens.
    n_covering
        Tokens that stand for one base, at most.

    Examples
    --------
    >>> tokens = KmerTokens(3)
    >>> encoding = tokens.encode(np.array([0, 1, 2, 3, 0]))
    >>> [tokens.words[i] for i in encoding.ids], encoding.ends.tolist()
    (['[CLS]', 'ACG', 'TA', '[SEP]'], [0, 3, 5, 5])
    >>> tokens.decode(encoding.ids).tolist()
    [0, 1, 2, 3, 0]
    """

    def __init__(self, k: int, overlapping: bool = False):
        if not 1 <= k <= 6:
            raise ConfigError(f"k is {k}: k-mers have 1 to 6 bases")
        self.k, self.overlapping = k, overlapping and k > 1
        self.shortest, self.n_covering = k, k if self.overlapping else 1
        self.first_of_length = [0, BASE_ID, *(WORD_ID + sum(4**m for m in range(2, n)) for n in range(2, k + 1))]
        self.first_word, self.n_words = self.first_of_length[k], 4**k
        self.size = max(WORD_ID, self.first_word + self.n_words)
        self.lengths = np.zeros(self.size, np.int64)
        for n in range(1, k + 1):
            self.lengths[self.first_of_length[n] : self.first_of_length[n] + 4**n] = n
        self.lengths[N_ID] = 1

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Every token as text."""
        spelled = ("".join("ACGTN"[code] for code in self._codes_of(i)) for i in range(BASE_ID, self.size))
        return (*SPECIAL_TOKENS, *spelled)

    def _codes_of(self, token: int) -> list[int]:
        if token == N_ID:
            return [N]
        n = int(self.lengths[token])
        word = token - self.first_of_length[n]
        return [word // 4 ** (n - 1 - m) % 4 for m in range(n)]

    def encode(self, codes: np.ndarray) -> Encoding:
        """Turn base codes (A 0, C 1, G 2, T 3, N 4), ``(L,)``, into tokens.

        Raises
        ------
        ValueError
            If the sequence is shorter than one k-mer.
        """
        n_bases = len(codes)
        if n_bases < self.k:
            raise ValueError(f"a sequence of {n_bases} bases is shorter than one {self.k}-mer; give at least {self.k}")
        if self.k == 1:
            return _single_bases(codes)
        place, is_n = np.arange(n_bases), codes == N
        run_start = np.maximum.accumulate(np.where(is_n, place + 1, 0))
        run_end = np.minimum.accumulate(np.where(is_n, place, n_bases)[::-1])[::-1]
        if self.overlapping:
            begins = is_n | (place + self.k <= run_end) | (place == run_start)
        else:
            begins = is_n | ((place - run_start) % self.k == 0)
        starts = np.flatnonzero(begins)
        ends = np.where(is_n[starts], starts + 1, np.minimum(starts + self.k, run_end[starts]))
        value, length = np.zeros(len(starts), np.int64), ends - starts
        for m in range(self.k):
            inside = m < length
            value[inside] = 4 * value[inside] + codes[starts[inside] + m]
        ids = np.array(self.first_of_length)[length] + value
        return framed(np.where(is_n[starts], N_ID, ids), starts, ends, n_bases)

    def decode(self, ids: np.ndarray) -> np.ndarray:
        """Turn tokens back into base codes, uint8 ``(L,)``; framing and padding stand for nothing.

        Raises
        ------
        ValueError
            At an id that stands for no known bases, such as ``[MASK]``.
        """
        codes: list[int] = []
        before = PAD_ID
        require_bases(ids := np.asarray(ids), self.words)
        for token in ids.tolist():
            if token not in FRAMING:
                spelled = self._codes_of(token)
                # Full words that follow each other without an N between overlap in all but one base.
                chained = self.overlapping and min(before, token) >= self.first_word
                codes += spelled[-1:] if chained else spelled
            before = token
        return np.array(codes, np.uint8)
