"""Stand-ins for a corpus and a predictor whose right answers are known in advance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from umbel.config import CorpusConfig
from umbel.data.corpus.store import Contig, Window
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


def estimate(value: float, half: float) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half * 1.1}


def realistic_result() -> dict[str, Any]:
    """What ``evaluation.json`` looks like after a small run on two Arabidopsis species; the numbers are made up."""
    rng = np.random.default_rng(0)

    def row(loss: float, accuracy: float) -> dict[str, Any]:
        return {
            "loss": estimate(loss, 0.0034),
            "perplexity": estimate(float(np.exp(loss)), 0.0125),
            "accuracy": estimate(accuracy, 0.0036),
        }

    loss = {"model": (1.3146, 0.3745), "markov": (1.3098, 0.3802), "composition": (1.3522, 0.3205)}
    loss["random"] = (1.3921, 0.2774)
    rows = {name: {"all": row(*pair), "unmasked": row(pair[0] - 0.006, pair[1] + 0.004)} for name, pair in loss.items()}
    differences = {
        name: {
            bases: {"loss": estimate(1.3146 - pair[0], 0.0011), "accuracy": estimate(0.3745 - pair[1], 0.002)}
            for bases in ("all", "unmasked")
        }
        for name, pair in loss.items()
        if name != "model"
    }
    scores = {"model": (0.611, 0.425), "kmer": (0.634, 0.461), "gc": (0.545, 0.335), "random": (0.553, 0.341)}
    variants = {"model": ("", 128), "kmer": ("k=4", 136), "gc": ("", 2), "random": ("", 128)}
    probe = {
        "classes": ["cds", "intron", "intergenic"],
        "class_counts": {
            "train": {"cds": 1000, "intron": 1000, "intergenic": 1000},
            "valid": {"cds": 431, "intron": 188, "intergenic": 512},
            "test": {"cds": 903, "intron": 377, "intergenic": 1000},
        },
        "n_blocks": 50,
        "probe_bp": 128,
        "rows": {
            name: {
                "macro_f1": estimate(f1, 0.021),
                "mcc": estimate(mcc, 0.032),
                "variant": variants[name][0],
                "penalty": 0.01,
                "valid_macro_f1": f1 + 0.01,
                "n_features": variants[name][1],
                "is_converged": True,
            }
            for name, (f1, mcc) in scores.items()
        },
        "differences": {
            name: {"macro_f1": estimate(0.611 - f1, 0.019), "mcc": estimate(0.425 - mcc, 0.03)}
            for name, (f1, mcc) in scores.items()
            if name != "model"
        },
    }
    classes = ["cds", "utr", "intron", "intergenic", "noncoding", "repeat"]
    layers = []
    for layer in (1, 3, 5, 7):
        load = rng.dirichlet((4,) * 4)
        load = np.array([0.62, 0.38, 0.0, 0.0]) if layer == 7 else load
        share: dict[str, Any] = {}
        for name in (*classes, "all"):
            mixed = load * np.exp(rng.normal(0, 0.0 if name == "all" else 0.7, 4))
            share[name] = [estimate(float(value), 0.006 + 0.01 * float(value)) for value in mixed / mixed.sum()]
        layers.append(
            {
                "layer": layer,
                "load": load.tolist(),
                "max_over_mean": float(4 * load.max()),
                "cv": float(4 * load.std()),
                "n_dead": int((load == 0).sum()),
                "share": share,
            }
        )
    steps = np.arange(1, 601)
    train = 1.315 + 0.09 * np.exp(-steps / 90) + rng.normal(0, 0.006, 600) + 1.5 * np.exp(-steps / 4)
    valid_steps = list(range(50, 601, 50))
    key = {"weights": "a41c" * 16, "corpus": "7be2" * 16, "settings": {}, "code": "0.1.0+3f9ac01b22de"}
    return {
        "format": "umbel-evaluation",
        "format_version": 1,
        "key": key,
        "hash": "90ab" * 16,
        "model": {
            "name": "demo",
            "weights_hash": "a41c" * 16,
            "n_parameters": 1_984_512,
            "n_active_parameters": 1_093_632,
            "window_bp": 512,
            "moe_layers": [1, 3, 5, 7],
            "n_experts": 4,
        },
        "run": {"recipe": "tiny", "pattern": "Md Me", "n_layers": 8, "d_model": 128, "corpus_hash": "7be2" * 16},
        "corpus": {
            "hash": "7be2" * 16,
            "window_bp": 512,
            "overlap_bp": 64,
            "assemblies": [
                {"species": "Arabidopsis thaliana", "assembly": "TAIR10"},
                {"species": "Arabidopsis arenosa", "assembly": "AARE701a"},
            ],
            "n_windows": {"train": 6698, "valid": 559, "test": 1117},
            "contig_bp": {"train": 3_000_000, "valid": 250_000, "test": 500_000},
            "held_out_contigs": ["5 (TAIR10)", "LR999458.1 (AARE701a)"],
            "n_windows_used": 1117,
        },
        "settings": {
            "seed": 0,
            "mask_frac": 0.15,
            "n_windows": 0,
            "n_draws": 1000,
            "probe_bp": 128,
            "probe_n_per_class": 1000,
            "max_k": 5,
        },
        "masked_loss": {
            "rows": rows,
            "differences": differences,
            "n_windows": {"all": 1117, "unmasked": 1083},
            "n_bases": {"all": 85_612, "unmasked": 71_240},
            "composition": {"A": 0.32, "C": 0.18, "G": 0.18, "T": 0.32},
            "markov": {
                "order": 3,
                "strength": 64.0,
                "valid_loss_by_order": [1.3531, 1.3312, 1.3187, 1.3105, 1.3121, 1.3133],
                "n_valid_bases": 42_790,
            },
        },
        "probe": probe,
        "experts": {
            "classes": classes,
            "n_experts": 4,
            "n_windows": 1117,
            "n_bases": {
                "cds": 160_000,
                "utr": 41_000,
                "intron": 78_000,
                "intergenic": 270_000,
                "noncoding": 9_000,
                "repeat": 96_000,
                "all": 558_000,
            },
            "missing": {},
            "layers": layers,
        },
        "curve": {
            "train": {"step": steps.tolist(), "loss": train.tolist()},
            "valid": {
                "step": valid_steps,
                "loss": (1.318 + 0.09 * np.exp(-np.array(valid_steps) / 90)).tolist(),
            },
            "steps_per_point": 1,
            "per": "base",
            "n_steps": 600,
            "n_skipped": 0,
        },
    }
