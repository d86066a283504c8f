"""Where the windows of a contig lie, and which of its bases each of them speaks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from umbel.errors import ConfigError
from umbel.genome.runs import Runs, as_runs, merge

STRETCH_BP = 1 << 18
"""Bases of a unit of work, about: what a killed scan repeats at most, for each of its workers."""


@dataclass(frozen=True)
class Window:
    """Bases that the model sees, ``start`` to ``end``, and those that it speaks for; 0-based half-open."""

    start: int
    end: int
    kept_start: int
    kept_end: int


@dataclass(frozen=True)
class Tiling:
    """How every contig is cut, whatever its neighbours, the workers, or the regions asked for.

    Windows of ``window_bp`` follow each other every ``window_bp - overlap_bp`` bases; the last ends with the contig.
    Neighbours share their overlap half and half, so that a base is always spoken for by a window in which it lies
    ``overlap_bp / 2`` from the edge at least, or where the contig ends. A contig shorter than a window is one window.

    Attributes
    ----------
    window_bp
        Bases of a window.
    overlap_bp
        Bases that neighbours share, at least; the last two of a contig may share more.
    grain_bp
        Windows begin, and kept stretches end, at multiples of this (but at the contig's end): no bin is cut.

    Raises
    ------
    ConfigError
        If windows would not move on.

    Examples
    --------
    >>> [(w.start, w.end, w.kept_start, w.kept_end) for w in Tiling(10, 4).windows(25)]
    [(0, 10, 0, 8), (6, 16, 8, 14), (12, 22, 14, 18), (15, 25, 18, 25)]
    """

    window_bp: int
    overlap_bp: int
    grain_bp: int = 1

    def __post_init__(self) -> None:
        if self.window_bp < 1 or self.grain_bp < 1 or self.overlap_bp < 0:
            raise ConfigError(
                f"windows of {self.window_bp} bp that share {self.overlap_bp}, in steps of {self.grain_bp}: give whole "
                "numbers above 0"
            )
        if self.step_bp < 1:
            raise ConfigError(
                f"windows of {self.window_bp:,} bp that share {self.overlap_bp:,} do not move on by "
                f"{self.grain_bp:,} bp: make the overlap smaller, or the window longer"
            )

    @property
    def step_bp(self) -> int:
        """Bases between the beginnings of two windows."""
        return (self.window_bp - self.overlap_bp) // self.grain_bp * self.grain_bp

    def n_windows(self, contig_bp: int) -> int:
        """Count the windows of a contig.

        Examples
        --------
        >>> [Tiling(10, 4).n_windows(bp) for bp in (1, 10, 11, 16, 17)]
        [1, 1, 2, 2, 3]
        """
        return 1 + max(0, -(-(contig_bp - self.window_bp) // self.step_bp))

    def window(self, number: int, contig_bp: int) -> Window:
        """Give one of the windows of a contig, from 0."""
        start, end = self._span(number, contig_bp)
        kept_start = self._border(number - 1, contig_bp) if number else 0
        is_last = number + 1 == self.n_windows(contig_bp)
        return Window(start, end, kept_start, contig_bp if is_last else self._border(number, contig_bp))

    def windows(self, contig_bp: int) -> Iterator[Window]:
        """Give all of them, from the contig's first base to its last."""
        return (self.window(number, contig_bp) for number in range(self.n_windows(contig_bp)))

    def _span(self, number: int, contig_bp: int) -> tuple[int, int]:
        start = number * self.step_bp
        if start + self.window_bp > contig_bp:
            start = max(0, -(-(contig_bp - self.window_bp) // self.grain_bp) * self.grain_bp)
        return start, min(start + self.window_bp, contig_bp)

    def _border(self, number: int, contig_bp: int) -> int:
        """Middle of what window ``number`` shares with the next."""
        middle = (self._span(number, contig_bp)[1] + self._span(number + 1, contig_bp)[0]) // 2
        return middle // self.grain_bp * self.grain_bp

    def windows_of(self, contig_bp: int, runs: Runs) -> np.ndarray:
        """Find the numbers of the windows that speak for a base of merged runs, ``(n,)`` int64 in order.

        Examples
        --------
        >>> Tiling(10, 4).windows_of(25, np.array([[7, 8], [13, 15]])).tolist()
        [0, 1, 2]
        """
        found = [np.zeros(0, np.int64)]
        for start, end in runs.tolist():
            found.append(np.arange(self.speaker(start, contig_bp), self.speaker(end - 1, contig_bp) + 1))
        return np.unique(np.concatenate(found))

    def speaker(self, base: int, contig_bp: int) -> int:
        """Find the number of the window that speaks for a base."""
        last = self.n_windows(contig_bp) - 1
        number = min(max(0, base // self.step_bp), last)
        while number and self.window(number, contig_bp).kept_start > base:
            number -= 1
        while number < last and self.window(number, contig_bp).kept_end <= base:
            number += 1
        return number


@dataclass(frozen=True)
class Stretch:
    """A unit of work: a group of windows of one contig that follow each other.

    Attributes
    ----------
    contig, contig_bp
        Name and length.
    number
        Which group of windows this is; the same for a part of a contig as for the whole.
    wanted
        Merged runs ``((start, end), ...)`` of the bases that are wanted among those that the group speaks for.
    tiling
        Where windows lie.
    """

    contig: str
    contig_bp: int
    number: int
    wanted: tuple[tuple[int, int], ...]
    tiling: Tiling

    @property
    def windows(self) -> tuple[Window, ...]:
        """The windows that speak for a wanted base."""
        numbers = self.tiling.windows_of(self.contig_bp, as_runs(self.wanted))
        return tuple(self.tiling.window(number, self.contig_bp) for number in numbers.tolist())

    @property
    def size(self) -> int:
        """Bases that are wanted."""
        return sum(end - start for start, end in self.wanted)


def stretches(contig: str, contig_bp: int, runs: Runs, tiling: Tiling, stretch_bp: int = STRETCH_BP) -> list[Stretch]:
    """Group the windows of a contig that speak for some bases, in groups of about ``stretch_bp``.

    Parameters
    ----------
    contig, contig_bp
        Name and length.
    runs
        Bases that are wanted, in any order; ``(n, 2)``.
    tiling
        Where windows lie.
    stretch_bp
        At least two windows are in a group, whatever this says: what neighbours disagree about is measured there.

    Examples
    --------
    >>> found = stretches("a", 100, np.array([[0, 1], [60, 70]]), Tiling(10, 4), stretch_bp=12)
    >>> [(s.number, len(s.windows), s.wanted) for s in found]
    [(0, 1, ((0, 1),)), (4, 1, ((60, 62),)), (5, 2, ((62, 70),))]
    """
    runs = merge(runs)
    in_group, n_windows = max(2, stretch_bp // tiling.step_bp), tiling.n_windows(contig_bp)
    touched = [np.zeros(0, np.int64)]
    for start, end in runs.tolist():
        first, last = (tiling.speaker(base, contig_bp) // in_group for base in (start, end - 1))
        touched.append(np.arange(first, last + 1))
    found = []
    for group in np.unique(np.concatenate(touched)).tolist():
        start = tiling.window(group * in_group, contig_bp).kept_start
        end = tiling.window(min((group + 1) * in_group, n_windows) - 1, contig_bp).kept_end
        near = runs[np.searchsorted(runs[:, 1], start, "right") : np.searchsorted(runs[:, 0], end, "left")]
        wanted = tuple((first, last) for first, last in np.clip(near, start, end).tolist())
        found.append(Stretch(contig, contig_bp, group, wanted, tiling))
    return found
