"""``umbel scan``: tracks, or embeddings, along whole chromosomes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from umbel.cli.loading import Precision, load_model
from umbel.cli.options import Checkpoint, Json, Quiet, Threads, begin, finish
from umbel.errors import ConfigError
from umbel.extras import require_packages

if TYPE_CHECKING:
    from umbel.predict.tracks.calls import CallSettings
    from umbel.progress import Reporter


def scan(
    checkpoint: Checkpoint,
    source: Annotated[Path, typer.Argument(metavar="FASTA", help="FASTA or 2bit, contigs of any length.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of tracks, or a .parquet file.")] = None,
    track: Annotated[str, typer.Option(help="zero-shot, head, experts; or embeddings, into Parquet.")] = "zero-shot",
    head: Annotated[Path | None, typer.Option(help="Tuned model or probe, for --track head.")] = None,
    strand: Annotated[
        str | None, typer.Option(help="forward, revcomp, or both averaged; default both, for experts forward.")
    ] = None,
    n_passes: Annotated[int, typer.Option(min=1, max=255, help="Zero-shot: passes over a window.")] = 8,
    layer: Annotated[int | None, typer.Option(help="Experts: the layer; default the last with experts.")] = None,
    bin_bp: Annotated[int, typer.Option(min=0, help="Bases of a bin; 0: 50 for experts, 1,000 for embeddings.")] = 0,
    measure: Annotated[str, typer.Option(help="Experts: share of gate weight, or of tokens.")] = "weight",
    window_bp: Annotated[int, typer.Option(min=0, help="Bases of a window; 0: as in training.")] = 0,
    overlap_bp: Annotated[
        int,
        typer.Option(min=-1, help="Bases that windows share; -1: a quarter; three quarters for whole windows."),
    ] = -1,
    stretch_bp: Annotated[int, typer.Option(min=1, help="Bases of a unit of work, about.")] = 262_144,
    regions: Annotated[Path | None, typer.Option(help="Scan only the intervals of this BED file.")] = None,
    contig: Annotated[list[str] | None, typer.Option(help="Scan only this contig. Repeatable.")] = None,
    file_format: Annotated[str, typer.Option("--format", help="bigwig, or bedgraph (bgzip, indexed).")] = "bigwig",
    annotation: Annotated[Path | None, typer.Option(help="GFF3 to show beside the tracks.")] = None,
    no_page: Annotated[bool, typer.Option("--no-page", help="Do not write igv.html.")] = False,
    embed_mb: Annotated[float, typer.Option(min=0, help="Megabytes of data to put into igv.html, at most.")] = 48.0,
    call: Annotated[bool, typer.Option("--call", help="Call features of a head that classifies bases.")] = False,
    call_label: Annotated[list[str] | None, typer.Option(help="Call only this class. Repeatable.")] = None,
    call_type: Annotated[
        list[str] | None, typer.Option("--type", metavar="LABEL=TERM", help="Sequence Ontology term of a class.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Least probability of a called base.")] = 0.5,
    min_bp: Annotated[int, typer.Option(min=1, help="Shortest called feature.")] = 1,
    merge_gap_bp: Annotated[int, typer.Option(min=0, help="Called features so near become one.")] = 0,
    call_strand: Annotated[str, typer.Option(help="Strand of called features: +, - or a point.")] = ".",
    tolerance: Annotated[
        float | None, typer.Option(help="Publish nothing if neighbouring windows disagree by more, on average.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell windows, hours and size; write nothing.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one per core, or per device.")] = 0,
    chunk_tokens: Annotated[int, typer.Option(min=1, help="Embeddings: tokens that a window gives.")] = 2_048,
    overlap_tokens: Annotated[
        int, typer.Option(min=-1, help="Embeddings: tokens it sees besides; -1: 1,024 where there is attention.")
    ] = -1,
    check_tokens: Annotated[
        int, typer.Option(min=0, help="Embeddings: tokens on which streaming is compared with one pass; 0: none.")
    ] = 4_096,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N; several with commas between.")] = "auto",
    precision: Precision = "fp32",
    threads: Threads = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write what a model says along a genome as tracks for a browser, or as embeddings; a stopped run continues."""
    if out is None and not dry_run:
        raise typer.BadParameter("say where the result goes", param_hint="-o")
    if track == "embeddings":
        from umbel.predict.scan.embeddings import ScanSettings

        if out is None:
            raise ConfigError("--dry-run is for tracks, and --track embeddings writes a table")
        if precision != "fp32":
            raise ConfigError(f"--track embeddings carries its state in fp32: leave --precision {precision} out")
        embedding = ScanSettings(chunk_tokens, overlap_tokens, bin_bp or 1_000, check_tokens)
        _embed(checkpoint, source, out, embedding, device, begin(quiet, threads), json)
        return
    require_packages("umbel scan", "tracks", ("pyBigWig", "jinja2"))
    from umbel.predict.scan.genome_scan import forecast_scan, scan_tracks
    from umbel.predict.scan.settings import TrackSettings

    settings = TrackSettings(
        track=track,  # type: ignore[arg-type]
        head=head,
        strand=strand,  # type: ignore[arg-type]
        n_passes=n_passes,
        layer=layer,
        bin_bp=bin_bp or 50,
        measure=measure,  # type: ignore[arg-type]
        window_bp=window_bp,
        overlap_bp=overlap_bp,
        stretch_bp=stretch_bp,
        file_format=file_format,  # type: ignore[arg-type]
    )
    calls = _calls(call, call_label or [], call_type or [], threshold, min_bp, merge_gap_bp, call_strand)
    devices = tuple(device.split(","))
    n_workers = workers or _n_workers(devices)
    # A process a core, of one thread each, is fastest, and its bytes do not depend on how many there are.
    reporter = begin(quiet, threads or 1)
    predictor = load_model(checkpoint, devices[0], precision, reporter)
    where: dict[str, Any] = {"settings": settings, "regions": regions, "contigs": contig or []}
    if dry_run:
        told = forecast_scan(predictor, source, **where, workers=n_workers)
        finish(vars(told), [f"{told.in_words()} ({n_workers} workers)"], json)
        return
    assert out is not None
    result = scan_tracks(
        predictor,
        source,
        out,
        **where,
        calls=calls,
        annotation=annotation,
        page=not no_page,
        embed_mb=embed_mb,
        tolerance=tolerance,
        workers=n_workers,
        devices=devices if len(devices) > 1 else (),
        threads=threads or 1,
        reporter=reporter,
    )
    files = ", ".join([*result.facts["files"].values(), "scan.json", *([] if no_page else ["igv.html"])])
    lines = [f"{result.folder}: {files}", *(f"  {line}" for line in result.in_words())]
    finish({"path": str(result.folder), **result.facts}, lines, json)


def _n_workers(devices: tuple[str, ...]) -> int:
    import torch

    if len(devices) > 1 or devices[0].startswith("cuda") or (devices[0] == "auto" and torch.cuda.is_available()):
        return len(devices)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _calls(
    is_asked: bool,
    labels: list[str],
    types: list[str],
    threshold: float,
    min_bp: int,
    merge_gap_bp: int,
    strand: str,
) -> CallSettings | None:
    from umbel.predict.tracks.calls import CallSettings

    wrong = [text for text in types if "=" not in text]
    if wrong:
        raise ConfigError(f"--type {wrong[0]!r}: write it as label=term, such as donor=five_prime_cis_splice_site")
    if not (is_asked or labels or types):
        return None
    # A label may hold the sign, a term never does.
    pairs = dict(text.rsplit("=", 1) for text in types)
    return CallSettings(threshold, min_bp, merge_gap_bp, tuple(labels), pairs, strand)


def _embed(
    checkpoint: Path, source: Path, out: Path, settings: Any, device: str, reporter: Reporter, as_json: bool
) -> None:
    from umbel.predict.predictor import load

    result = load(checkpoint, device).scan_embeddings(source, out, settings=settings, reporter=reporter)
    values = {"path": str(result.path), "rows": result.rows, "without_tokens": result.without_tokens}
    lines = [f"{result.path}: {result.rows:,} rows", f"  {result.streaming.in_words()}"]
    if result.without_tokens:
        lines.append(f"  {result.without_tokens:,} of them have no token of A, C, G or T, and so no embedding")
    finish({**values, "streaming": result.streaming.as_dict()}, lines, as_json)
