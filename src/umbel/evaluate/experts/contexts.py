"""The words around a base: what a router could know without any context beyond them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from umbel.genome.sequence import Codes

LONGEST = 6
"""Bases of the longest word; the base itself is the third of them."""
WORDS = {"base": (2, 3), "3-mer": (1, 4), "6-mer": (0, 6)}
"""The words that are told, as parts of the longest."""


def words_around(codes: Codes) -> npt.NDArray[np.int32]:
    """Give the number of the word of six bases around each base, two before it and three behind.

    Parameters
    ----------
    codes
        ``(T,)``, A 0 to T 3, N 4.

    Returns
    -------
    int32 ``(T,)``, 0 to 4,095 in alphabetical order; -1 where the word has an N or reaches beyond the end.

    Examples
    --------
    >>> words_around(np.array([0, 0, 0, 0, 0, 1, 2], np.uint8)).tolist()
    [-1, -1, 1, 6, -1, -1, -1]
    """
    words = np.full(len(codes), -1, np.int32)
    n_words = len(codes) - LONGEST + 1
    if n_words < 1:
        return words
    number, is_known = np.zeros(n_words, np.int32), np.ones(n_words, bool)
    for offset in range(LONGEST):
        part = codes[offset : offset + n_words]
        number = number * 4 + np.minimum(part, 3).astype(np.int32)
        is_known &= part < 4
    words[2 : 2 + n_words] = np.where(is_known, number, -1)
    return words


def shorter_words(table: npt.NDArray[np.int64], first: int, last: int) -> npt.NDArray[np.int64]:
    """Sum a table of the longest words over all but their bases ``first`` to ``last``.

    Parameters
    ----------
    table
        ``(4096, ...)``

    Returns
    -------
    ``(4 ** (last - first), ...)``

    Examples
    --------
    >>> table = np.zeros((4096, 1), np.int64)
    >>> table[int("012301", 4)] = 5  # ACGTAC
    >>> shorter_words(table, 2, 3)[:, 0].tolist()  # G
    [0, 0, 5, 0]
    """
    parts = table.reshape(4**first, 4 ** (last - first), 4 ** (LONGEST - last), *table.shape[1:])
    return parts.sum((0, 2))
