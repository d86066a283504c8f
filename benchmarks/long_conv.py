"""Time the backends of the long convolution beside each other, and find from which length Fourier transforms win.

Use: python benchmarks/long_conv.py -o benchmarks/results/long_conv_cpu.json [--device cuda] [--lengths 64,1024]

Before anything is timed, every backend must agree with the definition in float64, outputs and gradients; if one does
not, nothing is written. The order of backends in ``umbel.ops.long_conv.offered`` follows what is found here.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import torch
from torch import Tensor

from umbel.ops.devices import resolve_device
from umbel.ops.long_conv import long_conv, offered

WIDTH, POLES = 768, 16
LIMIT = 1e-5


def inputs(length: int, device: torch.device, width: int = WIDTH) -> list[Tensor]:
    rates = -torch.exp(torch.linspace(0, -8, POLES, device=device)).expand(width, -1)
    angles = math.pi * (2 * torch.rand(width, POLES, device=device) - 1)
    residues = torch.randn(width, POLES, 2, device=device) / math.sqrt(POLES)
    z = torch.randn(1, length, 3 * width, device=device)
    return [z, residues, torch.stack((rates, angles), -1), torch.randn(width, device=device)]


def leaves(x: list[Tensor]) -> list[Tensor]:
    return [v.detach().requires_grad_() for v in x]


def gate(device: torch.device) -> dict[str, float]:
    """Give each backend's worst relative error against the definition in float64, over outputs and gradients."""
    torch.manual_seed(0)
    x = inputs(300, device, 48)
    exact = leaves([v.double() for v in x])
    wanted = torch.cat([y.flatten() for y in long_conv(*exact, backend="reference")])
    upstream = torch.randn_like(wanted)
    wanted_all = [wanted, *torch.autograd.grad(wanted, exact, upstream)]
    found = {}
    for backend in able(x[0]):
        given = leaves(x)
        y = torch.cat([part.flatten() for part in long_conv(*given, backend=backend)])  # type: ignore[arg-type]
        got = [y, *torch.autograd.grad(y, given, upstream.float())]
        pairs = zip(got, wanted_all, strict=True)
        found[backend] = max(float((a.detach().double() - b.detach()).norm() / b.detach().norm()) for a, b in pairs)
    return found


def able(z: Tensor) -> list[str]:
    return [name for name, reason in offered(z).items() if reason is None and name != "reference"]


def time_length(length: int, device: torch.device, backward: bool, rounds: int, budget_s: float) -> dict[str, Any]:
    x = inputs(length, device)
    x = leaves(x) if backward else x

    def step(backend: str) -> None:
        y, _ = long_conv(*x, backend=backend)  # type: ignore[arg-type]
        if backward:
            torch.autograd.grad(y, x, torch.ones_like(y))

    calls: dict[str, Callable[[], None]] = {name: (lambda name=name: step(name)) for name in able(x[0])}
    with torch.set_grad_enabled(backward):
        times = measure.in_turns(calls, rounds, device, budget_s)
    row: dict[str, Any] = {
        "length": length,
        "pass": "forward and backward" if backward else "forward",
        "us_per_token": {name: measure.per_token(found, length) for name, found in times.items()},
    }
    pairs = [("fft", "recurrent"), ("fft", "cpu"), ("recurrent", "cpu")]
    row |= {f"{a}_over_{b}": measure.ratio(times[a], times[b]) for a, b in pairs if a in times and b in times}
    print(row, flush=True)
    return row


def crossover(rows: list[dict[str, Any]], ratio: str) -> int | None:
    """Give the first length from which on, in every longer row too, the ratio's median is below 1."""
    first = None
    for row in sorted(rows, key=lambda row: int(row["length"])):
        below = ratio in row and row[ratio]["median"] < 1
        first = (row["length"] if first is None else first) if below else None
    return first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--lengths", default="64,256,1024,4096,16384,32768")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--budget", type=float, default=8.0, help="seconds a row; two rounds are made at least")
    parser.add_argument("--commit", default=None, help="where git is not at hand")
    parser.add_argument("--note", default=None, help="what else a reader must know, such as what else ran")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    found = gate(device)
    if wrong := {name: error for name, error in found.items() if not error < LIMIT}:
        sys.exit(f"long_conv is wrong, so nothing is timed: {wrong} against {LIMIT:g}")
    facts = measure.facts(device, arguments.commit)
    results: dict[str, Any] = {**facts, "note": arguments.note, "width": WIDTH, "poles": POLES, "gate": found}
    rows: list[dict[str, Any]] = []
    for length in map(int, arguments.lengths.split(",")):
        for backward in (False, True):
            rows.append(time_length(length, device, backward, arguments.rounds, arguments.budget))
        results["crossover"] = {
            f"{ratio}, {name}": crossover([row for row in rows if row["pass"] == name], ratio)
            for name in ("forward", "forward and backward")
            for ratio in ("fft_over_recurrent", "fft_over_cpu")
        }
        measure.write(arguments.out, {**results, "cases": rows})


if __name__ == "__main__":
    main()
