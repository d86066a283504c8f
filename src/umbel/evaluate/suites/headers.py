"""FASTA whose headers hold the labels, ``>name|label|label``: PGB and the original NT sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from umbel.errors import LabelError
from umbel.evaluate.suites.rows import Row, encoded
from umbel.genome.lines import read_lines


def read_header_rows(path: Path, n_labels: int | None) -> Iterator[Row]:
    r"""Yield the records in order; sequences may span lines, and names may repeat, as they do in the NT sets.

    Parameters
    ----------
    path
        Plain or gzip.
    n_labels
        Labels of a header: so many fields at its end. None: all fields after the first.

    Raises
    ------
    LabelError
        With file and line: no record, text before the first header, a header without label, a record without
        sequence, a letter that is no nucleotide.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.fa"
    >>> _ = source.write_text(">gene|1|0\nACGT\nAC\n>gene|0|1\nGG\n")
    >>> [(row.name, len(row.codes), row.labels, row.number) for row in read_header_rows(source, None)]
    [('gene', 6, ('1', '0'), 1), ('gene', 2, ('0', '1'), 4)]
    """
    header, line = "", 0
    parts: list[bytes] = []
    for number, raw in read_lines(path, LabelError):
        text = raw.strip()
        if text.startswith(b">"):
            if line:
                yield _row(path, header, line, b"".join(parts), n_labels)
            header, line, parts = _decoded(path, number, text), number, []
        elif line:
            parts.append(text)
        elif text:
            raise LabelError("the file does not begin with a '>' header. Is this the publisher's FASTA?", path, number)
    if not line:
        raise LabelError("the file holds no record. Fetch it again.", path)
    yield _row(path, header, line, b"".join(parts), n_labels)


def _decoded(path: Path, line: int, text: bytes) -> str:
    try:
        return text[1:].decode("utf-8")
    except UnicodeDecodeError as error:
        raise LabelError("the header is not UTF-8 text.", path, line) from error


def _row(path: Path, header: str, line: int, letters: bytes, n_labels: int | None) -> Row:
    fields = header.split("|")
    n_labels = len(fields) - 1 if n_labels is None else n_labels
    if n_labels < 1 or len(fields) <= n_labels:
        wanted = "a label" if n_labels <= 1 else f"{n_labels} labels"
        raise LabelError(f"header {header[:60]!r} is not 'name|label' with {wanted}.", path, line)
    name, labels = "|".join(fields[:-n_labels]), tuple(text.strip() for text in fields[-n_labels:])
    codes, others = encoded(letters, path, line)
    return Row(name, codes, others, labels, line, path, line)
