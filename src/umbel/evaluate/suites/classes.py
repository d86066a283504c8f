"""Genomic Benchmarks: a folder for a split, and in it a text file for each sequence, or coordinates, of each class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from umbel.errors import LabelError
from umbel.evaluate.suites.manifest import Dataset
from umbel.evaluate.suites.places import Place
from umbel.evaluate.suites.rows import Row, encoded
from umbel.evaluate.suites.tables import read_columns

_COLUMNS = ("id", "region", "start", "end", "strand")


def read_class_rows(folder: Path, dataset: Dataset) -> Iterator[Row | Place]:
    """Yield the sequences, or the places, of each class; classes in the manifest's order, never the folder's.

    Parameters
    ----------
    folder
        Holds for each class ``<class>/<id>.txt``, or ``<class>.csv.gz`` (or ``.csv``) with columns
        id, region, start, end (0-based, half-open) and strand. If both are there, the sequences are read.
    dataset
        Names the classes, and the genome of each.

    Raises
    ------
    LabelError
        With file and line: a class that is missing or unknown, an empty class, a row that is not as described.
    """
    known = set(dataset.classes)
    for path in sorted(folder.iterdir()):
        name = path.name if path.is_dir() else path.name.removesuffix(".gz").removesuffix(".csv")
        if not path.name.startswith(".") and name not in known:
            raise LabelError(f"{path.name!r} is no class of {dataset.name}: {', '.join(dataset.classes)}.", folder)
    number = 0
    for name in dataset.classes:
        before = number
        for row in _one_class(folder, name, dataset, number):
            number += 1
            yield row
        if number == before:
            raise LabelError(f"class {name!r} has no sequence. Fetch it again.", folder)


def class_files(folder: Path, name: str) -> Path | None:
    """Find the folder of sequences, or the file of coordinates, of one class."""
    for path in (folder / name, folder / f"{name}.csv.gz", folder / f"{name}.csv"):
        if path.exists():
            return path
    return None


def _one_class(folder: Path, name: str, dataset: Dataset, before: int) -> Iterator[Row | Place]:
    path = class_files(folder, name)
    if path is None:
        raise LabelError(f"class {name!r} is missing: neither {name}/ nor {name}.csv.gz is there.", folder)
    if path.is_dir():
        for number, text in enumerate(sorted(path.glob("*.txt")), start=before + 1):
            codes, others = encoded(text.read_bytes().strip(), text, None)
            yield Row(f"{name}/{text.stem}", codes, others, (name,), number, text, None)
        return
    genome = dataset.genomes.get(name) or dataset.genomes.get("*", "")
    for number, (line, fields) in enumerate(read_columns(path, _COLUMNS), start=before + 1):
        identity, region, start, end, strand = fields
        if not (start.isdecimal() and end.isdecimal() and int(start) < int(end)) or strand not in ("+", "-"):
            raise LabelError(f"start, end and strand are {start!r}, {end!r} and {strand!r}.", path, line)
        yield Place(f"{name}/{identity}", genome, region, int(start), int(end), strand, (name,), number, path, line)
