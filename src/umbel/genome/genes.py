"""Where genes and their transcripts begin: from a GFF3 file, with strands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from umbel.errors import AnnotationError
from umbel.genome.annotation import Gff3Row, gff3_rows, is_part, require_inside
from umbel.genome.interval import Interval


@dataclass(frozen=True)
class Genes:
    """Genes and transcripts of the contigs that were asked for, in the order of the file, named by their ID."""

    genes: tuple[Interval, ...]
    """Features without a parent, below which there are exons, UTRs or CDS."""
    transcripts: tuple[Interval, ...]
    """Features that exons, UTRs or CDS name as their parent."""


def read_genes(path: str | Path, contig_lengths: Mapping[str, int]) -> Genes:
    r"""Read genes and transcripts of a GFF3 file (plain, gzip or bgzip) with their strands.

    Parameters
    ----------
    path
        The file; :func:`umbel.genome.annotation.read_gff3` tells more about what may be wrong with it.
    contig_lengths
        Name to length in bases. Rows on other contigs are passed over.

    Raises
    ------
    AnnotationError
        With the line: a row that is not GFF3 or lies beyond the end of its contig, a parent that is not there, or a
        gene or transcript without strand.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.gff3"
    >>> rows = ["gene 11 40 ID=g", "mRNA 11 40 ID=t;Parent=g", "exon 11 40 Parent=t"]
    >>> fields = [row.split() for row in rows]
    >>> _ = source.write_text("\n".join("\t".join(["chr1", ".", k, s, e, ".", "-", ".", a]) for k, s, e, a in fields))
    >>> found = read_genes(source, {"chr1": 50})
    >>> found.genes[0].name, start_site(found.transcripts[0])
    ('g', 39)
    """
    rows: dict[str, list[Gff3Row]] = {}
    parts: list[Gff3Row] = []
    for identity, row in gff3_rows(path):
        if row.contig not in contig_lengths:
            continue
        require_inside(row, contig_lengths[row.contig], path)
        if is_part(row):
            parts.append(row)
        elif identity:
            rows.setdefault(identity, []).append(row)
    transcripts: dict[str, None] = {}
    for part in parts:
        transcripts |= dict.fromkeys(part.parents)
    tops: dict[str, None] = {}
    for transcript in transcripts:
        tops |= dict.fromkeys(tops_of(path, transcript, rows))
    return Genes(_intervals(path, tops, rows), _intervals(path, transcripts, rows))


def start_site(interval: Interval) -> int:
    """Index of the first base that is transcribed, 0-based."""
    return interval.start if interval.strand == "+" else interval.end - 1


def tops_of(path: str | Path, identity: str, rows: Mapping[str, list[Gff3Row]]) -> list[str]:
    """Name what is above a transcript and has nothing above itself; a circle of parents has no top."""
    found, seen, waiting = [], set[str](), [identity]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        if current not in rows:
            raise AnnotationError(
                f"a feature has Parent={current}, but no feature has that ID. "
                "Was the file cut without its transcripts?",
                path,
            )
        parents = [parent for row in rows[current] for parent in row.parents]
        waiting += parents
        if not parents:
            found.append(current)
    return found


def _intervals(path: str | Path, names: Mapping[str, None], rows: Mapping[str, list[Gff3Row]]) -> tuple[Interval, ...]:
    chosen = sorted((row.line, name, row) for name in names for row in rows[name])
    for _, name, row in chosen:
        if row.strand not in ("+", "-"):
            raise AnnotationError(
                f"the {row.kind} {name!r} has strand {row.strand!r}, so nobody can say where it begins. "
                "Give it a strand, or leave it out.",
                path,
                row.line,
            )
    return tuple(Interval(row.contig, row.start, row.end, row.strand, name) for _, name, row in chosen)
