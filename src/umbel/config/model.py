"""The shape of a network."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from umbel.config.values import STRICT, Count, Natural, Positive


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """Shape of a backbone; the defaults are the published PlantBiMoE (arXiv:2512.07113)."""

    pattern: str = "Md Me"
    """Layers, tiled over depth: mixer ``M`` (bidirectional Mamba), ``H`` (HyenaLite) or ``A`` (attention), then FFN
    ``d`` (dense) or ``e`` (experts)."""
    n_layers: Count = 16
    d_model: Count = 512
    expand: Count = 2
    """Inner width of a Mamba mixer, in multiples of ``d_model``."""
    d_state: Count = 16
    """State of a Mamba scan, and the number of complex poles of a HyenaLite filter."""
    d_conv: Count = 4
    """Taps of a Mamba mixer's short convolution."""
    dt_rank: Natural = 0
    """Rank of the step-size projection; 0 means ``ceil(d_model / 16)``."""
    hyena_taps: Natural = 0
    """Taps of a short convolution on HyenaLite's three streams; 0 leaves it out, as published."""
    hyena_bidirectional: bool = False
    """Give HyenaLite a second filter that looks ahead; the published one sees the past only."""
    n_heads: Count = 8
    """Heads of an attention mixer."""
    rope_base: Positive = 10_000.0
    """Base of the rotary frequencies."""
    max_tokens: Natural = 0
    """Longest sequence that attention takes in one pass, in tokens; 0 sets no bound."""
    ffn_hidden: Count = 1408
    expert_hidden: Natural = 0
    """Hidden width of one expert; 0 means ``ffn_hidden``."""
    n_experts: Count = 4
    """Routed experts."""
    n_shared_experts: Natural = 0
    """Experts that every token takes, as one MLP of ``n_shared_experts`` times the width of one."""
    top_k: Count = 1
    gating: Literal["softmax", "normalised", "plain", "bias"] = "softmax"
    """Weights of the chosen experts. ``softmax``: their softmax probabilities, not renormalised (PlantBiMoE, Switch).
    ``plain``: the sigmoids of their scores. ``normalised``: these divided by their sum (HyenaMoE, eq. 5-7).
    ``bias``: normalised, and a bias that follows the load joins in the choice (arXiv:2408.15664)."""
    fusion: Literal["add", "multiply", "gate", "concat"] = "add"
    """How the two directions of a Mamba mixer become one; ``add`` is published, ``gate`` and ``concat`` are ours."""
    tie_projections: bool = True
    """Share the in and out projections between the two directions."""
    residual_fp32: bool = False
    norm_eps: Positive = 1e-5
    vocab_size: Count = 12
    tie_head: bool = True
    """The masked-language head reuses the embedding matrix."""
    rescale: Literal["none", "out_proj", "all"] = "all"
    """Which residual-branch outputs start smaller: ``all`` divides the mixer's and the FFN's by
    sqrt(2 n_layers); ``out_proj`` divides the mixer's alone by sqrt(n_layers), as the released code does."""

    def __post_init__(self) -> None:
        if not self.layer_kinds:
            raise ValueError("pattern is empty: give pairs such as 'Md Me'")
        wrong = [pair for pair in self.pattern.split() if len(pair) != 2 or pair[0] not in "MHA" or pair[1] not in "de"]
        if wrong:
            raise ValueError(
                f"pattern has {', '.join(wrong)}: each layer is 'M', 'H' or 'A' followed by 'd' or 'e', as in 'Md Me'"
            )
        if self.top_k > self.n_experts:
            raise ValueError(f"top_k is {self.top_k} but there are only {self.n_experts} experts: lower model.top_k")

        if "A" in self.pattern and (self.d_model % self.n_heads or self.d_model // self.n_heads % 2):
            raise ValueError(
                f"d_model {self.d_model} must be n_heads ({self.n_heads}) times an even number, for rotary attention"
            )

    @property
    def layer_kinds(self) -> tuple[str, ...]:
        """The pattern tiled to ``n_layers`` entries such as ``("Md", "Me", "Md", ...)``."""
        pairs = self.pattern.split()
        return tuple(pairs[index % len(pairs)] for index in range(self.n_layers)) if pairs else ()

    @property
    def d_inner(self) -> int:
        """Width inside the mixer, I."""
        return self.expand * self.d_model

    @property
    def expert_width(self) -> int:
        """Hidden width of one expert, resolved."""
        return self.expert_hidden or self.ffn_hidden

    @property
    def dt_width(self) -> int:
        """Rank of the step-size projection, resolved."""
        return self.dt_rank or -(-self.d_model // 16)
