"""Compare the files that a user has with what a suite's manifest says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from umbel.errors import UmbelError
from umbel.evaluate.suites.manifest import Dataset, SplitFile, SplitName, Suite
from umbel.evaluate.suites.places import Place
from umbel.evaluate.suites.reading import how_to_get, locate, read_entries
from umbel.evaluate.suites.rows import Row, count_outputs, read_target
from umbel.files import sha256_file
from umbel.progress import Reporter, reporter_or_silent


@dataclass
class SplitReport:
    """What is in the file of one split."""

    dataset: str
    split: str
    path: str = ""
    """``""``: it is missing."""
    n_rows: int = 0
    n_expected: int | None = None
    trust: str = ""
    """How far ``n_expected`` is to be believed."""
    class_counts: dict[str, int] = field(default_factory=dict)
    """Rows of each class, or with each label; empty for numbers."""
    shortest_bp: int | None = None
    longest_bp: int | None = None
    n_outside_length: int = 0
    letters: dict[str, int] = field(default_factory=dict)
    """How often each letter other than A, C, G and T occurs."""
    n_rows_with_letters: int = 0
    is_sha256_right: bool | None = None
    """None: the manifest has no checksum."""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SuiteReport:
    """What was found of a suite, and what is wrong with it."""

    suite: str
    folder: str
    splits: tuple[SplitReport, ...]
    missing: dict[str, str]
    """Datasets with a file that is not there, and how to get it."""

    @property
    def problems(self) -> list[str]:
        """Everything that is wrong, apart from missing files."""
        return [f"{one.dataset}, {one.split}: {problem}" for one in self.splits for problem in one.problems]

    def is_ok(self, allow_missing: bool = False) -> bool:
        """Whether nothing is wrong; missing datasets count unless they are allowed, but some file must be there."""
        return not self.problems and any(one.path for one in self.splits) and (allow_missing or not self.missing)


def check_suite(
    suite: Suite, folder: str | Path, datasets: Sequence[str] = (), reporter: Reporter | None = None
) -> SuiteReport:
    """Read every file of a suite, and compare it with the manifest; one bad file does not hide another.

    Parameters
    ----------
    suite
        What should be there.
    folder
        Where it should be.
    datasets
        Look at these only; none: at all.
    reporter
        Told of each dataset.

    Raises
    ------
    ConfigError
        If a name of ``datasets`` is none of the suite's.
    """
    chosen = [suite.dataset(name) for name in datasets] or list(suite.datasets)
    progress = reporter_or_silent(reporter).start("Checking", len(chosen), "datasets")
    splits: list[SplitReport] = []
    missing: dict[str, str] = {}
    for dataset in chosen:
        for split, file in dataset.splits():
            report = _split(dataset, split, file, folder)
            splits.append(report)
            if not report.path:
                missing[dataset.name] = how_to_get(suite, dataset)
        progress.advance(note=dataset.name)
    progress.close()
    return SuiteReport(suite.name, str(folder), tuple(splits), missing)


def _split(dataset: Dataset, split: SplitName, file: SplitFile, folder: str | Path) -> SplitReport:
    report = SplitReport(dataset.name, split, n_expected=file.rows, trust=dataset.trust)
    path = locate(dataset, file, folder)
    if path is None:
        return report
    report.path = str(path)
    if file.sha256 and path.is_file():
        found = sha256_file(path)
        report.is_sha256_right = found == file.sha256
        if not report.is_sha256_right:
            report.problems.append(f"{path.name} has sha256 {found}, and {file.sha256} is expected")
    try:
        _look(dataset, split, path, folder, report)
    except UmbelError as error:
        report.problems.append(str(error))
        return report
    if file.rows and report.n_rows != file.rows:
        problem = f"{report.n_rows:,} rows, and {file.rows:,} are {_WORDS[dataset.trust]}"
        (report.notes if dataset.trust == "unverified" else report.problems).append(problem)
    if report.n_outside_length and dataset.length_bp:
        low, high = dataset.length_bp
        problem = f"{report.n_outside_length:,} sequences are not of {_range(low, high)} bases"
        (report.problems if dataset.trust == "counted" else report.notes).append(problem)
    if not report.n_rows:
        report.problems.append("it holds no row")
    elif dataset.task in ("binary", "multiclass") and (empty := [k for k, n in report.class_counts.items() if not n]):
        report.problems.append(f"no row of class {', '.join(empty)}")
    return report


_WORDS = {"counted": "expected", "claimed": "claimed", "unverified": "said, unverified"}


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _look(dataset: Dataset, split: SplitName, path: Path, folder: str | Path, report: SplitReport) -> None:
    """Go through the rows; of places in a genome, the labels alone are looked at."""
    n_outputs: int | None = None
    counts: Counter[str] = Counter()
    letters: Counter[str] = Counter()
    low, high = dataset.length_bp or (0, 0)
    for entry in read_entries(dataset, split, path, folder, None, None):
        report.n_rows += 1
        row = entry if isinstance(entry, Row) else _without_sequence(entry)
        if row is None:
            continue
        if n_outputs is None:
            n_outputs = count_outputs(dataset, row)
            counts.update(dict.fromkeys(dataset.names(n_outputs), 0))
        target = read_target(dataset, row, n_outputs)
        if dataset.task in ("binary", "multiclass"):
            counts[dataset.names(n_outputs)[target]] += 1
        elif dataset.task == "multilabel":
            names = dataset.names(n_outputs)
            counts.update(names[i] for i in np.flatnonzero(target))
        if isinstance(entry, Place):
            continue
        length = len(row.codes)
        report.shortest_bp = length if report.shortest_bp is None else min(report.shortest_bp, length)
        report.longest_bp = length if report.longest_bp is None else max(report.longest_bp, length)
        report.n_outside_length += bool(dataset.length_bp) and not low <= length <= high
        report.n_rows_with_letters += bool(row.letters)
        letters.update(row.letters)
    if dataset.task in ("binary", "multiclass", "multilabel"):
        report.class_counts = {name: counts[name] for name in dataset.names(n_outputs or 0)}
    report.letters = dict(sorted(letters.items()))
    if report.n_rows and report.shortest_bp is None:
        report.notes.append("coordinates: the sequences themselves were not looked at")


def _without_sequence(place: Place) -> Row | None:
    """Labels of a place; what lies in arrays of bins is not opened."""
    if not isinstance(place.labels, tuple):
        return None
    return Row(place.name, np.empty(0, np.uint8), {}, place.labels, place.number, place.path, place.line)
