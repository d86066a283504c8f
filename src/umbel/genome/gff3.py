"""Write features as GFF3."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TextIO
from urllib.parse import quote

# Column 1 may hold these as they are; everything else is written as %XX.
_IN_CONTIG = ".:^*$@!+_?-|"
# In the other columns only what would break the line, and % itself.
_BREAKS_COLUMN = frozenset([*map(chr, range(32)), "\x7f", "%"])
_BREAKS_ATTRIBUTE = _BREAKS_COLUMN | frozenset(";=&,")


@dataclass(frozen=True)
class Gff3Feature:
    """A feature on one line: 0-based half-open in memory.

    Attributes
    ----------
    kind
        A term of the Sequence Ontology.
    score
        None where there is none.
    strand
        ``+``, ``-``, ``.`` or ``?``.
    attributes
        Column 9 in the order in which it is written; not escaped.
    phase
        0, 1 or 2 for CDS; None elsewhere.
    """

    contig: str
    kind: str
    start: int
    end: int
    score: float | None = None
    strand: str = "."
    attributes: Mapping[str, str] = field(default_factory=dict)
    phase: int | None = None
    source: str = "umbel"

    def line(self) -> str:
        r"""Write it, 1-based closed, without a line end.

        Raises
        ------
        ValueError
            If it bounds no base, or is a CDS without phase.

        Examples
        --------
        >>> Gff3Feature("chr 1", "exon", 0, 10, 0.5, "+", {"ID": "a;b"}).line().split("\t")
        ['chr%201', 'umbel', 'exon', '1', '10', '0.5', '+', '.', 'ID=a%3Bb']
        """
        if not 0 <= self.start < self.end:
            raise ValueError(f"start {self.start} and end {self.end} do not bound at least one base")
        if self.kind == "CDS" and self.phase is None:
            raise ValueError("a CDS feature needs a phase")
        score = "." if self.score is None else f"{self.score:.4g}"
        attributes = ";".join(
            f"{_escaped(key, _BREAKS_ATTRIBUTE)}={_escaped(value, _BREAKS_ATTRIBUTE)}"
            for key, value in self.attributes.items()
        )
        columns = (
            quote(self.contig, safe=_IN_CONTIG),
            _escaped(self.source, _BREAKS_COLUMN),
            _escaped(self.kind, _BREAKS_COLUMN),
            str(self.start + 1),
            str(self.end),
            score,
            self.strand,
            "." if self.phase is None else str(self.phase),
            attributes or ".",
        )
        return "\t".join(columns)


def _escaped(text: str, breaking: frozenset[str]) -> str:
    return "".join(f"%{ord(letter):02X}" if letter in breaking else letter for letter in text)


def write_gff3(handle: TextIO, regions: Mapping[str, tuple[int, int]], features: Iterable[Gff3Feature]) -> int:
    """Write a whole GFF3 file: version, sequence regions, then the features as they come; give their number.

    Parameters
    ----------
    handle
        Open for text.
    regions
        Contig to the first base and the end, 0-based half-open, of what the features may lie in.
    features
        In the order in which they are to stand.

    References
    ----------
    Stein 2020, "Generic Feature Format Version 3", version 1.26, Sequence Ontology Project.
    """
    handle.write("##gff-version 3\n")
    for contig, (start, end) in regions.items():
        handle.write(f"##sequence-region {quote(contig, safe=_IN_CONTIG)} {start + 1} {end}\n")
    count = 0
    for feature in features:
        handle.write(feature.line() + "\n")
        count += 1
    return count
