"""The processes of a run: one alone, or those that torchrun started, and what they tell each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from umbel.errors import BackendError, ConfigError, UmbelError
from umbel.ops.devices import resolve_device

T = TypeVar("T")

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class World:
    """A process among those of its run.

    Attributes
    ----------
    device
        Where it computes.
    rank, size
        Which of how many it is.
    local_rank, local_size
        The same among the processes of this machine.
    files_group
        Gloo group in which states are written beside training, or None where there is one process.

    Examples
    --------
    >>> alone = World(torch.device("cpu"))
    >>> alone.is_first, alone.sums(torch.tensor([1.0, 2.0])).tolist(), alone.first(lambda: "done")
    (True, [1.0, 2.0], 'done')
    """

    device: torch.device
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    files_group: Any = None

    @property
    def is_first(self) -> bool:
        """Process 0 is the one that writes the log and speaks."""
        return self.rank == 0

    def sums(self, values: Tensor) -> Tensor:
        """Add up ``values`` over all processes, in float64; every process gets the same bits."""
        total = values.detach().to(torch.float64, copy=True)
        if self.size > 1:
            dist.all_reduce(total)
        return total

    def first(self, act: Callable[[], T]) -> T:
        """Let process 0 do something; every process gets what it gave, or fails with the error of ours that it met."""
        if self.size == 1:
            return act()
        outcome: list[Any] = [None, None]
        if self.is_first:
            try:
                outcome[0] = act()
            except UmbelError as error:
                outcome[1] = error
        dist.broadcast_object_list(outcome, src=0, device=_CPU)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]


def _environment(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError as error:
        raise ConfigError(f"environment variable {name} is {text!r}, and torchrun sets it to a whole number") from error


@contextmanager
def join_world(device: str = "auto") -> Iterator[World]:
    """Join the processes that torchrun started, until the end of the ``with`` block; without torchrun, be alone.

    They talk by NCCL between GPUs, and by gloo on CPUs and about files. Process i of a machine takes its GPU i.

    Raises
    ------
    BackendError
        If the device is not here, or there are more processes on this machine than GPUs.
    ConfigError
        If torchrun's variables are damaged, or one GPU is named for several processes.
    """
    size, rank = _environment("WORLD_SIZE", 1), _environment("RANK", 0)
    if size == 1:
        yield World(resolve_device(device))
        return
    local_rank, local_size = _environment("LOCAL_RANK", rank), _environment("LOCAL_WORLD_SIZE", size)
    place = resolve_device(device)
    if place.type == "cuda":
        if place.index is not None and local_size > 1:
            raise ConfigError(f"--device {device} names one GPU, and {local_size} processes need one each: use cuda")
        n_gpus = torch.cuda.device_count()
        if local_size > n_gpus:
            raise BackendError(
                f"{local_size} processes on a machine with {n_gpus} GPUs: start torchrun with --nproc-per-node {n_gpus}"
            )
        place = torch.device("cuda", local_rank)
        torch.cuda.set_device(place)
    dist.init_process_group("cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo")
    try:
        yield World(place, rank, size, local_rank, local_size, dist.new_group(backend="gloo"))
    finally:
        dist.destroy_process_group()
