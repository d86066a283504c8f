"""Tables with a JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from umbel.data.labelled.tables import RowCells
from umbel.errors import LabelError
from umbel.genome.lines import read_lines


class JsonLines:
    r"""A file of JSON objects, one a line (plain, gzip or bgzip); the columns are all keys of all objects.

    What is no text is given as text: numbers as JSON writes them, ``null`` as nothing.

    Raises
    ------
    LabelError
        With the line that is no JSON object; or if there is none.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.jsonl"
    >>> _ = source.write_text('{"text": "a b", "label": 1}\n\n{"text": "c"}\n')
    >>> table = JsonLines(source)
    >>> table.names, list(table.rows(["label", "text"]))
    (['text', 'label'], [(1, ['1', 'a b']), (3, ['', 'c'])])
    """

    def __init__(self, path: str | Path):
        self.path = path
        names: dict[str, None] = {}
        for _, row in self._objects():
            names |= dict.fromkeys(row)
        self.names = list(names)
        if not names:
            raise LabelError("the file holds no JSON object with a key. Check how it was made.", path)

    def _objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in read_lines(self.path, LabelError):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise LabelError(
                    f"the line is no JSON ({error}). Write one object a line.", self.path, number
                ) from None
            if not isinstance(row, dict):
                raise LabelError("the line is no JSON object. Write one object a line.", self.path, number)
            yield number, row

    def rows(self, columns: Sequence[str]) -> Iterator[RowCells]:
        """Yield number and cells of each row; a key that is not there gives an empty cell."""
        for number, row in self._objects():
            yield number, [_text(row.get(name)) for name in columns]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value)
