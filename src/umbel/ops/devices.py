"""Where to compute, whether bf16 is fast there, and how much memory is free."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from umbel.errors import BackendError


def resolve_device(name: str = "auto") -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:1`` into a device that exists.

    Raises
    ------
    BackendError
        If the device is not here, or the name means nothing.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BackendError(f"--device {name}: no such device; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BackendError(f"--device {name}: this machine shows {torch.cuda.device_count()} CUDA devices; use cpu")
    return device


def autocast_dtype(device: torch.device, wish: str) -> torch.dtype | None:
    """Give the autocast dtype for ``auto``, ``bf16`` or ``off``; None means plain float32.

    ``auto`` takes bf16 only on a GPU that has it: most CPUs emulate it, many times slower.
    """
    if wish == "bf16" or (wish == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()):
        return torch.bfloat16
    return None


def autocast_to(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Give the context of autocast to ``dtype``; for None one that does nothing.

    Examples
    --------
    >>> with autocast_to(torch.device("cpu"), None):
    ...     torch.is_autocast_enabled("cpu")
    False
    """
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


_GROUPS = ("memory.max", "memory.current", "memory.stat", "inactive_file"), (
    "memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"
)  # fmt: skip


def available_bytes(device: torch.device) -> int | None:
    """Give the bytes that are free on a device: of a GPU, or of the machine for a CPU; None where none tells.

    On a CPU it is the least of what the machine has left and what the limits of this process's control group leave.
    """
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    free = [] if (machine := _machine_bytes(Path("/proc/meminfo"))) is None else [machine]
    return min([*free, *_group_bytes(Path("/sys/fs/cgroup"))], default=None)


def _machine_bytes(meminfo: Path) -> int | None:
    if not meminfo.is_file():
        return None
    line = next((x for x in meminfo.read_text().splitlines() if x.startswith("MemAvailable")), None)
    return None if line is None else int(line.split()[1]) * 1024


def _group_bytes(root: Path) -> list[int]:
    """Give what limits of the control group leave; files that are only cached count as free."""
    found = []
    for limit_name, used_name, stat_name, cached_name in _GROUPS:
        try:
            limit = (root / limit_name).read_text().strip()
            used = int((root / used_name).read_text())
            stat = dict(line.split() for line in (root / stat_name).read_text().splitlines())
        except (OSError, ValueError):
            continue
        if limit.isdigit():
            found.append(max(0, int(limit) - used + int(stat.get(cached_name, 0))))
    return found
