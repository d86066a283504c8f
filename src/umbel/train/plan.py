"""``umbel plan``: what a run will take, before it takes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from umbel.config import RunConfig
from umbel.data.tokenizers import make_tokens, require_vocabulary
from umbel.errors import ConfigError
from umbel.model.backbone import count_parameters
from umbel.ops.devices import autocast_dtype, available_bytes, resolve_device
from umbel.progress import Reporter
from umbel.train.measured import read_throughput
from umbel.train.memory import (
    Disk,
    Memory,
    Remedy,
    count_kinds,
    disk_bytes,
    find_remedies,
    training_memory,
)
from umbel.train.trial import Throughput, device_name, measure_throughput, precision_name
from umbel.train.workload import Share, Workload, share_of, workload

_HOUR_S = 3_600.0


@dataclass(frozen=True)
class Duration:
    """Hours of wall time, and of all devices together; from the slowest to the fastest that was measured.

    Attributes
    ----------
    tokens_per_s
        Over all devices, while training.
    """

    hours: float
    shortest_hours: float
    longest_hours: float
    device_hours: float
    tokens_per_s: float


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes
    ----------
    n_devices, efficiency
        How many, and what share of ideal scaling was assumed of them; 1 is ideal.
    parameters, active_parameters
        All of the backbone's and its head's, and those that one token meets.
    share
        What a device does of a step.
    memory_of
        The device and precision that ``memory`` is of.
    memory_free
        Bytes free on the device here; None where it is not known.
    remedies
        What would help where the memory is not enough.
    """

    run: str
    n_devices: int
    efficiency: float
    parameters: int
    active_parameters: int
    work: Workload
    share: Share
    memory: Memory
    memory_of: str
    memory_free: int | None
    remedies: tuple[Remedy, ...]
    disk: Disk
    throughput: Throughput
    duration: Duration

    @property
    def is_too_large(self) -> bool:
        """A device here has less memory free than the run needs."""
        return self.memory_free is not None and self.memory.total > self.memory_free

    def as_dict(self) -> dict[str, Any]:
        """Give all of it for JSON, sums included; ``throughput`` is what ``--measured`` reads."""
        return asdict(self) | {
            "memory": asdict(self.memory) | {"total": self.memory.total},
            "disk": asdict(self.disk) | {"total": self.disk.total},
            "tokens": self.work.tokens,
            "bases": self.work.bases,
            "mfu": self.throughput.mfu,
        }


def plan(
    run: RunConfig,
    *,
    n_devices: int = 1,
    device: str = "auto",
    efficiency: float = 1.0,
    measured: str | Path | None = None,
    reporter: Reporter | None = None,
) -> Plan:
    """Tell what a run will take: memory, disk, operations and, from measured speed, time. Nothing is written.

    Parameters
    ----------
    run
        From :mod:`umbel.train.recipes`.
    n_devices
        As many processes share each step.
    device
        Of this machine; its kernels decide the memory, and its speed the time unless ``measured`` is given.
    efficiency
        Share of ideal scaling that several devices reach, above 0 and up to 1.
    measured
        Where the speed of one device was measured before: see :func:`~umbel.train.measured.read_throughput`.

    Raises
    ------
    ConfigError
        If the devices cannot share a step or the experts, or the efficiency is out of range.
    InputError
        If ``measured`` cannot be read.
    BackendError
        If the device is not here.
    """
    if not 0 < efficiency <= 1:
        raise ConfigError(f"efficiency is {efficiency}: give a share of ideal scaling, above 0 and up to 1")
    if n_devices < 1:
        raise ConfigError(f"{n_devices} devices: give 1 or more")
    require_vocabulary(make_tokens(run.tokens), run.model.vocab_size)
    place = resolve_device(device)
    dtype = autocast_dtype(place, run.train.autocast)
    work, share = workload(run), share_of(run, n_devices)
    memory, free = training_memory(run, n_devices, place, dtype), available_bytes(place)
    if measured is None:
        speed = measure_throughput(run, place, dtype, n_processes=n_devices, reporter=reporter)
    else:
        speed = read_throughput(measured)
    total, active = count_parameters(run.model)
    too_large = free is not None and memory.total > free
    return Plan(
        run=run.name,
        n_devices=n_devices,
        efficiency=efficiency,
        parameters=total,
        active_parameters=active,
        work=work,
        share=share,
        memory=memory,
        memory_of=f"{device_name(place)}, {precision_name(dtype)}",
        memory_free=free,
        remedies=find_remedies(run, n_devices, place, dtype) if too_large else (),
        disk=disk_bytes(run),
        throughput=speed,
        duration=estimate_duration(run, work, speed, n_devices, efficiency),
    )


def estimate_duration(
    run: RunConfig, work: Workload, speed: Throughput, n_devices: int, efficiency: float = 1.0
) -> Duration:
    """Divide a run's operations by the speed of its devices, and add what the optimiser takes.

    Operations of forward and backward passes, and of validation, are shared by the devices. The optimiser moves all
    weights on each device, or its part of them under FSDP. Writing states, and waiting for data, are not in it.

    Examples
    --------
    >>> from umbel.train.recipes import tiny
    >>> speed = Throughput("by hand", "cpu", "float32", 1, 1e9, 1e9, 2e9, 0.0, 0.0, "")
    >>> one, two = (estimate_duration(tiny(), workload(tiny()), speed, n) for n in (1, 2))
    >>> one.hours / two.hours, one.device_hours == two.device_hours, one.hours / one.shortest_hours
    (2.0, True, 2.0)
    """
    devices = n_devices * efficiency
    parameters = count_kinds(run).total / (n_devices if run.parallel.kind == "fsdp" else 1)
    update_s = speed.optimizer_s * parameters / 1e6

    def hours(rate: float) -> float:
        return ((work.train_flops + work.validation_flops) / (rate * devices) + work.steps * update_s) / _HOUR_S

    likely = hours(speed.flops_per_s)
    step_s = work.train_flops / work.steps / (speed.flops_per_s * devices) + update_s
    return Duration(
        hours=likely,
        shortest_hours=hours(speed.fastest),
        longest_hours=hours(speed.slowest),
        device_hours=likely * n_devices,
        tokens_per_s=work.tokens_per_step / step_s,
    )
