"""The substitutions of the benchmark, with all that baselines may look at, whatever they were drawn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from umbel.genome.sequence import Codes

Ints = npt.NDArray[np.int64]

N_FOLDS = 5
"""Parts of the clusters: what a fitted baseline says of one comes from the others."""
NO_PLACE = 255


@dataclass(frozen=True, eq=False)
class Rows:
    """n substitutions, in the order of the genome.

    Attributes
    ----------
    contig, position
        Names of contigs, and index ``(n,)`` into them; 0-based positions ``(n,)``.
    ref, alt
        uint8 ``(n,)``, on the forward strand.
    label, classes
        Index ``(n,)`` into the names of the classes.
    cluster, clusters
        Index ``(n,)`` into the names of what is resampled together: genes, or stretches of a contig.
    own_ref, own_alt, left, right
        uint8 ``(n,)``: the two bases and their neighbours on the strand that counts: the coding one, or that on which
        the reference is C or T.
    codon_position
        uint8 ``(n,)``: 0 to 2, or 255 where there is none.
    """

    contigs: tuple[str, ...]
    contig: Ints
    position: Ints
    ref: Codes
    alt: Codes
    label: Ints
    classes: tuple[str, ...]
    cluster: Ints
    clusters: tuple[str, ...]
    own_ref: Codes
    own_alt: Codes
    left: Codes
    right: Codes
    codon_position: Codes

    def __len__(self) -> int:
        return len(self.position)

    @property
    def fold(self) -> Ints:
        """Part ``(n,)`` of each substitution's cluster."""
        return self.cluster % N_FOLDS

    @property
    def is_coding(self) -> bool:
        """Whether codon positions are known."""
        return bool(len(self)) and bool((self.codon_position != NO_PLACE).all())

    def only(self, which: npt.NDArray[np.bool_]) -> Rows:
        """Keep some of the rows; the names of clusters stay."""
        per_row = ("contig", "position", "ref", "alt", "label", "cluster", "own_ref", "own_alt", "left", "right")
        kept = {name: getattr(self, name)[which] for name in (*per_row, "codon_position")}
        return Rows(**{**vars(self), **kept})


def substitution_key(ref: Codes, alt: Codes) -> Ints:
    """Give a number to each kind of substitution, 0 to 15.

    Examples
    --------
    >>> substitution_key(np.array([1]), np.array([3])).tolist()
    [7]
    """
    return ref.astype(np.int64) * 4 + alt


def context_key(left: Codes, ref: Codes, right: Codes, alt: Codes) -> Ints:
    """Give a number to each kind of substitution between two neighbours, 0 to 255."""
    return (substitution_key(ref, alt) * 4 + left) * 4 + right


def frame_key(codon_position: Codes, ref: Codes, alt: Codes) -> Ints:
    """Give a number to each kind of substitution at a place of a codon, 0 to 47."""
    return codon_position.astype(np.int64) * 16 + substitution_key(ref, alt)


N_KEYS: Mapping[str, int] = {"substitution": 16, "context": 256, "frame": 48}
KEYS: Mapping[str, Callable[[Rows], Ints]] = {
    "substitution": lambda rows: substitution_key(rows.own_ref, rows.own_alt),
    "context": lambda rows: context_key(rows.left, rows.own_ref, rows.right, rows.own_alt),
    "frame": lambda rows: frame_key(rows.codon_position, rows.own_ref, rows.own_alt),
}
"""What rows may be matched on, and what fitted baselines know."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """What was drawn, what fitted baselines are fitted on, and what is to be known about both.

    Attributes
    ----------
    rows
        The substitutions that are scored.
    counts
        Key of ``KEYS`` to int64 ``(N_FOLDS, keys, classes)``: all substitutions of the same genes (of alleles: the
        rows), drawn or not.
    comparisons
        Names of the class that should score higher, and of the one below.
    facts
        As plain JSON.
    tested
        Contig to the stretches ``(start, end)`` in which tested genes lie: nothing may be fitted there.
    """

    rows: Rows
    counts: Mapping[str, Ints]
    comparisons: tuple[tuple[str, str], ...]
    facts: Mapping[str, object]
    tested: Mapping[str, list[tuple[int, int]]]
