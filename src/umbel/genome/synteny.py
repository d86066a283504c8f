"""Stretches of two genomes that descend from one: many genes in common, near each other in both."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from umbel.genome.peptides import Places, Seeds, peptide_seeds
from umbel.genome.runs import Runs, merge
from umbel.genome.sequence import Codes

NEAR_BP = 60_000
"""Shared genes so near each other, in both genomes, support one another."""
MIN_SUPPORT = 4
"""So many shared genes, itself among them, make a shared stretch."""
MARGIN_BP = 20_000
"""What stands around the outermost shared genes of a stretch goes with it."""
BIN_BP = 4_000
"""Seeds in one bin of both genomes count once: they are one gene, or one array of its copies."""
MAX_COPIES = 8
"""Peptides more frequent than this in either genome belong to families and transposons, and point nowhere."""

MAX_PARTNERS = 12
"""Bins with more partners than this are transposons. Every base of *A. thaliana* has up to six in *B. napus*."""
BRIDGED_BP = 150_000
"""Shared genes no further apart than this belong to one stretch."""

_APART = 1 << 40

Contigs = Iterable[tuple[str, Codes]]


@dataclass(frozen=True)
class Seeded:
    """The peptides of some contigs, ascending by seed.

    Attributes
    ----------
    lengths
        Bases of each contig.
    seeds, contigs, places
        ``(n,)``: the peptide, the number of its contig, and where on it.
    """

    lengths: dict[str, int]
    seeds: Seeds
    contigs: npt.NDArray[np.int64]
    places: Places

    @classmethod
    def of(cls, contigs: Contigs, one_in: int = 4) -> Seeded:
        """Collect the peptides of contigs, and leave out those with more than ``MAX_COPIES``."""
        lengths: dict[str, int] = {}
        found = [(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64))]
        for number, (name, codes) in enumerate(contigs):
            lengths[name] = len(codes)
            seeds, places = peptide_seeds(codes, one_in)
            found.append((seeds, np.full(len(seeds), number, np.int64), places))
        seeds, numbers, places = (np.concatenate(x) for x in zip(*found, strict=True))
        order = np.argsort(seeds, kind="stable")
        _, at, counts = np.unique(seeds[order], return_inverse=True, return_counts=True)
        order = order[counts[at] <= MAX_COPIES]
        return cls(lengths, seeds[order], numbers[order], places[order])


@dataclass(frozen=True)
class Synteny:
    """What of one genome descends from the same stretches as another.

    Attributes
    ----------
    runs
        Contig to int64 ``(n_runs, 2)``, sorted and apart; every contig is there.
    n_pairs
        Pairs of bins with a peptide in common.
    n_supported
        Those with ``MIN_SUPPORT`` pairs near them, in both genomes.
    n_by_chance
        As many as that, once the partners were drawn anew among all: what unrelated places would give.
    """

    runs: dict[str, Runs]
    n_pairs: int
    n_supported: int
    n_by_chance: int


def shared_stretches(target: Seeded, other: Seeded, seed: int = 0) -> Synteny:
    """Find the stretches of ``target`` that have their like in ``other``: orthologs, and homeologs of polyploids.

    Two bins of 4,000 bases are a pair if they have a peptide of ten amino acids in common, in any frame: protein
    outlives DNA, so genes are seen across a family. A pair counts if four pairs, itself among them, lie within
    60,000 bases of it in both genomes; the runs span such pairs, 20,000 bases beyond, and what is between two that are
    within 150,000 bases of each other. Bins with more than twelve partners are left out first.

    Parameters
    ----------
    target, other
        The peptides of two genomes; what a contig has in common with itself must not be among them.
    seed
        Of the draw for ``n_by_chance``.

    References
    ----------
    Wang et al. 2012, "MCScanX", doi:10.1093/nar/gkr1293, finds collinear genes likewise, from protein alignments.

    Examples
    --------
    >>> import numpy as np
    >>> codes = np.random.default_rng(0).integers(0, 4, 400_000).astype(np.uint8)
    >>> found = shared_stretches(Seeded.of([("a", codes)]), Seeded.of([("b", codes[100_000:300_000])]))
    >>> found.runs["a"].tolist()
    [[80000, 320000]]
    """
    contigs, mine, others, theirs = _pairs(target, other)
    places = np.stack([contigs * _APART + mine * BIN_BP, others * _APART + theirs * BIN_BP], 1)
    supported = _supported(places)
    drawn = np.stack([places[:, 0], np.random.default_rng(seed).permutation(places[:, 1])], 1)
    runs = {}
    for number, (name, length) in enumerate(target.lengths.items()):
        bins = mine[supported & (contigs == number)]
        starts, ends = bins * BIN_BP - MARGIN_BP, (bins + 1) * BIN_BP + MARGIN_BP
        spans = np.stack([np.maximum(starts, 0), np.minimum(ends, length)], 1)
        runs[name] = merge(spans, BRIDGED_BP)
    return Synteny(runs, len(places), int(supported.sum()), int(_supported(drawn).sum()))


def _pairs(target: Seeded, other: Seeded) -> tuple[npt.NDArray[np.int64], ...]:
    """Contig and bin in the target, contig and bin in the other, ``(P,)`` each, every pair once."""
    first = np.searchsorted(other.seeds, target.seeds, "left")
    counts = np.searchsorted(other.seeds, target.seeds, "right") - first
    at = np.repeat(np.arange(len(counts)), counts)
    partner = np.repeat(first, counts) + np.arange(len(at)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = np.stack(
        [
            target.contigs[at],
            target.places[at] // BIN_BP,
            other.contigs[partner],
            other.places[partner] // BIN_BP,
        ],
        1,
    )
    rows = np.unique(rows, axis=0)
    of_mine, of_other = (_repeats(rows[:, columns]) for columns in (slice(0, 2), slice(2, 4)))
    rows = rows[np.maximum(of_mine, of_other) <= MAX_PARTNERS]
    return rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3]


def _repeats(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How often each row is there."""
    _, at, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(counts[at.reshape(-1)], np.int64)


def _supported(places: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Tell of pairs ``(P, 2)`` whether bins enough, on both sides, are paired near them."""
    supported = np.zeros(len(places), bool)
    if not len(places):
        return supported
    tree = cKDTree(places)
    step = 1 << 16
    for start in range(0, len(places), step):
        near = tree.query_ball_point(places[start : start + step], NEAR_BP, p=np.inf)
        for i, neighbours in enumerate(near):
            if len(neighbours) >= MIN_SUPPORT:
                # An array of copies of one gene makes many pairs of few bins.
                both = places[neighbours]
                supported[start + i] = min(len(set(both[:, 0])), len(set(both[:, 1]))) >= MIN_SUPPORT
    return supported
