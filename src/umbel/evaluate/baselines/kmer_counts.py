"""How often each word of k bases stands in stretches of sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy.sparse import csr_matrix

from umbel.genome.sequence import Codes

Features = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def word_columns(k: int, canonical: bool) -> Ints:
    """Column of each of the ``4**k`` words; with ``canonical`` a word and its reverse complement share one.

    Examples
    --------
    >>> word_columns(1, True).tolist(), word_columns(1, False).tolist()
    ([0, 1, 1, 0], [0, 1, 2, 3])
    """
    words = np.arange(4**k)
    if not canonical:
        return words
    powers = 4 ** np.arange(k - 1, -1, -1)
    partner = ((3 - (words[:, None] // powers % 4)[:, ::-1]) * powers).sum(1)
    return np.unique(np.minimum(words, partner), return_inverse=True)[1].astype(np.int64)


def joined(codes: Sequence[Codes]) -> tuple[Codes, Ints]:
    """Lay sequences end to end; also where each begins, ``(n + 1,)``."""
    starts = np.concatenate([[0], np.cumsum([len(sequence) for sequence in codes])]).astype(np.int64)
    return np.concatenate([np.empty(0, np.uint8), *codes]).astype(np.uint8, copy=False), starts


def kmer_frequencies(codes: Sequence[Codes], k: int, canonical: bool = True) -> Features:
    """Share of each word of k bases in each sequence, ``(n, words)``.

    Parameters
    ----------
    codes
        Base codes of each sequence, ``(L_i,)``. Words that touch an N are not counted; a sequence without words has
        zeros.
    k
        Bases in a word.
    canonical
        Count a word and its reverse complement as one.

    Examples
    --------
    >>> kmer_frequencies([np.array([0, 3, 1, 2], np.uint8)], 1).tolist()
    [[0.5, 0.5]]
    """
    flat, starts = joined(codes)
    return dense_shares(flat, starts[:-1], starts[1:], k, canonical)


def dense_shares(codes: Codes, starts: Ints, ends: Ints, k: int, canonical: bool) -> Features:
    """Share of each word within ``codes[start:end]`` of each stretch, ``(n, words)`` float32."""
    columns = word_columns(k, canonical)
    shares = np.zeros((len(starts), int(columns.max()) + 1), np.float32)
    _fill_dense(codes, starts, ends, k, columns, shares)
    return shares


def sparse_shares(codes: Codes, starts: Ints, ends: Ints, k: int, canonical: bool) -> Any:
    """Do as :func:`dense_shares`, as a float32 CSR matrix with sorted columns."""
    columns = word_columns(k, canonical)
    n_columns = int(columns.max()) + 1
    room = np.minimum(np.maximum(ends - starts - k + 1, 0), n_columns).sum()
    indptr = np.zeros(len(starts) + 1, np.int64)
    indices, values = np.empty(room, np.int32), np.empty(room, np.float32)
    n = _fill_sparse(codes, starts, ends, k, columns, n_columns, indptr, indices, values)
    # Room was for the most there could be.
    return csr_matrix((values[:n].copy(), indices[:n].copy(), indptr), shape=(len(starts), n_columns))


@njit(cache=True, nogil=True)
def _count_words(codes, start, end, k, columns, counts, touched):  # type: ignore[no-untyped-def]
    """Add the words of one stretch to ``counts``; give how many there are, and how many columns they touch."""
    last = 4**k - 1
    word = filled = n_words = n_touched = 0
    for i in range(start, end):
        base = codes[i]
        if base > 3:
            filled = 0
            continue
        word = (word << 2 | base) & last
        filled += 1
        if filled >= k:
            column = columns[word]
            if counts[column] == 0:
                touched[n_touched] = column
                n_touched += 1
            counts[column] += 1
            n_words += 1
    return n_words, n_touched


@njit(cache=True, nogil=True)
def _fill_dense(codes, starts, ends, k, columns, shares):  # type: ignore[no-untyped-def]
    counts = np.zeros(shares.shape[1], np.int64)
    touched = np.empty(shares.shape[1], np.int64)
    for row in range(len(starts)):
        n_words, n_touched = _count_words(codes, starts[row], ends[row], k, columns, counts, touched)
        for i in range(n_touched):
            shares[row, touched[i]] = counts[touched[i]] / n_words
            counts[touched[i]] = 0


@njit(cache=True, nogil=True)
def _fill_sparse(codes, starts, ends, k, columns, n_columns, indptr, indices, values):  # type: ignore[no-untyped-def]
    counts = np.zeros(n_columns, np.int64)
    touched = np.empty(n_columns, np.int64)
    n = 0
    for row in range(len(starts)):
        n_words, n_touched = _count_words(codes, starts[row], ends[row], k, columns, counts, touched)
        for column in np.sort(touched[:n_touched]):
            indices[n] = column
            values[n] = counts[column] / n_words
            counts[column] = 0
            n += 1
        indptr[row + 1] = n
    return n
