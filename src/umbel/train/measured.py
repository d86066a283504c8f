"""Speed that was measured elsewhere: by ``umbel plan --json`` on another machine, or by a run."""

from __future__ import annotations

import json
import statistics
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from umbel.config import RunConfig, from_dict
from umbel.errors import ConfigError, InputError
from umbel.train.speed import step_flops
from umbel.train.state import read_metrics
from umbel.train.trial import Throughput
from umbel.train.workload import workload

_FEWEST_STEPS = 8


def read_throughput(path: str | Path) -> Throughput:
    """Read the speed of one device.

    Parameters
    ----------
    path
        What ``umbel plan --json`` printed, or a run folder: then it is the median of the last half of its steps, and
        the range is that of the middle eight tenths.

    Raises
    ------
    InputError
        If the file is neither, or the run is too short to tell.
    """
    source = Path(path)
    return _of_run(source) if source.is_dir() else _of_plan(source)


def _read_json(path: Path, wanted: str) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"no such file; {wanted}", path) from error
    except ValueError as error:
        raise InputError(f"not readable as JSON ({error}); {wanted}", path) from error
    if not isinstance(values, dict):
        raise InputError(f"no JSON object; {wanted}", path)
    return values


def _of_plan(path: Path) -> Throughput:
    wanted = "give what umbel plan --json printed, or a run folder"
    told = _read_json(path, wanted).get("throughput")
    names = {field.name for field in fields(Throughput)}
    if not isinstance(told, dict) or set(told) != names:
        raise InputError(f"has no throughput as umbel plan --json tells it; {wanted}", path)
    return replace(Throughput(**told), source=str(path))


def _of_run(folder: Path) -> Throughput:
    facts = _read_json(folder / "run.json", "give a run folder, or what umbel plan --json printed")
    try:
        run = from_dict(RunConfig, facts["config"], str(folder / "run.json"))
    except (KeyError, ConfigError) as error:
        raise InputError(f"not a run that this umbel knows ({error})", folder / "run.json") from error
    steps = [record for record in read_metrics(folder / "metrics.jsonl") if record["kind"] == "train"]
    if len(steps) < _FEWEST_STEPS:
        raise InputError(
            f"has {len(steps)} steps, too few to tell its speed: let the run take {_FEWEST_STEPS}",
            folder / "metrics.jsonl",
        )
    last = [record["tokens_per_s"] for record in steps[len(steps) // 2 :]]
    n_processes = int(facts.get("processes", 1))
    flops = step_flops(run, 1, workload(run).sequence_tokens) / n_processes
    tenths = statistics.quantiles(last, n=10)
    shares = [
        record["mfu"] / record["tokens_per_s"] for record in steps if record.get("mfu") and record["tokens_per_s"]
    ]
    return Throughput(
        source=str(folder),
        device=str(facts.get("device", "unknown")),
        precision=run.train.autocast,
        threads=int(facts.get("threads", 0)),
        flops_per_s=statistics.median(last) * flops,
        slowest=tenths[0] * flops,
        fastest=tenths[-1] * flops,
        optimizer_s=0.0,
        matrix_flops_per_s=flops / statistics.median(shares) if shares else 0.0,
        note=f"median of the last {len(last):,} of {len(steps):,} steps on {n_processes} processes",
    )
