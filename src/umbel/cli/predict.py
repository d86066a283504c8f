"""``umbel predict``: what a tuned model says of new sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from umbel.cli.options import Device, Json, Out, Quiet, Threads, begin, finish
from umbel.model.shipped import model_path


def predict(
    tuned: Annotated[Path, typer.Argument(metavar="TUNED", help="What umbel finetune wrote.")],
    source: Annotated[Path, typer.Argument(metavar="FASTA|BED", help="Sequences, or regions on --fasta.")],
    out: Out,
    fasta: Annotated[Path | None, typer.Option(help="Sequence that the BED regions are on.")] = None,
    region: Annotated[
        list[str] | None, typer.Option(metavar="CONTIG:FIRST-LAST", help="A place on FASTA, from 1. Repeatable.")
    ] = None,
    base: Annotated[
        Path | None, typer.Option(parser=model_path, help="Of an adapter: the model that it was trained on.")
    ] = None,
    strand: Annotated[
        str, typer.Option(help="forward, revcomp, or both averaged; empty: as the model was scored.")
    ] = "",
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write classes with their probabilities, or numbers, for every sequence; a stopped run continues."""
    from umbel.predict.head import Head
    from umbel.predict.labels import predict_file

    reporter = begin(quiet, threads)
    head = Head.load(tuned, device, base)
    result = predict_file(
        head,
        source,
        out,
        fasta=fasta,
        regions=region or (),
        strand=strand or None,  # type: ignore[arg-type]
        reporter=reporter,
    )
    values = {
        "path": str(result.path),
        "rows": result.rows,
        "without_bases": result.without_bases,
        "beyond_window": result.beyond_window,
        "strand": result.strand,
    }
    lines = [f"{result.path}: {result.rows:,} rows, read {result.strand}"]
    if result.without_bases:
        lines.append(f"  {result.without_bases:,} of them have no A, C, G or T, and so no prediction")
    if result.beyond_window:
        window = f"{head.window_bp:,} bases that the base model was trained on"
        lines.append(f"  {result.beyond_window:,} of them are longer than the {window}")
    finish(values, lines, json)
