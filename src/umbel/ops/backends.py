"""Which implementation of an operator runs, and why the others do not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from umbel.errors import BackendError

# Looked up once: the compiler of torch cannot trace a search for packages.
INSTALLED = {name: find_spec(name) is not None for name in ("numba", "triton")}


def why_not_cpu_kernel(*tensors: Tensor | None) -> str | None:
    """Give the reason why the numba kernels, which check nothing, cannot take all ``tensors``; None if they can."""
    for x in tensors:
        if x is not None and (x.device.type != "cpu" or x.dtype != torch.float32):
            return f"takes float32 tensors on a CPU, and got {x.dtype} on {x.device}"
    return None if INSTALLED["numba"] else "needs numba, which is not installed (pip install numba)"


def why_not_triton(x: Tensor) -> str | None:
    """Give the reason why the Triton kernels cannot take ``x``, or None if they can.

    With ``TRITON_INTERPRET=1`` in the environment, tensors on a CPU can be had interpreted, slowly, for checks.
    """
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"takes float32, bfloat16 and float16, and got {x.dtype}"
    if x.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"takes tensors on a CUDA device, and got {x.device}"
    return None if INSTALLED["triton"] else "needs triton, which comes with torch for CUDA on Linux"


def kernels(package: str, backend: str) -> ModuleType:
    """Import an operator's ``cpu`` or ``triton`` module: late, because neither need be installed."""
    return import_module(f"{package}.{backend}")


def will_differentiate(*tensors: Tensor | None) -> bool:
    """Tell whether a backward pass can come, so that something has to be kept for it."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def choose(operator: str, wanted: str, offered: Mapping[str, str | None]) -> str:
    """Settle on a backend.

    Parameters
    ----------
    operator
        Name for messages.
    wanted
        ``auto`` or the name of a backend.
    offered
        For each backend, fastest first, the reason why it cannot run on these inputs; None if it can.

    Raises
    ------
    BackendError
        If the one asked for by name does not exist or cannot run here.

    Examples
    --------
    >>> choose("scan", "auto", {"triton": "takes tensors on a CUDA device", "chunked": None})
    'chunked'
    """
    if wanted == "auto":
        # Interpreted kernels are for checks: only who names them gets them.
        skipped = "triton" if os.environ.get("TRITON_INTERPRET") == "1" else None
        return next(name for name, reason in offered.items() if reason is None and name != skipped)
    if wanted not in offered:
        raise BackendError(f"{operator}: no backend {wanted!r}; there are auto, {', '.join(offered)}")
    if reason := offered[wanted]:
        able = [name for name, why in offered.items() if why is None]
        raise BackendError(
            f"{operator}: backend {wanted!r} {reason}. Here backend='auto' or {' or '.join(able)} can run."
        )
    return wanted
