"""CSV and Parquet tables: sequences with labels (PDLLM, GUE, revised NT), and the columns of any CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from umbel.errors import LabelError
from umbel.evaluate.suites.rows import Row, encoded
from umbel.genome.lines import read_lines

_LABEL_SEPARATOR = ";"


def read_columns(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    r"""Yield the line of every row of a CSV, plain or gzip, and its fields of ``columns``; there may be other columns.

    Raises
    ------
    LabelError
        With file and line: a column that is not there, a row with more or fewer fields, broken quotes, not UTF-8.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = source.write_text("id,sequence,label\nx,ACGT,1\n")
    >>> list(read_columns(source, ("label", "sequence")))
    [(2, ('1', 'ACGT'))]
    """
    rows = csv.reader((line.decode("utf-8") for _, line in read_lines(path, LabelError)), strict=True)
    try:
        names = [name.strip().removeprefix("\ufeff") for name in next(rows, [])]
        if missing := [column for column in columns if column not in names]:
            raise LabelError(
                f"no column {', '.join(missing)}; the first line has {', '.join(names) or 'nothing'}.", path, 1
            )
        places = [names.index(column) for column in columns]
        for row in rows:
            if len(row) != len(names):
                raise LabelError(f"{len(row)} fields where the first line has {len(names)}.", path, rows.line_num)
            yield rows.line_num, tuple(row[place].strip() for place in places)
    except UnicodeDecodeError as error:
        raise LabelError("the line is not UTF-8 text.", path, rows.line_num + 1) from error
    except csv.Error as error:
        raise LabelError(f"not readable as CSV: {error}.", path, rows.line_num) from error


def read_csv_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a CSV with columns ``sequence`` and ``label``; several labels are divided by ``;``.

    Raises
    ------
    LabelError
        As in :func:`read_columns`; or an empty sequence or label, or a letter that is no nucleotide.
    """
    for line, (letters, label) in read_columns(path, ("sequence", "label")):
        codes, others = encoded(letters.encode(), path, line)
        if not label:
            raise LabelError("the label is empty.", path, line)
        yield Row(str(line), codes, others, tuple(label.split(_LABEL_SEPARATOR)), line, path, line)


def read_parquet_rows(path: Path, task: str) -> Iterator[Row]:
    """Yield the rows of a Parquet file with columns ``sequence`` and ``label``.

    Parameters
    ----------
    path
        The file. Of its columns ``name`` is used, and ``task``, where it is there, says which rows are meant.
    task
        Name of the dataset in that column.

    Raises
    ------
    LabelError
        With file and row: no Parquet, a column that is not there, an empty field, a letter that is no nucleotide.
    """
    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        if missing := [column for column in ("sequence", "label") if column not in names]:
            raise LabelError(f"no column {', '.join(missing)}; there are {', '.join(names)}.", path)
        chosen = [column for column in ("sequence", "label", "name", "task") if column in names]
        number = 0
        for batch in file.iter_batches(columns=chosen):
            for values in batch.to_pylist():
                number += 1
                if values.get("task", task) != task:
                    continue
                if values["sequence"] is None or values["label"] is None:
                    raise LabelError("sequence or label is null.", path, number)
                codes, others = encoded(values["sequence"].encode(), path, number)
                label = values["label"]
                labels = tuple(str(one) for one in label) if isinstance(label, list) else (str(label),)
                yield Row(str(values.get("name") or number), codes, others, labels, number, path, number)
    except (pa.ArrowException, OSError) as error:
        raise LabelError(f"not readable as Parquet: {error}.", path) from error
