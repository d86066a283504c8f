"""How fast this machine trains a network: one tile of its pattern, at full width, for a few real steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from umbel.config import ModelConfig, RunConfig
from umbel.model.activations import BatchShape
from umbel.model.heads import label_losses
from umbel.model.hf import UmbelForMaskedLM, new_model
from umbel.model.routing import balance_loss, z_loss
from umbel.ops.devices import autocast_to, available_bytes
from umbel.progress import Reporter, reporter_or_silent
from umbel.train.memory import training_memory
from umbel.train.optim import make_optimizers
from umbel.train.speed import matrix_rate, step_flops, synchronise
from umbel.train.workload import batch_shape, share_of, workload

_FEWEST, _MOST = 3, 12
"""Timed steps of a trial."""
_SHORTEST = 512
"""Tokens below which rows are not halved: so short, overhead is all there is."""


@dataclass(frozen=True)
class Throughput:
    """What one device does of the model's operations, forward and backward, in a second.

    Attributes
    ----------
    source
        ``measured here``, or the file it was read from.
    device, precision
        Where, and autocast's dtype or ``float32``.
    threads
        CPU threads of torch.
    flops_per_s
        Median; ``slowest`` and ``fastest`` are the ends of the range seen.
    optimizer_s
        Seconds in which one device updates a million parameters; 0 where it is in ``flops_per_s`` already.
    matrix_flops_per_s
        Of :func:`~umbel.train.speed.matrix_rate` on the same device; 0 where it is not known.
    note
        What was measured, in words.
    """

    source: str
    device: str
    precision: str
    threads: int
    flops_per_s: float
    slowest: float
    fastest: float
    optimizer_s: float
    matrix_flops_per_s: float
    note: str

    @property
    def mfu(self) -> float | None:
        """Share of the matrix rate, 0 to 1; None where that is not known."""
        return self.flops_per_s / self.matrix_flops_per_s if self.matrix_flops_per_s else None


def device_name(device: torch.device) -> str:
    """Give the maker's name of a GPU, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def precision_name(dtype: torch.dtype | None) -> str:
    """Give the name of autocast's dtype, or ``float32`` without it.

    Examples
    --------
    >>> precision_name(torch.bfloat16), precision_name(None)
    ('bfloat16', 'float32')
    """
    return "float32" if dtype is None else str(dtype).removeprefix("torch.")


def tile_of(model: ModelConfig) -> ModelConfig:
    """Give a network of the pattern once, embedding and head as they are.

    Examples
    --------
    >>> tile_of(ModelConfig(pattern="Hd Hd Ae", n_layers=12, n_heads=8)).layer_kinds
    ('Hd', 'Hd', 'Ae')
    """
    return replace(model, n_layers=min(model.n_layers, len(model.pattern.split())))


def measure_throughput(
    run: RunConfig,
    device: torch.device,
    dtype: torch.dtype | None,
    *,
    n_processes: int = 1,
    seconds: float = 15.0,
    reporter: Reporter | None = None,
) -> Throughput:
    """Train one tile of the run's pattern on random tokens: rows, length, precision and threads of the run.

    Where such a step would take too long, or more than half of the free memory, the trial has fewer rows and then
    shorter ones, and ``note`` says so. Validation, checkpointing of activations and waiting for data are not in it.

    Parameters
    ----------
    n_processes
        Devices of the run, which says how many rows a forward pass has.
    seconds
        What it may take, about, after compiling kernels.
    """
    reporter = reporter_or_silent(reporter)
    small = replace(run, model=tile_of(run.model))
    task = reporter.start(f"measuring {device_name(device)}", _FEWEST + 2, "steps")
    rate = matrix_rate(device, dtype)
    trainer = _Trainer(small, device, dtype)
    # The first step compiles; the second tells what the run's own shape would take.
    first = _cut(batch_shape(small, 1, device, dtype), 512)
    trainer.step(first)
    task.advance()
    guess = _flops(small, first) / trainer.step(first)[0]
    shape = _affordable(small, share_of(run, n_processes).micro_rows, device, dtype, guess * seconds / (_FEWEST + 1))
    trainer.step(shape)
    task.advance()
    times: list[tuple[float, float]] = []
    began = time.perf_counter()
    while len(times) < _FEWEST or (len(times) < _MOST and time.perf_counter() - began < seconds / 2):
        times.append(trainer.step(shape))
        if len(times) <= _FEWEST:
            task.advance()
    task.close()
    rates = [_flops(small, shape) / took for took, _ in times]
    updated = sum(p.numel() for p in trainer.model.parameters())
    asked = batch_shape(run, share_of(run, n_processes).micro_rows, device, dtype)
    return Throughput(
        source="measured here",
        device=device_name(device),
        precision=precision_name(dtype),
        threads=torch.get_num_threads(),
        flops_per_s=statistics.median(rates),
        slowest=min(rates),
        fastest=max(rates),
        optimizer_s=statistics.median(update for _, update in times) / updated * 1e6,
        matrix_flops_per_s=rate,
        note=_what_was_run(small, shape, asked, len(times)),
    )


def _what_was_run(small: RunConfig, shape: BatchShape, asked: BatchShape, n_steps: int) -> str:
    kinds = " ".join(small.model.layer_kinds)
    text = f"{n_steps} steps of {shape.rows} x {shape.tokens:,} tokens through {kinds}, scaled by operations"
    if (shape.rows, shape.tokens) != (asked.rows, asked.tokens):
        text += f"; the run has {asked.rows} x {asked.tokens:,}, too much for a trial here"
    return text


class _Trainer:
    """A tile and its optimiser, and random tokens for it."""

    def __init__(self, run: RunConfig, device: torch.device, dtype: torch.dtype | None):
        self._run, self._device, self._dtype = run, device, dtype
        self.model: UmbelForMaskedLM = new_model(run.model, run.corpus.window_bp, run.train.seed).to(device)
        self._optimizers = make_optimizers(self.model, run.optim)

    def step(self, shape: BatchShape) -> tuple[float, float]:
        """Take a step; give the seconds of forward and backward, and those of clipping and the optimiser."""
        run, device = self._run, self._device
        vocabulary = run.model.vocab_size
        ids = torch.randint(min(7, vocabulary - 1), vocabulary, (shape.rows, shape.tokens))
        hidden = torch.rand(ids.shape) < run.masking.mask_frac
        inputs = {"input_ids": ids.to(device)}
        if (segment_ids := shape.segment_ids) is not None:
            inputs["segment_ids"] = segment_ids.to(device)
        labels = torch.where(hidden, ids, -100).to(device)
        precision = autocast_to(device, self._dtype)
        self.model.train()
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

        def learn() -> None:
            with precision:
                output = self.model(**inputs)
                shares = torch.full((len(output.routings), run.model.n_experts), 1 / run.model.n_experts, device=device)
                loss = label_losses(output.logits, labels).mean()
                if output.routings and run.train.balance_coef:
                    loss = loss + run.train.balance_coef * balance_loss(output.routings, shares, ids.numel())
                if output.routings and run.train.z_coef:
                    loss = loss + run.train.z_coef * z_loss(output.routings, ids.numel())
            loss.backward()

        def update() -> None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), run.optim.clip_norm)
            for optimizer in self._optimizers:
                optimizer.step()

        return _seconds(learn, device), _seconds(update, device)


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    synchronise(device)
    began = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - began


def _cut(shape: BatchShape, tokens: int) -> BatchShape:
    """Shorten the rows of a shape to ``tokens``, where they are longer."""
    return replace(shape, tokens=min(tokens, shape.tokens))


def _flops(run: RunConfig, shape: BatchShape) -> float:
    length = min(shape.tokens, workload(run).sequence_tokens)
    return step_flops(run, shape.rows * shape.tokens, length)


def _affordable(run: RunConfig, rows: int, device: torch.device, dtype: torch.dtype | None, flops: float) -> BatchShape:
    """Give ``rows`` of the run, or the most below that with at most ``flops`` and half of the free memory."""
    one_row = replace(run, train=replace(run.train, micro_batch_windows=1))
    memory, free = training_memory(one_row, 1, device, dtype), available_bytes(device)
    shape = batch_shape(run, rows, device, dtype)
    bytes_per_token = (memory.activations + memory.logits + memory.working) / shape.tokens

    def is_too_much() -> bool:
        needed = bytes_per_token * shape.rows * shape.tokens
        return _flops(run, shape) > flops or (free is not None and needed > free / 2)

    while is_too_much() and shape.rows > 1:
        shape = batch_shape(run, shape.rows // 2, device, dtype)
    while is_too_much() and shape.tokens // 2 >= _SHORTEST:
        shape = _cut(shape, shape.tokens // 2)
    return shape
