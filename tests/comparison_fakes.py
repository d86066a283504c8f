"""Models whose routing is a rule, and sources in memory, for tests of comparing checkpoints."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from umbel.evaluate.experts.compare.checkpoints import Checkpoint
from umbel.evaluate.experts.routes import RoutedSequence, Site, SiteRoutes
from umbel.evaluate.experts.source import Labelling, Stretch

WINDOW = 64
Rule = Callable[[np.ndarray, int], np.ndarray]
"""From base codes and the router's number to experts ``(T, K)``."""


@dataclass
class RuleModel:
    """Routes by a rule; the entropy at a base is its code over 10."""

    rule: Rule
    n_experts: int = 4
    top_k: int = 1
    n_sites: int = 2
    window: int = WINDOW
    facts: dict = field(default_factory=lambda: {"weights": "rule"})

    @property
    def sites(self):
        return tuple(
            Site(f"layers.{2 * m + 1}.ffn.router", 2 * m + 1, self.n_experts, self.top_k) for m in range(self.n_sites)
        )

    def route(self, sequences: Sequence[np.ndarray]):
        # Backwards: nobody may count on an order.
        for i in reversed(range(len(sequences))):
            codes = sequences[i]
            sites = []
            for m in range(self.n_sites):
                experts = self.rule(codes, m).astype(np.int16)
                weights = np.full(experts.shape, 1 / self.top_k, np.float32)
                scores = (codes / 10).astype(np.float32)
                sites.append(SiteRoutes(experts, weights, scores, scores))
            yield RoutedSequence(i, codes.astype(np.int32), codes < 4, tuple(sites))


def by_letter(codes, site):
    """Each letter has its expert."""
    return (np.minimum(codes, 3)[:, None] + site) % 4


def by_pair(codes, site):
    """Two experts, of the letter and of the next one's place."""
    first = np.minimum(codes, 3)
    second = (first + 1 + (np.arange(len(codes)) % 3)) % 4
    return np.stack([first, second], 1)


def permuted(rule: Rule, order: Sequence[int]) -> Rule:
    """The same with experts of other numbers."""
    return lambda codes, site: np.asarray(order)[rule(codes, site)]


def noisy(rule: Rule, share: float, seed: int) -> Rule:
    """The same, but a share of places, decided by the letters around, goes to any expert."""

    def route(codes, site):
        found = rule(codes, site).copy()
        rng = np.random.default_rng([seed, site, *codes[:8].tolist(), len(codes)])
        there = rng.random(len(codes)) < share
        found[there, 0] = rng.integers(0, 4, int(there.sum()))
        return found

    return route


@dataclass
class MemorySource:
    """Random stretches of DNA; ``half`` labels bases by the half of the stretch, ``group`` units by their parity."""

    n: int = 12
    length: int = 150
    n_units: int = 6
    seed: int = 0
    facts: dict = field(default_factory=dict)

    def __post_init__(self):
        self.labellings = (
            Labelling("half", ("left", "right", "never")),
            Labelling("group", ("even", "odd"), "sequence"),
        )
        self.facts = {"memory": [self.n, self.length, self.n_units, self.seed]}

    def __len__(self):
        return self.n

    def stretch(self, i):
        rng = np.random.default_rng((self.seed, i))
        codes = rng.integers(0, 5, self.length - i).astype(np.uint8)
        half = (np.arange(len(codes)) >= len(codes) // 2).astype(np.int16)
        half[::7] = -1
        unit = i % self.n_units
        return Stretch(f"s{i}", 0, codes, unit, {"half": half}, {"group": unit % 2})


def checkpoint(name: str, rule: Rule, *, is_control: bool = False, **model) -> Checkpoint:
    """A rule under a name."""
    return Checkpoint(name, RuleModel(rule, **model), is_control=is_control)
