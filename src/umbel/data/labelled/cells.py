"""A label as it stands in a file: told missing, told a number, cut into parts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

Cell = str | list[Any]
"""Text, or what a list column of Parquet holds."""

MISSING = frozenset({"", "NA", "N/A", "<NA>", "NaN", "nan", "NULL", "null", "."})
"""What stands for a label that is not there; ``None`` and ``none`` are text, and may name a class."""
SEPARATORS = ";|,"
"""What parts of one cell are separated by; the first of these that the cell holds."""

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity)", re.IGNORECASE | re.ASCII)
_WHOLE = re.compile(r"([+-]?\d+)(\.0*)?", re.ASCII)


def is_missing(cell: Cell) -> bool:
    """Tell whether nothing is said: an empty cell, NA, NaN, NULL or a point alone.

    Examples
    --------
    >>> is_missing("NA"), is_missing("none"), is_missing([])
    (True, False, True)
    """
    return cell in MISSING if isinstance(cell, str) else not len(cell)


def is_number(text: str) -> bool:
    """Tell whether text is a number, an infinite one included.

    Examples
    --------
    >>> is_number("-1.5e3"), is_number("1_000"), is_number("NaN")
    (True, False, False)
    """
    return _NUMBER.fullmatch(text) is not None


def class_name(value: Any) -> str:
    """Spell a class as text: whole numbers alike, whether a file has 1, 1.0 or +1, and anything else as it is.

    Examples
    --------
    >>> class_name("1.0"), class_name(1), class_name("0.5"), class_name("exon")
    ('1', '1', '0.5', 'exon')
    """
    return _spelled(str(value))


@lru_cache(1 << 16)
def _spelled(text: str) -> str:
    text = text.strip()
    whole = _WHOLE.fullmatch(text)
    return str(int(whole[1])) if whole else text


def sorted_names(names: set[str] | Sequence[str]) -> tuple[str, ...]:
    """Sort classes: as numbers where all are numbers, else as text.

    Examples
    --------
    >>> sorted_names({"10", "9"}), sorted_names({"10", "9", "x"})
    (('9', '10'), ('10', '9', 'x'))
    """
    distinct = sorted(set(names))
    return tuple(sorted(distinct, key=float) if all(map(is_number, distinct)) else distinct)


def parts(cell: Cell) -> list[str]:
    """Cut a cell into its parts: a list, text in brackets, or text with one of ``SEPARATORS``; else one part.

    Spaces separate where every part between them is a number, or within brackets.

    Examples
    --------
    >>> parts("0;1;1"), parts("[0, 1]"), parts("[0 1]"), parts("leaf|root"), parts("0.5 1.5"), parts("a b"), parts("[]")
    (['0', '1', '1'], ['0', '1'], ['0', '1'], ['leaf', 'root'], ['0.5', '1.5'], ['a b'], [])
    """
    if not isinstance(cell, str):
        return ["" if part is None else str(part) for part in cell]
    text = cell.strip()
    if is_number(text):
        return [text]
    is_list = text[:1] in ("[", "(", "{") and text[-1:] in ("]", ")", "}")
    if is_list:
        text = text[1:-1].strip()
        if not text:
            return []
    mark = next((mark for mark in SEPARATORS if mark in text), None)
    if mark is not None:
        cut = [part.strip() for part in text.split(mark)]
    else:
        cut = text.split()
        if not is_list and not all(map(is_number, cut)):
            cut = [text]
    return [part.strip("\"'") for part in cut] if is_list else cut


def is_flags(text: str) -> bool:
    """Tell text of two and more zeros and ones, such as ``0110``: one digit a label.

    Examples
    --------
    >>> is_flags("0110"), is_flags("1"), is_flags("012")
    (True, False, False)
    """
    return len(text) > 1 and not set(text) - {"0", "1"}
