"""``umbel search``: the rows of an index that are most like a query."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from umbel.cli.loading import Precision, load_model
from umbel.cli.options import Device, Json, Threads, begin, finish
from umbel.model.shipped import model_path


def search(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", parser=model_path, help="The model that made the index.")
    ],
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of umbel embed --search.")],
    query: Annotated[str, typer.Argument(metavar="QUERY", help="FASTA, letters, or a region or BED on --fasta.")],
    fasta: Annotated[Path | None, typer.Option(help="Genome of the region.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Rows for each query.")] = 10,
    species: Annotated[str, typer.Option(help="Only rows of this species.")] = "",
    contig: Annotated[str, typer.Option(help="Only rows of this contig.")] = "",
    interval: Annotated[
        str, typer.Option(metavar="CONTIG:FIRST-LAST", help="Only rows that share a base with it, 1-based.")
    ] = "",
    approximate: Annotated[bool, typer.Option("--approximate", help="Look at near lists, not at every row.")] = False,
    device: Device = "auto",
    precision: Precision = "fp32",
    threads: Threads = 0,
    json: Json = False,
) -> None:
    """Find the rows whose embeddings are most like the query's, by cosine."""
    from dataclasses import asdict

    reporter = begin(quiet=True, threads=threads)
    result = load_model(checkpoint, device, precision, reporter).search(
        index, query, fasta=fasta, k=k, species=species, contig=contig, interval=interval, approximate=approximate
    )
    rows = [("query", "rank", "cosine", "species", "place", "name")]
    rows += [
        (row.query, str(row.rank), f"{row.similarity:.4f}", row.species, str(row.interval), row.name)
        for row in result.found
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"{name} has no A, C, G or T, and so nothing to search by" for name in result.without_bases]
    lines.append(f"of {result.n_rows:,} rows, {'all compared' if result.is_exact else 'near lists compared'}")
    finish(asdict(result), lines, json)
