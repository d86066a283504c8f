"""Small models and labelled stretches for measuring causes, and a model in which one expert alone knows a motif."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from umbel.config import ModelConfig
from umbel.data.tokenizers import make_tokens
from umbel.evaluate.experts.source import Labelling, Stretch
from umbel.model.hf import new_model
from umbel.predict.predictor import Predictor

CPU = torch.device("cpu")


def small_predictor(seed: int = 0, window_bp: int = 64, **changes: Any) -> Predictor:
    """A random model in which experts matter: their outputs are as large as the stream."""
    from umbel.config import TokensConfig

    shape: dict[str, Any] = {"pattern": "Md Me", "n_layers": 4, "d_model": 16, "ffn_hidden": 24, "d_state": 4}
    model = new_model(ModelConfig(**{**shape, "n_heads": 2, **changes}), window_bp, seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("ffn.down"):
                weight *= 6
            if name.endswith("embedding.weight"):
                weight *= 20
    return Predictor(model, f"small-{seed}", CPU, make_tokens(TokensConfig()))


@dataclass
class FakeSource:
    """Stretches in memory, with one labelling of bases and one of whole sequences."""

    stretches: list[Stretch]
    labellings: tuple[Labelling, ...] = (
        Labelling("region", ("gene", "motif", "absent")),
        Labelling("species", ("una", "alia"), "sequence"),
    )
    facts: dict[str, Any] = field(default_factory=lambda: {"made": "up"})
    n_units: int = 5

    def __len__(self) -> int:
        return len(self.stretches)

    def stretch(self, i: int) -> Stretch:
        return self.stretches[i]


def random_source(n: int = 10, length: int = 40, seed: int = 0) -> FakeSource:
    """Random bases of five units; labels -1, 0 and 1, never 2."""
    rng = np.random.default_rng(seed)
    stretches = []
    for i in range(n):
        codes = rng.integers(0, 4, length - i).astype(np.uint8)
        codes[rng.random(len(codes)) < 0.05] = 4
        labels = rng.integers(-1, 2, len(codes)).astype(np.int16)
        stretches.append(Stretch(f"c{i}", 0, codes, i % 5, {"region": labels}, {"species": i % 5 % 2}))
    return FakeSource(stretches)


class LeftNeighbour(nn.Module):
    """A mixer that copies what stands to the left."""

    def forward(self, x: torch.Tensor, spans: Any = None) -> torch.Tensor:
        return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)


PLANTED_LAYER, PLANTED_EXPERT = 0, 2
_OF_LEFT = (2, 0, 1, 3)
"""Expert of a token whose left neighbour is A, C, G, T."""


def planted_predictor() -> Predictor:
    """One layer. Tokens go to experts by their left neighbour; after A, expert 2 says C, and the others say nothing."""
    from umbel.config import TokensConfig

    tokens = make_tokens(TokensConfig())
    first = tokens.first_word
    config = ModelConfig(
        pattern="Me", n_layers=1, d_model=16, ffn_hidden=8, n_experts=4, d_state=4, tie_head=False, vocab_size=12
    )
    model = new_model(config, 512, 0)
    block = model.backbone.layers[0]
    block.mixer = LeftNeighbour()
    moe = block.ffn
    said = 15
    with torch.no_grad():
        model.backbone.embedding.weight.copy_(torch.eye(12, 16))
        for weight in (moe.router.weight, moe.gate, moe.up, moe.down, model.lm_head.weight):
            weight.zero_()
        for left, expert in enumerate(_OF_LEFT):
            moe.router.weight[expert, first + left] = 2
        moe.gate[:, 0, first] = moe.up[:, 0, first] = 1
        moe.down[PLANTED_EXPERT, said, 0] = 1
        model.lm_head.weight[first + 1, said] = 2
    return Predictor(model, "planted", CPU, tokens)


def planted_source(n: int = 12, length: int = 200, seed: int = 1) -> FakeSource:
    """Random C, G and T with an A here and there, each followed by the motif's C; labels: motif (that C) and gene."""
    rng = np.random.default_rng(seed)
    stretches = []
    for i in range(n):
        codes = rng.integers(1, 4, length).astype(np.uint8)
        at = np.arange(3, length - 1, 7)
        codes[at], codes[at + 1] = 0, 1
        labels = np.zeros(length, np.int16)
        labels[at + 1] = 1
        stretches.append(Stretch(f"p{i}", 0, codes, i % 5, {"region": labels}, {"species": 0}))
    return FakeSource(stretches)
