"""Repeats of an assembly from BED, GFF3 or RepeatMasker's .out, as runs of bases."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from umbel.errors import AnnotationError
from umbel.genome.annotation import bed_rows, gff3_rows, some_names
from umbel.genome.lines import read_lines
from umbel.genome.runs import Runs, merge

# Features that are no repeats: the file is of genes, or describes the contigs themselves.
# fmt: off
_OTHER_FEATURES = frozenset({
    "gene", "pseudogene", "mRNA", "transcript", "exon", "CDS", "intron", "five_prime_UTR", "three_prime_UTR",
    "UTR", "start_codon", "stop_codon", "lnc_RNA", "ncRNA", "tRNA", "rRNA", "miRNA", "region", "chromosome",
    "contig", "scaffold", "supercontig",
})
# fmt: on
_OUT_COLUMNS = 14


def read_repeats(path: str | Path, contig_lengths: Mapping[str, int]) -> dict[str, Runs]:
    r"""Read where the repeats of an assembly are (plain, gzip or bgzip), whatever their kind.

    Parameters
    ----------
    path
        BED, GFF3 or RepeatMasker's .out, told by its content.
    contig_lengths
        Name to length in bases, of the FASTA that the file annotates.

    Returns
    -------
    Contig to int64 ``(n_runs, 2)``: start and end, 0-based half-open, sorted; runs that overlap or touch are one. Every
    contig is there, with no run where it has no repeat.

    Raises
    ------
    AnnotationError
        With the line: another format, genes instead of repeats, a row that is broken, beyond the end of its contig, or
        on a contig that is not there; or a file without rows.

    References
    ----------
    Smit, Hubley and Green, "RepeatMasker Open-4.0", documentation of the annotation file.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.out"
    >>> _ = source.write_text("463 1.3 0.6 1.7 chr1 11 20 (30) + ATCOPIA1 LTR/Copia 1 10 (90) 1\n")
    >>> read_repeats(source, {"chr1": 50})["chr1"].tolist()
    [[10, 20]]
    """
    rows = {"BED": _bed, "GFF3": _gff3, "out": _out}[repeat_format(path)]
    spans_of = {contig: array("q") for contig in contig_lengths}
    n_rows = 0
    for contig, start, end in rows(path, contig_lengths):
        spans_of[contig].extend((start, end))
        n_rows += 1
    if not n_rows:
        raise AnnotationError("the file holds no repeat. Leave repeats out, or check how it was made.", path)
    return {contig: merge(np.array(spans, np.int64).reshape(-1, 2)) for contig, spans in spans_of.items()}


def repeat_format(path: str | Path) -> str:
    """Tell BED, GFF3 or RepeatMasker's ``out`` from the first line that is no comment."""
    for number, line in read_lines(path, AnnotationError):
        text = line.decode("utf-8", "replace").strip()
        words = text.split()
        if text.startswith("##gff-version"):
            return "GFF3"
        if not words or text.startswith("#"):
            continue
        if "query" in words and words[0] in ("SW", "bit"):
            return "out"
        if len(words) >= _OUT_COLUMNS and words[0].isdigit() and words[5].isdigit() and words[8] in ("+", "C"):
            return "out"
        fields = text.split("\t")
        if len(fields) == 9 and fields[3].isdigit() and fields[4].isdigit():
            return "GFF3"
        if words[0] in ("track", "browser") or (len(words) >= 3 and words[1].isdigit() and words[2].isdigit()):
            return "BED"
        raise AnnotationError("this is neither BED nor GFF3 nor RepeatMasker's .out. Convert it to BED.", path, number)
    raise AnnotationError("the file holds no repeat. Leave repeats out, or check how it was made.", path)


def _bed(path: str | Path, contig_lengths: Mapping[str, int]) -> Iterator[tuple[str, int, int]]:
    return ((row.contig, row.start, row.end) for row in bed_rows(path, contig_lengths))


def _gff3(path: str | Path, contig_lengths: Mapping[str, int]) -> Iterator[tuple[str, int, int]]:
    for _, row in gff3_rows(path):
        if row.kind in _OTHER_FEATURES:
            raise AnnotationError(
                f"a {row.kind} is no repeat. Give a GFF3 of repeats alone, and genes as gff3.", path, row.line
            )
        _require_inside(path, row.line, row.contig, row.end, contig_lengths)
        yield row.contig, row.start, row.end


def _out(path: str | Path, contig_lengths: Mapping[str, int]) -> Iterator[tuple[str, int, int]]:
    is_head = True
    for number, line in read_lines(path, AnnotationError):
        words = line.decode("utf-8", "replace").split()
        # Two lines of column names come first, and a blank one.
        if not words or (is_head and words[0] in ("SW", "bit", "score")):
            continue
        is_head = False
        if len(words) < _OUT_COLUMNS:
            raise AnnotationError(
                f"a row of RepeatMasker's .out has at least {_OUT_COLUMNS} columns, this line has {len(words)}.",
                path,
                number,
            )
        contig, first, last = words[4:7]
        if not (first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last)):
            raise AnnotationError(
                f"begin {first!r} and end {last!r} must be whole numbers from 1 on, with begin not beyond end.",
                path,
                number,
            )
        _require_inside(path, number, contig, int(last), contig_lengths)
        yield contig, int(first) - 1, int(last)


def _require_inside(path: str | Path, line: int, contig: str, end: int, contig_lengths: Mapping[str, int]) -> None:
    if contig not in contig_lengths:
        raise AnnotationError(
            f"no contig {contig!r}; there are, for example, {some_names(contig_lengths)}.", path, line
        )
    if end > contig_lengths[contig]:
        raise AnnotationError(
            f"the repeat ends at {end}, beyond contig {contig!r} of {contig_lengths[contig]} bases. "
            "Do FASTA and repeats belong to the same assembly?",
            path,
            line,
        )
