"""What every benchmark shares: the machine's facts, and timing in turns, so that a drift of speed hits all alike."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def facts(device: torch.device, commit: str | None = None) -> dict[str, Any]:
    """Collect what a reader needs to judge a number; ``commit`` where git is not at hand."""
    if commit is None:
        done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run(["git", "status", "--porcelain", "src"], capture_output=True, text=True, check=True)
        commit = done.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")
    return {
        "date": date.today().isoformat(),
        "commit": commit,
        "machine": torch.cuda.get_device_name() if device.type == "cuda" else processor(),
        "device": str(device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def seconds(run: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        began = time.perf_counter()
        run()
        return time.perf_counter() - began
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    stop.record()
    torch.cuda.synchronize()
    return start.elapsed_time(stop) / 1e3


def in_turns(
    cases: dict[str, Callable[[], object]],
    rounds: int,
    device: torch.device,
    budget_s: float = 60.0,
    *,
    warm_up: bool = True,
) -> dict[str, list[float]]:
    """Run every case once to warm up, then all of them in each round; stop early when the time is up.

    Gives the seconds of each case, one number a round.
    """
    for run in cases.values() if warm_up else ():
        run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    found: dict[str, list[float]] = {name: [] for name in cases}
    for done in range(rounds):
        if done >= 2 and time.perf_counter() - began > budget_s:
            break
        for name, run in cases.items():
            found[name].append(seconds(run, device))
    return found


def per_token(found: list[float], tokens: int) -> dict[str, float]:
    scaled = [s / tokens * 1e6 for s in found]
    return {"median": round(statistics.median(scaled), 3), "best": round(min(scaled), 3), "rounds": len(scaled)}


def ratio(over: list[float], under: list[float]) -> dict[str, float]:
    """Give the median of the rounds' ratios with their range: what was timed together is divided together."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    return {"median": round(statistics.median(ratios), 3), "min": round(min(ratios), 3), "max": round(max(ratios), 3)}


def resident_gb() -> float:
    """Read the largest resident size of this process so far."""
    # Not getrusage: its maximum is inherited from the process that started this one.
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


def write(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")


def write_rows(path: Path, results: dict[str, Any]) -> None:
    """Write JSON that stays small and can still be compared line by line: each row of each part is one line."""
    parts = []
    for name, part in results.items():
        rows = json.dumps(part)
        if isinstance(part, dict) and any(isinstance(row, dict) for row in part.values()):
            rows = ",\n  ".join(f"{json.dumps(key)}: {json.dumps(row)}" for key, row in part.items())
            rows = f"{{\n  {rows}\n }}"
        elif isinstance(part, list) and any(isinstance(row, dict) for row in part):
            rows = ",\n  ".join(map(json.dumps, part))
            rows = f"[\n  {rows}\n ]"
        parts.append(f" {json.dumps(name)}: {rows}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")
