"""Scan a genome, or parts of it, into tracks: window by window, in stretches that are each written once."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import umbel
from umbel.data.corpus.executors import run_jobs
from umbel.errors import CheckpointError, ConfigError, FastaError, RunError
from umbel.files import sha256_file, sha256_json, whole_folder, write_json
from umbel.genome.reference import Reference
from umbel.predict.head import Head
from umbel.predict.parts import open_parts, parts_folder
from umbel.predict.precision import Precision
from umbel.predict.predictor import Predictor
from umbel.predict.scan.forecast import Forecast, forecast
from umbel.predict.scan.places import Places, chosen_places, n_bases
from umbel.predict.scan.publishing import Published, publish
from umbel.predict.scan.readouts import Readout
from umbel.predict.scan.settings import TrackSettings
from umbel.predict.scan.stitching import windows_read
from umbel.predict.scan.stretch_jobs import Loading, StretchJob, lend, run_stretch, take_back
from umbel.predict.scan.windows import Stretch, stretches
from umbel.predict.tracks.bigwig import require_bigwig_lengths
from umbel.predict.tracks.calls import CallSettings
from umbel.predict.tracks.igv_page import Page, write_page
from umbel.progress import Reporter, reporter_or_silent

REPORT = "scan.json"
PAGE = "igv.html"


@dataclass(frozen=True)
class TrackScan:
    """A finished scan: its folder, and what ``scan.json`` in it tells."""

    folder: Path
    facts: Mapping[str, Any]

    def in_words(self) -> list[str]:
        """Say what was found, a line each."""
        told, lines = self.facts, []
        lines.append(
            f"{told['n_bases']:,} bases in {told['n_windows']:,} windows; {told['n_read']:,} of them hold bases and "
            "were read"
        )
        for track, found in told["disagreement"].items():
            if found["n_at_seams"]:
                lines.append(
                    f"{track}: neighbouring windows differ by {found['mean_at_seams']:.4g} on average where one takes "
                    f"over from the other ({found['max_at_seams']:.4g} at most)"
                )
        if told["too_short"]:
            lines.append(f"{told['too_short']:,} contigs are shorter than a token of this model, and have no value")
        if told["calls"] is not None:
            counts = told["calls"]["n_of_class"]
            lines.append("called: " + ", ".join(f"{count:,} {label}" for label, count in counts.items()))
            if not any(counts.values()):
                highest = ", ".join(f"{label} {value}" for label, value in told["calls"]["highest"].items())
                lines.append(f"no base reaches the threshold, so there is no calls.gff3. Highest: {highest}")
        return lines


def scan_tracks(
    predictor: Predictor,
    reference: str | Path,
    out: str | Path,
    *,
    settings: TrackSettings | None = None,
    regions: str | Path | None = None,
    contigs: Sequence[str] = (),
    calls: CallSettings | None = None,
    annotation: str | Path | None = None,
    page: bool = True,
    embed_mb: float = 48.0,
    tolerance: float | None = None,
    workers: int = 1,
    devices: Sequence[str] = (),
    threads: int = 0,
    reporter: Reporter | None = None,
) -> TrackScan:
    """Write tracks of what a model says along a genome: bigWig or bedGraph, BED, GFF3, and a page that shows them.

    The folder ``out`` appears whole. A stopped call leaves ``<out>.parts``, a file a stretch; the same call goes on
    from there and writes the same bytes, with any number of workers (of as many threads each).

    Parameters
    ----------
    predictor
        The model; of a tuned head its base.
    reference
        FASTA or 2bit; memory holds a window of it, and not the contig.
    out
        Folder.
    settings
        What is read.
    regions, contigs
        Scan a part only: the intervals of a BED file, these contigs. The windows, and so the values, are those of a
        scan of everything.
    calls
        Call features from a head that classifies bases, into ``calls.gff3``.
    annotation
        GFF3 that the page shows beside the tracks.
    page, embed_mb
        Write ``igv.html``, with the data in it up to so many megabytes.
    tolerance
        Stop before anything is published if neighbouring windows disagree by more than this on average where one takes
        over from the other, in the units of the track.
    workers
        Processes, each with its own model. Above 1, call this from below ``if __name__ == "__main__"``.
    devices
        Of the workers, in turns; the predictor's own by default.
    threads
        CPU threads of each worker; 0 leaves the choice to torch.

    Raises
    ------
    ConfigError
        If settings do not fit the model, the genome or each other.
    FastaError, AnnotationError
        If an input is wrong, or there is no base to read.
    CheckpointError
        If the model says something that is not finite, naming contig and base.
    RunError
        If ``out`` or ``<out>.parts`` holds something else, or ``tolerance`` is exceeded.
    OutputError
        If the disk is full; ``out`` is as it was before.
    """
    reporter, target = reporter_or_silent(reporter), Path(out)
    _require_ours(target)
    plan = _plan(predictor, reference, settings, regions, contigs)
    with plan.reference as genome:
        if calls is not None:
            _require_classes(plan.readout, calls)
        folder = parts_folder(target)
        identity = plan.identity()
        open_parts(folder, identity)
        jobs = _jobs(plan, predictor, folder, tuple(devices), threads)
        try:
            _read(plan, jobs, workers, reporter)
            _require_bases(plan, jobs)
            with whole_folder(target) as temporary:
                found = publish(
                    temporary,
                    jobs,
                    genome.lengths,
                    plan.readout.tracks,
                    plan.readout.label_names,
                    file_format=plan.settings.file_format,
                    calls=calls,
                    reporter=reporter,
                )
                facts = _facts(plan, identity, found, calls)
                _require_close(facts, tolerance)
                write_json(temporary / REPORT, facts)
                if page:
                    shown = Page(
                        title=f"{Path(reference).name}: {plan.settings.track}",
                        tracks=plan.readout.tracks,
                        files=found.files,
                        places=plan.places,
                        folder=target.name,
                    )
                    write_page(temporary / PAGE, shown, genome, annotation, int(embed_mb * 1e6))
        except (CheckpointError, FastaError):
            # The same call would fail again: there is nothing to go on from.
            shutil.rmtree(folder)
            raise
        finally:
            take_back(jobs[0].loading)
    shutil.rmtree(folder)
    return TrackScan(target, facts)


def forecast_scan(
    predictor: Predictor,
    reference: str | Path,
    *,
    settings: TrackSettings | None = None,
    regions: str | Path | None = None,
    contigs: Sequence[str] = (),
    workers: int = 1,
) -> Forecast:
    """Tell what a scan will take, from a timed sample; nothing is written. Arguments are those of the scan."""
    plan = _plan(predictor, reference, settings, regions, contigs)
    with plan.reference as genome:
        return forecast(plan.readout, genome, plan.stretches, workers)


@dataclass(frozen=True)
class _Plan:
    """All that is known before the first window is read."""

    precision: Precision
    readout: Readout
    reference: Reference
    settings: TrackSettings
    places: Places
    stretches: list[Stretch]

    def identity(self) -> dict[str, Any]:
        """Tell what decides the values."""
        return {
            "umbel": umbel.__version__,
            "reference": sha256_file(self.reference.path),
            "model": self.readout.facts,
            "precision": self.precision,
            "settings": self.settings.facts(),
            "places": sha256_json({contig: runs.tolist() for contig, runs in self.places.items()}),
        }


def _plan(
    predictor: Predictor,
    reference: str | Path,
    settings: TrackSettings | None,
    regions: str | Path | None,
    contigs: Sequence[str],
) -> _Plan:
    settings = settings or TrackSettings()
    head = None if settings.head is None else Head.load(settings.head, str(predictor.device), predictor.source)
    readout = settings.open(predictor, head)
    settings = settings.resolved(readout, (head or predictor).window_bp)
    genome = Reference.open(reference)
    try:
        places = chosen_places(genome.lengths, regions, contigs)
        if settings.file_format == "bigwig":
            require_bigwig_lengths(genome.lengths)
        tiling = settings.tiling(readout)
        found = [
            stretch
            for contig, runs in places.items()
            for stretch in stretches(contig, genome.lengths[contig], runs, tiling, settings.stretch_bp)
        ]
    except BaseException:
        genome.close()
        raise
    return _Plan(predictor.precision, readout, genome, settings, places, found)


def _jobs(plan: _Plan, predictor: Predictor, folder: Path, devices: tuple[str, ...], threads: int) -> list[StretchJob]:
    loading = Loading(
        predictor.source,
        plan.reference.path,
        plan.settings,
        predictor.precision,
        devices or (str(predictor.device),),
        threads,
    )
    order = {contig: number for number, contig in enumerate(plan.reference.lengths)}
    lend(loading, plan.readout, plan.reference)
    return [
        StretchJob(stretch, folder / f"{order[stretch.contig]:07d}" / f"{stretch.number:07d}.npz", loading)
        for stretch in plan.stretches
    ]


def _read(plan: _Plan, jobs: Sequence[StretchJob], workers: int, reporter: Reporter) -> None:
    """Read all stretches that are not there yet."""
    left = [job for job in jobs if not job.path.is_file()]
    done = sum(job.size for job in jobs) - sum(job.size for job in left)
    if workers > 1 and jobs[0].loading.checkpoint is None:
        raise ConfigError("several workers each load the model, and this one was not loaded from a folder: use one")
    for _ in run_jobs(run_stretch, left, "scanning", reporter, workers=workers, done=done):
        pass


def _require_bases(plan: _Plan, jobs: Sequence[StretchJob]) -> None:
    if not any(windows_read(job.path) for job in jobs):
        raise FastaError(
            "there is no A, C, G or T to read in what was asked for, so nothing is written.", plan.reference.path
        )


def _facts(plan: _Plan, identity: Mapping[str, Any], found: Published, calls: CallSettings | None) -> dict[str, Any]:
    disagreement = {}
    for row, track in enumerate(plan.readout.tracks):
        told: dict[str, Any] = {"unit": track.unit}
        for name, each in (("at_seams", found.at_seams), ("over_overlaps", found.over_overlaps)):
            n = int(each.n[row])
            told |= {f"n_{name}": n, f"mean_{name}": float(each.total[row] / n) if n else None}
            told[f"max_{name}"] = float(each.most[row]) if n else None
        disagreement[track.name] = told
    lengths = plan.reference.lengths
    return {
        **identity,
        "reference_name": plan.reference.path.name,
        "n_bases": n_bases(plan.places),
        "n_contigs": len(plan.places),
        "too_short": sum(lengths[contig] < plan.readout.min_bases for contig in plan.places),
        "n_windows": found.n_windows,
        "n_read": found.n_read,
        "n_values": dict(found.n_values),
        "tracks": {track.name: {"title": track.title, "unit": track.unit} for track in plan.readout.tracks},
        "files": dict(found.files),
        "disagreement": disagreement,
        "call_settings": calls and calls.facts(),
        "calls": found.calls and dict(found.calls),
    }


def _require_ours(target: Path) -> None:
    if target.is_dir() and any(target.iterdir()) and not (target / REPORT).is_file():
        raise RunError(f"{target} holds something else than a scan: choose another -o")
    if target.exists() and not target.is_dir():
        raise RunError(f"{target} is a file, and a scan is a folder: choose another -o")


def _require_classes(readout: Readout, calls: CallSettings) -> None:
    task = getattr(readout, "task", None)
    if task is None or task.kind != "bases":
        raise ConfigError("features are called from a head that classifies bases: --track head with such a --head")
    calls.called(list(task.names))


def _require_close(facts: Mapping[str, Any], tolerance: float | None) -> None:
    if tolerance is None:
        return
    for track, found in facts["disagreement"].items():
        mean = found["mean_at_seams"]
        if mean is not None and mean > tolerance:
            raise RunError(
                f"{track}: neighbouring windows differ by {mean:.4g} on average where one takes over from the other, "
                f"more than the {tolerance:g} allowed: raise --overlap-bp. What was read is kept until then"
            )
