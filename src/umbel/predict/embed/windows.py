"""Where many sequences are cut into windows, by arithmetic: a plan of 30 million windows holds no list of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cuts:
    """Windows one after another; int64 ``(n,)`` each.

    Attributes
    ----------
    sequence
        Which sequence a window is of, from 0, never falling.
    start, end
        Its bases in that sequence, in the order of reading, 0-based half-open.
    """

    sequence: Integers
    start: Integers
    end: Integers

    def __len__(self) -> int:
        return len(self.sequence)

    def runs(self) -> Iterator[slice]:
        """Give the windows of each sequence."""
        edges = np.flatnonzero(np.diff(self.sequence, prepend=-1)).tolist()
        return (slice(first, last) for first, last in zip(edges, [*edges[1:], len(self)], strict=True))


class Windows:
    """Every window of sequences of given lengths.

    A window begins every ``stride_bp`` and has ``window_bp``; the last one holds the rest, and a rest shorter than
    ``min_bases`` joins the window before it. Every base is in a window, and none lies wholly inside the one before.

    Attributes
    ----------
    counts
        Windows of each sequence, int64 ``(n,)``.
    longest
        Bases of the longest window.

    Examples
    --------
    >>> windows = Windows([10, 3], window_bp=4, stride_bp=4)
    >>> len(windows), windows.counts.tolist()
    (4, [3, 1])
    >>> cuts = windows.cuts(1, 4)
    >>> cuts.sequence.tolist(), cuts.start.tolist(), cuts.end.tolist()
    ([0, 0, 1], [4, 8, 0], [8, 10, 3])
    >>> Windows([10], window_bp=4, stride_bp=4, min_bases=3).cuts(0, 2).end.tolist()
    [4, 10]
    """

    def __init__(self, lengths: Sequence[int] | Integers, window_bp: int, stride_bp: int, min_bases: int = 1):
        self._lengths = np.asarray(lengths, np.int64)
        self._window_bp, self._stride_bp = window_bp, stride_bp
        beyond_end = -((window_bp - self._lengths) // stride_bp)
        no_rest = (self._lengths - stride_bp - min_bases) // stride_bp + 1
        self.counts: Integers = np.maximum(0, np.minimum(beyond_end, no_rest)) + 1
        self._ends = np.cumsum(self.counts)
        lasts = self._lengths - (self.counts - 1) * stride_bp
        self.longest = int(max(lasts.max(initial=0), np.where(self.counts > 1, window_bp, 0).max(initial=0)))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def cuts(self, first: int, last: int) -> Cuts:
        """Give windows ``first`` up to, but without, ``last``; less where there are no more."""
        places = np.arange(first, min(last, len(self)), dtype=np.int64)
        sequence = np.searchsorted(self._ends, places, side="right").astype(np.int64)
        number = places - (self._ends - self.counts)[sequence]
        start = number * self._stride_bp
        is_last = number == self.counts[sequence] - 1
        return Cuts(sequence, start, np.where(is_last, self._lengths[sequence], start + self._window_bp))
