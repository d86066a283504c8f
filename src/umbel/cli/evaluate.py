"""``umbel evaluate``: what a model knows, beside its baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from umbel.cli.options import Checkpoint, Device, Json, Out, Quiet, Settings, Threads, begin, finish
from umbel.extras import require_packages


def evaluate(
    checkpoint: Checkpoint,
    corpus: Annotated[Path, typer.Option(help="Folder made by umbel corpus build.")],
    out: Out,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of masks, samples and intervals.")] = 0,
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Measure masked loss, a linear probe and the experts on held-out contigs, and write report.html."""
    require_packages("umbel evaluate", "train", ("sklearn", "matplotlib", "jinja2", "threadpoolctl"))
    from umbel.evaluate.runner import evaluate_checkpoint, read_settings

    chosen = read_settings([f"seed={seed}", *(settings or [])])
    reporter = begin(quiet, threads)
    result = evaluate_checkpoint(checkpoint, corpus, out, settings=chosen, device=device, reporter=reporter)
    finish(result, [*result["verdict"], f"report {out / 'report.html'}"], json)
