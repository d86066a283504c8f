"""``umbel finetune``: fit a model to labelled sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from umbel.cli.options import Checkpoint, Device, Json, Out, Quiet, Settings, Threads, begin, estimate_text, finish
from umbel.extras import require_packages


def finetune(
    checkpoint: Checkpoint,
    train: Annotated[Path, typer.Option(help="Labelled sequences: CSV, TSV, Parquet, or FASTA with labels.")],
    out: Out,
    valid: Annotated[Path | None, typer.Option(help="Dev set; without one, a part of train is set aside.")] = None,
    test: Annotated[Path | None, typer.Option(help="Reported on at the end; never chooses anything.")] = None,
    sequence: Annotated[str | None, typer.Option(help="Column of the sequences.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Column of the labels. Repeatable.")] = None,
    id_column: Annotated[str | None, typer.Option("--id", help="Column of the names.")] = None,
    task: Annotated[str | None, typer.Option(help="binary, multiclass, multilabel, regression, bases or bins.")] = None,
    bin_bp: Annotated[int, typer.Option(min=0, help="Bases in a bin of a bins task.")] = 0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad rows out, and list them.")] = False,
    keep_copies: Annotated[
        bool, typer.Option("--keep-copies", help="Allow valid and test to repeat sequences of train.")
    ] = False,
    species: Annotated[str, typer.Option(help="For an adapter's card.")] = "",
    taxid: Annotated[int, typer.Option(min=0, help="NCBI taxonomy id, for an adapter's card.")] = 0,
    forgetting: Annotated[
        Path | None, typer.Option(metavar="CORPUS", help="Also tell masked loss on its test windows, before and after.")
    ] = None,
    settings: Settings = None,
    seed: Annotated[list[int] | None, typer.Option(min=0, help="Short for --set seeds=[N]. Repeatable.")] = None,
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train all weights, or an adapter (--set method=adapter); choose on dev, report on test with intervals."""
    require_packages("umbel finetune", "train", ("sklearn", "peft"))
    from umbel.config import FinetuneConfig, apply_settings
    from umbel.data.labelled.task import require_kind
    from umbel.evaluate.finetuning import LabelledFiles, Species
    from umbel.evaluate.finetuning import finetune as tune

    config = apply_settings(FinetuneConfig(), [*(settings or []), *([f"seeds={seed}"] if seed else [])])
    files = LabelledFiles(
        train,
        valid,
        test,
        sequence,
        tuple(label or ()),
        id_column,
        None if task is None else require_kind(task),
        bin_bp,
        "skip" if skip_bad else "stop",
        keep_copies,
    )
    reporter = begin(quiet, threads)
    told = Species(species, taxid)
    result = tune(
        checkpoint, files, out, config=config, species=told, corpus=forgetting, device=device, reporter=reporter
    )
    finish(result, _lines(result, out), json)


def _lines(result: dict, out: Path) -> list[str]:  # type: ignore[type-arg]
    lines = [f"{result['reason']}; learning rate {result['lr']:g}, chosen by {result['selected_by']} on dev"]
    for name, scores in result["scores"].items():
        defined = {metric: found for metric, found in scores.items() if found["value"] is not None}
        lines += [f"  {name} {metric} {estimate_text(found)}" for metric, found in defined.items()]
        lines += [f"  warning: {name} collapsed: {why}" for why in result["collapsed"][name] if why]
    kind = "adapter" if result["config"]["method"] == "adapter" else "model"
    return [*lines, f"{kind} {out / 'runs' / result['best_run'] / kind}"]
