"""What runs here: versions, devices, and the backend that each operator takes, with the reason."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from umbel.ops import backends, causal_conv, grouped_mlp, long_conv, rms_norm, selective_scan

_OFFERED: dict[str, Callable[[Tensor], dict[str, str | None]]] = {
    "selective_scan": selective_scan.offered,
    "causal_conv": causal_conv.offered,
    "long_conv": long_conv.offered,
    "grouped_mlp": grouped_mlp.offered,
    "add_rms_norm": rms_norm.offered,
}
_WHAT = {
    "triton": "Triton kernels",
    "cpu": "numba kernels on torch's threads",
    "grouped": "torch's grouped matrix product",
    "chunked": "plain torch, chunk by chunk",
    "shifted": "plain torch, one product a tap",
    "fft": "torch's Fourier transforms",
    "recurrent": "plain torch, chunk by chunk, with the poles' states between",
    "reference": "the definition in plain torch",
}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _run_once(device: torch.device) -> None:
    """Run every operator forward and backward on a few numbers, which compiles what has to be compiled."""

    def ones(*size: int) -> Tensor:
        return torch.ones(size, device=device, requires_grad=True)

    y, _ = selective_scan.selective_scan(
        ones(1, 4, 2), ones(1, 4, 2), -ones(2, 3), ones(1, 4, 3), ones(1, 4, 3), ones(2), ones(2), ones(1, 4, 2)
    )
    y = causal_conv.causal_conv(y, ones(2, 4), ones(2))
    streams = torch.cat((y, y, y), -1)
    y, _ = long_conv.long_conv(streams, ones(2, 3, 2), -ones(2, 3, 2), ones(2), initial_state=ones(1, 2, 3, 2))
    y, _ = rms_norm.add_rms_norm(y, ones(1, 4, 2), ones(2), 1e-5)
    counts = torch.tensor([3, 1], device=device)
    y = grouped_mlp.grouped_mlp(y[0], ones(2, 4, 2), ones(2, 4, 2), ones(2, 2, 4), counts)
    y.sum().backward()


def _explain(offered: dict[str, str | None], operator: str) -> str:
    chosen = backends.choose(operator, "auto", offered)
    names = list(offered)
    reasons = [(name, offered[name]) for name in names[: names.index(chosen)]]
    faster = [f"{name}, which {reason.split(', and got')[0]}" for name, reason in reasons if reason]
    return f"{chosen}: {_WHAT[chosen]}" + (f"; not {'; not '.join(faster)}" if faster else "")


def describe() -> dict[str, Any]:
    """Collect the facts that ``umbel doctor`` prints; runs each operator once, so that kernels are compiled.

    Examples
    --------
    >>> describe()["backends"]["causal_conv, float32 on cpu"].split(";")[0]
    "cpu: numba kernels on torch's threads"
    """
    devices = ["cpu"] + [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    cases = [(torch.device("cpu"), torch.float32), (torch.device("cpu"), torch.bfloat16)]
    _run_once(torch.device("cpu"))
    if torch.cuda.is_available():
        cases += [(torch.device("cuda"), torch.float32), (torch.device("cuda"), torch.bfloat16)]
        _run_once(torch.device("cuda"))
    chosen = {}
    for device, dtype in cases:
        x = torch.empty(0, device=device, dtype=dtype)
        for operator, offered in _OFFERED.items():
            where = f"{operator}, {str(dtype).removeprefix('torch.')} on {device}"
            chosen[where] = _explain(offered(x), operator)
    packages = ("umbel", "torch", "numba", "triton", "transformers", "tensorboard", "scikit-learn", "matplotlib")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": {name: _version(name) for name in packages},
        "devices": devices,
        "threads": torch.get_num_threads(),
        "bf16": "fast on CUDA" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "not used here",
        "backends": chosen,
    }
