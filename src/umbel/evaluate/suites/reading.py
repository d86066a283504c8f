"""Read a dataset of a suite from the files that its publishers ship."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from umbel.data.labelled.examples import Examples, Targets
from umbel.data.labelled.task import Task
from umbel.errors import LabelError
from umbel.evaluate.suites.classes import read_class_rows
from umbel.evaluate.suites.headers import read_header_rows
from umbel.evaluate.suites.long_range import read_places
from umbel.evaluate.suites.manifest import Dataset, SplitFile, SplitName, Suite
from umbel.evaluate.suites.places import Place, cut
from umbel.evaluate.suites.rows import Row, count_outputs, read_target
from umbel.evaluate.suites.tables import read_csv_rows, read_parquet_rows
from umbel.progress import Reporter, reporter_or_silent


def read_dataset(
    suite: Suite,
    name: str,
    folder: str | Path,
    *,
    window_bp: int | None = None,
    fits_bp: int | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Examples]:
    r"""Read the splits of a dataset.

    Parameters
    ----------
    suite, name
        Which dataset.
    folder
        Where the suite's files are.
    window_bp
        Bases cut around a coordinate, where files hold coordinates; None takes the manifest's number.
    fits_bp
        Leave rows out where a window of so many bases would leave its chromosome, so that windows of several lengths
        are compared on the same rows; None takes ``window_bp``.
    reporter
        Told how many rows were left out.

    Returns
    -------
    ``train``, ``dev`` and ``test``, of those that the publishers ship. Where a name occurs again in a split, the number
    of its row follows it, as in ``chr1#12``.

    Raises
    ------
    LabelError
        With file and line: a file that is missing, or a row that is not as its format says.
    ConfigError
        No such dataset.

    Examples
    --------
    >>> import tempfile
    >>> from umbel.evaluate.suites import load_suite
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "H3").mkdir()
    >>> for split in ("train", "test"):
    ...     _ = (folder / "H3" / f"{split}.fna").write_text(">chrI|1\nACGT\n>chrI|0\nGG\n")
    >>> read = read_dataset(load_suite("nt"), "H3", folder)
    >>> sorted(read), read["test"].ids, read["test"].targets.tolist()
    (['test', 'train'], ('chrI', 'chrI#3'), [1, 0])
    """
    dataset, reporter = suite.dataset(name), reporter_or_silent(reporter)
    n_outputs: int | None = None
    examples: dict[str, Examples] = {}
    for split, file in dataset.splits():
        path = locate(dataset, file, folder)
        if path is None:
            raise LabelError(f"{dataset.name} has no {split} file here. {how_to_get(suite, dataset)}", Path(folder))
        left_out: list[Place] = []
        rows = list(read_rows(dataset, split, path, folder, window_bp, fits_bp, left_out))
        if left_out:
            reporter.say(
                f"{dataset.name}, {split}: {len(left_out):,} of {len(left_out) + len(rows):,} rows left out, whose "
                "window leaves the chromosome"
            )
        if not rows:
            raise LabelError(f"no row of {dataset.name}, {split}.", path)
        n_outputs = n_outputs or count_outputs(dataset, rows[0])
        examples[split] = _examples(dataset, rows, path, n_outputs)
    return examples


def locate(dataset: Dataset, file: SplitFile, folder: str | Path) -> Path | None:
    """Find the file of a split below the user's folder: the first of its names that is there."""
    candidates = [Path(folder) / dataset.folder / path for path in file.paths]
    return next((path for path in candidates if path.exists()), None)


def how_to_get(suite: Suite, dataset: Dataset) -> str:
    """Say how to get the files of a dataset; FOLDER and NAME are the reader's to fill in."""
    if dataset.source.repo:
        more = f" {dataset.source.how}." if dataset.source.how else ""
        return f"Get it with: umbel suite fetch {suite.name} -o FOLDER --dataset NAME.{more}"
    return f"{dataset.source.how or f'See {dataset.source.page}'}."


def read_entries(
    dataset: Dataset, split: SplitName, path: Path, folder: str | Path, window_bp: int | None, fits_bp: int | None
) -> Iterator[Row | Place]:
    """Yield what the file of a split holds: sequences, or places of a genome."""
    reader = dataset.reader_of(split)
    if reader == "fasta":
        n_labels = 1 if dataset.task in ("binary", "multiclass") else dataset.n_outputs
        yield from read_header_rows(path, n_labels)
    elif reader == "csv":
        yield from read_csv_rows(path)
    elif reader == "parquet":
        yield from read_parquet_rows(path, dataset.name)
    elif reader == "classes":
        yield from read_class_rows(path, dataset)
    else:
        window = window_bp or dataset.window_bp or 0
        yield from read_places(path, dataset, split, Path(folder) / dataset.folder, window, fits_bp or window)


def read_rows(
    dataset: Dataset,
    split: SplitName,
    path: Path,
    folder: str | Path,
    window_bp: int | None,
    fits_bp: int | None,
    left_out: list[Place],
) -> Iterator[Row]:
    """Yield the sequences of a split, cut from the genome where the file holds places; ``left_out`` gets the others."""
    if dataset.reader_of(split) == "lrb_variants":
        raise LabelError(
            f"rows of {dataset.name} are pairs of sequences, with one allele and with the other: they are scored as "
            "variants, and no head is trained on them.",
            path,
        )
    places: list[Place] = []
    for entry in read_entries(dataset, split, path, folder, window_bp, fits_bp):
        if isinstance(entry, Row):
            yield entry
        else:
            places.append(entry)
    if places:
        yield from cut(places, Path(folder) / dataset.folder, left_out.append)


def _examples(dataset: Dataset, rows: list[Row], path: Path, n_outputs: int) -> Examples:
    task = Task(dataset.task, dataset.names(n_outputs), dataset.bin_bp)
    values = [read_target(dataset, row, n_outputs) for row in rows]
    targets: Targets
    if task.is_along_sequence:
        targets = tuple(values)
    else:
        targets = np.array(values, np.int64) if task.is_classes else np.stack(values)
    return Examples(
        task,
        _ids(rows),
        tuple(row.codes for row in rows),
        targets,
        str(path),
        np.array([row.number for row in rows], np.int64),
    )


def _ids(rows: list[Row]) -> tuple[str, ...]:
    """Names of rows; one that occurs again gets its row's number."""
    seen: set[str] = set()
    ids = []
    for row in rows:
        name = row.name if row.name not in seen else f"{row.name}#{row.number}"
        while name in seen:
            name += "'"
        seen.add(name)
        ids.append(name)
    return tuple(ids)
