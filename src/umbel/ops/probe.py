"""What runs here: versions, devices, and the backend that each operator takes, with the reason."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from umbel.ops import grouped_mlp, selective_scan


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def describe() -> dict[str, Any]:
    """Collect the facts that ``umbel doctor`` prints; runs each chosen scan backend once on a small input.

    Examples
    --------
    >>> describe()["backends"]["selective_scan on cpu"]
    'cpu: numba kernels, float32; other dtypes take chunked'
    """
    devices = ["cpu"] + [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    one = torch.ones(1, 4, 2)
    selective_scan.selective_scan(one, one, -torch.ones(2, 3), torch.ones(1, 4, 3), torch.ones(1, 4, 3), torch.ones(2))
    backends = {"selective_scan on cpu": "cpu: numba kernels, float32; other dtypes take chunked"}
    if torch.cuda.is_available():
        choice = grouped_mlp.choose_backend(torch.device("cuda"), torch.bfloat16)
        backends["selective_scan on cuda"] = "chunked: plain torch; no kernel of ours for GPUs yet"
        backends["grouped_mlp on cuda"] = f"{choice} in bfloat16 (torch's grouped product), reference otherwise"
    backends["grouped_mlp on cpu"] = "reference: a loop over experts, as fast as the grouped product there"
    packages = ("umbel", "torch", "numba", "transformers", "tensorboard", "scikit-learn", "matplotlib")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": {name: _version(name) for name in packages},
        "devices": devices,
        "threads": torch.get_num_threads(),
        "bf16": "fast on CUDA" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "not used here",
        "backends": backends,
    }
