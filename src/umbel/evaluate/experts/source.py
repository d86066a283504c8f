"""Where the atlas gets its sequences from, and what their items are labelled with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from umbel.genome.class_runs import NO_CLASS, Labels
from umbel.genome.sequence import Codes

__all__ = ["NO_CLASS", "Labelling", "Labels", "Source", "Stretch"]


@dataclass(frozen=True)
class Labelling:
    """One way to sort items into classes that exclude each other.

    Attributes
    ----------
    name
        Such as ``region``.
    classes
        Their names.
    level
        ``base``: every base has a class, and chance is a circular shift along the stretch. ``sequence``: a whole
        sequence has one, and chance is a permutation of the units.
    facts
        Where it is from: files with SHA-256, and settings; plain JSON.
    """

    name: str
    classes: tuple[str, ...]
    level: Literal["base", "sequence"] = "base"
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stretch:
    """A sequence whose items are counted.

    Attributes
    ----------
    name
        The contig, or the sequence.
    start
        Of its first base on the contig, 0-based; 0 for a sequence of its own.
    content
        Base codes ``(n,)``, or text.
    unit
        Number of the cluster of like sequences that it belongs to, which is drawn or left as a whole when intervals
        are made: 0 to ``n_units - 1``. All stretches of a unit have one class in labellings of sequences.
    labels
        For each labelling of bases its int16 ``(n,)`` classes, -1 where there is none.
    classes
        For each labelling of sequences the class, -1 for none.
    """

    name: str
    start: int
    content: Codes | str
    unit: int
    labels: Mapping[str, Labels] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)


class Source(Protocol):
    """Labelled stretches, read in any order.

    Attributes
    ----------
    labellings
        Of every stretch.
    n_units
        At most :data:`umbel.evaluate.experts.totals.MAX_UNITS`.
    facts
        Files with SHA-256, choices, effective sample size; plain JSON.
    """

    labellings: tuple[Labelling, ...]
    n_units: int
    facts: dict[str, Any]

    def __len__(self) -> int:
        """How many stretches there are."""

    def stretch(self, i: int) -> Stretch:
        """Read the ith."""
