"""What a sample of training is: its tokens, its species, and what it asks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from umbel.config.values import STRICT, Count, Fraction, Natural, NonNegative


@dataclass(frozen=True, config=STRICT)
class TokensConfig:
    """How bases become tokens, and tokens rows of a batch."""

    kind: Literal["kmer", "bpe"] = "kmer"
    k: Annotated[int, Field(ge=1, le=6)] = 1
    """Bases in a k-mer; 1 is the published vocabulary of PlantBiMoE, 3 that of HyenaMoE."""
    overlapping: bool = False
    """A k-mer at every base, in place of k-mers side by side."""
    file: str = ""
    """Folder made by ``umbel tokenizer train``, or the ``tokenizer.json`` in it, for ``bpe``."""
    row_tokens: Natural = 0
    """Pack windows into training rows of exactly this many tokens; 0 gives every window a row of its own."""

    def __post_init__(self) -> None:
        if (self.kind == "bpe") != bool(self.file):
            raise ValueError("tokens.file names the vocabulary of kind 'bpe', and belongs to it alone")
        if 0 < self.row_tokens < 8:
            raise ValueError(f"row_tokens is {self.row_tokens}: rows of fewer than 8 tokens hold next to nothing")


@dataclass(frozen=True, config=STRICT)
class BalanceConfig:
    """How often training sees each species; see ``umbel.data.balance``."""

    alpha: NonNegative = 1.0
    """Within a family a species is drawn with chance proportional to its bases to this power."""
    beta: NonNegative = 1.0
    """A family is drawn with chance proportional to its bases to this power."""
    max_epochs: NonNegative = 0.0
    """No species is seen more often than this; what it would have had goes to the others. 0 sets no bound."""
    min_species: Count = 1
    """Every optimiser step sees at least so many species; a run that cannot promise it does not start."""
    n_species: Natural = 0
    """Train on the so many species with the most bases; 0 takes all."""
    pool_bp: Natural = 0
    """Train on about so many different bases, shared among the species by their chances; 0 takes all."""


@dataclass(frozen=True, config=STRICT)
class MaskingConfig:
    """Masked-language corruption and augmentation, drawn afresh for every (seed, step, sample)."""

    mask_frac: Fraction = 0.15
    """Chance that a real token (bases A, C, G, T only) is chosen to be predicted."""
    as_mask_frac: Fraction = 0.8
    """Share of the chosen that become ``[MASK]``."""
    as_random_frac: Fraction = 0.1
    """Share of the chosen that become a random base; the rest stay as they are."""
    revcomp_frac: Fraction = 0.3
    softmask_weight: NonNegative = 0.1
    """Loss weight of soft-masked (lower-case, repeat) bases; others weigh 1."""
    loss_on: Literal["masked", "real"] = "masked"
    """``masked`` is right; ``real`` also counts every visible base, as the released script does (defect D-4)."""
    uniform_weight: NonNegative = 1.0
    """A window gets one objective, drawn by these three weights: single tokens are hidden,"""
    span_weight: NonNegative = 0.0
    """runs of tokens are hidden,"""
    placement_weight: NonNegative = 0.0
    """or spans are cut out, shuffled, and to be put back."""
    span_mean_tokens: Annotated[float, Field(ge=1)] = 3.0
    """Mean of the geometric distribution that the lengths of hidden runs are drawn from, before it is truncated. With
    overlapping k-mers a run is one of bases, and hides every token that covers one of them."""
    span_max_tokens: Count = 10
    """Longer runs are never drawn, and their chance is shared among the others (SpanBERT's has 5 and 10)."""
    placement_spans: Annotated[int, Field(ge=2, le=64)] = 4
    """Spans cut out of a window."""
    placement_span_tokens: Count = 16
    """Tokens of a cut span. A window with too few real tokens for all spans asks for hidden tokens instead."""

    def __post_init__(self) -> None:
        if self.as_mask_frac + self.as_random_frac > 1:
            raise ValueError("as_mask_frac and as_random_frac must not add up to more than 1")
        if not self.uniform_weight + self.span_weight + self.placement_weight:
            raise ValueError("uniform_weight, span_weight and placement_weight are all 0: nothing would be asked")
