"""Which task a file of labels sets, told from the labels alone, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from umbel.data.labelled.cells import Cell, class_name, is_flags, is_number, parts, sorted_names
from umbel.data.labelled.task import IGNORED, Kind, Task
from umbel.errors import LabelError

FEW_NUMBERS = 10
"""Up to so many different whole numbers are classes."""
MOST_NUMBERED = 100
"""Up to so many classes may be numbered without a gap from 0 or 1 ..."""
LEAST_EACH = 10
"""... if on average each has so many examples."""
LEAST_LETTERS = 12
"""Bases of the shortest sequence whose label may be one letter a base without being said to be."""
NO_CLASS = (".", str(IGNORED))
"""What a base without class may be written as."""

_RULE = (
    f"whole numbers are classes if they are {FEW_NUMBERS} or fewer, or run without a gap from 0 or 1 to at most "
    f"{MOST_NUMBERED} with {LEAST_EACH} examples each on average"
)
_SHOWN = 8


def infer_task(
    names: Sequence[str],
    columns: Sequence[Sequence[Cell]],
    lengths: Sequence[int],
    path: str | Path,
    kind: Kind | None = None,
    bin_bp: int = 0,
) -> tuple[Task, str]:
    """Tell the task from the labels.

    Text is classes. Floats are values, whatever their number. Whole numbers are classes if they are few: 10 or fewer,
    or a gapless run from 0 or 1 to at most 100 with at least 10 examples each on average; else they are values. Cells
    with as many letters (12 and more) or parts as their sequence has bases are a class a base. Cells with parts are
    yes-or-no labels if every part is 0 or 1, values if all are numbers, and sets of labels otherwise. Several columns
    are yes-or-no labels if all are 0 or 1, and values if all are numbers. Lists with one entry a bin are bins if
    ``bin_bp`` is given.

    Parameters
    ----------
    names
        Columns of the labels.
    columns
        Their cells, none missing; ``(n,)`` each.
    lengths
        Bases of each sequence, ``(n,)``.
    path
        The file, for messages.
    kind
        The user's word; names are then told from the labels, and nothing else.
    bin_bp
        Bases of a bin, where labels are bins.

    Returns
    -------
    task, reason
        The reason is one line to print, with the rule where another could have been taken.

    Raises
    ------
    LabelError
        One class or one value only, or labels that are no such task.

    Examples
    --------
    >>> infer_task(["label"], [["0", "1", "1"]], [4, 4, 4], "a.csv")[1]
    'binary, because column label holds 2 values: 0 (1), 1 (2); 1 is the positive class'
    >>> infer_task(["label"], [["0.5", "1"]], [4, 4], "a.csv")[1]
    'regression, because column label holds 2 different numbers from 0.5 to 1, not all whole'
    """
    if bin_bp:
        if kind not in (None, "bins"):
            raise LabelError(f"bins of {bin_bp} bp are no {kind} task. Give the task or the bins.", path)
        kind = "bins"
    if kind is None:
        kind = _kind(columns, lengths, path)
    told = f"column {names[0]} holds" if len(names) == 1 else f"columns {', '.join(names)} hold"
    if kind in ("binary", "multiclass", "bases"):
        task, why = _classes(kind, columns, lengths, told, path)
    elif kind == "multilabel":
        task, why = _labels(names, columns, told, path)
    else:
        task, why = _numbers(kind, names, columns, told, path, bin_bp)
    return task, f"{task.kind}, because {why}"


def _kind(columns: Sequence[Sequence[Cell]], lengths: Sequence[int], path: str | Path) -> Kind:
    """Tell the kind of task by the rules of :func:`infer_task`."""
    if len(columns) > 1:
        values = {class_name(cell) for column in columns for cell in column}
        return "multilabel" if values <= {"0", "1"} else "regression"
    (cells,) = columns
    if all(_is_along(cell, n_bp) for cell, n_bp in zip(cells, lengths, strict=True)):
        return "bases"
    if all(isinstance(cell, str) and is_number(cell) for cell in cells) and not _are_flags(cells):
        values = {class_name(cell) for cell in cells}
        return _classes_kind(len(values)) if _are_classes(values, len(cells)) else "regression"
    cut = [parts(cell) for cell in cells]
    if _are_flags(cells) or any(len(part) != 1 for part in cut) or not isinstance(cells[0], str):
        numeric = all(is_number(part) for row in cut for part in row)
        values = {class_name(part) for row in cut for part in row}
        # An empty list says that no label of a set is there.
        if numeric and len({len(row) for row in cut}) == 1 and not _are_flags(cells):
            return "multilabel" if values <= {"0", "1"} else "regression"
        if numeric and any(not value.lstrip("+-").isdigit() for value in values):
            raise LabelError(
                "rows have lists of numbers, some longer than others. If they are bins along the sequence, give the "
                "bases of a bin (bin_bp).",
                path,
            )
        return "multilabel"
    return _classes_kind(len(set(cells_as_names(cells))))


def cells_as_names(cells: Sequence[Cell]) -> list[str]:
    """Spell the class of each cell."""
    return [class_name(cell) for cell in cells]


def _classes_kind(n: int) -> Kind:
    return "binary" if n <= 2 else "multiclass"


def _is_along(cell: Cell, n_bp: int) -> bool:
    """Tell whether a cell says something of every base."""
    if isinstance(cell, str) and len(cell) == n_bp >= LEAST_LETTERS:
        return not is_number(cell) or cell.isdigit()
    return len(parts(cell)) == n_bp > 1


def _are_flags(cells: Sequence[Cell]) -> bool:
    """Tell a column of ``0110``: one length, and some begin with 0, as numbers do not."""
    texts = [cell for cell in cells if isinstance(cell, str) and is_flags(cell)]
    return len(texts) == len(cells) and len(set(map(len, texts))) == 1 and any(text[0] == "0" for text in texts)


def _are_classes(values: set[str], n: int) -> bool:
    """Tell whether numbers are classes."""
    try:
        whole = sorted(map(int, values))
    except ValueError:
        return False
    if len(whole) <= FEW_NUMBERS:
        return True
    gapless = whole[0] in (0, 1) and whole[-1] - whole[0] + 1 == len(whole)
    return gapless and len(whole) <= MOST_NUMBERED and n >= LEAST_EACH * len(whole)


def mixed_rows(columns: Sequence[Sequence[Cell]], lengths: Sequence[int]) -> tuple[list[int], str]:
    """Find labels that are text among numbers, or numbers among text: places of the fewer, and what they are.

    Examples
    --------
    >>> mixed_rows([["0", "1", "yes"]], [9, 9, 9]), mixed_rows([["0", "1"]], [9, 9])
    (([2], 'text among numbers'), ([], ''))
    """
    if len(columns) == 1 and all(_is_along(cell, n_bp) for cell, n_bp in zip(columns[0], lengths, strict=True)):
        return [], ""
    cells = [[column[i] for column in columns] for i in range(len(columns[0]))]
    are_numbers = [all(is_number(part) for cell in row for part in parts(cell)) for row in cells]
    n_numbers = sum(are_numbers)
    if n_numbers in (0, len(cells)):
        return [], ""
    fewer = n_numbers * 2 <= len(cells)
    what = "a number among text" if fewer else "text among numbers"
    return [i for i, is_one in enumerate(are_numbers) if is_one == fewer], what


def base_parts(cell: Cell, n_bp: int) -> list[str]:
    """Cut a cell into one part a base: its letters where there are as many, else as :func:`.cells.parts` does.

    Examples
    --------
    >>> base_parts("EEI.", 4), base_parts("0 0 1 1", 4)
    (['E', 'E', 'I', '.'], ['0', '0', '1', '1'])
    """
    if isinstance(cell, str) and len(cell) == n_bp:
        return list(cell)
    cut = parts(cell)
    return cell.split() if isinstance(cell, str) and len(cut) == 1 else cut


def _classes(
    kind: Kind, columns: Sequence[Sequence[Cell]], lengths: Sequence[int], told: str, path: str | Path
) -> tuple[Task, str]:
    if len(columns) > 1:
        raise LabelError(f"a {kind} task has one label column, not {len(columns)}. Name one.", path)
    (cells,) = columns
    counts: Counter[str] = Counter()
    if kind == "bases":
        for cell, n_bp in zip(cells, lengths, strict=True):
            counts.update(map(class_name, base_parts(cell, n_bp)))
        for name in NO_CLASS:
            del counts[name]
    else:
        counts.update(cells_as_names(cells))
    named = sorted_names(set(counts))
    listed = ", ".join(f"{name[:40]} ({counts[name]:,})" for name in named[:_SHOWN]) + (
        ", ..." if len(named) > _SHOWN else ""
    )
    if len(named) < 2:
        raise LabelError(
            f"{told} one class only: {listed or 'none'}. Give examples of another class, too.",
            path,
        )
    if kind != "bases":
        right = _classes_kind(len(named))
        if right != kind:
            raise LabelError(f"{told} {len(named)} classes: {listed}. That is {right}, not {kind}.", path)
    task = Task(kind, named)
    if kind == "bases":
        return task, f"{told} one class a base: {listed} bases"
    positive = f"; {named[1]} is the positive class" if kind == "binary" else ""
    ruled = (
        f" ({_RULE}; name the task to have it otherwise)" if kind == "multiclass" and all(map(is_number, named)) else ""
    )
    return task, f"{told} {len(named)} values: {listed}{positive}{ruled}"


def _labels(names: Sequence[str], columns: Sequence[Sequence[Cell]], told: str, path: str | Path) -> tuple[Task, str]:
    if len(columns) > 1:
        return Task("multilabel", tuple(names)), f"{told} 0 and 1 in each of {len(names)} columns"
    (cells,) = columns
    cut = [list(cell) if isinstance(cell, str) and is_flags(cell) else parts(cell) for cell in cells]
    values = {class_name(part) for row in cut for part in row}
    if values <= {"0", "1"}:
        n = max(map(len, cut))
        return (
            Task("multilabel", tuple(f"{names[0]}-{i}" for i in range(n))),
            f"{told} {n} numbers a row, each 0 or 1",
        )
    named = sorted_names(values)
    shown = ", ".join(named[:_SHOWN]) + (", ..." if len(named) > _SHOWN else "")
    return Task("multilabel", named), f"{told} sets of {len(named)} labels: {shown}"


def _numbers(
    kind: Kind, names: Sequence[str], columns: Sequence[Sequence[Cell]], told: str, path: str | Path, bin_bp: int
) -> tuple[Task, str]:
    if kind == "bins":
        if not bin_bp:
            raise LabelError("how many bases a bin has is not said. Give bin_bp.", path)
        if len(columns) > 1:
            raise LabelError(f"bins are lists in one column, not in {len(columns)}. Name one.", path)
        first = columns[0][0]
        entry = first[0] if not isinstance(first, str) and first else None
        n = len(entry) if isinstance(entry, list) else 1
        return Task(
            "bins", _output_names(names, n), bin_bp
        ), f"{told} {n} number(s) for every {bin_bp:,} bp, as was said"
    if len(columns) > 1:
        return Task("regression", tuple(names)), f"{told} a number each"
    cut = [parts(cell) for cell in columns[0]]
    n = Counter(map(len, cut)).most_common(1)[0][0]
    if n != 1:
        return Task("regression", _output_names(names, n)), f"{told} {n} numbers a row"
    numbers = sorted({float(row[0]) for row in cut if len(row) == 1 and is_number(row[0])})
    if not numbers:
        raise LabelError(f"{told} no numbers. Name another task, or another column.", path)
    if len(numbers) == 1:
        raise LabelError(f"{told} one value only: {numbers[0]:g}. There is nothing to learn from it.", path)
    whole = all(number == int(number) for number in numbers if abs(number) < 1e15)
    why = f"whole numbers too ({_RULE}; name the task to have it otherwise)" if whole else "not all whole"
    return (
        Task("regression", (names[0],)),
        f"{told} {len(numbers):,} different numbers from {numbers[0]:g} to {numbers[-1]:g}, {why}",
    )


def _output_names(names: Sequence[str], n: int) -> tuple[str, ...]:
    return (names[0],) if n == 1 else tuple(f"{names[0]}-{i}" for i in range(n))
