"""A genome of which the last stretch that was read is kept, because what is asked next is mostly near it."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from umbel.genome.sequence import Codes

AROUND_BP = 2_048


class _Genome(Protocol):
    lengths: dict[str, int]

    def fetch(self, contig: str, start: int, end: int) -> Codes: ...


class Neighbourhood:
    """Reads a little more than was asked for, and answers from that as long as it can.

    Parameters
    ----------
    genome
        Where the bases are, such as a :class:`~umbel.genome.reference.Reference`.

    Examples
    --------
    >>> class Counting:
    ...     lengths, reads = {"c": 10_000}, 0
    ...     def fetch(self, contig, start, end):
    ...         self.reads += 1
    ...         return np.zeros(end - start, np.uint8)
    >>> counting = Counting()
    >>> near = Neighbourhood(counting)
    >>> [len(near.fetch("c", 5_000 + i, 5_010 + i)) for i in range(3)], counting.reads
    ([10, 10, 10], 1)
    """

    def __init__(self, genome: _Genome):
        self.lengths = genome.lengths
        self._genome = genome
        self._contig, self._start = "", 0
        self._codes: Codes = np.zeros(0, np.uint8)

    def fetch(self, contig: str, start: int, end: int) -> Codes:
        """Read bases ``start`` to ``end``, 0-based half-open.

        Raises
        ------
        KeyError, ValueError
            If there is no such contig, or the range is not inside it.
        """
        first = start - self._start
        if contig != self._contig or first < 0 or end - self._start > len(self._codes) or start > end:
            length = self.lengths.get(contig, end)
            if not 0 <= start <= end <= length:
                return self._genome.fetch(contig, start, end)
            begin = max(0, start - AROUND_BP)
            self._codes = self._genome.fetch(contig, begin, min(length, end + AROUND_BP))
            self._contig, self._start, first = contig, begin, start - begin
        return self._codes[first : first + end - start]
