"""What a manifest wants kept out: whole contigs that look like a screen, and stretches that are in a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.data.corpus.arrays import ArrayFile
from umbel.data.corpus.assembly import Manifest
from umbel.data.corpus.screens import (
    CONTIG_SCALED,
    KmerSetJob,
    ScreenJob,
    find_stretches,
    screen_contigs,
    write_kmer_set,
)
from umbel.data.corpus.stages import Packed, Step, Workshop, do_step
from umbel.data.corpus.windows import CutContig
from umbel.errors import ManifestError
from umbel.files import sha256_file
from umbel.genome.annotation import read_bed
from umbel.genome.runs import as_runs, merge

_NOT_LEARNT = ("train", "valid")


def describe_sequences(manifest: Manifest) -> dict[str, list[dict[str, Any]]]:
    """Give what the manifest says about screens and exclusions, with the SHA-256 of their files.

    Raises
    ------
    ManifestError
        If a file cannot be read.
    """

    def told(path: Path | None) -> dict[str, str] | None:
        if path is None:
            return None
        try:
            return {"name": path.name, "sha256": sha256_file(path)}
        except OSError as error:
            raise ManifestError(f"{path} cannot be read: {error.strerror}.", manifest.path) from error

    return {
        "screens": [{"name": each.name, "fasta": told(each.fasta)} for each in manifest.screens],
        "exclusions": [
            {"name": each.name, "fasta": told(each.fasta), "bed": told(each.bed), "assembly": each.assembly}
            for each in manifest.exclusions
        ],
    }


def screen_stage(
    workshop: Workshop, manifest: Manifest, packed: Sequence[Packed], share: float, told: list[dict[str, Any]]
) -> list[dict[str, str]]:
    """Find the contigs that have ``share`` of their k-mers in a screen.

    Parameters
    ----------
    told
        The screens as :func:`describe_sequences` gives them; ``n_contigs`` and ``n_bases`` found are added.

    Returns
    -------
    For each assembly its screened contigs, with the name of the screen that has most of it.
    """
    best: list[dict[str, tuple[float, str]]] = [{} for _ in packed]
    files = [(each.name, each.fasta, facts) for each, facts in zip(manifest.screens, told, strict=True)]
    kmers = _kmer_sets(workshop, "screen", files, CONTIG_SCALED)
    steps = [
        _step(workshop, "screen", screen_contigs, each, range(len(each.contigs)), kmers[facts["name"]])
        for facts in told
        for each in packed
    ]
    workshop.run("Screening", do_step, steps)
    for place, step in enumerate(steps):
        number, arrays = place % len(packed), ArrayFile(step.job.out)
        shares = arrays.read("hits") / np.maximum(arrays.read("asked"), 1)
        for contig in np.flatnonzero(shares >= max(share, 1e-9)).tolist():
            name = packed[number].contigs[contig].contig
            found = float(shares[contig]), told[place // len(packed)]["name"]
            best[number][name] = max(best[number].get(name, (0.0, "")), found)
    for facts in told:
        gone = [
            contig.length
            for each, found in zip(packed, best, strict=True)
            for contig in each.contigs
            if found.get(contig.contig, (0.0, ""))[1] == facts["name"]
        ]
        facts["n_contigs"], facts["n_bases"] = len(gone), sum(gone)
    return [{name: screen for name, (_, screen) in found.items()} for found in best]


def exclude_stage(
    workshop: Workshop,
    manifest: Manifest,
    packed: Sequence[Packed],
    cuts: Sequence[tuple[CutContig, ...]],
    told: list[dict[str, Any]],
) -> list[npt.NDArray[np.int64]]:
    """Find where the benchmarks are in the contigs that train or validate.

    Parameters
    ----------
    told
        The exclusions as :func:`describe_sequences` gives them; the ``n_bases`` found are added.

    Returns
    -------
    For each assembly ``(n, 3)``: contig, start and end.
    """
    excluded: list[list[npt.NDArray[np.int64]]] = [[np.empty((0, 3), np.int64)] for _ in packed]
    learnt = [[n for n, contig in enumerate(cut) if contig.role in _NOT_LEARNT] for cut in cuts]
    files = [(each.name, each.fasta, facts) for each, facts in zip(manifest.exclusions, told, strict=True)]
    kmers = _kmer_sets(workshop, "exclude", files, 1)
    steps = [
        _step(workshop, "exclude", find_stretches, each, learnt[number], kmers[facts["name"]])
        for facts in told
        if facts["name"] in kmers
        for number, each in enumerate(packed)
    ]
    workshop.run("Looking for benchmarks", do_step, steps)
    taken = iter(steps)
    for exclusion, facts in zip(manifest.exclusions, told, strict=True):
        facts["n_bases"] = 0
        for number, each in enumerate(packed):
            if exclusion.fasta is not None:
                arrays = ArrayFile(next(taken).job.out)
                contig = np.array(learnt[number], np.int64)[arrays.read("contig")]
                rows = np.column_stack((contig, arrays.read("start"), arrays.read("end")))
            elif exclusion.assembly == each.assembly.name:
                assert exclusion.bed is not None
                rows = _bed_rows(exclusion.bed, each, learnt[number])
            else:
                continue
            facts["n_bases"] += int((rows[:, 2] - rows[:, 1]).sum())
            excluded[number].append(rows)
    return [np.concatenate(rows) for rows in excluded]


def _bed_rows(bed: Path, each: Packed, learnt: Sequence[int]) -> npt.NDArray[np.int64]:
    """Give the merged stretches of a BED file on the contigs that are learnt."""
    lengths = {contig.contig: contig.length for contig in each.contigs}
    spans: dict[str, list[tuple[int, int]]] = {}
    for interval in read_bed(bed, lengths):
        spans.setdefault(interval.contig, []).append((interval.start, interval.end))
    rows = [np.empty((0, 3), np.int64)]
    for number in learnt:
        runs = merge(as_runs(spans.get(each.contigs[number].contig, [])))
        rows.append(np.column_stack((np.full(len(runs), number), runs)))
    return np.concatenate(rows)


def _kmer_sets(
    workshop: Workshop, stage: str, files: Sequence[tuple[str, Path | None, dict[str, Any]]], scaled: int
) -> dict[str, tuple[Path, str]]:
    """Write the k-mers of the FASTA files; name to file, and what identifies it."""
    steps = []
    for name, fasta, facts in files:
        if fasta is not None:
            part = workshop.part(f"{stage}-kmers", name, [facts["fasta"]["sha256"], scaled])
            job = KmerSetJob((fasta,), part.file("kmers"), scaled=scaled)
            steps.append(Step(write_kmer_set, job, part, fasta.stat().st_size, (job.out,)))
    workshop.run("Reading k-mers", do_step, steps, "B")
    return {step.part.name: (step.job.out, step.part.key) for step in steps}


def _step(
    workshop: Workshop, stage: str, work: Any, each: Packed, contigs: Sequence[int], kmers: tuple[Path, str]
) -> Step:
    # No name has an @, so no two pairs of names are one.
    name = f"{kmers[0].stem}@{each.assembly.name}"
    part = workshop.part(stage, name, [each.facts["nibbles"], list(contigs), kmers[1]])
    job = ScreenJob(each.some(contigs), kmers[0], part.file("found"))
    return Step(work, job, part, each.n_bases, (job.out,))
