"""Time every operator's backends beside each other, forward and with backward, at the published model's shape.

Use: python benchmarks/ops.py -o OUT.json [--device cuda] [--lengths 2048,8192]

Before anything is timed, every backend must agree with the definition in float64, outputs and gradients; if one does
not, nothing is written. On a GPU the scan is also timed under torch.compile, beside mamba-ssm where it is installed,
and its bytes are held against the device's own copy bandwidth.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import torch
from torch import Tensor

from umbel.ops import causal_conv, grouped_mlp, rms_norm, selective_scan
from umbel.ops.devices import resolve_device

INNER, STATE, WIDTH, TAPS, HIDDEN, RANK = 1024, 16, 512, 4, 1408, 32
OUTSIDE_AUTO = {"reference": 512}
"""The longest sequence for which the definition is timed."""
PLAIN_BACKWARD = 512
"""The longest sequence for which plain torch is timed with its backward: beyond, the gigabytes it takes and frees
slow what is timed after it."""


def scan_inputs(length: int, dtype: torch.dtype, device: torch.device, inner: int = INNER) -> list[Tensor]:
    def normal(*size: int) -> Tensor:
        return torch.randn(size, device=device, dtype=dtype)

    projected = normal(2, 1, length, RANK + 2 * STATE)
    A = -torch.arange(1.0, STATE + 1, device=device).repeat(2, inner, 1)
    xz = normal(1, length, 2 * inner)
    return [
        normal(2, 1, length, inner),
        normal(2, 1, length, inner) - 4,
        A,
        projected[..., RANK : RANK + STATE],
        projected[..., RANK + STATE :],
        torch.ones(2, inner, device=device),
        torch.zeros(2, inner, device=device),
        xz[..., inner:],
    ]


def conv_inputs(length: int, dtype: torch.dtype, device: torch.device, inner: int = INNER) -> list[Tensor]:
    xz = torch.randn(1, length, 2 * inner, device=device, dtype=dtype)
    return [xz[..., :inner], torch.randn(2, inner, TAPS, device=device), torch.randn(2, inner, device=device)]


def norm_inputs(length: int, dtype: torch.dtype, device: torch.device, width: int = WIDTH) -> list[Tensor]:
    x, stream = torch.randn(1, length, width, device=device, dtype=dtype), torch.randn(1, length, width, device=device)
    return [x, stream, torch.ones(width, device=device)]


def mlp_inputs(
    length: int, dtype: torch.dtype, device: torch.device, width: int = WIDTH, hidden: int = HIDDEN
) -> list[Tensor]:
    weights = [torch.randn(size, device=device) / 20 for size in ((4, hidden, width), (4, hidden, width))]
    weights.append(torch.randn(4, width, hidden, device=device) / 20)
    return [torch.randn(length, width, device=device, dtype=dtype), *(w.to(dtype) for w in weights)]


def mlp(x: Tensor, gate: Tensor, up: Tensor, down: Tensor, backend: str) -> Tensor:
    counts = torch.tensor([len(x) // 2, len(x) // 4, 0, len(x) - len(x) // 2 - len(x) // 4], device=x.device)
    return grouped_mlp.grouped_mlp(x, gate, up, down, counts, backend=backend)  # type: ignore[arg-type]


OPERATORS: dict[
    str, tuple[Callable[..., list[Tensor]], Callable[..., Any], Callable[[Tensor], dict[str, str | None]]]
] = {
    "selective_scan": (
        scan_inputs,
        lambda *x, backend: selective_scan.selective_scan(*x, backend=backend)[0],
        selective_scan.offered,
    ),
    "causal_conv": (conv_inputs, lambda *x, backend: causal_conv.causal_conv(*x, backend=backend), causal_conv.offered),
    "add_rms_norm": (
        norm_inputs,
        lambda *x, backend: rms_norm.add_rms_norm(*x, 1e-5, backend=backend)[0],
        rms_norm.offered,
    ),
    "grouped_mlp": (mlp_inputs, mlp, grouped_mlp.offered),
}


def leaves(x: list[Tensor]) -> list[Tensor]:
    return [v.detach().requires_grad_() for v in x]


def gate(operator: str, dtype: torch.dtype, device: torch.device) -> dict[str, float]:
    """Give each backend's worst relative error against the definition in float64, over outputs and gradients."""
    make, run, offered = OPERATORS[operator]
    torch.manual_seed(0)
    x = make(150, dtype, device, 48)
    found = {}
    exact = leaves([v.double() for v in x])
    wanted = run(*exact, backend="reference")
    upstream = torch.randn_like(wanted)
    wanted_all = [wanted, *torch.autograd.grad(wanted, exact, upstream)]
    for backend, reason in offered(x[0]).items():
        if reason is None and backend != "reference":
            given = leaves(x)
            y = run(*given, backend=backend)
            got = [y, *torch.autograd.grad(y, given, upstream.to(y.dtype))]
            pairs = zip(got, wanted_all, strict=True)
            found[backend] = max(float((a.detach().double() - b.detach()).norm() / b.detach().norm()) for a, b in pairs)
    return found


def backends_for(operator: str, x: Tensor, length: int, device: torch.device, backward: bool) -> list[str]:
    names = []
    for name, reason in OPERATORS[operator][2](x).items():
        plain = name in ("chunked", "reference") and operator == "selective_scan"
        too_long = length > OUTSIDE_AUTO.get(name, 1 << 30) and operator in ("selective_scan", "causal_conv")
        if reason is None and not too_long and not (plain and backward and length > PLAIN_BACKWARD):
            names.append(name)
    return names


def theirs(x: list[Tensor]) -> Callable[[], Tensor] | None:
    """Give mamba-ssm's fused scan of both directions, flips included as its users have to write them; None without."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError:
        return None

    def run() -> Tensor:
        u, dt, A, B, C, D, bias, z = x
        total = 0
        for s, flips in ((0, []), (1, [-1])):
            one = [v.transpose(-1, -2).contiguous().flip(flips) for v in (u[s], dt[s], B[s], C[s], z)]
            y = selective_scan_fn(one[0], one[1], A[s], one[2], one[3], D[s], one[4], bias[s], delta_softplus=True)
            total = total + y.flip(flips)
        return total.transpose(-1, -2)

    return run


def time_operator(
    operator: str, length: int, dtype: torch.dtype, device: torch.device, rounds: int
) -> list[dict[str, Any]]:
    make, run, _ = OPERATORS[operator]
    found = []
    for backward in (False, True):
        x = make(length, dtype, device)
        x = leaves(x) if backward else x
        names = backends_for(operator, x[0], length, device, backward)

        def step(call: Callable[..., Tensor], backward: bool = backward, x: list[Tensor] = x) -> None:
            y = call()
            if backward:
                torch.autograd.grad(y, x, torch.ones_like(y))

        calls: dict[str, Callable[[], Tensor]] = {n: (lambda n=n, x=x: run(*x, backend=n)) for n in names}
        if device.type == "cuda" and operator == "selective_scan":
            if length <= PLAIN_BACKWARD:
                compiled = torch.compile(lambda *v: run(*v, backend="chunked"))
                calls["chunked, compiled"] = lambda c=compiled, x=x: c(*x)
            if other := theirs(x):
                calls["mamba-ssm"] = other
        with torch.set_grad_enabled(backward):
            times = measure.in_turns(
                {n: (lambda c=c: step(c)) for n, c in calls.items()}, rounds, device, budget_s=20.0
            )
        row: dict[str, Any] = {
            "operator": operator,
            "length": length,
            "dtype": str(dtype).removeprefix("torch."),
            "pass": "forward and backward" if backward else "forward",
            "us_per_token": {n: measure.per_token(s, length) for n, s in times.items()},
        }
        fastest = next(iter(times))
        row["over_fastest"] = {n: measure.ratio(s, times[fastest]) for n, s in times.items() if n != fastest}
        if operator == "selective_scan" and device.type == "cuda" and not backward:
            # u, dt, B, C for two directions, z read; y written.
            size = torch.finfo(dtype).bits // 8
            moved = length * size * (2 * (2 * INNER + 2 * STATE) + 2 * INNER)
            source = torch.empty(1 << 28, dtype=torch.uint8, device=device)
            copy = min(measure.in_turns({"copy": source.clone}, 5, device)["copy"])
            row["share_of_copy_bandwidth"] = round(moved / min(times[fastest]) / (2 * (1 << 28) / copy), 3)
        found.append(row)
        print(operator, length, row["dtype"], row["pass"], row["us_per_token"], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--lengths", default="512,2048,8192,32768")
    parser.add_argument("--dtypes", default="float32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--commit", default=None, help="where git is not at hand")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    dtypes = [getattr(torch, name) for name in arguments.dtypes.split(",")]
    results = {**measure.facts(device, arguments.commit), "gate": {}, "cases": []}
    for dtype in dtypes:
        limit = 1e-5 if dtype == torch.float32 else 3e-2
        for operator in OPERATORS:
            found = gate(operator, dtype, device)
            results["gate"][f"{operator}, {dtype}"] = found
            wrong = {name: error for name, error in found.items() if not error < limit}
            if wrong:
                sys.exit(f"{operator} in {dtype} is wrong, so nothing is timed: {wrong} against {limit:g}")
    for operator in OPERATORS:
        for dtype in dtypes:
            for length in map(int, arguments.lengths.split(",")):
                results["cases"] += time_operator(operator, length, dtype, device, arguments.rounds)
                measure.write(arguments.out, results)


if __name__ == "__main__":
    main()
