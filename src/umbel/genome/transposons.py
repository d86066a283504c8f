"""Transposable elements of an assembly from BED, GFF3, RepeatMasker's .out, or a table with a line of column names."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from umbel.errors import AnnotationError
from umbel.genome.annotation import bed_rows, gff3_rows, some_names
from umbel.genome.lines import read_lines
from umbel.genome.repeats import repeat_format
from umbel.genome.runs import Runs, merge

NO_TRANSPOSONS = frozenset(
    {
        "Simple_repeat",
        "Low_complexity",
        "Satellite",
        "rRNA",
        "tRNA",
        "snRNA",
        "scRNA",
        "srpRNA",
        "ncRNA",
        "RNA",
        "ARTEFACT",
        "Other",
        "Unknown",
        "Unspecified",
    }
)
"""Classes of RepeatMasker that are no transposable elements, or may be none; compared before any ``/`` or ``?``."""

# Columns of contig, start and end, the class where there is one, and what to add to start.
_TABLES = (
    (("genoName", "genoStart", "genoEnd"), "repClass", 0),
    (("Chr", "start", "end"), "", -1),
)


@dataclass(frozen=True)
class Transposons:
    """Where they are, and what of the file was passed over."""

    runs: Mapping[str, Runs]
    """Contig to merged runs, ``(n, 2)``; every contig that was asked for is there."""
    n_other: int
    """Rows of other classes, such as simple repeats."""
    unknown_contigs: Mapping[str, int]
    """Contigs that were not asked for, with their rows."""


def read_transposons(
    path: str | Path, contig_lengths: Mapping[str, int], contig_names: Mapping[str, str] | None = None
) -> Transposons:
    r"""Read where the transposable elements of an assembly are (plain, gzip or bgzip).

    Parameters
    ----------
    path
        BED or GFF3 (every row counts), RepeatMasker's .out, or a table divided by tabs whose first line names its
        columns: that of the UCSC genome browser (``genoName``, ``genoStart``, ``genoEnd``, ``repClass``; 0-based), or
        one with ``Chr``, ``start`` and ``end`` (1-based, inclusive). Of the .out and the UCSC table rows of
        :data:`NO_TRANSPOSONS` are left out.
    contig_lengths
        Name to length in bases.
    contig_names
        Name in this file to name in ``contig_lengths``, where they differ.

    Raises
    ------
    AnnotationError
        With the line: a row that is broken or beyond the end of its contig; or no transposable element on any contig.

    References
    ----------
    Smit, Hubley and Green, "RepeatMasker Open-4.0", documentation of the annotation file.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.tsv"
    >>> _ = source.write_text("Chr\tstart\tend\tstrand\nChr1\t11\t20\t-\n")
    >>> read_transposons(source, {"chr1": 50}, {"Chr1": "chr1"}).runs["chr1"].tolist()
    [[10, 20]]
    """
    names = contig_names or {}
    spans_of = {contig: array("q") for contig in contig_lengths}
    unknown: dict[str, int] = {}
    n_other = n_kept = 0
    for line, name, start, end, kind in _rows(path):
        contig = names.get(name, name)
        if contig not in contig_lengths:
            unknown[contig] = unknown.get(contig, 0) + 1
        elif kind.split("/")[0].rstrip("?") in NO_TRANSPOSONS:
            n_other += 1
        elif not 0 <= start < end <= contig_lengths[contig]:
            raise AnnotationError(
                f"start {start} and end {end} (0-based, end not included) do not lie inside contig {contig!r} of "
                f"{contig_lengths[contig]} bases.",
                path,
                line or None,
            )
        else:
            spans_of[contig].extend((start, end))
            n_kept += 1
    if not n_kept:
        raise AnnotationError(
            f"there is no transposable element on {some_names(contig_lengths)} ({n_other} other repeats there; "
            f"other contigs: {some_names(unknown) or 'none'}). "
            "Do its contigs go by other names (--rename OTHER=CONTIG)?",
            path,
        )
    runs = {contig: merge(np.array(spans, np.int64).reshape(-1, 2)) for contig, spans in spans_of.items()}
    return Transposons(runs, n_other, unknown)


def _rows(path: str | Path) -> Iterator[tuple[int, str, int, int, str]]:
    """Yield line (0: not known), contig, start, end and class or ``""``."""
    for columns, kind, shift in _TABLES:
        if set(columns) <= set(_first_line(path)):
            yield from _table_rows(path, columns, kind, shift)
            return
    form = repeat_format(path)
    if form == "BED":
        yield from ((0, row.contig, row.start, row.end, "") for row in bed_rows(path))
    elif form == "GFF3":
        yield from ((row.line, row.contig, row.start, row.end, "") for _, row in gff3_rows(path))
    else:
        yield from out_rows(path)


def _first_line(path: str | Path) -> list[str]:
    for _, line in read_lines(path, AnnotationError):
        return line.decode("utf-8", "replace").rstrip("\r\n").split("\t")
    return []


def _table_rows(
    path: str | Path, columns: tuple[str, ...], kind: str, shift: int
) -> Iterator[tuple[int, str, int, int, str]]:
    header = _first_line(path)
    places = [header.index(name) for name in columns]
    kind_place = header.index(kind) if kind in header else None
    for number, line in read_lines(path, AnnotationError):
        fields = line.decode("utf-8", "replace").rstrip("\r\n").split("\t")
        if number == 1 or fields == [""]:
            continue
        if len(fields) != len(header):
            raise AnnotationError(f"the header names {len(header)} columns, this line has {len(fields)}.", path, number)
        contig, first, last = (fields[place] for place in places)
        start, end = _numbers(path, number, first, last)
        yield number, contig, start + shift, end, "" if kind_place is None else fields[kind_place]


def out_rows(path: str | Path) -> Iterator[tuple[int, str, int, int, str]]:
    """Yield line, contig, start, end and ``class/family`` of the rows of RepeatMasker's .out."""
    is_head = True
    for number, line in read_lines(path, AnnotationError):
        words = line.decode("utf-8", "replace").split()
        if not words or (is_head and words[0] in ("SW", "bit", "score")):
            continue
        is_head = False
        if len(words) < 11:
            raise AnnotationError(f"a row of RepeatMasker's .out has more columns than {len(words)}.", path, number)
        start, end = _numbers(path, number, words[5], words[6])
        yield number, words[4], start - 1, end, words[10]


def _numbers(path: str | Path, number: int, first: str, last: str) -> tuple[int, int]:
    if not (first.isdigit() and last.isdigit()):
        raise AnnotationError(f"start {first!r} and end {last!r} must be whole numbers.", path, number)
    return int(first), int(last)
