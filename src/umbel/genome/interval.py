"""A stretch of a contig: 0-based half-open in memory, 1-based inclusive in text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from umbel.errors import ConfigError

_TEXT = re.compile(r"(?P<contig>\S+):(?P<first>[0-9][0-9,]*)-(?P<last>[0-9][0-9,]*)(?:\((?P<strand>[+-])\))?")


@dataclass(frozen=True, order=True)
class Interval:
    """Bases ``start`` (0-based) up to, but without, ``end`` of a contig.

    Raises
    ------
    ValueError
        If ``start`` is negative, the interval is empty, or the strand is not ``+`` or ``-``.

    Examples
    --------
    >>> interval = Interval.parse("chr1:1-100")
    >>> interval.start, interval.end, len(interval), str(interval)
    (0, 100, 100, 'chr1:1-100')
    """

    contig: str
    start: int
    end: int
    strand: str = "+"
    name: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"start {self.start} and end {self.end} do not bound at least one base")
        if self.strand not in ("+", "-"):
            raise ValueError(f"strand is {self.strand!r}: it must be '+' or '-'")

    def __len__(self) -> int:
        return self.end - self.start

    def __str__(self) -> str:
        strand = "(-)" if self.strand == "-" else ""
        return f"{self.contig}:{self.start + 1}-{self.end}{strand}"

    @classmethod
    def parse(cls, text: str) -> Interval:
        """Read ``contig:first-last`` (1-based, inclusive), with ``(-)`` behind it for the other strand.

        The contig is all that stands before the last colon, so its name may itself hold colons.

        Raises
        ------
        ConfigError
            If the text is not of this form, or first is 0 or beyond last.

        Examples
        --------
        >>> Interval.parse("NC_1:5-9:2-3(-)")
        Interval(contig='NC_1:5-9', start=1, end=3, strand='-', name='')
        """
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise ConfigError(f"interval {text!r}: write it as contig:first-last, such as chr1:1-100")
        first, last = (int(found[key].replace(",", "")) for key in ("first", "last"))
        if not 1 <= first <= last:
            raise ConfigError(f"interval {text!r}: positions count from 1, and the first must not be beyond the last")
        return cls(found["contig"], first - 1, last, found["strand"] or "+")
