"""``umbel plan``: memory, disk and time of a run, before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from umbel.cli.options import Device, Json, Quiet, Settings, Threads, begin, finish


def plan(
    recipe: Annotated[str, typer.Argument(help="Such as tiny or plantbimoe; or a run.json or .toml file.")],
    devices: Annotated[int, typer.Option(min=1, help="GPUs, or processes on CPUs, that train together.")] = 1,
    settings: Settings = None,
    measured: Annotated[
        Path | None,
        typer.Option(help="Take the speed from umbel plan --json of another machine, or from a run folder."),
    ] = None,
    efficiency: Annotated[float, typer.Option(help="Share of ideal scaling, above 0 and up to 1.")] = 1.0,
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Tell what a run takes in memory, disk and hours, by training a part of it for some seconds; writes nothing."""
    from umbel.config import apply_settings
    from umbel.train.plan import plan as make_plan
    from umbel.train.plan_lines import plan_lines
    from umbel.train.recipes import load_recipe

    run = apply_settings(load_recipe(recipe), settings or [])
    reporter = begin(quiet, threads)
    found = make_plan(
        run, n_devices=devices, device=device, efficiency=efficiency, measured=measured, reporter=reporter
    )
    finish(found.as_dict(), plan_lines(found), json)
