"""What a run asks for: tokens and bases of a step, rows of a forward pass, operations, and bytes on disk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from umbel.config import RunConfig
from umbel.data.tokenizers import make_tokens
from umbel.errors import ConfigError
from umbel.model.activations import BatchShape
from umbel.train.speed import FORWARD_AND_BACKWARD, step_flops

_BASES = np.array([0, 1, 2, 3], np.uint8)
_BASE_CHANCES = (0.32, 0.18, 0.18, 0.32)
"""Of a plant genome that is 36 % GC; only learnt words depend on it."""


def window_tokens(run: RunConfig, window_bp: int = 0) -> int:
    """Count the tokens of a whole window without N, ``[CLS]`` and ``[SEP]`` included.

    For learnt words the window's bases are drawn at random, which takes more words than real sequence does.

    Parameters
    ----------
    window_bp
        Bases; 0 takes the run's window.

    Examples
    --------
    >>> from umbel.train.recipes import hyenamoe_fast, tiny
    >>> window_tokens(tiny()), window_tokens(hyenamoe_fast())
    (514, 669)
    """
    n_bases = window_bp or run.corpus.window_bp
    codes = np.random.default_rng(0).choice(_BASES, n_bases, p=_BASE_CHANCES)
    return len(make_tokens(run.tokens).encode(codes).ids)


@dataclass(frozen=True)
class Share:
    """What one process does of an optimiser step.

    Attributes
    ----------
    rows
        Windows or packed rows.
    micro_rows
        Of a forward pass.
    accumulation
        Forward passes.
    """

    rows: int
    micro_rows: int
    accumulation: int


def share_of(run: RunConfig, n_processes: int) -> Share:
    """Divide a step among processes; as they wait for each other, all of them have as much to do.

    Raises
    ------
    ConfigError
        If they cannot share its windows evenly, or experts cannot be shared by that many.

    Examples
    --------
    >>> from umbel.train.recipes import plantbimoe
    >>> share_of(plantbimoe(), 8)
    Share(rows=32, micro_rows=4, accumulation=8)
    """
    train, experts = run.train, run.parallel.expert_processes
    if train.batch_windows % n_processes:
        fitting = train.batch_windows + -train.batch_windows % n_processes
        raise ConfigError(
            f"train.batch_windows is {train.batch_windows}, which {n_processes} processes cannot share evenly: start "
            f"as many processes as divide it, or --set train.batch_windows={fitting}"
        )
    if n_processes % experts:
        raise ConfigError(
            f"{n_processes} devices are no whole groups of {experts}, and so many share experts: change "
            "parallel.expert_processes, or the number of devices"
        )
    rows = train.batch_windows // n_processes
    micro = min(train.micro_batch_windows, rows)
    return Share(rows, micro, -(-rows // micro))


@dataclass(frozen=True)
class Stage:
    """So many steps with sequences of one length; see ``train.length_stages``."""

    steps: int
    sequence_tokens: int


@dataclass(frozen=True)
class Workload:
    """All that a run asks for. Windows count as whole and without N, so a corpus gives a little less.

    Attributes
    ----------
    row_tokens
        Tokens of a row of a batch: of a window, or of a packed row.
    sequence_tokens
        Of the sequence that a token is in, on average.
    tokens_per_step, bases_per_step
        Over all processes.
    forward_flops_per_token
        Of the last stage; three times as many with the backward pass.
    train_flops, validation_flops
        Of the whole run.
    """

    row_tokens: int
    sequence_tokens: int
    tokens_per_step: int
    bases_per_step: int
    steps: int
    stages: tuple[Stage, ...]
    forward_flops_per_token: float
    train_flops: float
    validation_flops: float

    @property
    def tokens(self) -> int:
        """Tokens of the whole run."""
        return self.steps * self.tokens_per_step

    @property
    def bases(self) -> int:
        """Bases of the whole run."""
        return self.steps * self.bases_per_step


def workload(run: RunConfig) -> Workload:
    """Count what a run asks for.

    Examples
    --------
    >>> from umbel.train.recipes import tiny
    >>> found = workload(tiny())
    >>> found.tokens_per_step, found.bases_per_step, found.steps
    (4112, 4096, 240)
    """
    train, whole = run.train, window_tokens(run)
    row = run.tokens.row_tokens or whole
    sequence = _mean_sequence(row, whole) if run.tokens.row_tokens else whole
    tokens_per_step = train.batch_windows * row
    stages = _stages(run, sequence)
    # Packed rows are full of windows that stand end to end.
    windows_per_row = row / whole if run.tokens.row_tokens else 1.0
    n_evaluations = -(-train.steps // train.eval_every_steps)
    return Workload(
        row_tokens=row,
        sequence_tokens=sequence,
        tokens_per_step=tokens_per_step,
        bases_per_step=round(train.batch_windows * windows_per_row * run.corpus.window_bp),
        steps=train.steps,
        stages=stages,
        forward_flops_per_token=step_flops(run, 1, sequence) / FORWARD_AND_BACKWARD,
        train_flops=sum(s.steps * step_flops(run, tokens_per_step, s.sequence_tokens) for s in stages),
        validation_flops=n_evaluations * step_flops(run, train.eval_windows * whole, whole) / FORWARD_AND_BACKWARD,
    )


def _stages(run: RunConfig, sequence_tokens: int) -> tuple[Stage, ...]:
    left, stages = run.train.steps, []
    for stage in run.train.length_stages:
        stages.append(Stage(min(left, stage.steps), window_tokens(run, stage.window_bp)))
        left -= stages[-1].steps
    return (*(stage for stage in stages if stage.steps), *([Stage(left, sequence_tokens)] if left else []))


def _mean_sequence(row_tokens: int, window_tokens: int) -> int:
    """Give the length of the sequence that a token of a packed row is in, on average: edges of rows cut windows."""
    n_rows = min(window_tokens, 256)
    token = np.arange(n_rows * row_tokens)
    lengths = np.bincount(token // window_tokens + token // row_tokens)
    return round(float((lengths**2).sum() / lengths.sum()))


def batch_shape(run: RunConfig, n_rows: int, device: torch.device, dtype: torch.dtype | None) -> BatchShape:
    """Give the shape of a forward pass over ``n_rows`` whole windows, or rows packed with them end to end.

    Examples
    --------
    >>> from umbel.train.recipes import hyenamoe_fast
    >>> batch_shape(hyenamoe_fast(), 2, torch.device("cpu"), None)
    BatchShape(rows=2, tokens=1024, device=device(type='cpu'), dtype=None, packed_tokens=669)
    """
    whole, row = window_tokens(run), run.tokens.row_tokens
    return BatchShape(n_rows, row, device, dtype, whole) if row else BatchShape(n_rows, whole, device, dtype)
