"""Where to compute, and whether bf16 is fast there."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

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
