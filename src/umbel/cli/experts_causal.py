"""``umbel experts causal``: what it costs, class by class, to take an expert away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from umbel.cli.experts_inputs import require_expert_packages
from umbel.cli.loading import Precision, load_model
from umbel.cli.options import Checkpoint, Device, Json, Out, Quiet, Settings, Threads, begin, estimate_text, finish
from umbel.errors import ConfigError
from umbel.model.shipped import model_path

if TYPE_CHECKING:
    from umbel.evaluate.experts.causal.settings import CausalSettings


def causal(
    checkpoint: Checkpoint,
    fasta: Annotated[Path, typer.Argument(metavar="FASTA", help="Genome: FASTA or 2bit.")],
    out: Out,
    gff3: Annotated[Path | None, typer.Argument(metavar="GFF3", help="Its genes.")] = None,
    knock_out: Annotated[
        list[str] | None, typer.Option(metavar="LAYER:EXPERT", help="Only this one; otherwise every one. Repeatable.")
    ] = None,
    swap: Annotated[
        list[str] | None, typer.Option(metavar="LAYER:A,B", help="Exchange two experts' tokens. Repeatable.")
    ] = None,
    mode: Annotated[
        list[str] | None, typer.Option(help="reroute (to the next best), silence, or mean (of all). Repeatable.")
    ] = None,
    routes_of: Annotated[
        Path | None,
        typer.Option(
            metavar="CKPT2",
            parser=model_path,
            help="Exchange routes with another checkpoint, or what tuning made of CKPT.",
        ),
    ] = None,
    n_windows: Annotated[int, typer.Option(min=1, help="Windows of the genome that are read.")] = 256,
    contig: Annotated[list[str] | None, typer.Option(help="Only on this contig. Repeatable.")] = None,
    regions: Annotated[Path | None, typer.Option(help="BED: only in these intervals.")] = None,
    repeats: Annotated[Path | None, typer.Option(help="BED, GFF3 or .out of RepeatMasker.")] = None,
    random: Annotated[bool, typer.Option(help="The same edits in the network before training, beside.")] = True,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    device: Device = "auto",
    precision: Precision = "fp32",
    threads: Threads = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Knock experts out, or swap two, and measure the masked loss of each class of bases; a stopped run continues."""
    require_expert_packages()
    from dataclasses import replace

    from umbel.config import apply_settings
    from umbel.evaluate.experts.causal.settings import CausalSettings
    from umbel.evaluate.experts.causal.study import open_other, read_edits, study_causes
    from umbel.evaluate.experts.sources.making import genome_source
    from umbel.model.edited_router import MODES

    chosen: CausalSettings = apply_settings(CausalSettings(seed=seed, n_windows=n_windows), settings or [])
    if unknown := [one for one in mode or () if one not in MODES]:
        raise ConfigError(f"--mode {unknown[0]}: use {', '.join(MODES[:-1])} or {MODES[-1]}")
    if mode:
        chosen = replace(chosen, modes=tuple(dict.fromkeys(mode)))  # type: ignore[arg-type]
    edits = read_edits(knock_out or [], swap or [], chosen)
    reporter = begin(quiet, threads)
    predictor = load_model(checkpoint, device, precision, reporter)
    predictor.require_base_probabilities()
    other = None if routes_of is None else open_other(predictor, routes_of)
    with genome_source(
        fasta,
        gff3,
        repeats=repeats,
        stretch_bp=predictor.window_bp,
        n_stretches=chosen.n_windows,
        seed=chosen.seed,
        contigs=contig or (),
        regions=regions,
    ) as source:
        found = study_causes(
            predictor,
            source,
            out,
            edits=edits,
            other=other,
            with_random=random,
            name=checkpoint.name,
            # The source has as many stretches as were asked for.
            settings=replace(chosen, n_windows=0),
            reporter=reporter,
        )
    finish(found, [*_lines(found, out), f"tables {out}"], json)


def _lines(found: dict[str, Any], out: Path) -> list[str]:
    """Say in words what was found: the costliest edits, and whether special experts are important ones."""
    from pyarrow import parquet

    rows = [row for row in parquet.read_table(out / "ablation.parquet").to_pylist() if row["labelling"] == "all"]
    whole = found["untouched"][0]
    beside = "" if whole["random_loss"] is None else f"; before training {whole['random_loss']:.4f}"
    lines = [f"masked loss {whole['loss']:.4f} nats a base, {whole['n_bases']:,} hidden{beside}"]
    for row in sorted(rows, key=lambda row: -row["delta"])[:5]:
        what = f"expert {row['expert']}" if row["other"] is None else f"experts {row['expert']} and {row['other']}"
        ends = "" if row["low"] is None else f" ({row['low']:+.5f} to {row['high']:+.5f})"
        takes = f"takes {row['taken']:.1%} of visible and {row['taken_hidden']:.1%} of hidden bases"
        lines.append(f"  layer {row['layer']}, {what}, {row['mode']}: {row['delta']:+.5f}{ends}; {takes}")
    for one in found["importance"]:
        if one["measure"] == "enrichment" and one["within_layers"] is not None:
            lines.append(
                f"specialisation ({one['labelling']}) with importance ({one['mode']}), Spearman within layers: "
                f"{estimate_text(one['within_layers'])}"
            )
    for row in found["split"] or ():
        if (row["labelling"], row["patched"]) == ("all", "choices and weights"):
            share = "" if row["suppressed"] else f", of which routes {row['routes_share']:.0%}"
            lines.append(f"loss of the other checkpoint minus this one's: {row['total']:.4f}{share}")
    return lines
