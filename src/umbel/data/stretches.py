"""The tokens of a whole chromosome, made a stretch at a time: what encoding needs besides its result stays small."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from umbel.data.bpe import STRETCH_BP, BpeTokens
from umbel.data.tokenizers import Tokens
from umbel.data.vocabulary import CLS_ID, SEP_ID
from umbel.genome.sequence import Codes, N

BASES_AT_ONCE = 65_536
"""Bases of a stretch, about."""


def stretches(codes: Codes, unit: int, shortest: int, about: int = BASES_AT_ONCE) -> Iterator[tuple[int, int]]:
    """Cut a contig where a new word begins whatever came before.

    Words are counted anew after every N, and a run without N is cut at every ``unit`` of its bases. So a stretch ends
    after an N or a multiple of ``unit`` bases after the last one.

    Parameters
    ----------
    codes
        Base codes, ``(L,)``.
    unit
        Bases after which a run without N may be cut.
    shortest
        No stretch is shorter; none ends within so many bases before the end of a run.
    about
        Bases of a stretch; at least ``unit + shortest``.

    Examples
    --------
    >>> list(stretches(np.array([0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1]), unit=3, shortest=3, about=9))
    [(0, 8), (8, 11)]
    """
    start = 0
    while start < len(codes):
        target = start + about
        unknown = np.flatnonzero(codes[start:target] == N)
        run = start + int(unknown[-1]) + 1 if len(unknown) else start
        end = run + (target - run) // unit * unit
        near = np.flatnonzero(codes[end : end + shortest] == N)
        if len(near):
            end += int(near[0]) + 1
        if end + shortest > len(codes):
            end = len(codes)
        yield start, end
        start = end


def encode_contig(tokens: Tokens, codes: Codes) -> tuple[np.ndarray, np.ndarray]:
    """Give what ``tokens.encode(codes)`` gives, in less memory: ids and where each token begins.

    Parameters
    ----------
    codes
        Base codes, ``(L,)`` uint8, at least one.

    Returns
    -------
    ids, starts
        ``(T,)`` each, ``[CLS]`` first and ``[SEP]`` last; int32, and uint32 (int64 for a contig beyond 4 Gb).

    Raises
    ------
    ValueError
        If the contig is shorter than one token.

    Examples
    --------
    >>> from umbel.data.kmers import KmerTokens
    >>> ids, starts = encode_contig(KmerTokens(3), np.array([0, 1, 2, 3, 0], np.uint8))
    >>> ids.tolist(), starts.tolist()
    ([0, 34, 24, 1], [0, 0, 3, 5])
    """
    ahead = tokens.n_covering - 1
    unit = STRETCH_BP if isinstance(tokens, BpeTokens) else 1 if ahead else tokens.k
    wide = np.uint32 if len(codes) < 2**32 else np.int64
    ids, starts = [np.array([CLS_ID], np.int32)], [np.zeros(1, wide)]
    for first, end in stretches(codes, unit, tokens.shortest):
        found = tokens.encode(codes[first : end + ahead])
        # What begins beyond the end belongs to the next stretch.
        kept = slice(1, 1 + int(np.searchsorted(found.starts[1:-1], end - first)))
        ids.append(found.ids[kept].astype(np.int32))
        starts.append((found.starts[kept] + first).astype(wide))
    ids.append(np.array([SEP_ID], np.int32))
    starts.append(np.array([len(codes)], wide))
    return np.concatenate(ids), np.concatenate(starts)
