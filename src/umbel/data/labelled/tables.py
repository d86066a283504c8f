"""Rows of CSV, TSV or Parquet files as cells, each with the number a user finds it by."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from umbel.data.labelled.cells import Cell, is_number
from umbel.errors import LabelError
from umbel.genome.lines import read_blocks, read_lines

RowCells = tuple[int, list[Cell] | str]
"""Number of a row and its cells; in place of the cells, what is wrong with a row that has others than the header."""

_PARQUET = b"PAR1"
_LONGEST_FIELD = 1 << 30
_DELIMITERS = "\t,;"
# So many letters of A, C, G, T and N are a sequence, not the name of a column.
_SEQUENCE_BP = 12


class Table(Protocol):
    """A table whose header was read."""

    names: list[str]

    def rows(self, columns: Sequence[str]) -> Iterator[RowCells]:
        """Yield the cells of some columns, row by row; an empty row has no cells at all."""
        ...


def first_bytes(path: str | Path) -> bytes:
    """Read how a plain, gzip or bgzip file begins, once decompressed; empty for an empty file.

    Raises
    ------
    LabelError
        If there is no such file, or it cannot be read.
    """
    return next(read_blocks(path, LabelError), b"")[:4096]


def is_parquet(start: bytes) -> bool:
    """Tell a Parquet file by its first bytes."""
    return start.startswith(_PARQUET)


def open_table(path: str | Path) -> Table:
    r"""Read the header of a table: Parquet, or text with tabs, commas or semicolons, plain or gzip.

    Raises
    ------
    LabelError
        No such file, an empty one, no header, a column without name or named twice, not UTF-8, not a table.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = source.write_text('id,sequence,label\nx,ACGT,"1,2"\n\n')
    >>> table = open_table(source)
    >>> table.names, list(table.rows(["label", "id"]))
    (['id', 'sequence', 'label'], [(2, ['1,2', 'x'])])
    """
    start = first_bytes(path)
    if is_parquet(start):
        return ParquetTable(path)
    if not start.strip():
        raise LabelError("the file is empty. Check how it was made.", path)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise LabelError("the file is UTF-16 text. Save it as UTF-8 CSV or TSV.", path)
    if b"\0" in start:
        raise LabelError("this is no text and no Parquet. Give CSV, TSV, Parquet or FASTA.", path)
    return TextTable(path)


def _require_names(path: str | Path, names: Sequence[str], row: int | None) -> None:
    """Refuse a first row that names no columns."""
    data = [
        name
        for name in names
        if (len(name) >= _SEQUENCE_BP and not set(name.upper()) - set("ACGTN")) or is_number(name)
    ]
    if data:
        raise LabelError(
            f"the first row holds data, not names of columns ({data[0][:20]!r}). Add a header such as sequence,label.",
            path,
            row,
        )
    for place, name in enumerate(names, start=1):
        if not name:
            raise LabelError(f"column {place} has no name. Name every column in the header.", path, row)
        if names.index(name) < place - 1:
            raise LabelError(f"two columns are named {name!r}. Give every column its own name.", path, row)


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let a field be as long as a sequence may be: Python's own bound is 128 KiB."""
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


class TextTable:
    """CSV or TSV, told by the header: with a tab it is TSV, else with a comma CSV, else with a semicolon."""

    def __init__(self, path: str | Path):
        self.path = path
        header_line = next(line for line in self._lines() if line.strip())
        self.delimiter = next((mark for mark in _DELIMITERS if mark in header_line), ",")
        with _long_fields():
            row, header = next((row, fields) for row, fields in self._fields(self.delimiter) if fields)
        self.header_row = row
        self.names = [name.strip() for name in header]
        _require_names(path, self.names, row)

    def _lines(self) -> Iterator[str]:
        for number, line in read_lines(self.path, LabelError):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise LabelError("the line is not UTF-8 text. Save the file as UTF-8.", self.path, number) from error

    def _fields(self, delimiter: str) -> Iterator[tuple[int, list[str]]]:
        """Yield the line that each row begins in, and its fields; blank lines at the end of the file are no rows."""
        reader = csv.reader(self._lines(), delimiter=delimiter, strict=True)
        blank: list[int] = []
        row = 1
        try:
            for fields in reader:
                if not any(field.strip() for field in fields):
                    # Rows of separators alone are rows, wherever they are.
                    if fields:
                        yield from ((number, []) for number in [*blank, row])
                        blank = []
                    else:
                        blank.append(row)
                else:
                    yield from ((number, []) for number in blank)
                    blank = []
                    yield row, fields
                row = reader.line_num + 1
        except csv.Error as error:
            if "new-line character" in str(error):
                raise LabelError(
                    "line ends are bare CR, as on old Macs. Convert them to LF.", self.path, row
                ) from error
            raise LabelError(f"the row cannot be read ({error}). Check its quotes.", self.path, row) from error

    def rows(self, columns: Sequence[str]) -> Iterator[RowCells]:
        """Yield number and cells of each row below the header; a row is numbered by the line it begins in."""
        places = [self.names.index(name) for name in columns]
        n = len(self.names)
        with _long_fields():
            for row, fields in self._fields(self.delimiter):
                if row <= self.header_row:
                    continue
                if not fields:
                    yield row, []
                elif len(fields) != n:
                    yield row, f"{len(fields)} fields, the header has {n}"
                else:
                    yield row, [fields[place].strip() for place in places]


class ParquetTable:
    """A Parquet file; numbers become text, so that all tables are judged alike, and lists stay lists."""

    def __init__(self, path: str | Path):
        self.path = path
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise LabelError(f"the Parquet file is damaged ({error}). Copy or make it again.", path) from error
        self.names = [str(name) for name in self._file.schema_arrow.names]
        _require_names(path, self.names, None)
        if not self._file.metadata.num_rows:
            raise LabelError("the table has no rows. Check how it was made.", path)

    def rows(self, columns: Sequence[str]) -> Iterator[RowCells]:
        """Yield number, from 1, and cells of each row."""
        row = 0
        try:
            for batch in self._file.iter_batches(4096, columns=list(columns)):
                by_column = [_cells(batch.column(name)) for name in columns]
                for cells in zip(*by_column, strict=True):
                    row += 1
                    yield row, list(cells)
        except (pa.ArrowException, OSError) as error:
            raise LabelError(f"the Parquet file is damaged ({error}). Copy or make it again.", self.path) from error


def _cells(column: pa.Array) -> list[Cell]:
    """Text of each value, empty where there is none; a list stays one."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
    values = column.to_pylist()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return [[] if value is None else value for value in values]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        values = [None if value is None else value.decode("utf-8", "replace") for value in values]
    elif pa.types.is_floating(kind):
        # The shortest text that gives the same number back: 0.1 stays 0.1 in 32 bits.
        as_numpy = column.to_numpy(zero_copy_only=False)
        values = [None if value is None else str(number) for value, number in zip(values, as_numpy, strict=True)]
    return ["" if value is None else str(value).strip() for value in values]
