"""From stretches on disk to the files that people open; memory holds one stretch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from umbel.predict.scan.stitching import Disagreement, StretchValues
from umbel.predict.scan.stretch_jobs import StretchJob
from umbel.predict.tracks.bed import BedGraph, LabelBed
from umbel.predict.tracks.bigwig import BigWig, sorted_names
from umbel.predict.tracks.calls import Calls, CallSettings
from umbel.predict.tracks.track import Track
from umbel.progress import Reporter

DOMINANT = "dominant.bed.gz"
CALLS = "calls.gff3"


@dataclass(frozen=True)
class Published:
    """What stands in the folder.

    Attributes
    ----------
    files
        Track names to file names; the dominant expert under ``dominant``, and calls under ``calls``.
    n_values
        Values of each track.
    n_read, n_windows
        Windows that the model read, of those there are: the others hold no A, C, G or T.
    at_seams, over_overlaps
        Disagreement of neighbouring windows.
    calls
        Features of each class and the highest probabilities; None where nothing was called for.
    """

    files: Mapping[str, str]
    n_values: Mapping[str, int]
    n_read: int
    n_windows: int
    at_seams: Disagreement
    over_overlaps: Disagreement
    calls: Mapping[str, Any] | None


def in_order(jobs: Sequence[StretchJob]) -> Iterator[StretchJob]:
    """Yield jobs by the bytes of contig names, and from left to right: the order that bigWig asks for."""
    of_contig: dict[str, list[StretchJob]] = {}
    for job in jobs:
        of_contig.setdefault(job.stretch.contig, []).append(job)
    for contig in sorted_names(dict.fromkeys(of_contig, 0)):
        yield from sorted(of_contig[contig], key=lambda job: job.stretch.number)


def publish(
    folder: Path,
    jobs: Sequence[StretchJob],
    lengths: Mapping[str, int],
    tracks: Sequence[Track],
    label_names: Sequence[str],
    *,
    file_format: str,
    calls: CallSettings | None,
    reporter: Reporter,
) -> Published:
    """Write one file a track, the dominant labels, and the calls.

    Parameters
    ----------
    folder
        Exists; what is written there is complete only when this returns.
    jobs
        All of the scan, each with its file.
    lengths
        All contigs of the genome.
    tracks, label_names
        Of the readout.
    file_format
        ``bigwig`` or ``bedgraph``.
    calls
        How features are called, if they are; the tracks are then probabilities of classes, base by base.

    Raises
    ------
    RunError
        If a stretch's file is damaged.
    OutputError
        If a track has no value at all.
    """
    ending = ".bw" if file_format == "bigwig" else ".bedgraph.gz"
    files = {track.name: track.name + ending for track in tracks}
    n_values = np.zeros(len(tracks), np.int64)
    seams, overlaps = Disagreement.none(len(tracks)), Disagreement.none(len(tracks))
    n_read = n_windows = 0
    scanned = {job.stretch.contig: job.stretch.contig_bp for job in in_order(jobs)}
    task = reporter.start("writing", len(jobs), "stretches")
    with ExitStack() as stack:
        written: list[BigWig | BedGraph] = [
            stack.enter_context(BigWig(folder / name, lengths))
            if file_format == "bigwig"
            else stack.enter_context(BedGraph(folder / name, lengths))
            for name in files.values()
        ]
        bed = stack.enter_context(LabelBed(folder / DOMINANT, lengths, label_names)) if label_names else None
        names = [track.title for track in tracks]
        called = stack.enter_context(Calls(folder / CALLS, scanned, names, calls)) if calls else None
        for job in in_order(jobs):
            stretch, found = job.stretch, StretchValues.load(job.path)
            n_windows, n_read = n_windows + len(stretch.windows), n_read + found.n_read
            seams, overlaps = seams + found.at_seams, overlaps + found.over_overlaps
            n_values += np.isfinite(found.values).sum(1)
            for start, end, values, labels in found.each_run():
                for file, row in zip(written, values, strict=True):
                    file.add(stretch.contig, start, found.step_bp or end - start, row, end)
                if bed is not None and labels is not None:
                    bed.add(stretch.contig, start, labels)
                if called is not None:
                    called.add(stretch.contig, start, values)
            task.advance()
    task.close()
    if bed is not None:
        files["dominant"] = DOMINANT
    told = None
    if called is not None:
        told = {"n_of_class": called.n_of_class, "highest": called.highest}
        if (folder / CALLS).is_file():
            files["calls"] = CALLS
    per_track = {track.name: int(n) for track, n in zip(tracks, n_values, strict=True)}
    return Published(files, per_track, n_read, n_windows, seams, overlaps, told)
