"""``umbel pretrain``: train a masked language model on a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from umbel.cli.options import Device, Json, Out, Quiet, Settings, Threads, begin, finish
from umbel.model.shipped import model_path


def pretrain(
    recipe: Annotated[
        str, typer.Argument(help="Such as tiny, plantbimoe or hyenamoe_fast; or a run.json or .toml file.")
    ],
    corpus: Annotated[Path, typer.Option(help="Folder made by umbel corpus build.")],
    out: Out,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="CKPT",
            parser=model_path,
            help="Begin with these weights and a fresh optimiser; mini: the model that comes with umbel.",
        ),
    ] = None,
    settings: Settings = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Short for --set train.seed=N.")] = None,
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train; run the same command again to continue a run that was stopped in any way.

    With several processes: torchrun --nproc-per-node N -m umbel pretrain ... --set parallel.kind=ddp (or fsdp).
    """
    from umbel.config import apply_settings
    from umbel.train.pretrain import pretrain as train
    from umbel.train.recipes import load_recipe

    chosen = [*(settings or []), *([] if seed is None else [f"train.seed={seed}"])]
    run = apply_settings(load_recipe(recipe), chosen)
    result = train(run, corpus, out, weights=weights, device=device, reporter=begin(quiet, threads))
    if not result.is_first:
        return
    lines = [f"checkpoint {result.checkpoint}"]
    for name, told in (("training", result.train), ("validation", result.valid)):
        for kind, prefix in (("", ""), ("placement ", "placement_")):
            if f"{prefix}loss" in told:
                loss, accuracy = told[f"{prefix}loss"], told[f"{prefix}accuracy"]
                lines.append(f"  {name} {kind}loss {loss:.4f}, accuracy {accuracy:.4f}")
    finish({"checkpoint": str(result.checkpoint), "train": result.train, "valid": result.valid}, lines, json)
