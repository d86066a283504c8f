"""``umbel zeroshot``: what an untuned model expects of substitutions whose effect is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from umbel.cli.options import Checkpoint, Device, Json, Out, Quiet, Settings, Threads, begin, finish
from umbel.extras import require_packages


def zeroshot(
    checkpoint: Checkpoint,
    fasta: Annotated[Path, typer.Argument(metavar="FASTA", help="Genome: FASTA or 2bit.")],
    out: Out,
    gff3: Annotated[Path | None, typer.Argument(metavar="GFF3", help="Its genes.")] = None,
    vcf: Annotated[Path | None, typer.Option(help="In place of genes: rare against common alleles.")] = None,
    n_per_class: Annotated[int, typer.Option(min=1, help="Substitutions of each class.")] = 500,
    contig: Annotated[list[str] | None, typer.Option(help="Only on this contig. Repeatable.")] = None,
    note: Annotated[str, typer.Option(help="Words for the report: was this genome seen in training?")] = "",
    settings: Settings = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Score nonsense against synonymous substitutions, or rare against common alleles, beside seven baselines."""
    require_packages("umbel zeroshot", "train", ("sklearn", "matplotlib", "jinja2"))
    from umbel.config import apply_settings
    from umbel.evaluate.zero_shot.runner import zero_shot
    from umbel.evaluate.zero_shot.settings import ZeroShotSettings
    from umbel.evaluate.zero_shot.wording import lines

    ground = ZeroShotSettings(n_per_class=n_per_class, contigs=tuple(contig or ()), seed=seed, note=note)
    chosen = apply_settings(ground, settings or [])
    reporter = begin(quiet, threads)
    result = zero_shot(checkpoint, fasta, gff3, out, vcf=vcf, settings=chosen, device=device, reporter=reporter)
    finish(result, [*lines(result), f"report {out / 'report.html'}"], json)
