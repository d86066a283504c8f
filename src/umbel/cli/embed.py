"""``umbel embed``: embeddings of a FASTA, of regions of it, or of BED intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from umbel.cli.loading import Precision, load_model
from umbel.cli.options import Checkpoint, Device, Json, Out, Quiet, Threads, begin, finish


def embed(
    checkpoint: Checkpoint,
    source: Annotated[Path, typer.Argument(metavar="FASTA|BED", help="Sequences, or intervals on --fasta.")],
    out: Out,
    fasta: Annotated[Path | None, typer.Option(help="Sequence that the BED intervals are on.")] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(metavar="CONTIG:FIRST-LAST", help="Part of the FASTA, 1-based; (-) behind it. Repeatable."),
    ] = None,
    per: Annotated[
        str, typer.Option(help="window: a row per window; sequence: a row per record or region.")
    ] = "window",
    window_bp: Annotated[int, typer.Option(min=0, help="0: the window the model was trained on.")] = 0,
    stride_bp: Annotated[int, typer.Option(min=0, help="0: windows side by side.")] = 0,
    strand: Annotated[str, typer.Option(help="forward, revcomp, or both averaged.")] = "both",
    layer: Annotated[int, typer.Option(help="From 0; -1: the last, after the final norm.")] = -1,
    pooling: Annotated[str, typer.Option(help="mean, max, first or last of the tokens of real bases.")] = "mean",
    search: Annotated[Path | None, typer.Option(help="Folder of a search index that gets the rows too.")] = None,
    species: Annotated[str, typer.Option(help="What the rows are found by in the index.")] = "",
    picture: Annotated[Path | None, typer.Option(help="Draw the rows: .png or .svg.")] = None,
    projection: Annotated[str, typer.Option(help="Of the picture: pca or umap.")] = "pca",
    annotation: Annotated[Path | None, typer.Option(help="GFF3 that colours the picture; else contigs do.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the picture.")] = 0,
    device: Device = "auto",
    precision: Precision = "fp32",
    threads: Threads = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write embeddings as Parquet (.parquet) or AnnData (.h5ad, .zarr); a stopped run continues."""
    from dataclasses import asdict

    from umbel.errors import ConfigError
    from umbel.predict.embed import EmbedSettings
    from umbel.predict.embed.picture import PictureSettings

    settings = EmbedSettings(per, window_bp, stride_bp, strand, layer, pooling)  # type: ignore[arg-type]
    drawing = None
    if picture is not None:
        drawing = PictureSettings(picture, projection, annotation, seed)  # type: ignore[arg-type]
    elif annotation is not None:
        raise ConfigError("--annotation colours a picture: name it with --picture")
    reporter = begin(quiet, threads)
    result = load_model(checkpoint, device, precision, reporter).embed_file(
        source,
        out,
        fasta=fasta,
        regions=region or (),
        settings=settings,
        search=search,
        species=species,
        picture=drawing,
        reporter=reporter,
    )
    lines = [f"{result.path}: {result.rows:,} rows"]
    if result.without_bases:
        lines.append(f"  {result.without_bases:,} of them have no A, C, G or T, and so no embedding")
    if (added := result.search) is not None:
        lines.append(f"{added.path}: {added.added:,} rows added, {added.there_already:,} were there already")
    if (drawn := result.picture) is not None:
        lines.append(f"{drawn.path}: {drawn.n_shown:,} of {drawn.n_rows:,} rows with an embedding")
        lines += [f"  {drawn.purity.in_words()}"] if drawn.purity else []
    finish(asdict(result), lines, json)
