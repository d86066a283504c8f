"""Genes of a GFF3 file as region classes of every base, and the intervals of a BED file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from umbel.errors import AnnotationError
from umbel.genome.class_runs import paint
from umbel.genome.interval import Interval
from umbel.genome.lines import read_lines

REGIONS = ("intergenic", "intron", "utr", "cds", "noncoding")
INTERGENIC, INTRON, UTR, CDS, NONCODING = range(5)

# A base that several features claim takes the class that is painted last.
_PAINTED = (INTRON, NONCODING, UTR, CDS)
EXON_TYPES = frozenset({"exon", "pseudogenic_exon"})
UTR_TYPES = frozenset({"five_prime_UTR", "three_prime_UTR", "UTR"})


class Feature(NamedTuple):
    """A stretch of a contig, 0-based half-open, and the region class it gives to its bases."""

    contig: str
    start: int
    end: int
    region: int


@dataclass(frozen=True)
class Annotation:
    """What a GFF3 file says about region classes."""

    features: tuple[Feature, ...]
    """Transcripts (class ``intron``: what their exons leave over), exons and CDS parts; they overlap."""
    unknown_contigs: Mapping[str, int]
    """Contigs of the GFF3 that the FASTA does not have, with the number of rows skipped for each."""


class Gff3Row(NamedTuple):
    """A feature line: 0-based half-open, the IDs it names as parents, its strand and phase as they stand there."""

    line: int
    contig: str
    kind: str
    start: int
    end: int
    parents: tuple[str, ...]
    strand: str
    phase: str = "."


def read_gff3(path: str | Path, contig_lengths: Mapping[str, int]) -> Annotation:
    r"""Read the transcripts, exons, UTRs and CDS of a GFF3 file (plain, gzip or bgzip).

    A transcript is any feature that exons, UTRs or CDS name as their parent. An exon counts as coding where its
    parent, or a child of its parent, has CDS. Features with nothing below them (a bare pseudogene or transposable
    element) give no class to their bases.

    Parameters
    ----------
    path
        The file.
    contig_lengths
        Name to length in bases, of the FASTA that the file annotates.

    Raises
    ------
    AnnotationError
        With the line: a row that is not GFF3, a feature beyond the end of its contig, a parent that is not there;
        or no contig in common with the FASTA.

    References
    ----------
    Stein 2020, "Generic Feature Format Version 3", version 1.26, Sequence Ontology Project.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.gff3"
    >>> rows = ["mRNA 11 40 ID=t", "exon 11 20 Parent=t", "exon 31 40 Parent=t", "CDS 15 20 Parent=t"]
    >>> fields = [row.split() for row in rows]
    >>> text = "\n".join("\t".join(["chr1", ".", k, s, e, ".", "+", ".", a]) for k, s, e, a in fields)
    >>> _ = source.write_text(text)
    >>> [(f.start, f.end, REGIONS[f.region]) for f in read_gff3(source, {"chr1": 50}).features]
    [(10, 40, 'intron'), (10, 20, 'utr'), (30, 40, 'utr'), (14, 20, 'cds')]
    """
    spans_of_id: dict[str, list[Gff3Row]] = {}
    parts: list[Gff3Row] = []
    unknown: dict[str, int] = {}
    n_rows = 0
    for identity, row in gff3_rows(path):
        n_rows += 1
        if row.contig not in contig_lengths:
            unknown[row.contig] = unknown.get(row.contig, 0) + 1
            continue
        require_inside(row, contig_lengths[row.contig], path)
        if is_part(row):
            parts.append(row)
        elif identity:
            spans_of_id.setdefault(identity, []).append(row)
    if not n_rows:
        raise AnnotationError("the file holds no feature. Leave gff3 out, or check how it was made.", path)
    if sum(unknown.values()) == n_rows:
        raise AnnotationError(
            f"none of its contigs ({some_names(unknown)}) is in the FASTA ({some_names(contig_lengths)}). "
            "Rename the contigs of one of the two files.",
            path,
        )
    return Annotation(tuple(_features(path, parts, spans_of_id)), unknown)


def is_part(row: Gff3Row) -> bool:
    """Tell whether a row is an exon, UTR or CDS: a part of the transcript that it names as its parent."""
    return row.kind in EXON_TYPES or row.kind in UTR_TYPES or row.kind == "CDS"


def require_inside(row: Gff3Row, contig_bp: int, path: str | Path) -> None:
    """See that a feature ends within its contig.

    Raises
    ------
    AnnotationError
        With the line.
    """
    if row.end > contig_bp:
        raise AnnotationError(
            f"the {row.kind} ends at {row.end}, beyond contig {row.contig!r} of {contig_bp} bases. Do FASTA and GFF3 "
            "belong to the same assembly?",
            path,
            row.line,
        )


def _features(path: str | Path, parts: list[Gff3Row], spans_of_id: Mapping[str, list[Gff3Row]]) -> Iterator[Feature]:
    transcripts: set[str] = set()
    coding: set[str] = set()
    for part in parts:
        for parent in part.parents:
            if parent not in spans_of_id:
                raise AnnotationError(
                    f"the {part.kind} has Parent={parent}, but no feature has that ID. "
                    "Was the file cut without its transcripts?",
                    path,
                    part.line,
                )
            transcripts.add(parent)
            if part.kind == "CDS":
                coding |= _with_ancestors(parent, spans_of_id)
    for transcript in sorted(transcripts):
        for span in spans_of_id[transcript]:
            yield Feature(span.contig, span.start, span.end, INTRON)
    for part in parts:
        if part.kind == "CDS":
            region = CDS
        elif part.kind in UTR_TYPES or any(parent in coding for parent in part.parents):
            region = UTR
        else:
            region = NONCODING
        yield Feature(part.contig, part.start, part.end, region)


def _with_ancestors(identity: str, spans_of_id: Mapping[str, list[Gff3Row]]) -> set[str]:
    """Return ``identity`` and every feature above it; a circle of parents ends where it closes."""
    found: set[str] = set()
    waiting = [identity]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting.extend(parent for row in spans_of_id.get(current, ()) for parent in row.parents)
    return found


def gff3_rows(path: str | Path) -> Iterator[tuple[str, Gff3Row]]:
    """Yield (ID or ``""``, row) of every feature line."""
    for number, line in read_lines(path, AnnotationError):
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text.startswith("##FASTA") or text.startswith(">"):
            return
        if not text.strip() or text.startswith("#"):
            continue
        fields = text.split("\t")
        if len(fields) != 9:
            raise AnnotationError(
                f"a feature has 9 fields divided by tabs, this line has {len(fields)}. Is this GFF3?", path, number
            )
        start, end = _positions(path, number, fields[3], fields[4])
        if not 1 <= start <= end:
            raise AnnotationError(
                f"start {start} and end {end} must be 1-based, with start not beyond end.", path, number
            )
        if fields[6] not in ("+", "-", ".", "?"):
            raise AnnotationError(f"strand {fields[6]!r} is none of '+', '-', '.', '?'.", path, number)
        identity = ""
        parents: tuple[str, ...] = ()
        if fields[8] not in ("", "."):
            if "=" not in fields[8]:
                raise AnnotationError(
                    "field 9 has no key=value pair. GTF is not read: convert it to GFF3, for example with gffread.",
                    path,
                    number,
                )
            identity, parents = _identity_and_parents(fields[8])
        yield identity, Gff3Row(number, unquote(fields[0]), fields[2], start - 1, end, parents, fields[6], fields[7])


def _identity_and_parents(attributes: str) -> tuple[str, tuple[str, ...]]:
    identity = ""
    parents: tuple[str, ...] = ()
    for attribute in attributes.split(";"):
        key, _, value = attribute.strip().partition("=")
        if key == "ID":
            identity = value
        elif key == "Parent":
            parents = tuple(value.split(","))
    return identity, parents


def _positions(path: str | Path, number: int, first: str, second: str) -> tuple[int, int]:
    try:
        return int(first), int(second)
    except ValueError as error:
        raise AnnotationError(f"start {first!r} and end {second!r} must be whole numbers.", path, number) from error


def region_runs(features: Iterable[Feature], contig_lengths: Mapping[str, int]) -> dict[str, npt.NDArray[np.int64]]:
    """Give every base its region class, as runs.

    CDS wins over UTR (exon of a coding transcript outside CDS), UTR over noncoding (exon of a transcript without
    CDS), noncoding over intron (inside a transcript, in no exon), and what is left is intergenic.

    Parameters
    ----------
    features
        As :func:`read_gff3` gives them, in any order.
    contig_lengths
        Name to length in bases.

    Returns
    -------
    Contig to int64 ``(n_runs, 3)``: start, end, index into ``REGIONS``. The runs are sorted, cover the contig, and
    neighbours differ in class.

    Examples
    --------
    >>> features = [Feature("chr1", 2, 9, INTRON), Feature("chr1", 2, 5, CDS)]
    >>> region_runs(features, {"chr1": 10})["chr1"].tolist()
    [[0, 2, 0], [2, 5, 3], [5, 9, 1], [9, 10, 0]]
    """
    features_of: dict[str, list[Feature]] = {contig: [] for contig in contig_lengths}
    for feature in features:
        features_of[feature.contig].append(feature)
    found = {}
    for contig, length in contig_lengths.items():
        spans = np.array([feature[1:] for feature in features_of[contig]], np.int64).reshape(-1, 3)
        runs = paint(spans, _PAINTED, length, rest=INTERGENIC)
        found[contig] = np.column_stack((runs.starts, runs.ends, runs.classes.astype(np.int64)))
    return found


def read_bed(path: str | Path, contig_lengths: Mapping[str, int] | None = None) -> list[Interval]:
    r"""Read the intervals of a BED file (plain, gzip or bgzip), with name and strand where it has them.

    Parameters
    ----------
    path
        The file; 3 to 12 columns divided by tabs (or by blanks, where there is no tab).
    contig_lengths
        Name to length in bases; given, every interval must lie inside a contig of it.

    Raises
    ------
    AnnotationError
        With the line: too few columns, positions that are no numbers, an empty interval, a wrong strand, a contig
        that is not there or too short; or a file without intervals.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.bed"
    >>> _ = source.write_text("chr1\t0\t10\tfirst\t0\t-\n")
    >>> read_bed(source)
    [Interval(contig='chr1', start=0, end=10, strand='-', name='first')]
    """
    intervals = list(bed_rows(path, contig_lengths))
    if not intervals:
        raise AnnotationError("the file holds no interval.", path)
    return intervals


def bed_rows(path: str | Path, contig_lengths: Mapping[str, int] | None = None) -> Iterator[Interval]:
    """Yield what :func:`read_bed` returns, one interval at a time; a file may have none."""
    for number, line in read_lines(path, AnnotationError):
        text = line.decode("utf-8", "replace").strip()
        if not text or text.startswith("#") or text.split(maxsplit=1)[0] in ("track", "browser"):
            continue
        fields = text.split("\t") if "\t" in text else text.split()
        if len(fields) < 3:
            raise AnnotationError(
                f"BED needs contig, start and end; this line has {len(fields)} of them.", path, number
            )
        contig = fields[0]
        start, end = _positions(path, number, fields[1], fields[2])
        name = fields[3] if len(fields) > 3 and fields[3] != "." else ""
        strand = fields[5] if len(fields) > 5 and fields[5] != "." else "+"
        try:
            interval = Interval(contig, start, end, strand, name)
        except ValueError as error:
            raise AnnotationError(f"{error}. BED counts from 0, and its end is not included.", path, number) from error
        if contig_lengths is not None:
            if contig not in contig_lengths:
                raise AnnotationError(
                    f"no contig {contig!r}; there are, for example, {some_names(contig_lengths)}.", path, number
                )
            if end > contig_lengths[contig]:
                raise AnnotationError(
                    f"the interval ends at {end}, beyond contig {contig!r} of {contig_lengths[contig]} bases.",
                    path,
                    number,
                )
        yield interval


def some_names(names: Iterable[str]) -> str:
    """First few names, for a message."""
    shown = list(names)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
