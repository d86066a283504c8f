"""Contigs and stretches that share k-mers with given sequences: organelles, contaminants, benchmark regions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.data.corpus.arrays import ArrayFile, writing_arrays
from umbel.data.corpus.executors import Advance, silent
from umbel.data.corpus.pieces import PIECE_BP, PackedAssembly
from umbel.errors import FastaError
from umbel.genome.fasta import read_fasta
from umbel.genome.kmer_set import KmerSet
from umbel.genome.runs import Runs
from umbel.genome.sketch import sketch

SCREEN_K = 31
CONTIG_SCALED = 16
_MOST_WAITING = 1 << 22


@dataclass(frozen=True)
class KmerSetJob:
    """The k-mers of some FASTA files."""

    fasta: tuple[Path, ...]
    out: Path
    k: int = SCREEN_K
    scaled: int = 1
    """One in so many k-mers is kept: 1 to find stretches, more (``CONTIG_SCALED``) to judge contigs."""


def write_kmer_set(job: KmerSetJob, advance: Advance = silent) -> dict[str, Any]:
    """Write the canonical k-mers of all records; the file appears whole or not at all.

    Returns
    -------
    ``n_kmers``, different ones that are kept; ``n_records``; ``n_without``, the records that have none, because they
    are too short, full of N, or none of their k-mers was kept.

    Raises
    ------
    FastaError
        If a file is no FASTA, or has no k-mer to be found by.
    """
    found, waiting = np.empty(0, np.uint64), []
    n_records = n_without = 0
    for path in job.fasta:
        n_before = n_without - n_records
        for record in read_fasta(path):
            hashes, _ = sketch(record.codes, job.k, job.scaled)
            n_records += 1
            n_without += not len(hashes)
            waiting.append(hashes)
            if sum(map(len, waiting)) > _MOST_WAITING:
                found, waiting = np.unique(np.concatenate([found, *waiting])), []
        if n_without - n_records == n_before:
            raise FastaError(
                f"no record has a {job.k}-mer to be found by (one in {job.scaled} is kept). Give longer sequences.",
                path,
            )
    found = np.unique(np.concatenate([found, *waiting]))
    with writing_arrays(job.out) as writer:
        writer.add("hashes", found)
        writer.facts = {"k": job.k, "scaled": job.scaled}
    return {"n_kmers": len(found), "n_records": n_records, "n_without": n_without}


def load_kmer_set(path: str | Path) -> KmerSet:
    """Read what :func:`write_kmer_set` wrote."""
    arrays = ArrayFile(path)
    return KmerSet(arrays.map("hashes"), arrays.facts["k"], arrays.facts["scaled"])


def hits_in(assembly: PackedAssembly, kmers: KmerSet, advance: Advance = silent) -> npt.NDArray[np.int64]:
    """Count for each contig how many of its k-mers are in the set, and how many were asked for.

    K-mers are counted as often as they are there; with a set of one in ``scaled``, only such are asked for.

    Returns
    -------
    int64 ``(n_contigs, 2)``. A contig's share is the first over the second; a second of 0 tells nothing.
    """
    found = np.zeros((len(assembly.contigs), 2), np.int64)
    for contig, _, nibbles in assembly.pieces(PIECE_BP, kmers.k - 1, advance=advance):
        found[contig] += kmers.count(nibbles)
    return found


def hit_runs(assembly: PackedAssembly, kmers: KmerSet, advance: Advance = silent) -> Iterator[Runs]:
    """Yield, contig by contig, the runs of bases that k-mers of the set cover, on either strand.

    Runs with at most k bases between them become one: that is what a single substitution leaves uncovered at most.
    """
    for contig in range(len(assembly.contigs)):
        pieces = assembly.contig_pieces(contig, PIECE_BP, kmers.k - 1, advance=advance)
        yield kmers.runs_of_pieces(pieces, kmers.k + 1)


@dataclass(frozen=True)
class ScreenJob:
    """One assembly, and the k-mers to look for in it."""

    assembly: PackedAssembly
    kmers: Path
    """What :func:`write_kmer_set` wrote."""
    out: Path


def screen_contigs(job: ScreenJob, advance: Advance = silent) -> dict[str, Any]:
    """Write :func:`hits_in` of an assembly, as the arrays ``hits`` and ``asked``; give their sums."""
    found = hits_in(job.assembly, load_kmer_set(job.kmers), advance)
    with writing_arrays(job.out) as writer:
        writer.add("hits", found[:, 0])
        writer.add("asked", found[:, 1])
    return {"hits": int(found[:, 0].sum()), "asked": int(found[:, 1].sum())}


def find_stretches(job: ScreenJob, advance: Advance = silent) -> dict[str, Any]:
    """Write :func:`hit_runs` of an assembly, as the arrays ``contig``, ``start`` and ``end``; give their sums."""
    runs = list(hit_runs(job.assembly, load_kmer_set(job.kmers), advance))
    contig = np.repeat(np.arange(len(runs)), [len(found) for found in runs])
    spans = np.concatenate([np.empty((0, 2), np.int64), *runs])
    with writing_arrays(job.out) as writer:
        writer.add("contig", contig)
        writer.add("start", spans[:, 0])
        writer.add("end", spans[:, 1])
    return {"n_runs": len(spans), "n_bases": int((spans[:, 1] - spans[:, 0]).sum())}
