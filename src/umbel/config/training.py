"""How weights change: optimiser, length, precision, health and processes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from umbel.config.values import STRICT, Count, Fraction, Natural, NonNegative, Positive


@dataclass(frozen=True, config=STRICT)
class OptimConfig:
    """How a gradient moves the weights, and how fast over the run."""

    kind: Literal["adamw", "muon"] = "adamw"
    """``muon`` moves matrices (projections and each expert's) by Muon and everything else by AdamW."""
    lr: Positive = 8e-3
    """Peak learning rate."""
    schedule: Literal["cosine", "wsd"] = "cosine"
    """After a linear warm-up: fall along a cosine, or stay at the peak and fall at the end (warm-up, stable, decay)."""
    decay_frac: Fraction = 0.2
    """Share of the run's steps over which ``wsd`` falls."""
    final_lr_frac: Fraction = 0.0
    """Learning rate at the last step, as a share of the peak."""
    warmup_steps: Natural = 1_000
    beta1: Fraction = 0.95
    beta2: Fraction = 0.9
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.1
    """Never applied to A_log, D, norms, biases and the embedding."""
    clip_norm: Positive = 1.0
    muon_momentum: Fraction = 0.95


@dataclass(frozen=True, config=STRICT)
class LengthStage:
    """So many steps in which windows are cut into pieces of at most ``window_bp``."""

    window_bp: Count
    steps: Count


@dataclass(frozen=True, config=STRICT)
class TrainConfig:
    """Length, batches, checkpoints and auxiliary losses of a run."""

    steps: Count = 100_000
    batch_windows: Count = 256
    """Windows (or packed rows) per optimiser step, over all micro-batches."""
    micro_batch_windows: Count = 4
    """Windows per forward pass of one process; gradients are accumulated up to ``batch_windows``. The result does not
    depend on it."""
    length_stages: tuple[LengthStage, ...] = ()
    """Sequence-length warm-up: the run begins with these stages, one after the other, and goes on with whole windows.
    A step has the same bases in every stage."""
    eval_every_steps: Count = 1_000
    eval_windows: Count = 64
    """Validation windows per evaluation."""
    save_every_steps: Count = 500
    keep_states: Count = 2
    """How many training states to keep for resuming."""
    keep_best: bool = True
    """Keep the checkpoint with the lowest validation loss in ``best/``."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Also keep an exponential moving average of the weights, in ``checkpoint_ema/``; 0 keeps none."""
    seed: Natural = 0
    balance_coef: NonNegative = 0.0
    """Weight of the Switch-style load-balance loss (0 as published)."""
    z_coef: NonNegative = 0.0
    """Weight of the router z-loss (0 as published)."""
    placement_coef: NonNegative = 1.0
    """Weight of the span-placement loss beside the masked loss."""
    bias_rate: NonNegative = 1e-3
    """Step by which an expert's selection bias follows its load, with ``model.gating=bias``."""
    autocast: Literal["auto", "bf16", "fp16", "off"] = "auto"
    """``auto``: bf16 on a GPU that has it, fp32 elsewhere. ``fp16`` scales the loss. Router, norms' sums, scans and
    reductions between processes stay in fp32."""

    def __post_init__(self) -> None:
        if self.batch_windows % self.micro_batch_windows:
            raise ValueError("batch_windows must be a multiple of micro_batch_windows")


@dataclass(frozen=True, config=STRICT)
class HealthConfig:
    """What counts as a bad step, what follows it, and when a run is given up."""

    on_bad_step: Literal["stop", "skip", "rollback"] = "stop"
    """A step is bad if its loss or gradient is not finite, or its loss jumps. ``stop`` ends the run, ``skip`` leaves
    the weights as they are and goes on with the next batch, ``rollback`` returns to the last state and leaves out the
    batches since."""
    spike_sigmas: NonNegative = 0.0
    """A loss so many robust standard deviations above the median of those before it is a jump; 0 calls none so."""
    spike_window_steps: Annotated[int, Field(ge=8)] = 100
    """How many losses before it a loss is compared with, at least half of which must be there."""
    max_bad_steps: Count = 10
    """Give up after so many bad steps with none of them taken between; a rollback does not start the count anew."""
    collapse_steps: Natural = 100
    """Give up when all tokens of a layer went to ``top_k`` experts, and the others got none, in so many steps in a row;
    0 never does."""


@dataclass(frozen=True, config=STRICT)
class ParallelConfig:
    """How the work is shared among processes, and memory saved. The result does not depend on it."""

    kind: Literal["ddp", "fsdp"] = "ddp"
    """``ddp``: every process has all weights. ``fsdp``: weights, gradients and optimiser are cut up among processes,
    block by block (FSDP2)."""
    expert_processes: Count = 1
    """So many processes share each layer's experts, and send each other the tokens for them."""
    activation_checkpointing: bool = False
    """Keep a block's inputs alone, and run it again in the backward pass."""
    compile: bool = False
    """Run every block through ``torch.compile``."""
