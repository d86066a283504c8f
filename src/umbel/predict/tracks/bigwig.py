"""Write bigWig: numbers along contigs, with zoom levels, block by block."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from umbel.errors import BackendError, ConfigError, OutputError

LONGEST_BP = 2**32 - 1
"""Positions are 32-bit numbers in the format."""
_AT_ONCE = 1 << 20


def require_bigwig_lengths(lengths: Mapping[str, int]) -> None:
    """See that contigs can be written as bigWig.

    Raises
    ------
    ConfigError
        Naming the first that is too long.
    """
    for contig, length in lengths.items():
        if length > LONGEST_BP:
            raise ConfigError(
                f"contig {contig!r} has {length:,} bases, and bigWig has no place beyond {LONGEST_BP:,}: write "
                "bedGraph, or cut the contig"
            )


class BigWig:
    """A bigWig file that grows; in a ``with`` block, after which it is whole.

    Parameters
    ----------
    path
        Where it is written, under this very name.
    lengths
        Contig to length. The index of the format is sorted by name, so values must come in the order of
        ``sorted(lengths)``, by bytes, and from left to right.

    Raises
    ------
    BackendError
        If pyBigWig is not installed.
    ConfigError
        If a contig is too long.

    References
    ----------
    Kent et al. 2010, "BigWig and BigBed: enabling browsing of large distributed datasets", Bioinformatics 26:2204.
    """

    def __init__(self, path: Path, lengths: Mapping[str, int]):
        require_bigwig_lengths(lengths)
        try:
            import pyBigWig
        except ImportError as error:
            raise BackendError("bigWig files need pyBigWig: pip install 'umbel[tracks]'") from error
        self._path = path
        self._file: Any = pyBigWig.open(str(path), "w")
        # 10 levels, each four times as coarse: the last is of contigs as long as the format allows.
        self._file.addHeader([(name, lengths[name]) for name in sorted_names(lengths)], maxZooms=10)
        self.n_values = 0

    def add(self, contig: str, start: int, step_bp: int, values: npt.NDArray[np.float32], end: int) -> None:
        """Add values that follow each other; NaN leaves its place empty.

        Parameters
        ----------
        start, end
            Where the first begins and the last ends, 0-based half-open; the last may be shorter than ``step_bp``.
        values
            ``(n,)``.
        """
        there = np.isfinite(values)
        edges = np.flatnonzero(np.diff(there, prepend=False, append=False)).reshape(-1, 2)
        for first, last in edges.tolist():
            for place in range(first, last, _AT_ONCE):
                self._block(contig, start, step_bp, values, place, min(place + _AT_ONCE, last), end)

    def _block(
        self, contig: str, start: int, step_bp: int, values: npt.NDArray[np.float32], first: int, last: int, end: int
    ) -> None:
        whole = last if start + last * step_bp <= end else last - 1
        if whole > first:
            self._file.addEntries(
                contig,
                start + first * step_bp,
                values=np.ascontiguousarray(values[first:whole], np.float32),
                span=step_bp,
                step=step_bp,
            )
        if whole < last:
            place = start + whole * step_bp
            self._file.addEntries([contig], [place], ends=[end], values=[float(values[whole])])
        self.n_values += last - first

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None and not self.n_values:
            raise OutputError(f"{self._path.name}: there is no value to write, so no file is made")


def sorted_names(lengths: Mapping[str, int]) -> list[str]:
    """Sort contigs as the index of bigWig has them: by the bytes of their names.

    Examples
    --------
    >>> sorted_names({"chr2": 1, "chr10": 1, "a": 1})
    ['a', 'chr10', 'chr2']
    """
    return sorted(lengths, key=lambda name: name.encode("utf-8"))
