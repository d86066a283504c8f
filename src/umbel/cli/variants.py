"""``umbel variants``: the variants of a VCF file, scored."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from umbel.cli.loading import Precision, load_model
from umbel.cli.options import Checkpoint, Device, Json, Out, Quiet, Threads, begin, finish


def variants(
    checkpoint: Checkpoint,
    vcf: Annotated[Path, typer.Argument(metavar="VCF", help="VCF (plain, gzip, bgzip) or BCF.")],
    reference: Annotated[Path, typer.Argument(metavar="FASTA", help="Its reference: FASTA or 2bit.")],
    out: Out,
    score: Annotated[
        str,
        typer.Option(help="llr, pll, embedding, head, with commas between; default: llr, and pll for insertions etc."),
    ] = "",
    window_bp: Annotated[
        int, typer.Option(min=0, help="Bases of the longest window; 0: as in training, at most 512.")
    ] = 0,
    max_allele_bp: Annotated[int, typer.Option(min=0, help="Longer alleles get no score; 0: 50.")] = 0,
    n_passes: Annotated[int, typer.Option(min=1, help="Passes over a window for pll.")] = 8,
    background: Annotated[
        int, typer.Option(min=0, help="Random variants of each kind and length to compare with; 0: none.")
    ] = 100,
    background_file: Annotated[
        Path | None, typer.Option(help="Keep their scores here, for other files of the same genome.")
    ] = None,
    head: Annotated[Path | None, typer.Option(help="Tuned model, for --score head.")] = None,
    contig_map: Annotated[
        Path | None, typer.Option(help="Two columns: a contig's name in the VCF, and in the reference.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random variants.")] = 0,
    device: Device = "auto",
    precision: Precision = "fp32",
    threads: Threads = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Score every allele of a VCF against its reference; every record is kept, and a stopped run continues."""
    from umbel.predict.variants.scoring import VariantsResult
    from umbel.predict.variants.settings import VariantSettings

    names = tuple(name for name in score.split(",") if name)
    settings = VariantSettings(names, window_bp, max_allele_bp, n_passes, background, seed)  # type: ignore[arg-type]
    reporter = begin(quiet, threads)
    result = load_model(checkpoint, device, precision, reporter).score_variants(
        vcf,
        reference,
        out,
        settings=settings,
        head=head,
        contig_map=contig_map,
        background_file=background_file,
        reporter=reporter,
    )
    assert isinstance(result, VariantsResult)
    lines = [f"{result.path}: {result.records:,} records, {result.scored_records:,} of them with a score"]
    lines += [f"  {count:,} records: {name}" for name, count in result.filters.items() if count]
    told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in sorted(result.alleles.items()))
    lines.append(f"  alleles: {told or 'none'}")
    if result.background:
        drawn = ", ".join(f"{count:,} {name}" for name, count in result.background.items())
        lines.append(f"  compared with random variants: {drawn}")
    lines.append(f"  index: {result.index}" if result.index else "  no index")
    lines += [f"  warning: {warning}" for warning in result.warnings]
    finish({**asdict(result), "path": str(result.path), "index": result.index and str(result.index)}, lines, json)
