"""One way to label any stretch of a genome, and the commonest of them: runs of classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from umbel.evaluate.experts.source import NO_CLASS, Labelling, Labels
from umbel.files import sha256_file
from umbel.genome.class_runs import ClassRuns


class Labeller(Protocol):
    """Sorts the bases of a genome into classes, wherever it is asked."""

    @property
    def labelling(self) -> Labelling:
        """Its classes. What it is from, and what it passed over, is in the facts (``files``, ``notes``)."""

    def labels(self, contig: str, start: int, end: int) -> Labels:
        """Give the class of each base: int16 ``(end - start,)``, -1 where there is none."""


@dataclass(frozen=True)
class RunLabels:
    """Classes held as runs of each contig.

    Examples
    --------
    >>> runs = {"chr1": ClassRuns(np.array([2]), np.array([4]), np.array([0], np.int16))}
    >>> RunLabels(Labelling("region", ("cds",)), runs).labels("chr1", 1, 5).tolist()
    [-1, 0, 0, -1]
    """

    labelling: Labelling
    runs: Mapping[str, ClassRuns]

    def labels(self, contig: str, start: int, end: int) -> Labels:
        """Give the class of each base; contigs without runs have none."""
        if contig not in self.runs:
            return np.full(end - start, NO_CLASS, np.int16)
        return self.runs[contig].labels(start, end)


def file_facts(path: str | Path) -> dict[str, str]:
    """Tell a file by its name and SHA-256."""
    return {"name": Path(path).name, "sha256": sha256_file(path)}


def made_of(path: str | Path, notes: list[str], **settings: Any) -> dict[str, Any]:
    """Facts of a labelling from one file."""
    return {"files": [file_facts(path)], "notes": notes, **settings}
