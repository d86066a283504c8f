"""``umbel embed``: embeddings of a FASTA or of BED regions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from umbel.cli.options import Device, Json, Out, Quiet, Threads, begin, finish


def embed(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="Checkpoint or run folder.")],
    source: Annotated[Path, typer.Argument(metavar="FASTA|BED", help="Sequences, or regions on --fasta.")],
    out: Out,
    fasta: Annotated[Path | None, typer.Option(help="Sequence that the BED regions are on.")] = None,
    per: Annotated[
        str, typer.Option(help="window: a row per window; sequence: a row per record or region.")
    ] = "window",
    window_bp: Annotated[int, typer.Option(min=0, help="0: the window the model was trained on.")] = 0,
    stride_bp: Annotated[int, typer.Option(min=0, help="0: windows side by side.")] = 0,
    strand: Annotated[str, typer.Option(help="forward, revcomp, or both averaged.")] = "both",
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write embeddings, the mean over real bases, as Parquet; a stopped run continues."""
    from umbel.predict.embed import EmbedSettings, embed_file

    settings = EmbedSettings(per, window_bp, stride_bp, strand)  # type: ignore[arg-type]
    reporter = begin(quiet, threads)
    result = embed_file(checkpoint, source, out, fasta=fasta, settings=settings, device=device, reporter=reporter)
    values = {"path": str(result.path), "rows": result.rows, "without_bases": result.without_bases}
    lines = [f"{result.path}: {result.rows:,} rows"]
    if result.without_bases:
        lines.append(f"  {result.without_bases:,} of them have no A, C, G or T, and so no embedding")
    finish(values, lines, json)
