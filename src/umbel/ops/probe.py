"""What runs here: versions, devices, and the backend that each operator takes, with the reason."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from umbel.ops import backends, causal_conv, grouped_mlp, int8, long_conv, rms_norm, selective_scan

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


_TIMES = 7


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


def _product_ms(run: Callable[[], Tensor]) -> float:
    """Time a product: the shortest of some, in milliseconds."""
    seconds = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return 1e3 * min(seconds)


@torch.inference_mode()
def precisions() -> dict[str, str]:
    """Tell which precisions models can be loaded in here, and how fast the products of each are on this CPU.

    Examples
    --------
    >>> precisions()["fp32 on cpu"]
    'the measure of the others'
    """
    x, weight = torch.ones(1024, 512), torch.ones(1024, 512)
    plain = _product_ms(lambda: x @ weight.T)
    half, half_weight = x.bfloat16(), weight.bfloat16()
    bf16 = plain / _product_ms(lambda: half @ half_weight.T)
    found = {"fp32 on cpu": "the measure of the others", "bf16 on cpu": _rated(bf16)}
    if reason := int8.why_not_here():
        found["int8 on cpu"] = f"not here: {reason}"
    else:
        rounded = int8.Int8Weight(weight)
        rate = plain / _product_ms(lambda: rounded.product(int8.round_rows(x)))
        found["int8 on cpu"] = f"{_rated(rate)}; small models gain nothing"
    if torch.cuda.is_available():
        found["bf16 on cuda"] = "fast" if torch.cuda.is_bf16_supported() else "emulated, slow"
        found["int8 on cuda"] = "not on a GPU: use bf16"
    return found


def _rated(rate: float) -> str:
    """Say how fast products are.

    Examples
    --------
    >>> _rated(0.12), _rated(1.7)
    ('works, but its products run at 0.12 x the speed of fp32', 'its products run at 1.70 x the speed of fp32')
    """
    return f"{'' if rate > 1 else 'works, but '}its products run at {rate:.2f} x the speed of fp32"


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
        "precisions": precisions(),
        "backends": chosen,
    }
