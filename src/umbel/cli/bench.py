"""``umbel bench``: a model beside its baselines on a suite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from umbel.cli.options import Checkpoint, Json, Out, Quiet, Settings, Threads, begin, estimate_text, finish
from umbel.extras import require_packages


def bench(
    checkpoint: Checkpoint,
    suite: Annotated[str, typer.Option(help="Name of a suite (umbel suite list), or a TOML file of your own.")],
    data: Annotated[Path, typer.Option(help="Folder with the suite's files (umbel suite check).")],
    out: Out,
    dataset: Annotated[list[str] | None, typer.Option(help="Only this dataset. Repeatable.")] = None,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Leave out what is not there.")] = False,
    settings: Settings = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu or cuda:N; several, with commas, compute a row each at a time.")
    ] = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Measure with seeds, intervals and four baselines; keep every prediction; write a leaderboard page.

    --set method=probe (the default), adapter or full; run it again to go on where it was stopped.
    """
    require_packages("umbel bench", "train", ("sklearn", "peft", "matplotlib", "jinja2", "threadpoolctl"))
    from umbel.config import BenchConfig, apply_settings
    from umbel.evaluate.bench.runner import bench as run

    config = apply_settings(BenchConfig(), settings or [])
    result = run(
        checkpoint,
        suite,
        data,
        out,
        config=config,
        datasets=dataset or (),
        allow_missing=allow_missing,
        devices=device.split(","),
        threads=threads,
        reporter=begin(quiet, threads),
    )
    finish(result, [*_lines(result), f"leaderboard {out / 'leaderboard.html'}"], json)


def _lines(result: dict[str, Any]) -> list[str]:
    lines = []
    for name, found in result["datasets"].items():
        metric = found["metric"]
        lines.append(f"{name}, {metric}")
        for row, told in found["rows"].items():
            lines.append(f"  {row:<9} {_estimate(told['metrics'][metric])}")
            lines += [f"    warning: a seed collapsed: {why}" for why in told["collapsed"] if why and row == "model"]
    lines += [f"{name}: not there" for name in result["missing"]]
    return lines


def _estimate(found: dict[str, Any]) -> str:
    return estimate_text(found) + ("" if found["sd"] is None else f", sd over seeds {found['sd']:.4f}")
