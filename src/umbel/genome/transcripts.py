"""Transcripts of a GFF3 file, part by part: exons, coding parts with their phases, and the genes above them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from umbel.errors import AnnotationError
from umbel.genome.annotation import Gff3Row, gff3_rows, is_part, require_inside, some_names
from umbel.genome.genes import tops_of
from umbel.genome.runs import as_runs, merge

Span = tuple[int, int]


@dataclass(frozen=True)
class Transcript:
    """A transcript on one contig.

    Attributes
    ----------
    strand
        ``+`` or ``-``; empty where its rows do not agree on one, as of a gene that is spliced from two strands.
    spans
        Start and end of its own rows, one as a rule.
    exons
        What its exon, UTR and CDS rows cover, merged.
    cds, phases
        Its coding parts in the order of the contig, with the phase that each has in the file (None: ``.``).
    coding
        First and last coding base (half-open) of the transcript, or of the transcripts below it where it has no CDS
        itself; None where there is none.
    """

    name: str
    contig: str
    strand: str
    spans: tuple[Span, ...]
    exons: tuple[Span, ...]
    cds: tuple[Span, ...]
    phases: tuple[int | None, ...]
    coding: Span | None

    @property
    def start(self) -> int:
        """First base."""
        return min(start for start, _ in self.spans)

    @property
    def end(self) -> int:
        """Behind its last base."""
        return max(end for _, end in self.spans)


@dataclass(frozen=True)
class GeneSpan:
    """A feature above transcripts that has nothing above itself; the strand is empty where the file gives none."""

    contig: str
    start: int
    end: int
    strand: str


@dataclass(frozen=True)
class Transcripts:
    """What a GFF3 file says about genes.

    Attributes
    ----------
    transcripts, genes
        In the order of the file; those whose parts name no parent come last.
    annotated
        Contigs of the FASTA with at least one row of any kind.
    unknown_contigs
        Contigs that the FASTA does not have, with the number of rows passed over.
    """

    transcripts: tuple[Transcript, ...]
    genes: tuple[GeneSpan, ...]
    annotated: frozenset[str]
    unknown_contigs: Mapping[str, int]


def read_transcripts(path: str | Path, contig_lengths: Mapping[str, int]) -> Transcripts:
    r"""Read the transcripts of a GFF3 file (plain, gzip or bgzip).

    A transcript is any feature that exons, UTRs or CDS name as their parent. Those that name none are a transcript of
    their own, and a gene; rows of one ID are the parts of one.

    Parameters
    ----------
    path
        The file.
    contig_lengths
        Name to length in bases, of the FASTA that the file annotates.

    Raises
    ------
    AnnotationError
        With the line: a row that is not GFF3, a feature beyond the end of its contig, a parent that is not there, a
        phase that is none; or no contig in common with the FASTA.

    References
    ----------
    Stein 2020, "Generic Feature Format Version 3", version 1.26, Sequence Ontology Project.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.gff3"
    >>> rows = ["mRNA 11 40 . - . ID=t", "exon 11 40 . - . Parent=t", "CDS 15 20 . - 0 Parent=t"]
    >>> _ = source.write_text("\n".join("\t".join(["chr1", ".", *row.split()]) for row in rows))
    >>> one = read_transcripts(source, {"chr1": 50}).transcripts[0]
    >>> one.strand, one.spans, one.exons, one.cds, one.phases, one.coding
    ('-', ((10, 40),), ((10, 40),), ((14, 20),), (0,), (14, 20))
    """
    rows: dict[str, list[Gff3Row]] = {}
    parts: dict[str, list[Gff3Row]] = {}
    alone: dict[str, list[Gff3Row]] = {}
    annotated: set[str] = set()
    unknown: dict[str, int] = {}
    for identity, row in gff3_rows(path):
        if row.contig not in contig_lengths:
            unknown[row.contig] = unknown.get(row.contig, 0) + 1
            continue
        require_inside(row, contig_lengths[row.contig], path)
        annotated.add(row.contig)
        if is_part(row):
            for parent in row.parents:
                parts.setdefault(parent, []).append(row)
            if not row.parents:
                alone.setdefault(identity or f"line {row.line}", []).append(row)
        elif identity:
            rows.setdefault(identity, []).append(row)
    require_shared_contigs(path, annotated, unknown, contig_lengths)
    above: dict[str, tuple[str, ...]] = {}
    for name, own in parts.items():
        if name not in rows:
            raise AnnotationError(
                f"the {own[0].kind} has Parent={name}, but no feature has that ID. "
                "Was the file cut without its transcripts?",
                path,
                own[0].line,
            )
        above[name] = tuple(tops_of(path, name, rows))
    coding = _coding_bounds(parts, rows)
    transcripts = [one for name, own in parts.items() for one in _transcripts(path, name, own, rows, coding)]
    orphans = [
        one for name, own in alone.items() for one in _transcripts(path, name, own, {}, _coding_bounds({name: own}, {}))
    ]
    tops = dict.fromkeys(top for names in above.values() for top in names)
    genes = [GeneSpan(row.contig, row.start, row.end, _strand([row])) for name in tops for row in rows[name]]
    genes += [GeneSpan(one.contig, one.start, one.end, one.strand) for one in orphans]
    return Transcripts((*transcripts, *orphans), tuple(genes), frozenset(annotated), unknown)


def require_shared_contigs(
    path: str | Path, annotated: set[str], unknown: Mapping[str, int], contig_lengths: Mapping[str, int]
) -> None:
    """See that a file of features has a row, and a contig of the FASTA.

    Raises
    ------
    AnnotationError
        With three names of each.
    """
    if not annotated and not unknown:
        raise AnnotationError("the file holds no feature. Leave it out, or check how it was made.", path)
    if not annotated:
        raise AnnotationError(
            f"none of its contigs ({some_names(unknown)}) is in the FASTA ({some_names(contig_lengths)}). "
            "Rename the contigs of one of the two files, or give the file of this assembly.",
            path,
        )


def _transcripts(
    path: str | Path,
    name: str,
    parts: list[Gff3Row],
    rows: Mapping[str, list[Gff3Row]],
    coding: Mapping[tuple[str, str], Span],
) -> Iterator[Transcript]:
    """Give the transcript on each contig that it has parts on."""
    own = [row for row in rows.get(name, ()) if row.strand in ("+", "-")]
    contigs = list(dict.fromkeys(row.contig for row in parts))
    # Where the rows of the transcript itself say nothing, its parts do.
    strand = _strand([*parts, *own]) if len(contigs) == 1 else ""
    for contig in contigs:
        here = [row for row in parts if row.contig == contig]
        cds = sorted((row.start, row.end, _phase(path, row)) for row in here if row.kind == "CDS")
        exons = merge(as_runs((row.start, row.end) for row in here))
        spans = tuple((row.start, row.end) for row in rows.get(name, ()) if row.contig == contig)
        yield Transcript(
            name,
            contig,
            strand,
            spans or ((int(exons[0, 0]), int(exons[-1, 1])),),
            tuple((int(start), int(end)) for start, end in exons.tolist()),
            tuple((start, end) for start, end, _ in cds),
            tuple(None if phase < 0 else phase for _, _, phase in cds),
            coding.get((name, contig)),
        )


def _coding_bounds(
    parts: Mapping[str, list[Gff3Row]], rows: Mapping[str, list[Gff3Row]]
) -> dict[tuple[str, str], Span]:
    """Bounds of the CDS by transcript and contig; a transcript without CDS takes those of what is below it."""
    own: dict[tuple[str, str], Span] = {}
    below: dict[tuple[str, str], Span] = {}
    for name, members in parts.items():
        for row in members:
            if row.kind == "CDS":
                own[name, row.contig] = _wider(own.get((name, row.contig)), row.start, row.end)
    for (name, contig), (start, end) in own.items():
        for ancestor in _ancestors(name, rows):
            below[ancestor, contig] = _wider(below.get((ancestor, contig)), start, end)
    return below | own


def _wider(span: Span | None, start: int, end: int) -> Span:
    return (start, end) if span is None else (min(span[0], start), max(span[1], end))


def _ancestors(name: str, rows: Mapping[str, list[Gff3Row]]) -> set[str]:
    found: set[str] = set()
    waiting = [parent for row in rows.get(name, ()) for parent in row.parents]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += [parent for row in rows.get(current, ()) for parent in row.parents]
    return found


def _strand(rows: list[Gff3Row]) -> str:
    strands = {row.strand for row in rows}
    return strands.pop() if len(strands) == 1 and strands <= {"+", "-"} else ""


def _phase(path: str | Path, row: Gff3Row) -> int:
    """Phase of a CDS row, -1 where it has none."""
    if row.phase not in ("0", "1", "2", "."):
        raise AnnotationError(f"a CDS has phase {row.phase!r}, which is none of 0, 1, 2 and '.'.", path, row.line)
    return -1 if row.phase == "." else int(row.phase)
