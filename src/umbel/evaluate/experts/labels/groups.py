"""Contigs sorted into groups, such as species or subgenome, by a small table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from umbel.data.labelled.cells import is_missing
from umbel.errors import AnnotationError, LabelError
from umbel.evaluate.experts.labels.labeller import made_of
from umbel.evaluate.experts.source import NO_CLASS, Labelling
from umbel.genome.annotation import some_names
from umbel.genome.lines import read_lines


@dataclass(frozen=True)
class GroupLabels:
    """A class for each contig; the others have none."""

    labelling: Labelling
    of_contig: Mapping[str, int]

    def class_of(self, contig: str) -> int:
        """Give the class of a contig, -1 for none."""
        return self.of_contig.get(contig, NO_CLASS)


def read_groups(path: str | Path, contig_lengths: Mapping[str, int]) -> tuple[GroupLabels, ...]:
    r"""Read a table of contigs: tabs between columns, a header, ``contig`` first, then a column a labelling.

    Empty cells, ``NA`` and the like are no class. Contigs of the genome that are not in the table have none.

    Parameters
    ----------
    path
        The table, plain, gzip or bgzip.
    contig_lengths
        Name to length in bases, of the genome.

    Raises
    ------
    LabelError
        With the line: no column ``contig`` or none beside it, a row with more or fewer columns, a contig named twice, a
        column without any class.
    AnnotationError
        If no contig of the table is in the genome.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "groups.tsv"
    >>> _ = source.write_text("contig\tsubgenome\nchr1A\tA\nchr1B\tB\n")
    >>> group = read_groups(source, {"chr1A": 9, "chr1B": 9, "chrUn": 9})[0]
    >>> group.labelling.classes, group.class_of("chr1B"), group.class_of("chrUn")
    (('A', 'B'), 1, -1)
    """
    header: list[str] = []
    line_of: dict[str, int] = {}
    rows: dict[str, list[str]] = {}
    for number, line in read_lines(path, LabelError):
        text = line.decode("utf-8", "replace").rstrip("\r\n").removeprefix("\ufeff")
        if not text.strip() or (text.startswith("#") and not header and not text.startswith("#contig\t")):
            continue
        fields = [field.strip() for field in text.split("\t")]
        if not header:
            header = [fields[0].removeprefix("#"), *fields[1:]]
            _require_header(path, header, number)
            continue
        if len(fields) != len(header):
            raise LabelError(
                f"the header names {len(header)} columns, this line has {len(fields)}. Divide columns by tabs.",
                path,
                number,
            )
        if fields[0] in line_of:
            raise LabelError(
                f"contig {fields[0]!r} is in line {line_of[fields[0]]} already. Name each contig once.", path, number
            )
        line_of[fields[0]] = number
        rows[fields[0]] = fields[1:]
    if not rows:
        raise LabelError("the table has no rows. Give a header (contig, then labellings) and a row a contig.", path)
    known = [contig for contig in rows if contig in contig_lengths]
    if not known:
        raise AnnotationError(
            f"none of its contigs ({some_names(rows)}) is in the genome ({some_names(contig_lengths)}). "
            "Write the contigs as the FASTA does.",
            path,
        )
    unknown = [contig for contig in rows if contig not in contig_lengths]
    notes = [f"{Path(path).name}: contigs that are not in the genome: {some_names(unknown)}."] if unknown else []
    facts = made_of(path, notes)
    groups = []
    for place, name in enumerate(header[1:]):
        told = {contig: rows[contig][place] for contig in known if not is_missing(rows[contig][place])}
        if not told:
            raise LabelError(
                f"column {name!r} has no class for any contig of the genome. Fill it, or leave it out.", path
            )
        classes = tuple(dict.fromkeys(told.values()))
        of_contig = {contig: classes.index(group) for contig, group in told.items()}
        groups.append(GroupLabels(Labelling(name, classes, "sequence", facts), of_contig))
    return tuple(groups)


def _require_header(path: str | Path, header: list[str], line: int) -> None:
    if header[0].lower() not in ("contig", "contigs", "sequence", "chrom", "chromosome") or len(header) < 2:
        raise LabelError(
            f"the header is {', '.join(map(repr, header[:4]))}: it must name the column 'contig', and behind it, "
            "divided by tabs, a column for each labelling.",
            path,
            line,
        )
    for name in header[1:]:
        if not name or header.count(name) > 1:
            raise LabelError(f"column {name!r} has no name of its own. Name each column differently.", path, line)
