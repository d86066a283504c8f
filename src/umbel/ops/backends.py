"""Which implementation of an operator runs, and why the others do not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from umbel.errors import BackendError


@cache
def is_installed(package: str) -> bool:
    """Tell whether a package can be imported, without importing it."""
    return find_spec(package) is not None


def why_not_cpu_kernel(x: Tensor) -> str | None:
    """Give the reason why the numba kernels cannot take ``x``, or None if they can."""
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return f"takes float32 tensors on a CPU, and got {x.dtype} on {x.device}"
    return None if is_installed("numba") else "needs numba, which is not installed (pip install numba)"


def why_not_triton(x: Tensor) -> str | None:
    """Give the reason why the Triton kernels cannot take ``x``, or None if they can.

    With ``TRITON_INTERPRET=1`` in the environment, tensors on a CPU can be had interpreted, slowly, for checks.
    """
    if not is_installed("triton"):
        return "needs triton, which is not installed (it comes with torch for CUDA on Linux)"
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"takes float32, bfloat16 and float16, and got {x.dtype}"
    if x.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"takes tensors on a CUDA device, and got {x.device}"
    return None


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
        # Interpreted kernels are for checks: who wants them names them.
        slow = {"triton"} if os.environ.get("TRITON_INTERPRET") == "1" else set()
        return next(name for name, reason in offered.items() if reason is None and name not in slow)
    if wanted not in offered:
        raise BackendError(f"{operator}: no backend {wanted!r}; there are auto, {', '.join(offered)}")
    if reason := offered[wanted]:
        able = [name for name, why in offered.items() if why is None]
        raise BackendError(f"{operator}: backend {wanted!r} {reason}. Here backend='auto' or {' or '.join(able)} can run.")
    return wanted
