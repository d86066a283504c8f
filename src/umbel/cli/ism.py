"""``umbel ism``: every mutation of a region."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from umbel.cli.loading import Precision, load_model
from umbel.cli.options import Checkpoint, Device, Json, Out, Quiet, Threads, begin, finish
from umbel.extras import require_packages


def ism(
    checkpoint: Checkpoint,
    reference: Annotated[Path, typer.Argument(metavar="FASTA", help="FASTA or 2bit.")],
    out: Out,
    region: Annotated[str | None, typer.Argument(help="contig:first-last, such as chr1:101-300.")] = None,
    sequence: Annotated[bool, typer.Option("--sequence", help="The only record of the FASTA, whole.")] = False,
    deletions: Annotated[bool, typer.Option("--deletions", help="The deletion of each base, too.")] = False,
    head: Annotated[Path | None, typer.Option(help="Tuned model: also the change of its outputs.")] = None,
    window_bp: Annotated[int, typer.Option(min=0, help="As for umbel variants; 0: its default.")] = 0,
    n_passes: Annotated[int, typer.Option(min=1, help="Passes over a window for a deletion.")] = 8,
    device: Device = "auto",
    precision: Precision = "fp32",
    threads: Threads = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write the score of every substitution of a region as AnnData, TSV and a logo; a stopped run continues."""
    require_packages("umbel ism", "tracks", ("anndata", "matplotlib"))
    from umbel.errors import ConfigError
    from umbel.predict.ism.settings import IsmSettings

    if sequence == (region is not None):
        raise ConfigError("name a REGION, such as chr1:101-300, or say --sequence for a FASTA of one record")
    reporter = begin(quiet, threads)
    result = load_model(checkpoint, device, precision, reporter).ism(
        reference,
        region,
        out,
        settings=IsmSettings(window_bp, deletions, n_passes),
        head=head,
        reporter=reporter,
    )
    counts = {
        "N, without a score": result.n_unknown,
        "with too few known bases around them, without a score": result.n_without_context,
        "with a window that an end of the contig cuts short": result.n_short_windows,
        "with N in the window": result.n_windows_with_n,
    }
    lines = [f"{result.region}: {len(result.ref):,} bases"]
    lines += [f"  {count:,} of them {what}" for what, count in counts.items() if count]
    lines += [f"  {path}" for path in result.files.values()]
    values = {
        "region": str(result.region),
        "bases": len(result.ref),
        "unknown": result.n_unknown,
        "without_context": result.n_without_context,
        "short_windows": result.n_short_windows,
        "windows_with_n": result.n_windows_with_n,
        "files": {name: str(path) for name, path in result.files.items()},
        "made_by": dict(result.facts),
    }
    finish(values, lines, json)
