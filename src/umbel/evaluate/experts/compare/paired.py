"""Sums over what several models chose for the same items, from which everything between checkpoints follows.

Shapes: N items, U units, B blocks of units, C classes, E experts of the first model, F of the second, K and J top-k.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from umbel.evaluate.experts.routes import Site
from umbel.evaluate.experts.source import Labelling, Labels
from umbel.evaluate.experts.statistics.agreement import n_shared, tally, transitions

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_BLOCK_ENTRIES = 2**17
_CLASS_ENTRIES = 2**20


@dataclass(frozen=True)
class Items:
    """The counted items of some sequences, side by side.

    Attributes
    ----------
    unit
        int64 ``(N,)``.
    labels
        For each labelling int16 ``(N,)``, -1 for none.
    turned
        int64 ``(N,)``: the item that stands in the place of each when every sequence is turned by a random distance.
    """

    unit: Ints
    labels: Mapping[str, Labels]
    turned: Ints


class Choices(NamedTuple):
    """What one router did with them.

    Attributes
    ----------
    experts
        ``(N, K)``, in order of choice; -1 where an expert was full, which is a choice lost and shared with nobody.
    entropy
        ``(N,)``, in nats; NaN where no scores are known.
    """

    experts: npt.NDArray[np.int16]
    entropy: npt.NDArray[np.float32]


@dataclass
class SiteSums:
    """One router's choices.

    Attributes
    ----------
    counts
        ``(U, E)``: how often each expert was among the chosen.
    entropy
        ``(U,)``: sum over items that have scores, in nats.
    n_scored
        ``(U,)``: such items.
    joint
        For each labelling ``(U, C, E)``: choices at items of each class.
    """

    counts: Ints
    entropy: Floats
    n_scored: Ints
    joint: dict[str, Ints] = field(default_factory=dict)

    @classmethod
    def empty(cls, site: Site, n_units: int, labellings: tuple[Labelling, ...]) -> SiteSums:
        """Begin."""
        joint = {x.name: np.zeros((n_units, len(x.classes), site.n_experts), np.int64) for x in labellings}
        counts = np.zeros((n_units, site.n_experts), np.int64)
        return cls(counts, np.zeros(n_units), np.zeros(n_units, np.int64), joint)

    def add(self, items: Items, choices: Choices) -> None:
        """Count some items."""
        n_units = len(self.counts)
        unit_NK = np.broadcast_to(items.unit[:, None], choices.experts.shape)
        self.counts += tally((unit_NK, choices.experts), self.counts.shape)
        scored = ~np.isnan(choices.entropy)
        self.entropy += np.bincount(items.unit[scored], choices.entropy[scored].astype(np.float64), n_units)
        self.n_scored += np.bincount(items.unit[scored], minlength=n_units)
        for name, joint in self.joint.items():
            labels = items.labels[name]
            known = labels >= 0
            experts = choices.experts[known]
            unit, label = (np.broadcast_to(x[known][:, None], experts.shape) for x in (items.unit, labels))
            joint += tally((unit, label, experts), joint.shape)


@dataclass
class PairSums:
    """What the same router of two models chose for the same items.

    Attributes
    ----------
    overlap
        ``(U,)``: experts of the same number that both took, summed over items.
    taken
        ``(B, E, F)``: items where the first took e among its K and the second f among its J, by block of units.
    turned
        ``(E, F)``: the same when the second's items are turned along each sequence: what two routers share that know
        the composition of a sequence, and nothing of the place in it.
    first
        ``(E, F)``: first choices.
    by_class
        For each labelling ``(C, E, F)``: first choices at items of each class; empty where that would be large.
    """

    overlap: Ints
    taken: Ints
    turned: Ints
    first: Ints
    by_class: dict[str, Ints] = field(default_factory=dict)

    @classmethod
    def empty(cls, a: Site, b: Site, n_units: int, labellings: tuple[Labelling, ...]) -> PairSums:
        """Begin."""
        table = (a.n_experts, b.n_experts)
        by_class = {
            x.name: np.zeros((len(x.classes), *table), np.int64)
            for x in labellings
            if len(x.classes) * table[0] * table[1] <= _CLASS_ENTRIES
        }
        taken = np.zeros((n_blocks(n_units, *table), *table), np.int64)
        return cls(
            overlap=np.zeros(n_units, np.int64),
            taken=taken,
            turned=np.zeros(table, np.int64),
            first=np.zeros(table, np.int64),
            by_class=by_class,
        )

    def add(self, items: Items, a: Choices, b: Choices) -> None:
        """Count some items."""
        n_units = len(self.overlap)
        self.overlap += np.bincount(items.unit, n_shared(a.experts, b.experts), n_units).astype(np.int64)
        block = items.unit * len(self.taken) // n_units
        other = b.experts[items.turned]
        for k in range(a.experts.shape[1]):
            for j in range(b.experts.shape[1]):
                self.taken += tally((block, a.experts[:, k], b.experts[:, j]), self.taken.shape)
                self.turned += tally((a.experts[:, k], other[:, j]), self.turned.shape)
        firsts = a.experts[:, 0], b.experts[:, 0]
        self.first += transitions(a.experts, b.experts, *self.first.shape)
        for name, table in self.by_class.items():
            known = items.labels[name] >= 0
            table += tally((items.labels[name][known], firsts[0][known], firsts[1][known]), table.shape)


def n_blocks(n_units: int, n_first: int, n_second: int) -> int:
    """How many blocks of neighbouring units a table of experts is kept for: two or more, for memory's sake not many.

    Examples
    --------
    >>> n_blocks(400, 4, 4), n_blocks(400, 64, 64), n_blocks(1, 4, 4)
    (400, 32, 1)
    """
    return min(n_units, max(2, _BLOCK_ENTRIES // (n_first * n_second)))
