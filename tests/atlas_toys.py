"""A model whose routing is a rule, and a source of made-up stretches: small enough to count by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from umbel.evaluate.experts.routes import RoutedSequence, Site, SiteRoutes
from umbel.evaluate.experts.source import Labelling, Stretch


class RuleModel:
    """Routes each base by itself and its left neighbour: nothing beyond one base of context.

    Site 0 has as many experts as bases and takes the base's own; site 1 has ``n_experts`` and takes two of them, by the
    base and by the one before it (N where the window begins).
    """

    def __init__(self, n_experts: int = 5, window: int = 64):
        self.sites = (Site("first", 0, 4, 1), Site("second", 2, n_experts, 2))
        self.window = window
        self.facts: dict[str, Any] = {"rule": 1}
        self.calls = 0

    def route(self, sequences: Sequence[Any]) -> Iterator[RoutedSequence]:
        self.calls += 1
        # Any order is allowed: the last comes first.
        for index in reversed(range(len(sequences))):
            codes = np.asarray(sequences[index])
            counted = codes < 4
            before = np.concatenate(([4], codes[:-1])).astype(int)
            n = self.sites[1].n_experts
            a = (codes.astype(int) + before) % n
            b = (a + 1 + codes.astype(int) % (n - 1)) % n
            first = np.minimum(codes, 3)[:, None]
            weights = (codes[:, None] + 1.0) / 8
            entropy = np.where(codes == 3, np.nan, codes / 10.0)
            yield RoutedSequence(
                index,
                codes.astype(np.int32),
                counted,
                (
                    _site(first, weights, entropy, np.full(len(codes), 0.25)),
                    _site(np.stack([a, b], 1), np.repeat(weights, 2, 1) / [1, 2], entropy, np.full(len(codes), np.nan)),
                ),
            )


def _site(experts: Any, weights: Any, entropy: Any, margin: Any) -> SiteRoutes:
    return SiteRoutes(
        np.asarray(experts, np.int16),
        np.asarray(weights, np.float32),
        np.asarray(entropy, np.float32),
        np.asarray(margin, np.float32),
    )


class ToySource:
    """Stretches of random bases with two labellings of bases and one of sequences."""

    def __init__(self, lengths: Sequence[int] = (700, 130, 64, 333, 5), n_units: int = 3, seed: int = 0):
        self.labellings = (
            Labelling("long", ("x", "y", "z")),
            Labelling("short", ("1", "2")),
            Labelling("kind", ("p", "q"), "sequence"),
        )
        self.n_units = n_units
        self.facts: dict[str, Any] = {"seed": seed}
        self._lengths, self._seed = lengths, seed

    def __len__(self) -> int:
        return len(self._lengths)

    def stretch(self, i: int) -> Stretch:
        rng = np.random.default_rng([self._seed, i])
        n = self._lengths[i]
        codes = rng.choice(5, n, p=[0.3, 0.2, 0.2, 0.25, 0.05]).astype(np.uint8)
        long = np.repeat(rng.integers(-1, 3, n // 40 + 1), 40)[:n].astype(np.int16)
        short = rng.integers(-1, 2, n).astype(np.int16)
        unit = i % self.n_units
        return Stretch(f"s{i}", 10 * i, codes, unit, {"long": long, "short": short}, {"kind": unit % 2})
