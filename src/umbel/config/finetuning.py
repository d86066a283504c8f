"""How a trained backbone is fitted to labelled examples."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from umbel.config.values import STRICT, Count, Fraction, Natural, NonNegative, Positive


@dataclass(frozen=True, config=STRICT)
class AdapterConfig:
    """Which weights get a low-rank update (LoRA), and of what rank."""

    targets: tuple[str, ...] = ("mixers", "ffn")
    """``mixers`` (in, out and x projections of Mamba; in and out of HyenaLite and attention), ``ffn`` (dense FFN and
    shared experts), ``experts`` (all routed ones) or ``experts:0,3``, ``router``; or the end of a parameter's name,
    such as ``dt_proj``."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.04
    """Parameters of the adapter as a share of the base's: the rank nearest to it is taken."""
    rank: Natural = 0
    """Rank, in place of ``share``; 0 takes ``share``."""
    scale: Positive = 2.0
    """Factor of the update B A, LoRA's alpha / rank."""


@dataclass(frozen=True, config=STRICT)
class FinetuneConfig:
    """Everything that decides a fine-tuning run, apart from base and data."""

    method: Literal["full", "adapter"] = "full"
    """Train all weights, or an adapter and the head."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    pooling: Literal["mean", "max", "first", "last", "attention"] = "mean"
    """How the states of real bases become one vector of the sequence."""
    lr: tuple[Positive, ...] = (3e-4,)
    """Peak learning rates. With more than one, each is tried with the first seed, and the best on dev is used."""
    epochs: Count = 10
    batch_size: Count = 32
    """Examples per optimiser step."""
    micro_batch_tokens: Count = 16_384
    """Padded tokens per forward pass; gradients are accumulated. The result does not depend on it."""
    warmup_frac: Fraction = 0.1
    """Share of the steps over which the rate rises; it then falls along a cosine to 0."""
    weight_decay: NonNegative = 0.01
    clip_norm: Positive = 1.0
    patience: Natural = 3
    """Stop after so many epochs without a better dev score; 0 never stops early."""
    select_by: str = ""
    """Metric on dev that decides between epochs and between learning rates; empty takes the task's usual one (MCC,
    macro-F1 of bases, mean AUPRC of labels, 1 - SSE/SST of numbers)."""
    class_weights: Literal["none", "balanced"] = "none"
    """``balanced``: an example of a class weighs n / (classes * examples of it) in the training loss."""
    revcomp_frac: Fraction = 0.5
    """Share of training examples shown as their reverse complement, where the task has no strand."""
    stranded: bool = False
    """The label belongs to the strand given (splice sites, promoter strength): neither training nor prediction turns a
    sequence round. Otherwise predictions are the mean of both strands."""
    balance_coef: NonNegative = 0.0
    """Weight of the load-balance loss of expert layers."""
    activation_checkpointing: bool = False
    """Keep a block's inputs alone, and run it again in the backward pass."""
    autocast: Literal["auto", "bf16", "off"] = "auto"
    """``auto``: bf16 on a GPU that has it, fp32 elsewhere."""
    save_every_steps: Count = 500
    """Steps between two states to go on from; there is one after every epoch too."""
    seeds: Annotated[tuple[Natural, ...], Field(min_length=1)] = (0,)
    """One model per seed: initial head and adapter, order of examples, strands shown."""
    dev_frac: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training examples set aside as dev where no dev file is given, near-duplicates together."""
    split_seed: Natural = 0
    max_bp: Natural = 0
    """Longest sequence; 0 takes the window of the base. Longer ones need ``long``."""
    long: Literal["refuse", "crop_centre", "crop_start", "crop_end", "window"] = "refuse"
    """What happens to longer sequences: an error, cut to ``max_bp``, or cut into windows whose outputs are averaged."""

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds are repeated: {', '.join(map(str, self.seeds))}")
