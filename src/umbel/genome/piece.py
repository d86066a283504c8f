"""A stretch of a contig as a reader gives it: a whole chromosome need not fit into memory."""

from __future__ import annotations

from dataclasses import dataclass

from umbel.genome.sequence import Codes, Mask


@dataclass(frozen=True, eq=False)
class FastaPiece:
    """Bases of one contig, from ``start`` on; the pieces of a contig come in order and leave nothing out."""

    name: str
    """First word of the contig's header, verbatim."""
    start: int
    """Place of the first base in the contig, 0-based."""
    codes: Codes
    """uint8 ``(L,)``: A 0, C 1, G 2, T 3, N 4."""
    soft_mask: Mask
    """bool ``(L,)``: True where the letter was lower case."""
    letters: dict[str, int]
    """How often each letter other than A, C, G and T was seen in this piece; all of them became N."""
    line: int
    """1-based line of the header; 0 in a format without lines."""
    is_last: bool
    """Whether the contig ends with this piece."""

    @property
    def end(self) -> int:
        """Place behind the last base, 0-based."""
        return self.start + len(self.codes)
