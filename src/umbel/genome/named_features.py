"""Features with the names of their kinds: repeats by class, GFF3 features by type, intervals of BED."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from umbel.errors import AnnotationError
from umbel.genome.annotation import bed_rows, gff3_rows, some_names
from umbel.genome.repeats import repeat_format
from umbel.genome.transcripts import require_shared_contigs
from umbel.genome.transposons import out_rows

UNNAMED = ""
_OF_GENES = ("gene", "mRNA", "exon", "CDS")


@dataclass(frozen=True)
class NamedFeatures:
    """Features of a genome, by contig.

    Attributes
    ----------
    names
        Kinds, in the order in which the file names them; ``""`` where it names none.
    of_contig
        Contig to int64 ``(n, 3)``: start, end (0-based half-open) and the number of the kind. Only contigs with
        features.
    counts
        Features of each kind, ``(len(names),)``.
    annotated
        Contigs of the FASTA with a row of any kind.
    unknown_contigs
        Contigs that the FASTA does not have, with the rows passed over.
    """

    names: tuple[str, ...]
    of_contig: Mapping[str, npt.NDArray[np.int64]]
    counts: npt.NDArray[np.int64]
    annotated: frozenset[str]
    unknown_contigs: Mapping[str, int]

    def bases(self) -> npt.NDArray[np.int64]:
        """Bases of each kind, counted as often as they are covered: ``(len(names),)``."""
        total = np.zeros(len(self.names), np.int64)
        for rows in self.of_contig.values():
            np.add.at(total, rows[:, 2], rows[:, 1] - rows[:, 0])
        return total


def read_repeat_classes(path: str | Path, contig_lengths: Mapping[str, int]) -> NamedFeatures:
    r"""Read repeats with their classes (plain, gzip or bgzip), told by the content of the file.

    The class is ``class/family`` of RepeatMasker's .out, the type (column 3) of GFF3, and the name (column 4) of BED,
    ``""`` where there is none.

    Raises
    ------
    AnnotationError
        With the line: another format, a row that is broken or beyond the end of its contig; or no contig in common.

    References
    ----------
    Smit, Hubley and Green, "RepeatMasker Open-4.0", documentation of the annotation file.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.out"
    >>> _ = source.write_text("463 1.3 0.6 1.7 chr1 11 20 (30) + ATCOPIA1 LTR/Copia 1 10 (90) 1\n")
    >>> found = read_repeat_classes(source, {"chr1": 50})
    >>> found.names, found.of_contig["chr1"].tolist()
    (('LTR/Copia',), [[10, 20, 0]])
    """
    form = repeat_format(path)
    if form == "BED":
        return read_bed_names(path, contig_lengths)
    found = _collect(path, _gff3(path) if form == "GFF3" else out_rows(path), contig_lengths)
    if form == "GFF3":
        for kind in _OF_GENES:
            if kind in found.names:
                raise AnnotationError(
                    f"a {kind} is no repeat. Give a GFF3 of repeats alone, and genes as annotation.", path
                )
    return found


def read_bed_names(path: str | Path, contig_lengths: Mapping[str, int]) -> NamedFeatures:
    r"""Read the intervals of a BED file by their names (column 4, ``""`` where there is none).

    Raises
    ------
    AnnotationError
        As :func:`read_repeat_classes`.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.bed"
    >>> _ = source.write_text("chr1\t0\t10\tpeak\nchr1\t20\t30\n")
    >>> read_bed_names(source, {"chr1": 50}).names
    ('peak', '')
    """
    rows = ((0, row.contig, row.start, row.end, row.name) for row in bed_rows(path))
    return _collect(path, rows, contig_lengths)


def read_types(path: str | Path, contig_lengths: Mapping[str, int], types: Sequence[str]) -> NamedFeatures:
    r"""Read the features of some types (column 3) of a GFF3 file.

    Raises
    ------
    AnnotationError
        As :func:`read_repeat_classes`; and with the types that there are, if one is not there.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.gff3"
    >>> _ = source.write_text("chr1\t.\ttRNA\t11\t20\t.\t+\t.\tID=a\nchr1\t.\tgene\t11\t20\t.\t+\t.\tID=b\n")
    >>> read_types(source, {"chr1": 50}, ["tRNA"]).of_contig["chr1"].tolist()
    [[10, 20, 0]]
    """
    seen: dict[str, int] = {}

    def counted() -> Iterator[tuple[int, str, int, int, str]]:
        for row in _gff3(path):
            if row[1] in contig_lengths:
                seen[row[4]] = seen.get(row[4], 0) + 1
            yield row

    found = _collect(path, counted(), contig_lengths, types)
    for kind in types:
        if kind not in seen:
            there = ", ".join(f"{name} ({n:,})" for name, n in sorted(seen.items(), key=lambda item: -item[1]))
            raise AnnotationError(
                f"there is no feature of type {kind!r} on the contigs of the FASTA. Ask for one of: {there}.", path
            )
    return found


def _gff3(path: str | Path) -> Iterator[tuple[int, str, int, int, str]]:
    return ((row.line, row.contig, row.start, row.end, row.kind) for _, row in gff3_rows(path))


def _collect(
    path: str | Path,
    rows: Iterable[tuple[int, str, int, int, str]],
    contig_lengths: Mapping[str, int],
    wanted: Sequence[str] | None = None,
) -> NamedFeatures:
    """Gather rows of line (0: not known), contig, start, end and name."""
    number = {name: i for i, name in enumerate(dict.fromkeys(wanted or ()))}
    flat: dict[str, array[int]] = {}
    annotated: set[str] = set()
    unknown: dict[str, int] = {}
    for line, contig, start, end, name in rows:
        if contig not in contig_lengths:
            unknown[contig] = unknown.get(contig, 0) + 1
            continue
        if not 0 <= start < end <= contig_lengths[contig]:
            raise AnnotationError(
                f"start {start} and end {end} (0-based, end not included) do not lie inside contig {contig!r} of "
                f"{contig_lengths[contig]} bases. Does the file belong to this assembly?",
                path,
                line or None,
            )
        annotated.add(contig)
        if wanted is None:
            number.setdefault(name, len(number))
        if name in number:
            flat.setdefault(contig, array("q")).extend((start, end, number[name]))
    require_shared_contigs(path, annotated, unknown, contig_lengths)
    of_contig = {contig: np.array(rows, np.int64).reshape(-1, 3) for contig, rows in flat.items()}
    counts = np.zeros(len(number), np.int64)
    for found in of_contig.values():
        counts += np.bincount(found[:, 2], minlength=len(number))
    return NamedFeatures(tuple(number), of_contig, counts, frozenset(annotated), unknown)


def told_unknown(unknown: Mapping[str, int], what: str) -> list[str]:
    """Say in a sentence, if any, which contigs of a file are not in the genome.

    Examples
    --------
    >>> told_unknown({"chrM": 2}, "genes.gff3")
    ['genes.gff3: 2 rows on contigs that are not in the genome were passed over (chrM).']
    """
    n_rows = sum(unknown.values())
    rows = "row" if n_rows == 1 else "rows"
    if not unknown:
        return []
    were = "was" if n_rows == 1 else "were"
    return [
        f"{what}: {n_rows:,} {rows} on contigs that are not in the genome {were} passed over ({some_names(unknown)})."
    ]
