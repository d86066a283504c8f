"""A suite of one's own: labelled examples written as publishers write theirs, with the manifest that goes with them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from umbel.data.labelled.examples import Examples
from umbel.data.labelled.task import Task
from umbel.errors import RunError
from umbel.evaluate.suites.loading import load_suite
from umbel.evaluate.suites.manifest import Metric, SplitName, Suite
from umbel.files import whole_folder
from umbel.genome.sequence import decode

MANIFEST = "suite.toml"


@dataclass(frozen=True)
class OwnDataset:
    """One dataset that is to be written.

    Attributes
    ----------
    splits
        ``train``, ``test`` and perhaps ``dev``; sequences with one class, several labels, or numbers.
    metric
        That is reported first.
    stranded
        The label holds for the strand given only.
    notes
        What to know before believing a score.
    """

    splits: Mapping[SplitName, Examples]
    metric: Metric
    stranded: bool
    species: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def write_suite(
    folder: str | Path, name: str, title: str, datasets: Mapping[str, OwnDataset], *, licence: str, page: str
) -> Suite:
    """Write ``suite.toml`` and a CSV file for every split; ``umbel bench --suite FOLDER/suite.toml --data FOLDER``.

    Parameters
    ----------
    folder
        Must not be there, or be a suite of this name, which is replaced whole.
    licence, page
        Of the data: what others may do with it, and where it comes from.

    Raises
    ------
    RunError
        If the folder holds something else, or a dataset is of bases or bins, which the files have no place for.
    OutputError
        If the disk is full; what was there is untouched.
    """
    target = Path(folder)
    if target.exists() and not (target / MANIFEST).is_file():
        raise RunError(f"{target}: there, and no suite (no {MANIFEST}). Choose another -o")
    lines = [
        f"{key} = {json.dumps(value)}"
        for key, value in {"name": name, "title": title, "paper": page, "page": page}.items()
    ]
    lines += ["", "[source]", f"licence = {json.dumps(licence)}", f"page = {json.dumps(page)}"]
    with whole_folder(target) as temporary:
        for key, dataset in datasets.items():
            lines += ["", "[[dataset]]", *_entry(key, dataset)]
            (temporary / key).mkdir()
            for split, examples in dataset.splits.items():
                _write_examples(temporary / key / f"{split}.csv", examples)
        (temporary / MANIFEST).write_text("\n".join(lines) + "\n", encoding="utf-8")
        load_suite(temporary / MANIFEST)
    return load_suite(target / MANIFEST)


def _entry(name: str, dataset: OwnDataset) -> list[str]:
    task = dataset.splits["train"].task
    if task.is_along_sequence:
        raise RunError(f"{name}: a task of {task.kind} cannot be written as CSV")
    lengths = [len(codes) for examples in dataset.splits.values() for codes in examples.codes]
    values: dict[str, Any] = {
        "name": name,
        "group": name,
        "task": task.kind,
        "metric": dataset.metric,
        "reader": "csv",
        "strand": "one" if dataset.stranded else "both",
        "trust": "counted",
        "classes": list(task.names),
        "species": list(dataset.species),
        "length_bp": [min(lengths), max(lengths)],
        "notes": list(dataset.notes),
    }
    files = ", ".join(f"{split} = {json.dumps(f'{name}/{split}.csv')}" for split in dataset.splits)
    rows = ", ".join(f"{split} = {len(examples)}" for split, examples in dataset.splits.items())
    return [
        *(f"{key} = {json.dumps(value)}" for key, value in values.items()),
        f"files = {{ {files} }}",
        f"rows = {{ {rows} }}",
    ]


def _write_examples(path: Path, examples: Examples) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("sequence", "label"))
        for codes, target in zip(examples.codes, examples.targets, strict=True):
            writer.writerow((decode(codes), _label(examples.task, target)))


def _label(task: Task, target: Any) -> str:
    if task.is_classes:
        return str(int(target))
    # The shortest text that reads back as the same float32.
    return ";".join(str(value) for value in target)
