"""Stand-ins for a corpus and a predictor whose right answers are known in advance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from umbel.config import CorpusConfig
from umbel.data.store import Contig, Window
from umbel.genome.annotation import REGIONS

CDS, INTRON, INTERGENIC = (REGIONS.index(name) for name in ("cds", "intron", "intergenic"))


class FakeCorpus:
    """Contigs in memory: name -> (role, codes, soft_mask or None, regions or None), cut like a real corpus."""

    def __init__(
        self, contigs: dict[str, tuple[str, Any, Any, Any]], window_bp: int = 512, overlap_bp: int = 64, **facts: Any
    ):
        self._contigs = contigs
        self.config = CorpusConfig(window_bp=window_bp, overlap_bp=overlap_bp)
        self.hash = "c0ffee" * 10 + "beef"
        self.path = "fake-corpus"
        self.facts = {"hash": self.hash, "assemblies": [{"species": "Planta ficta", "assembly": "fake1"}], **facts}
        self._windows: list[Window] = []
        for name, (role, codes, _, _) in contigs.items():
            for start in range(0, len(codes), window_bp - overlap_bp):
                end = min(start + window_bp, len(codes))
                if end - start >= 64 and role:
                    self._windows.append(Window("fake1", name, start, end, role))
                if end == len(codes):
                    break

    def contigs(self, role: str | None = None) -> list[Contig]:
        return [
            Contig("fake1", name, len(codes), found)
            for name, (found, codes, _, _) in self._contigs.items()
            if role in (None, found)
        ]

    def window_ids(self, role: str) -> Any:
        return np.array([i for i, window in enumerate(self._windows) if window.role == role], np.int64)

    def window(self, i: int) -> Window:
        return self._windows[i]

    def read_window(self, i: int) -> Any:
        window = self._windows[i]
        return self.read(window.assembly, window.contig, window.start, window.end)

    def read(self, assembly: str, contig: str, start: int, end: int) -> Any:
        _, codes, soft_mask, _ = self._contigs[contig]
        soft_mask = np.zeros(len(codes), bool) if soft_mask is None else soft_mask
        assert 0 <= start <= end <= len(codes)
        return codes[start:end], soft_mask[start:end]

    def regions(self, assembly: str, contig: str, start: int, end: int) -> Any:
        regions = self._contigs[contig][3]
        return None if regions is None else regions[start:end]


class FixedScorer:
    """Predicts the same distribution everywhere."""

    def __init__(self, probabilities: Sequence[float]):
        self.log_probs = np.log(np.array(probabilities))

    def masked_log_probs(self, codes: Any, hidden: Any) -> Any:
        return [np.tile(self.log_probs, (int(mask.sum()), 1)) for mask in hidden]


class ChainScorer:
    """IS a Markov chain of order 1 with a known transition matrix, seen from both flanks.

    Exact also beside hidden bases: it sums over every way to fill them (forward-backward).
    """

    def __init__(self, transitions: Any):
        self.transitions = np.asarray(transitions, float)
        values, vectors = np.linalg.eig(self.transitions.T)
        stationary = np.real(vectors[:, np.argmax(np.real(values))])
        self.stationary = stationary / stationary.sum()

    def masked_log_probs(self, codes: Any, hidden: Any) -> Any:
        return [self._one(*window) for window in zip(codes, hidden, strict=True)]

    def _one(self, codes: Any, hidden: Any) -> Any:
        emit = np.ones((len(codes), 4))
        for position in np.flatnonzero(~hidden):
            emit[position] = np.arange(4) == codes[position]
        before, after = np.empty_like(emit), np.ones_like(emit)
        before[0] = self.stationary
        for i in range(1, len(codes)):
            state = (before[i - 1] * emit[i - 1]) @ self.transitions
            before[i] = state / state.sum()
        for i in range(len(codes) - 2, -1, -1):
            state = self.transitions @ (after[i + 1] * emit[i + 1])
            after[i] = state / state.sum()
        p = (before * after)[hidden]
        return np.log(p / p.sum(1, keepdims=True))


def draw_bases(probabilities: Sequence[float], n_bp: int, seed: int) -> Any:
    """Independent bases of a known composition."""
    return np.random.default_rng(seed).choice(4, n_bp, p=probabilities).astype(np.uint8)


def draw_chain(transitions: Any, n_bp: int, seed: int, order: int = 1) -> Any:
    """A Markov chain; ``transitions`` is ``(4,) * order + (4,)``."""
    rng = np.random.default_rng(seed)
    cumulative = np.cumsum(np.asarray(transitions).reshape(-1, 4), axis=1)
    uniform = rng.random(n_bp)
    codes = np.zeros(n_bp, np.uint8)
    state, size = 0, 4**order
    for i in range(n_bp):
        base = min(3, int(np.searchsorted(cumulative[state], uniform[i])))
        codes[i] = base
        state = (state * 4 + base) % size
    return codes


def planted_regions(n_bp: int, seed: int, run_bp: int = 1500) -> Any:
    """CDS, intron and intergenic runs in turn, each with a composition of its own: codes, regions."""
    mixes = {CDS: (0.1, 0.4, 0.4, 0.1), INTRON: (0.35, 0.05, 0.05, 0.55), INTERGENIC: (0.25, 0.25, 0.25, 0.25)}
    regions = np.array([(CDS, INTRON, INTERGENIC)[i // run_bp % 3] for i in range(n_bp)], np.uint8)
    rng = np.random.default_rng(seed)
    codes = np.zeros(n_bp, np.uint8)
    for region, mix in mixes.items():
        here = regions == region
        codes[here] = rng.choice(4, int(here.sum()), p=mix)
    return codes, regions


class CompositionPredictor(FixedScorer):
    """A whole predictor: fixed prediction, embeds by base share, expert 0 on A and T, expert 1 on C and G."""

    window_bp = 512
    weights_hash = "feed" * 16
    n_parameters = 1_234_567
    n_active_parameters = 765_432
    moe_layers: tuple[int, ...] = (1, 3)
    n_experts = 3

    def __init__(self, probabilities: Sequence[float] = (0.3, 0.2, 0.2, 0.3)):
        super().__init__(probabilities)
        self.calls: list[str] = []

    def with_random_weights(self, seed: int) -> CompositionPredictor:
        other = CompositionPredictor((0.25, 0.25, 0.25, 0.25))
        other.embed = lambda codes, strand="both": np.random.default_rng(seed).normal(size=(len(codes), 4))  # type: ignore[method-assign]
        other.calls = self.calls
        return other

    def masked_log_probs(self, codes: Any, hidden: Any) -> Any:
        self.calls.append("masked_log_probs")
        return super().masked_log_probs(codes, hidden)

    def embed(self, codes: Any, strand: str = "both") -> Any:
        self.calls.append("embed")
        return np.array([np.bincount(c, minlength=5)[:4] / len(c) for c in codes], np.float32)

    def routes(self, codes: Any) -> Any:
        self.calls.append("routes")
        return [np.broadcast_to(np.isin(c, (1, 2)).astype(np.uint8)[None, :, None], (2, len(c), 1)) for c in codes]
