"""Time the selective scan's backends beside each other, forward and backward, on this machine's CPU.

Use: python benchmarks/selective_scan.py -o OUT.json. The backends take turns, so that a drift of the machine's speed
hits them alike; quote the ratios.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import time
from pathlib import Path

import torch
from torch import Tensor

from umbel.ops.selective_scan import selective_scan

SHAPES = {"tiny": (8, 514, 128, 8), "small": (1, 4098, 384, 16), "published": (1, 2050, 1024, 16)}
BACKENDS = ("cpu", "chunked", "reference")


def inputs(batch: int, length: int, inner: int, state: int) -> list[Tensor]:
    u, B, C = (torch.randn(batch, length, n) for n in (inner, state, state))
    dt, A = torch.rand(batch, length, inner) / 10, -torch.exp(torch.randn(inner, state))
    return [x.requires_grad_() for x in (u, dt, A, B, C, torch.randn(inner))]


def timed(x: list[Tensor], backend: str) -> tuple[float, float]:
    began = time.perf_counter()
    y = selective_scan(*x, backend=backend)
    between = time.perf_counter()
    y.backward(torch.ones_like(y))
    return between - began, time.perf_counter() - between


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    results = {
        "commit": commit.stdout.strip(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cases": [],
    }
    for name, shape in SHAPES.items():
        x, tokens = inputs(*shape), shape[0] * shape[1]
        # The definition's backward is quadratic in length: only the shortest case can wait for it.
        backends = BACKENDS if name == "tiny" else BACKENDS[:2]
        timed(x, "cpu")
        rounds = [{backend: timed(x, backend) for backend in backends} for _ in range(arguments.rounds)]
        case = {"case": name, "shape_BLIN": shape}
        for backend in backends:
            for part, title in enumerate(("forward", "backward")):
                case[f"{backend}_{title}_us_per_token"] = (
                    statistics.median(r[backend][part] for r in rounds) / tokens * 1e6
                )
        for backend in backends[1:]:
            case[f"{backend}_over_cpu"] = statistics.median(sum(r[backend]) / sum(r["cpu"]) for r in rounds)
        print(json.dumps(case), flush=True)
        results["cases"].append(case)
    arguments.out.write_text(json.dumps(results, indent=2) + "\n")


main()
