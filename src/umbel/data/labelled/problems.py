"""What is wrong with rows of a labelled file: gathered over all of it, then raised in one message or handed back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from umbel.errors import LabelError

ProblemKind = Literal[
    "empty row",
    "ragged row",
    "no sequence",
    "not DNA",
    "no bases",
    "no label",
    "mixed labels",
    "wrong label",
    "unseen class",
    "no id",
    "duplicated id",
    "conflict",
]
_ORDER = {kind: place for place, kind in enumerate(get_args(ProblemKind))}
_REMEDIES: dict[ProblemKind, str] = {
    "empty row": "Delete them",
    "ragged row": "Give every row as many fields as the header, and quote fields that hold the separator",
    "no sequence": "Fill in the sequence, or delete the row",
    "not DNA": "Give A, C, G, T and the IUPAC letters alone, without gaps or digits, and T in place of U",
    "no bases": "Delete them: nothing but N or other ambiguity letters is in them",
    "no label": "Fill in the label, or delete the row",
    "mixed labels": "Write all labels as numbers, or all as text",
    "wrong label": "Correct the label, or name another task",
    "unseen class": "Correct the label, or put examples of the class into the training file",
    "no id": "Fill in the id, or delete the row",
    "duplicated id": "Give every example its own id",
    "conflict": "Find out which label is right, and delete the other row",
}
_SHOWN = 5


@dataclass(frozen=True)
class Problem:
    """Why a row of a file cannot be used.

    Attributes
    ----------
    source
        The file, as the user named it.
    row
        The row of the table (header 1; Parquet from 1), or the line of the FASTA header.
    id
        The example's id, where it has one by then.
    kind
        What sort of fault it is.
    reason
        The fault itself, in a few words.
    """

    source: str
    row: int
    id: str
    kind: ProblemKind
    reason: str

    def __str__(self) -> str:
        name = f" ({self.id})" if self.id else ""
        return f"{self.source}, row {self.row}{name}: {self.kind}: {self.reason}"


def row_list(rows: Iterable[int], shown: int = _SHOWN) -> str:
    """Name rows, the first few of them, and say how many there are.

    Examples
    --------
    >>> row_list([4]), row_list([4, 9]), row_list(range(2, 100))
    ('row 4', 'rows 4, 9', 'rows 2, 3, 4, 5, 6, ... (98 in all)')
    """
    ordered = sorted(rows)
    named = ", ".join(map(str, ordered[:shown]))
    if len(ordered) > shown:
        return f"rows {named}, ... ({len(ordered)} in all)"
    return f"row{'s' if len(ordered) > 1 else ''} {named}"


def raise_problems(problems: Sequence[Problem]) -> None:
    """Raise what is wrong with rows as one error, sorted by kind; do nothing if nothing is.

    Raises
    ------
    LabelError
        With the rows of each kind, the first of them in words, and what to do.

    Examples
    --------
    >>> raise_problems([Problem("a.csv", 7, "", "no label", "column label is empty")])
    Traceback (most recent call last):
    ...
    umbel.errors.LabelError: a.csv, line 7: 1 row cannot be used.
      no label: row 7 (column label is empty). Fill in the label, or delete the row.
    To go on with the other rows: --skip-bad, or on_bad="skip"; what is left out is then listed.
    """
    if not problems:
        return
    n_rows = len({(problem.source, problem.row) for problem in problems})
    lines = [f"{n_rows} row{' cannot' if n_rows == 1 else 's cannot'} be used."]
    for kind in sorted({problem.kind for problem in problems}, key=_ORDER.__getitem__):
        of_kind = [problem for problem in problems if problem.kind == kind]
        rows = row_list({problem.row for problem in of_kind})
        first = min(of_kind, key=lambda problem: problem.row)
        example = f"({first.reason})" if len(of_kind) == 1 else f"(row {first.row}: {first.reason})"
        lines.append(f"  {kind}: {rows} {example}. {_REMEDIES[kind]}.")
    lines.append('To go on with the other rows: --skip-bad, or on_bad="skip"; what is left out is then listed.')
    earliest = min(problems, key=lambda problem: problem.row)
    raise LabelError("\n".join(lines), earliest.source, earliest.row)
