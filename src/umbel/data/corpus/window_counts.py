"""Counts over packed bases, without unpacking them: what a window holds, and where the gaps are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from umbel.genome.runs import Runs, as_runs, merge

PIECE_BP = 1 << 24
"""Bases in memory at once; even, so that a piece begins on a whole byte."""

UNKNOWN, SOFT, GC = range(3)
"""Columns of :func:`count_windows`."""


@njit(cache=True, nogil=True)
def _count(packed: Any, spans: Any, counts: Any) -> None:
    for row in range(len(spans)):
        unknown = soft = gc = 0
        for base in range(spans[row, 0], spans[row, 1]):
            nibble = (packed[base >> 1] >> (4 * (base & 1))) & 15
            code = nibble & 7
            unknown += code == 4
            soft += nibble >> 3
            gc += (code == 1) | (code == 2)
        counts[row, 0] = unknown
        counts[row, 1] = soft
        counts[row, 2] = gc


@njit(cache=True, nogil=True)
def _find_gaps(packed: Any, length: int, found: Any) -> int:
    n_found, start = 0, -1
    for base in range(length):
        if (packed[base >> 1] >> (4 * (base & 1))) & 7 == 4:
            if start < 0:
                start = base
        elif start >= 0:
            found[n_found, 0] = start
            found[n_found, 1] = base
            n_found += 1
            start = -1
    if start >= 0:
        found[n_found, 0] = start
        found[n_found, 1] = length
        n_found += 1
    return n_found


def count_windows(nibbles: Path, offset: int, spans: Runs) -> Iterator[tuple[npt.NDArray[np.int64], int]]:
    """Count N, soft-masked bases, and G and C in each window of a contig.

    Parameters
    ----------
    nibbles
        File of packed bases.
    offset
        First byte of the contig.
    spans
        ``(n, 2)`` windows, sorted by start.

    Yields
    ------
    ``(m, 3)`` counts of the next m windows (columns :data:`UNKNOWN`, :data:`SOFT`, :data:`GC`), and the number of
    bases gone through.
    """
    row = 0
    while row < len(spans):
        start = int(spans[row, 0]) & ~1
        last = max(row + 1, int(np.searchsorted(spans[:, 1], start + PIECE_BP, side="right")))
        part = spans[row:last]
        packed = _read(nibbles, offset, start, int(part[:, 1].max()))
        counts = np.empty((len(part), 3), np.int64)
        _count(packed, part - start, counts)
        yield counts, int(part[:, 1].max()) - start
        row = last


def find_gaps(nibbles: Path, offset: int, length: int, min_bp: int) -> Runs:
    """Find the runs of at least ``min_bp`` N in a contig, merged ``(n, 2)``."""
    gaps = []
    for start in range(0, length, PIECE_BP):
        end = min(length, start + PIECE_BP)
        found = np.empty(((end - start) // 2 + 1, 2), np.int64)
        n_found = _find_gaps(_read(nibbles, offset, start, end), end - start, found)
        gaps.append(found[:n_found] + start)
    runs = merge(np.concatenate(gaps)) if gaps else as_runs([])
    return runs[runs[:, 1] - runs[:, 0] >= min_bp]


def _read(nibbles: Path, offset: int, start: int, end: int) -> npt.NDArray[np.uint8]:
    """Packed bases ``start`` (even) to ``end`` of the contig at ``offset``."""
    return np.fromfile(nibbles, np.uint8, -(-end // 2) - start // 2, offset=offset + start // 2)
