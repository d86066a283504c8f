"""Features called from probabilities of classes: runs of bases that a class is likely at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from umbel.errors import ConfigError
from umbel.genome.gff3 import Gff3Feature, write_gff3
from umbel.genome.gff3_check import require_gff3
from umbel.genome.ontology import require_so_type, so_type
from umbel.genome.runs import runs_where

BACKGROUND = frozenset({"0", "background", "intergenic", "no", "none", "other", "negative"})
"""Labels (in lower case) that are not called unless they are asked for."""


@dataclass(frozen=True)
class CallSettings:
    """What becomes a feature.

    Attributes
    ----------
    threshold
        Least probability of a base, above 0 and up to 1.
    min_bp
        Shortest feature.
    merge_gap_bp
        Features of one class that lie at most so far apart become one, if no N or unread base lies between them.
    labels
        Classes that are called; none: all but those in ``BACKGROUND``.
    types
        Label to term of the Sequence Ontology, where :func:`umbel.genome.ontology.so_type` shall not choose.
    strand
        Of every feature: ``+``, ``-`` or ``.``.
    """

    threshold: float = 0.5
    min_bp: int = 1
    merge_gap_bp: int = 0
    labels: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    strand: str = "."

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"--threshold is {self.threshold}: give a probability above 0, up to 1")
        if self.min_bp < 1 or self.merge_gap_bp < 0:
            raise ConfigError(f"--min-bp is {self.min_bp} and --merge-gap-bp {self.merge_gap_bp}: give 1 and 0 or more")
        if self.strand not in ("+", "-", "."):
            raise ConfigError(f"--call-strand is {self.strand!r}: use + - or .")
        for term in self.types.values():
            require_so_type(term)

    def called(self, names: Sequence[str]) -> list[int]:
        """Give the places of the classes that are called.

        Raises
        ------
        ConfigError
            If a label is not among the names.
        """
        unknown = [label for label in (*self.labels, *self.types) if label not in names]
        if unknown:
            raise ConfigError(f"the head has no class {unknown[0]!r}; it has {', '.join(names)}")
        chosen = self.labels or [name for name in names if name.lower() not in BACKGROUND]
        return [names.index(label) for label in chosen]

    def facts(self) -> dict[str, Any]:
        """Give the settings as JSON values."""
        return {
            "threshold": self.threshold,
            "min_bp": self.min_bp,
            "merge_gap_bp": self.merge_gap_bp,
            "labels": list(self.labels),
            "types": dict(self.types),
            "strand": self.strand,
        }


@dataclass
class _Run:
    """A run that may still grow: its bases so far, and the sum of their probabilities."""

    start: int
    end: int
    total: float
    gap_total: float = 0.0


class Caller:
    """Finds the runs of one class along a contig, from values that come piece by piece.

    Examples
    --------
    >>> caller = Caller(CallSettings(merge_gap_bp=1, min_bp=2))
    >>> caller.add(0, np.array([0.9, 0.1, 0.7, 0.0, 0.0, 0.8], np.float32))
    >>> [(start, end, round(mean, 3)) for start, end, mean in caller.finish()]
    [(0, 3, 0.567)]
    """

    def __init__(self, settings: CallSettings):
        self._settings, self._run, self._place = settings, _Run(0, 0, 0.0), 0
        self._found: list[tuple[int, int, float]] = []
        self.highest = 0.0

    def add(self, start: int, values: npt.NDArray[np.float32]) -> None:
        """Take the probabilities of bases that follow each other, ``(n,)``; NaN where there is none."""
        if start != self._place:
            self._end()
        self._place = start + len(values)
        for first, last in runs_where(np.isfinite(values)).tolist():
            if first:
                self._end()
            self._stretch(start + first, values[first:last].astype(np.float64))
            if last < len(values):
                self._end()

    def _stretch(self, start: int, values: npt.NDArray[np.float64]) -> None:
        self.highest = max(self.highest, float(values.max()))
        sums = np.concatenate(([0.0], np.cumsum(values)))
        done = 0
        for first, last in runs_where(values >= self._settings.threshold).tolist():
            run, total = self._run, float(sums[last] - sums[first])
            run.gap_total += float(sums[first] - sums[done])
            if run.end > run.start and start + first - run.end <= self._settings.merge_gap_bp:
                run.total += run.gap_total + total
                run.end, run.gap_total = start + last, 0.0
            else:
                self._end()
                self._run = _Run(start + first, start + last, total)
            done = last
        self._run.gap_total += float(sums[-1] - sums[done])

    def _end(self) -> None:
        run = self._run
        if run.end - run.start >= self._settings.min_bp:
            self._found.append((run.start, run.end, run.total / (run.end - run.start)))
        self._run = _Run(0, 0, 0.0)

    def finish(self) -> list[tuple[int, int, float]]:
        """End the contig, and give start, end and mean probability of each run."""
        self._end()
        found, self._found, self._place = self._found, [], 0
        return found


class Calls:
    """A GFF3 file of features that grows contig by contig; in a ``with`` block, after which it is whole and checked.

    Nothing is written where nothing was called.

    Parameters
    ----------
    path
        Where it is written.
    lengths
        Contig to length, of the contigs that are scanned.
    names
        Classes, in the order of the values' rows.
    settings
        What becomes a feature.

    Attributes
    ----------
    n_of_class
        Features so far.

    Raises
    ------
    AnnotationError
        If what was written is not valid, which would be a mistake of ours.
    """

    def __init__(self, path: Path, lengths: Mapping[str, int], names: Sequence[str], settings: CallSettings):
        self._path, self._names, self._settings = path, list(names), settings
        self._callers = {row: Caller(settings) for row in settings.called(self._names)}
        self.n_of_class = {self._names[row]: 0 for row in self._callers}
        self._contig: str | None = None
        self._file = path.open("w", encoding="utf-8")
        write_gff3(self._file, {contig: (0, length) for contig, length in lengths.items()}, [])

    @property
    def highest(self) -> dict[str, float]:
        """The highest probability of each class that was called."""
        return {self._names[row]: round(caller.highest, 4) for row, caller in self._callers.items()}

    def add(self, contig: str, start: int, values: npt.NDArray[np.float32]) -> None:
        """Take ``(classes, n)`` probabilities of bases that follow each other; contigs come one after another."""
        if self._contig != contig:
            self._end_contig()
        self._contig = contig
        for row, caller in self._callers.items():
            caller.add(start, values[row])

    def _end_contig(self) -> None:
        if self._contig is None:
            return
        rows = sorted(
            (start, end, row, mean) for row, caller in self._callers.items() for start, end, mean in caller.finish()
        )
        for start, end, row, mean in rows:
            label = self._names[row]
            attributes = {"ID": f"call{sum(self.n_of_class.values()) + 1}", "Name": label}
            kind = self._settings.types.get(label) or so_type(label)
            feature = Gff3Feature(self._contig, kind, start, end, mean, self._settings.strand, attributes)
            self._file.write(feature.line() + "\n")
            self.n_of_class[label] += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._end_contig()
        self._file.close()
        if kind is not None:
            return
        if any(self.n_of_class.values()):
            require_gff3(self._path)
        else:
            self._path.unlink()
