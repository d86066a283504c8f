"""Rows judged one by one: sequences, labels, ids, and sequences that contradict each other."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from umbel.data.labelled.cells import Cell, class_name, is_missing
from umbel.data.labelled.examples import Examples
from umbel.data.labelled.inference import infer_task, mixed_rows
from umbel.data.labelled.problems import Problem, raise_problems
from umbel.data.labelled.raw import RawRows
from umbel.data.labelled.targets import Target, TargetParser, UnseenClassError, gather_targets
from umbel.data.labelled.task import Kind, Task
from umbel.errors import LabelError
from umbel.genome.sequence import Codes, N, encode, first_refused

_URACIL = b"Uu"


def check_rows(
    raw: RawRows, task: Task | Kind | None, bin_bp: int, keep_conflicts: bool, skip: bool
) -> tuple[Examples, str, tuple[Problem, ...], tuple[str, ...]]:
    """Judge all rows and make examples of those that pass.

    Returns
    -------
    examples, reason, problems, notes
        As :class:`umbel.data.labelled.reading.Reading` has them.

    Raises
    ------
    LabelError
        If rows are bad and not to be skipped, if there is no telling the task, or if nothing is left.
    """
    codes = _read_sequences(raw)
    _check_ids(raw, codes)
    _check_labels_there(raw, codes)
    try:
        whole_task, reason, targets = _read_labels(raw, codes, task, bin_bp)
    except LabelError:
        # What is wrong with rows says more than that the rest is no task.
        if not skip:
            raise_problems(raw.problems)
        raise
    _check_conflicts(raw, codes, targets, whole_task, keep_conflicts)
    raw.problems.sort(key=lambda problem: (problem.source, problem.row))
    if not skip:
        raise_problems(raw.problems)
    if not raw.rows:
        raise LabelError("no row is left: every one is bad.", raw.source)
    examples = Examples(
        whole_task,
        tuple(raw.ids),
        tuple(codes),
        gather_targets(whole_task, targets),
        raw.source,
        np.array(raw.rows, np.int64),
    )
    return examples, reason, tuple(raw.problems), tuple(raw.notes)


def _drop(raw: RawRows, is_bad: Callable[[int], bool] | Sequence[bool], *beside: list[Codes] | list[Target]) -> None:
    """Leave bad rows out, of ``raw`` and of lists beside it."""
    judge = is_bad if callable(is_bad) else is_bad.__getitem__
    kept = [not judge(i) for i in range(len(raw))]
    if all(kept):
        return
    raw.keep(kept)
    for values in beside:
        values[:] = [value for value, keep in zip(values, kept, strict=True) if keep]  # type: ignore[misc]


def _read_sequences(raw: RawRows) -> list[Codes]:
    """Encode every sequence, refuse those that cannot be, and note how many letters became N."""
    if not raw.rows and not raw.problems:
        raise LabelError("there is no row below the header. Check how the file was made.", raw.source)
    codes: list[Codes] = []
    letters: Counter[str] = Counter()
    bad = [False] * len(raw)
    n_with = 0
    for i, text in enumerate(raw.letters):
        try:
            if text.translate(None, _URACIL) != text:
                raise ValueError
            found, _, others = encode(text)
        except ValueError:
            found, others = np.empty(0, np.uint8), {}
            position = next((p for p, letter in enumerate(text) if letter in _URACIL), -1)
            refused = first_refused(text)
            position = refused if position < 0 or 0 <= refused < position else position
            letter = text.decode("utf-8", "replace")[position : position + 1] if text.isascii() else chr(text[position])
            raw.refuse(raw.rows[i], raw.ids[i], "not DNA", f"{letter!r} at base {position + 1}", raw.sources[i])
            bad[i] = True
        else:
            if not len(found):
                raw.refuse(raw.rows[i], raw.ids[i], "no sequence", "the sequence is empty", raw.sources[i])
                bad[i] = True
            elif others and int(found.min()) == N:
                reason = f"none of {len(found):,} letters is A, C, G or T"
                raw.refuse(raw.rows[i], raw.ids[i], "no bases", reason, raw.sources[i])
                bad[i] = True
        codes.append(found)
        if not bad[i] and others:
            n_with += 1
            letters.update(others)
    if letters:
        told = ", ".join(f"{letter} {count:,}" for letter, count in sorted(letters.items()))
        raw.notes.append(f"letters that became N, in {n_with:,} sequence{'s' if n_with > 1 else ''}: {told}")
    _drop(raw, bad, codes)
    raw.letters = [b""] * len(raw)
    return codes


def _check_ids(raw: RawRows, codes: list[Codes]) -> None:
    first: dict[str, int] = {}
    bad = [False] * len(raw)
    for i, name in enumerate(raw.ids):
        if not name:
            raw.refuse(raw.rows[i], "", "no id", "the id is empty", raw.sources[i])
            bad[i] = True
        elif (row := first.setdefault(name, raw.rows[i])) != raw.rows[i]:
            hint = "; if rows are words of one sequence, say so (words)" if row == raw.rows[i] - 1 else ""
            raw.refuse(raw.rows[i], name, "duplicated id", f"{name!r} is also row {row}{hint}", raw.sources[i])
            bad[i] = True
    _drop(raw, bad, codes)


def _check_labels_there(raw: RawRows, codes: list[Codes]) -> None:
    bad = [False] * len(raw)
    for i, cells in enumerate(raw.labels):
        for name, cell in zip(raw.label_names, cells, strict=True):
            if is_missing(cell) and cell != "." * len(codes[i]):
                said = f"column {name} is empty" if not cell else f"column {name} says {cell!r}"
                raw.refuse(raw.rows[i], raw.ids[i], "no label", said, raw.sources[i])
                bad[i] = True
                break
    _drop(raw, bad, codes)


def _read_labels(
    raw: RawRows, codes: list[Codes], task: Task | Kind | None, bin_bp: int
) -> tuple[Task, str, list[Target]]:
    """Tell the task where it is not given, and make the targets; rows that do not fit it are refused."""
    if isinstance(task, Task):
        if bin_bp and bin_bp != task.bin_bp:
            raise LabelError(f"bins of {bin_bp} bp, and the task has bins of {task.bin_bp} bp. Give one.", raw.source)
        reason = f"{task.kind}, as the training file"
    else:
        if task is None and not bin_bp and raw.rows:
            places, what = mixed_rows(_columns(raw), [len(found) for found in codes])
            for i in places:
                raw.refuse(raw.rows[i], raw.ids[i], "mixed labels", f"{what}: {_said(raw, i)}", raw.sources[i])
            _drop(raw, set(places).__contains__, codes)
        if not raw.rows:
            raise LabelError("no row is left: every one is bad.", raw.source)
        task, reason = infer_task(
            raw.label_names, _columns(raw), [len(found) for found in codes], raw.source, task, bin_bp
        )
    try:
        parser = TargetParser(task, raw.label_names)
    except ValueError as error:
        raise LabelError(f"{error}. Name the label column(s).", raw.source) from error
    targets: list[Target] = []
    bad = [False] * len(raw)
    for i, cells in enumerate(raw.labels):
        try:
            targets.append(parser.parse(cells, len(codes[i])))
        except UnseenClassError as error:
            raw.refuse(raw.rows[i], raw.ids[i], "unseen class", str(error), raw.sources[i])
            bad[i] = True
            targets.append(-1)
        except ValueError as error:
            raw.refuse(raw.rows[i], raw.ids[i], "wrong label", str(error), raw.sources[i])
            bad[i] = True
            targets.append(-1)
    _drop(raw, bad, codes, targets)
    return task, reason, targets


def _columns(raw: RawRows) -> list[list[Cell]]:
    return [[cells[j] for cells in raw.labels] for j in range(len(raw.label_names))]


def _said(raw: RawRows, i: int) -> str:
    return ", ".join(repr(class_name(cell)[:40]) for cell in raw.labels[i])


def _check_conflicts(raw: RawRows, codes: list[Codes], targets: list[Target], task: Task, keep: bool) -> None:
    """Refuse sequences that come with two labels, all their rows; of numbers, two measurements are no conflict."""
    if task.is_numbers:
        return
    seen: dict[bytes, list[int]] = {}
    for i, found in enumerate(codes):
        seen.setdefault(hashlib.blake2b(found.tobytes(), digest_size=16).digest(), []).append(i)
    conflicts = [
        places
        for places in seen.values()
        if len(places) > 1 and len({np.asarray(targets[i]).tobytes() for i in places}) > 1
    ]
    if keep:
        if conflicts:
            n = sum(map(len, conflicts))
            raw.notes.append(f"{len(conflicts):,} sequences come with two labels or more, in {n:,} rows; all are kept")
        return
    bad = set()
    for places in conflicts:
        for i in places:
            other = next(j for j in places if np.asarray(targets[j]).tobytes() != np.asarray(targets[i]).tobytes())
            where = f"{raw.sources[other]}, " if raw.sources[other] != raw.sources[i] else ""
            raw.refuse(
                raw.rows[i],
                raw.ids[i],
                "conflict",
                f"{where}row {raw.rows[other]} has the same sequence and another label",
                raw.sources[i],
            )
            bad.add(i)
    _drop(raw, bad.__contains__, codes, targets)
