"""Labelled sequences read from CSV, TSV, Parquet or FASTA, checked, and their task told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from umbel.data.labelled.checks import check_rows
from umbel.data.labelled.columns import choose_columns
from umbel.data.labelled.examples import Examples
from umbel.data.labelled.fasta_labels import Layout, find_layout, read_records, split_header
from umbel.data.labelled.problems import Problem
from umbel.data.labelled.raw import RawRows
from umbel.data.labelled.tables import first_bytes, is_parquet, open_table
from umbel.data.labelled.task import Kind, Task
from umbel.errors import LabelError

OnBad = Literal["stop", "skip"]


@dataclass(frozen=True)
class Reading:
    """What a file of labelled sequences held.

    Attributes
    ----------
    examples
        What can be used, in the order of the file.
    reason
        One line: the task, and why it is this one.
    problems
        Rows that were left out, with the reason of each; empty unless bad rows were to be skipped.
    notes
        Lines to print: columns read, letters that became N.
    """

    examples: Examples
    reason: str
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    def told(self) -> list[str]:
        """Say in a few lines what was read, and what was not."""
        n = len(self.examples)
        lines = [f"{self.examples.source}: {n:,} examples; {self.reason}", *self.notes]
        if self.problems:
            n_rows = len({(problem.source, problem.row) for problem in self.problems})
            lines.append(f"{n_rows:,} row{'s' if n_rows > 1 else ''} left out, the first: {self.problems[0]}")
        return lines


def read_labelled(
    path: str | Path,
    *,
    task: Task | Kind | None = None,
    sequence: str | None = None,
    label: str | Sequence[str] | None = None,
    id: str | None = None,
    header: Layout | None = None,
    words: bool = False,
    bin_bp: int = 0,
    keep_conflicts: bool = False,
    on_bad: OnBad = "stop",
) -> Reading:
    r"""Read labelled sequences; what kind of file it is is told by its content.

    Tables are CSV, TSV (plain or gzip, with a header) or Parquet; see
    :func:`~umbel.data.labelled.columns.choose_columns` for how columns are found, and
    :func:`~umbel.data.labelled.inference.infer_task` for how the task is. FASTA carries its labels in the headers.
    IUPAC letters become N, and are counted in the notes. Examples without an id are named ``row-N``.

    Parameters
    ----------
    task
        What the training file asks, for the files that go with it: an unseen class is then a fault of its row. Or a
        kind of task, where the one that is told from the labels is not meant.
    sequence, label, id
        Names of columns. Several labels are several outputs; each must be there in every row.
    header
        How FASTA headers carry the label; see :data:`~umbel.data.labelled.fasta_labels.Layout`.
    words
        Each row of the table is a word of a sequence, with a class for all its bases; rows that follow each other with
        the same id are one sequence.
    bin_bp
        Labels are lists with a number for every so many bases.
    keep_conflicts
        Keep sequences that come with two labels, as published test sets must be.
    on_bad
        What becomes of bad rows: an error that lists them, or they are left out and handed back. Of a duplicated id
        the first row stays; of a conflict, none.

    Raises
    ------
    LabelError
        Bad rows, by kind, with their numbers; and what no skipping can mend: no such file, empty, no header, unclear
        columns or headers, one class only, nothing left.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = source.write_text("sequence,label\nACGT,leaf\nAAAA,root\nACGA,\n")
    >>> reading = read_labelled(source, on_bad="skip")
    >>> reading.examples.task.names, reading.examples.ids, [problem.row for problem in reading.problems]
    (('leaf', 'root'), ('row-2', 'row-3'), [4])
    """
    start = first_bytes(path)
    if not is_parquet(start) and start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b">"):
        if words or sequence is not None or label is not None or id is not None:
            raise LabelError("this is FASTA, which has no columns. Leave sequence, label, id and words out.", path)
        raw = _fasta_rows(path, header)
    else:
        if header is not None:
            raise LabelError("a layout of headers is for FASTA, and this is a table. Leave it out.", path)
        raw = _table_rows(path, sequence, label, id, words)
    return Reading(*check_rows(raw, task, bin_bp, keep_conflicts, on_bad == "skip"))


def read_classes(
    files: Mapping[str, str | Path],
    *,
    task: Task | None = None,
    keep_conflicts: bool = False,
    on_bad: OnBad = "stop",
) -> Reading:
    r"""Read one FASTA file for each class, as EPD and Genomic Benchmarks give them.

    Headers say nothing of the class, and often no more than what a sequence is. So an example is named after its
    class and the first word of its header, such as ``promoter:FP000001``, or, where these are not all different in its
    file, after its class and the line of its header, such as ``none:line-3``.

    Parameters
    ----------
    files
        Class to file.
    task, keep_conflicts, on_bad
        As for :func:`read_labelled`. Rows are lines of headers.

    Raises
    ------
    LabelError
        As :func:`read_labelled`.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.fa").write_text(">x\nACGT\n"), (folder / "b.fa").write_text(">x\nCCGT\n")
    >>> reading = read_classes({"promoter": folder / "a.fa", "none": folder / "b.fa"})
    >>> reading.examples.ids, reading.examples.targets.tolist(), reading.examples.task.names
    (('promoter:x', 'none:x'), [1, 0], ('none', 'promoter'))
    """
    if not files:
        raise ValueError("no files are named")
    raw = RawRows(", ".join(str(path) for path in files.values()), ("class",))
    for name, path in files.items():
        records = list(read_records(path))
        first_words = [record.header.split(maxsplit=1)[0] if record.header else "" for record in records]
        are_names = all(first_words) and len(set(first_words)) == len(records)
        for record, word in zip(records, first_words, strict=True):
            own = word if are_names else f"line-{record.line}"
            raw.add(record.line, f"{name}:{own}", record.letters, [name], str(path))
        if not are_names:
            raw.notes.append(f"{path}: headers are no names, so examples are named by the line of their header")
    return Reading(*check_rows(raw, task or None, 0, keep_conflicts, on_bad == "skip"))


def _fasta_rows(path: str | Path, layout: Layout | None) -> RawRows:
    records = list(read_records(path))
    chosen = layout or find_layout([record.header for record in records], path)
    cut = [split_header(record.header, chosen) for record in records]
    n_labels = max((len(found[1]) for found in cut if not isinstance(found, str)), default=1)
    raw = RawRows(str(path), ("label",) if n_labels == 1 else tuple(f"label-{i}" for i in range(n_labels)))
    raw.notes.append(f"labels from headers laid out as {chosen!r}")
    for record, found in zip(records, cut, strict=True):
        if isinstance(found, str):
            raw.refuse(record.line, "", "no label", found)
        elif len(found[1]) != n_labels:
            raw.refuse(record.line, found[0], "wrong label", f"{len(found[1])} labels, other headers have {n_labels}")
        elif not found[0]:
            raw.refuse(record.line, "", "no id", "nothing stands before the label")
        else:
            raw.add(record.line, found[0], record.letters, list(found[1]))
    return raw


def _table_rows(
    path: str | Path, sequence: str | None, label: str | Sequence[str] | None, id: str | None, words: bool
) -> RawRows:
    table = open_table(path)
    if words and id is None:
        # Words are told apart by the column that names their sequence, whatever it is called.
        given = {sequence, label} if isinstance(label, str) or label is None else {sequence, *label}
        found = choose_columns(table.names, path, sequence, label)
        left = [name for name in table.names if name not in {found.sequence, *found.labels, *given}]
        if found.id is None and len(left) == 1:
            id = left[0]
    columns = choose_columns(table.names, path, sequence, label, id)
    if words and columns.id is None:
        raise LabelError(
            f"rows are words, and no column says of which sequence. The columns are: {', '.join(table.names)}. "
            "Name the one (id=...).",
            path,
        )
    raw = RawRows(str(path), columns.labels)
    raw.notes.append(columns.told())
    names = [columns.sequence, *columns.labels, *([columns.id] if columns.id else [])]
    n_labels = len(columns.labels)
    for row, cells in table.rows(names):
        if isinstance(cells, str):
            raw.refuse(row, "", "ragged row", cells)
        elif not cells:
            raw.refuse(row, "", "empty row", "every field is empty")
        else:
            letters = cells[0]
            if not isinstance(letters, str):
                raise LabelError(f"column {columns.sequence} holds lists, not sequences. Name another.", path, row)
            name = cells[1 + n_labels] if columns.id else f"row-{row}"
            raw.add(row, str(name), letters.encode(), cells[1 : 1 + n_labels])
    return raw.join_words() if words else raw
