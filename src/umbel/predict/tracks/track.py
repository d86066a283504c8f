"""A line of numbers along the genome: its name, unit, and how it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PRECISION = 2.0**-12
"""Probabilities, logarithms and entropies are written as multiples of this (0.00024): files are half as large."""


@dataclass(frozen=True)
class Track:
    """A line of numbers along the genome.

    Attributes
    ----------
    name
        Of its file; see :func:`file_names`.
    title
        What it is, for people.
    unit
        Of its values.
    low, high
        The range in which it is drawn; None lets the viewer choose.
    precision
        Values are rounded to multiples of this; 0 leaves them as they are.
    """

    name: str
    title: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    precision: float = 0.0


def file_names(labels: Sequence[str]) -> list[str]:
    """Make file names of labels: letters, digits, dot, minus and underscore stay; each is given once.

    Examples
    --------
    >>> file_names(["exon", "5' UTR", "5/ UTR", "../x"])
    ['exon', '5_UTR', '5_UTR_2', 'x']
    """
    found: list[str] = []
    for number, label in enumerate(labels):
        kept = "".join(
            letter if letter.isascii() and (letter.isalnum() or letter in ".-_") else " " for letter in label
        )
        plain = "_".join(kept.split()).strip("._-") or f"track_{number}"
        name, copy = plain, 1
        while name.lower() in {other.lower() for other in found}:
            copy += 1
            name = f"{plain}_{copy}"
        found.append(name)
    return found
