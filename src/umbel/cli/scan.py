"""``umbel scan``: embeddings along whole chromosomes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from umbel.cli.options import Device, Json, Out, Quiet, Threads, begin, finish


def scan(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="Checkpoint or run folder.")],
    source: Annotated[Path, typer.Argument(metavar="FASTA", help="Contigs of any length.")],
    out: Out,
    bin_bp: Annotated[int, typer.Option(min=1, help="Bases of a row.")] = 1_000,
    chunk_tokens: Annotated[int, typer.Option(min=1, help="Tokens that a window gives.")] = 2_048,
    overlap_tokens: Annotated[
        int, typer.Option(min=-1, help="Tokens it sees besides, on either side; -1: 1,024 where there is attention.")
    ] = -1,
    check_tokens: Annotated[
        int, typer.Option(min=0, help="Tokens on which streaming is compared with one pass; 0: no comparison.")
    ] = 4_096,
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write an embedding for every bin of every contig, forward strand, as Parquet; a stopped run continues."""
    from umbel.predict.scan import ScanSettings, scan_file

    settings = ScanSettings(chunk_tokens, overlap_tokens, bin_bp, check_tokens)
    result = scan_file(checkpoint, source, out, settings=settings, device=device, reporter=begin(quiet, threads))
    values = {"path": str(result.path), "rows": result.rows, "without_tokens": result.without_tokens}
    lines = [f"{result.path}: {result.rows:,} rows", f"  {result.streaming.in_words()}"]
    if result.without_tokens:
        lines.append(f"  {result.without_tokens:,} of them have no token of A, C, G or T, and so no embedding")
    finish({**values, "streaming": result.streaming.as_dict()}, lines, json)
