"""How fast a run is: tokens per second, the share of the machine's arithmetic, waiting for data, memory at its peak."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from umbel.config import RunConfig
from umbel.data.batches import Batch
from umbel.model.flops import count_flops

FORWARD_AND_BACKWARD = 3
"""A backward pass makes two products (of the input's gradient and of the weight's) where a forward makes one."""

_SHAPES = {"cpu": (2_048, 512, 2_048), "cuda": (8_192, 8_192, 8_192)}


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was told; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(device: torch.device, dtype: torch.dtype | None = None, seconds: float = 0.3) -> float:
    """Measure the floating-point operations per second of a matrix product, the best of many.

    It is what this machine, with torch's present number of threads, gives to the simplest work there is, and the
    denominator of the share that training gets of it. A datasheet's number would flatter no machine but the maker's.

    Parameters
    ----------
    dtype
        That of autocast; None is float32.
    seconds
        Spent on it after a first product that is not counted.

    Examples
    --------
    >>> matrix_rate(torch.device("cpu"), seconds=0.01) > 1e6
    True
    """
    n, k, m = _SHAPES["cuda" if device.type == "cuda" else "cpu"]
    a = torch.ones(n, k, dtype=dtype or torch.float32, device=device)
    b = torch.ones(k, m, dtype=a.dtype, device=device)
    best, spent, done = float("inf"), 0.0, 0
    while spent < seconds or done < 3:
        synchronise(device)
        began = time.perf_counter()
        torch.mm(a, b)
        synchronise(device)
        took = time.perf_counter() - began
        if done:
            best, spent = min(best, took), spent + took
        done += 1
    return 2 * n * k * m / best


def step_flops(run: RunConfig, n_tokens: float, mean_length: float) -> float:
    """Count the operations that ``n_tokens`` of training ask for, forward and backward: 3 times the forward's.

    All parts of :func:`umbel.model.flops.count_flops` are in it: matrices, attention over the whole sequence, the
    scans, and long convolutions as the recurrence, whichever way they are computed. What activation checkpointing
    computes again is not, nor is the optimiser: the model asks for neither.

    Parameters
    ----------
    mean_length
        Tokens of the sequence that a token is in, on average over tokens; attention alone depends on it.

    References
    ----------
    Chowdhery et al. 2022, "PaLM", arXiv:2204.02311, appendix B (model FLOPs utilisation).

    Examples
    --------
    >>> run = RunConfig("demo")
    >>> step_flops(run, 2, 100) == 6 * count_flops(run.model, 100).total
    True
    """
    return FORWARD_AND_BACKWARD * n_tokens * count_flops(run.model, round(mean_length)).total


@dataclass(frozen=True)
class Seen:
    """What of some batches is no padding.

    Attributes
    ----------
    n_tokens
        Real tokens.
    mean_length
        Tokens of the sequence that a token is in, mean over tokens; 0 where there is none.
    """

    n_tokens: int
    mean_length: float


def count_seen(batches: Sequence[Batch]) -> Seen:
    """Count the real tokens of batches, and how long their sequences are.

    Examples
    --------
    >>> mask = np.array([[1, 1, 1, 0], [1, 0, 0, 0]])
    >>> count_seen([Batch(mask, mask, mask, mask)])
    Seen(n_tokens=4, mean_length=2.5)
    """
    n_tokens, squares = 0, 0
    for batch in batches:
        real = batch.attention_mask.astype(bool)
        segments = np.zeros_like(batch.attention_mask) if batch.segment_ids is None else batch.segment_ids
        own = np.arange(len(real))[:, None] * (int(segments.max(initial=0)) + 1) + segments
        lengths = np.bincount(own[real])
        n_tokens += int(lengths.sum())
        squares += int((lengths.astype(np.int64) ** 2).sum())
    return Seen(n_tokens, squares / n_tokens if n_tokens else 0.0)


def peak_memory_gb(device: torch.device) -> float | None:
    """Give the most memory held so far, in GB: a GPU's by tensors, on a CPU the process's; None where none tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    resident = process_bytes("VmHWM")
    return None if resident is None else resident / 1e9


def process_bytes(field: str) -> int | None:
    """Read ``VmHWM`` (most so far) or ``VmRSS`` (now) of this process; None where there is no ``/proc``."""
    # Not getrusage: its maximum is inherited from the process that started this one.
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    line = next(x for x in status.read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) * 1024


class SpeedMeter:
    """Turns the time of a step into what is worth looking at.

    Parameters
    ----------
    run
        Whose model is trained.
    n_processes
        Devices that work on a step together.
    rate
        Operations per second of one device, from :func:`matrix_rate`.
    device
        Whose memory is told.

    Examples
    --------
    >>> meter = SpeedMeter(RunConfig("demo"), n_processes=2, rate=1e12, device=torch.device("cpu"))
    >>> found = meter.step(seconds=2.0, wait_seconds=0.5, seen=Seen(n_tokens=1_000, mean_length=500.0))
    >>> found["tokens_per_s"], found["data_wait_frac"], round(found["mfu"], 3)
    (500.0, 0.25, 0.097)
    """

    def __init__(self, run: RunConfig, n_processes: int, rate: float, device: torch.device):
        self._run, self._full_rate, self._device = run, n_processes * rate, device

    def step(self, seconds: float, wait_seconds: float, seen: Seen) -> dict[str, float]:
        """Tell of one step.

        Parameters
        ----------
        seconds
            From the end of the step before to the end of this one, waiting included; > 0.
        wait_seconds
            How much of it was spent waiting for data.
        seen
            The real tokens of the step over all processes.

        Returns
        -------
        ``tokens_per_s`` over all processes; ``mfu``, the model's operations over what matrix products could have done
        in that time, 0 to 1; ``data_wait_frac``, 0 to 1; and ``peak_memory_gb`` of this process, where it is known.
        """
        found = {
            "tokens_per_s": seen.n_tokens / seconds,
            "mfu": step_flops(self._run, seen.n_tokens, seen.mean_length) / (seconds * self._full_rate),
            "data_wait_frac": wait_seconds / seconds,
        }
        peak = peak_memory_gb(self._device)
        return found if peak is None else {**found, "peak_memory_gb": peak}
