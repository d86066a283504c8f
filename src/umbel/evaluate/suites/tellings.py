"""Suites and reports on them, as lines for people."""

from __future__ import annotations

from umbel.evaluate.suites.checking import SplitReport, SuiteReport
from umbel.evaluate.suites.manifest import Dataset, Suite

_CLASSES_SHOWN = 4


def suite_line(suite: Suite) -> str:
    """One line of a suite: name, size, licences and title."""
    licences = ", ".join(suite.licences)
    return (
        f"{suite.name:20}{len(suite.datasets):>3} datasets, {len(suite.groups):>2} tasks  {licences:16}  {suite.title}"
    )


def describe_suite(suite: Suite) -> list[str]:
    """Lines of a suite: its datasets as a table, then what to know of it."""
    rows: list[tuple[str, ...]] = [("dataset", "task", "kind", "metric", "bases", "train", "dev", "test")]
    for dataset in suite.datasets:
        low, high = dataset.length_bp or (dataset.window_bp, dataset.window_bp)
        length = "?" if low is None else f"{low:,}" if low == high else f"{low:,}-{high:,}"
        length = f"window {length}" if dataset.window_bp else length
        metric = "/".join((dataset.metric, *dataset.also))
        sizes = [_size(dataset, split) for split in ("train", "dev", "test")]
        rows.append((dataset.name, dataset.group, dataset.task, metric, length, *sizes))
    lines = [suite.title, f"  {suite.paper}", f"  {suite.page}; licence {', '.join(suite.licences)}", *_table(rows)]
    lines += [f"note: {note}" for note in suite.notes]
    told: dict[str, list[str]] = {}
    for dataset in suite.datasets:
        for note in ([f"our guess: {dataset.uncertain}"] if dataset.uncertain else []) + list(dataset.notes):
            told.setdefault(note, []).append(dataset.name)
    lines += [f"note: {note} [{', '.join(names)}]" for note, names in told.items()]
    return [*lines, f"checked: {suite.verified}"] if suite.verified else lines


def _size(dataset: Dataset, split: str) -> str:
    file = getattr(dataset, split)
    if file is None:
        return "none"
    return "?" if file.rows is None else f"{file.rows:,}{'' if dataset.trust == 'counted' else '*'}"


def describe_report(report: SuiteReport, allow_missing: bool = False) -> list[str]:
    """Lines of a check: a table of what is there, then notes, what is missing, and what is wrong."""
    rows: list[tuple[str, ...]] = [("dataset", "split", "rows", "expected", "bases", "other letters", "classes", "")]
    for one in report.splits:
        if not one.path:
            rows.append((one.dataset, one.split, "missing", _expected(one), "", "", "", ""))
            continue
        letters = ", ".join(f"{count:,} {letter}" for letter, count in one.letters.items())
        letters = f"{letters} in {one.n_rows_with_letters:,} rows" if letters else ""
        state = "WRONG" if one.problems else "ok"
        rows.append(
            (one.dataset, one.split, f"{one.n_rows:,}", _expected(one), _bases(one), letters, _counts(one), state)
        )
    lines = _table(rows)
    lines += [f"note: {one.dataset}, {one.split}: {note}" for one in report.splits for note in one.notes]
    for how in dict.fromkeys(report.missing.values()):
        names = [name for name, told in report.missing.items() if told == how]
        lines.append(f"missing: {', '.join(names)}. {how}")
    lines += [f"wrong: {problem}" for problem in report.problems]
    if not any(one.path for one in report.splits):
        lines.append(f"wrong: no file of {report.suite} is in {report.folder}")
    return [*lines, f"{report.suite}: {'ok' if report.is_ok(allow_missing) else 'not ok'}"]


def _expected(one: SplitReport) -> str:
    return "?" if one.n_expected is None else f"{one.n_expected:,}{'' if one.trust == 'counted' else '*'}"


def _bases(one: SplitReport) -> str:
    if one.shortest_bp is None or one.longest_bp is None:
        return ""
    same = one.shortest_bp == one.longest_bp
    return f"{one.longest_bp:,}" if same else f"{one.shortest_bp:,}-{one.longest_bp:,}"


def _counts(one: SplitReport) -> str:
    shown = [f"{name} {count:,}" for name, count in list(one.class_counts.items())[:_CLASSES_SHOWN]]
    n_more = len(one.class_counts) - len(shown)
    return ", ".join(shown) + (f" and {n_more} more" if n_more else "")


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
