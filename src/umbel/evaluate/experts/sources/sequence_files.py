"""Sequences and their columns, read from FASTA and from tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from umbel.data.labelled.columns import USUAL_NAMES
from umbel.data.labelled.fasta_labels import Layout, read_records, split_header
from umbel.data.labelled.tables import Table, first_bytes, is_parquet, open_table
from umbel.errors import LabelError
from umbel.evaluate.experts.sources.json_lines import JsonLines
from umbel.genome.sequence import Codes, encode, first_refused

Kind = Literal["dna", "text"]
TEXT_COLUMNS = ("text", "texts", "prompt", "content")
GROUP_COLUMNS = ("group", "cluster")


@dataclass(frozen=True)
class Wanted:
    """What to read of a file; what is None is found by its usual name.

    Attributes
    ----------
    sequence, id, group
        Columns of a table.
    labels
        Columns with classes; no columns are none.
    header
        How the headers of FASTA carry a label; None: they do not.
    kind
        Whether sequences are DNA or text.
    """

    sequence: str | None = None
    labels: tuple[str, ...] | None = None
    id: str | None = None
    group: str | None = None
    header: Layout | None = None
    kind: Kind | None = None


@dataclass
class SequenceFile:
    """What a file holds, row by row.

    Attributes
    ----------
    names, rows, contents
        Name, line or row, and base codes or text of each sequence.
    labels
        Column to a cell for each sequence.
    groups
        The cluster each sequence is of; None where no column says it.
    columns
        All columns of a table.
    """

    path: Path
    kind: Kind
    names: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    contents: list[Codes | str] = field(default_factory=list)
    labels: dict[str, list[str]] = field(default_factory=dict)
    groups: list[str] | None = None
    columns: tuple[str, ...] = ()

    def part(self, chosen: Sequence[int]) -> SequenceFile:
        """Give some of the sequences."""
        return SequenceFile(
            self.path,
            self.kind,
            [self.names[i] for i in chosen],
            [self.rows[i] for i in chosen],
            [self.contents[i] for i in chosen],
            {column: [cells[i] for i in chosen] for column, cells in self.labels.items()},
            None if self.groups is None else [self.groups[i] for i in chosen],
            self.columns,
        )


def read_sequences(path: str | Path, wanted: Wanted) -> SequenceFile:
    r"""Read FASTA, CSV, TSV, Parquet or JSON lines, told by the content.

    A table has its sequences in column ``sequence`` (DNA) or ``text`` (text), by their usual names; other names are
    given. FASTA is DNA where nothing else is said.

    Raises
    ------
    LabelError
        With the line: letters that are no nucleotides, an empty sequence, a broken row; or columns that are not there.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.tsv"
    >>> _ = source.write_text("sequence\tlabel\nACGT\tleaf\n")
    >>> found = read_sequences(source, Wanted())
    >>> found.kind, found.names, found.labels
    ('dna', ['row-2'], {'label': ['leaf']})
    """
    start = first_bytes(path).lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b">"):
        return _read_fasta(path, wanted)
    table: Table = JsonLines(path) if start.startswith(b"{") and not is_parquet(start) else open_table(path)
    return _read_table(path, table, wanted)


def _read_fasta(path: str | Path, wanted: Wanted) -> SequenceFile:
    for column, what in ((wanted.sequence, "sequence"), (wanted.id, "id"), (wanted.group, "group")):
        if column is not None:
            raise LabelError(f"this is FASTA, which has no columns. Leave {what} out.", path)
    if wanted.labels:
        raise LabelError(
            "this is FASTA, which has no columns. Leave labels out, or name the layout (header=...).", path
        )
    found = SequenceFile(Path(path), wanted.kind or "dna")
    for record in read_records(path):
        name = record.header.split(maxsplit=1)[0] if record.header else f"line-{record.line}"
        if wanted.header is not None:
            cut = split_header(record.header, wanted.header)
            if isinstance(cut, str):
                raise LabelError(f"{cut}. Name another layout (header=...).", path, record.line)
            name = cut[0]
            columns = ["label"] if len(cut[1]) == 1 else [f"label-{i}" for i in range(len(cut[1]))]
            if found.names and list(found.labels) != columns:
                raise LabelError(
                    f"the header has {len(columns)} labels, others have {len(found.labels)}.", path, record.line
                )
            for column, label in zip(columns, cut[1], strict=True):
                found.labels.setdefault(column, []).append(label)
        _add(found, record.line, name, record.letters)
    return found


def _read_table(path: str | Path, table: Table, wanted: Wanted) -> SequenceFile:
    names = table.names
    for column in (wanted.sequence, wanted.id, wanted.group, *(wanted.labels or ())):
        if column is not None and column not in names:
            raise LabelError(f"there is no column {column!r}. The columns are: {', '.join(names)}.", path)
    if wanted.header is not None:
        raise LabelError("a layout of headers is for FASTA, and this is a table. Leave it out.", path)
    sequence = wanted.sequence or _usual(path, names, (*USUAL_NAMES["sequence"], *TEXT_COLUMNS))
    if sequence is None:
        raise LabelError(
            f"no column is named sequence or text. The columns are: {', '.join(names)}. "
            "Name the one with the sequences (sequence=...).",
            path,
        )
    kind = wanted.kind or ("text" if sequence.lower() in TEXT_COLUMNS else "dna")
    id_column = wanted.id or _usual(path, [name for name in names if name != sequence], USUAL_NAMES["id"])
    group = wanted.group or _usual(path, names, GROUP_COLUMNS)
    taken = {sequence, id_column, group}
    labels = wanted.labels
    if labels is None:
        labels = tuple(name for name in names if name.lower() in USUAL_NAMES["label"] and name not in taken)
    found = SequenceFile(Path(path), kind, columns=tuple(names))
    found.labels = {name: [] for name in labels}
    found.groups = [] if group else None
    read = [sequence, *labels, *(name for name in (id_column, group) if name)]
    for row, cells in table.rows(read):
        if isinstance(cells, str):
            raise LabelError(f"{cells}. Mend the row.", path, row)
        if not cells:
            raise LabelError("every field is empty. Delete the row.", path, row)
        told = dict(zip(read, map(str, cells), strict=True))
        for name in labels:
            found.labels[name].append(told[name])
        if found.groups is not None and group:
            found.groups.append(told[group])
        _add(found, row, (told[id_column] if id_column else "") or f"row-{row}", told[sequence].encode())
    if not found.names:
        raise LabelError("the table has no rows. Check how it was made.", path)
    return found


def _add(found: SequenceFile, row: int, name: str, letters: bytes) -> None:
    if not letters:
        raise LabelError(f"the sequence {name!r} is empty. Delete it, or mend the file.", found.path, row)
    content: Codes | str
    if found.kind == "text":
        content = letters.decode("utf-8", "replace")
    else:
        refused = first_refused(letters)
        if refused >= 0:
            raise LabelError(
                f"{chr(letters[refused])!r} at place {refused + 1:,} of {name!r} is no nucleotide letter. If these "
                "are proteins or other text, say so (kind='text').",
                found.path,
                row,
            )
        content = encode(letters)[0]
    found.names.append(name)
    found.rows.append(row)
    found.contents.append(content)


def _usual(path: str | Path, names: Sequence[str], usual: Sequence[str]) -> str | None:
    found = [name for name in names if name.lower() in usual]
    if len(found) > 1:
        raise LabelError(f"columns {', '.join(found)} could each be meant. Name the one to read.", path)
    return found[0] if found else None


def draw(file: SequenceFile, n: int, rng: np.random.Generator) -> SequenceFile:
    """Draw ``n`` sequences at random, without replacement, and keep their order; all where there are no more."""
    if n >= len(file.names):
        return file
    return file.part(np.sort(rng.choice(len(file.names), n, replace=False)).tolist())
