"""Repeats of an assembly from the multiplicity of its own k-mers, and the soft mask of its packed bases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numba import njit

from umbel.data.corpus.arrays import ArrayFile, writing_arrays
from umbel.data.corpus.executors import Advance, silent
from umbel.data.corpus.pieces import PIECE_BP, PackedAssembly
from umbel.errors import CorpusError
from umbel.files import whole_file
from umbel.genome.kmer_set import KmerSet
from umbel.genome.runs import Runs, fill, n_bases
from umbel.genome.sequence import Codes, pack
from umbel.genome.sketch import MAX_K, Hashes, first_roll, mix, require_k, roll

SPECTRUM_BINS = 256
_MOST_BY_CHANCE = 0.01
# A k-mer waits to be sorted, which is done in place; a tenth more is for a pass with more than its share.
_BYTES_OF_A_KMER = 9
_BASE = np.uint8(7)
_N = np.uint8(4)
_CODE = np.uint8(7)


def repeat_k(n_bases: int) -> int:
    """Give the least k at which a k-mer of a random genome has at most 0.01 copies elsewhere in it.

    On both strands, ``n_bases`` bases have about ``2 * n_bases`` of the ``4 ** k`` k-mers, so a given one is met
    ``2 * n_bases / 4 ** k`` times by chance. Morgulis et al. 2006 ("WindowMasker", doi:10.1093/bioinformatics/bti774)
    take a k a little shorter, and make up for it with higher counts.

    Examples
    --------
    >>> [repeat_k(n) for n in (10**7, 10**8, 10**9, 17 * 10**9)]
    [16, 18, 19, 21]
    """
    k = 1
    while 2 * n_bases > _MOST_BY_CHANCE * 4**k:
        k += 1
    return min(k, MAX_K)


@dataclass(frozen=True)
class CountJob:
    """What one process needs to know to count the k-mers of one assembly."""

    assembly: PackedAssembly
    out: Path
    min_copies: int
    k: int = 0
    """0 takes :func:`repeat_k` of the assembly's length."""
    memory_bytes: int = 1 << 30

    @property
    def n_passes(self) -> int:
        """How often the assembly is gone through, so that the k-mers of a pass fit into the memory."""
        return max(1, -(-self.assembly.n_bases * _BYTES_OF_A_KMER // self.memory_bytes))


def count_repeats(job: CountJob, advance: Advance = silent) -> dict[str, Any]:
    """Count every canonical k-mer of an assembly exactly, and write those that it has ``min_copies`` times or more.

    The k-mers are divided by ranges of their hashes into as many passes as the memory needs; the file does not depend
    on that. It appears whole or not at all; :class:`RepeatCounts` reads it.

    Returns
    -------
    ``k``; ``n_kmers``, different ones; ``n_repeats``, those written; ``n_passes``; ``spectrum``: how many k-mers are
    there 1, 2, ... times, 256 numbers, of which the last is for 256 times and more.

    Raises
    ------
    CorpusError
        If the packed bases are not there or truncated.
    OutputError
        If the file cannot be written.
    """
    k = job.k or repeat_k(job.assembly.n_bases)
    require_k(k)
    if job.min_copies < 2:
        raise ValueError(f"min_copies is {job.min_copies}: give at least 2")
    spectrum = np.zeros(SPECTRUM_BINS, np.int64)
    tally = np.zeros(1, np.int64)
    with writing_arrays(job.out) as writer:
        writer.add_parts("hashes", np.uint64, _passes(job, k, spectrum, tally, advance))
        writer.facts = {
            "name": job.assembly.name,
            "content": job.assembly.content,
            "k": k,
            "min_copies": job.min_copies,
        }
    return {
        "k": k,
        "n_kmers": int(spectrum.sum()),
        "n_repeats": int(tally[0]),
        "n_passes": job.n_passes,
        "spectrum": spectrum.tolist(),
    }


def _passes(
    job: CountJob, k: int, spectrum: npt.NDArray[np.int64], tally: npt.NDArray[np.int64], advance: Advance
) -> Iterator[Hashes]:
    """Yield the repeats of one range of hashes after the other; all are found in the same memory."""
    n_passes = job.n_passes
    kmers = np.empty(int(1.1 * job.assembly.n_bases / n_passes) + 1024, np.uint64)
    for number in range(n_passes):
        lowest, highest = (number << 64) // n_passes, ((number + 1 << 64) // n_passes) - 1
        n = 0
        for _, _, nibbles in job.assembly.pieces(PIECE_BP, k - 1, advance=advance):
            if n + len(nibbles) > len(kmers):
                # Rare: satellites give one range more than its share, or there are few bases at all.
                kmers = np.concatenate((kmers[:n], np.empty(n // 4 + len(nibbles), np.uint64)))
            n = _collect(nibbles, k, np.uint64(lowest), np.uint64(highest), kmers, n)
        kmers[:n].sort()
        yield _repeats(kmers[:n], job.min_copies, spectrum, tally)


@njit(cache=True, nogil=True)
def _collect(codes, k, lowest, highest, kmers, n):  # type: ignore[no-untyped-def]
    bits, high = first_roll(k)
    forward = backward = np.uint64(0)
    filled = 0
    for i in range(len(codes)):
        base = codes[i] & _BASE
        if base >= _N:
            filled = 0
            continue
        forward, backward = roll(base, forward, backward, bits, high)
        filled += 1
        if filled < k:
            continue
        # Always written, and overwritten where it belongs to another pass: no branch to guess wrong.
        kmers[n] = mix(min(forward, backward))
        n += (kmers[n] >= lowest) & (kmers[n] <= highest)
    return n


@njit(cache=True, nogil=True)
def _repeats(ordered, min_copies, spectrum, tally):  # type: ignore[no-untyped-def]
    """Count runs of equal hashes, and move those that are long enough to the front."""
    n = begin = 0
    for i in range(1, len(ordered) + 1):
        if i == len(ordered) or ordered[i] != ordered[begin]:
            copies = i - begin
            if copies > 0:
                spectrum[min(copies, len(spectrum)) - 1] += 1
            if copies >= min_copies:
                ordered[n] = ordered[begin]
                n += 1
            begin = i
    tally[0] += n
    return ordered[:n]


class RepeatCounts:
    """The repeated k-mers of one assembly, as :func:`count_repeats` wrote them.

    They say nothing about another assembly: its repeats are others, and next to none of them would be found. So
    :func:`repeat_runs` refuses them.

    Attributes
    ----------
    name, content
        Of the assembly they were counted on.
    k, min_copies
        How they were counted.
    kmers
        The k-mers that are there ``min_copies`` times or more.
    """

    def __init__(self, path: str | Path):
        arrays = ArrayFile(path)
        self.path = arrays.path
        self.name: str = arrays.facts["name"]
        self.content: str = arrays.facts["content"]
        self.k: int = arrays.facts["k"]
        self.min_copies: int = arrays.facts["min_copies"]
        self.kmers = KmerSet(arrays.map("hashes"), self.k)

    def mask_runs(self, codes: Codes, gap_bp: int) -> Runs:
        """Find the runs of bases that repeats cover, whatever the sequence belongs to; ``(n, 2)``."""
        return self.kmers.runs(codes, gap_bp)


def repeat_runs(
    assembly: PackedAssembly, counts: RepeatCounts, gap_bp: int, advance: Advance = silent
) -> Iterator[Runs]:
    """Yield, contig by contig, the runs of bases that the assembly's own repeats cover.

    Parameters
    ----------
    assembly
        The assembly that was counted.
    counts
        Its counts.
    gap_bp
        Repeats with fewer bases than this between them become one.

    Raises
    ------
    CorpusError
        If the counts are those of another assembly.
    """
    if (assembly.name, assembly.content) != (counts.name, counts.content):
        raise CorpusError(
            f"{counts.path}: these are the k-mers of {counts.name!r} ({counts.content[:12]}), which would find next to "
            f"none of the repeats of {assembly.name!r} ({assembly.content[:12]}). Count the k-mers of that assembly."
        )
    for contig in range(len(assembly.contigs)):
        pieces = assembly.contig_pieces(contig, PIECE_BP, counts.k - 1, advance=advance)
        yield counts.kmers.runs_of_pieces(pieces, gap_bp)


@dataclass(frozen=True, eq=False)
class MaskJob:
    """What one process needs to know to mask one assembly."""

    assembly: PackedAssembly
    out: Path
    """A .nibbles file of the same layout; may be the assembly's own, which is then replaced whole."""
    mode: Literal["kmer", "import", "none"]
    counts: Path | None = None
    """For ``kmer``: what :func:`count_repeats` wrote."""
    gap_bp: int = 0
    runs: dict[int, Runs] = field(default_factory=dict)
    """For ``import``: contig to its repeats, merged (:func:`umbel.genome.runs.merge`)."""


def apply_mask(job: MaskJob, advance: Advance = silent) -> dict[str, Any]:
    """Write the bases of an assembly with a new soft mask: the old one goes, and nothing but the runs is masked.

    Returns
    -------
    ``n_masked``: masked bases of each contig, in order.

    Raises
    ------
    CorpusError
        If the packed bases are not there or truncated, the counts are another assembly's, or a run leaves its contig.
    OutputError
        If the file cannot be written.
    """
    n_masked: list[int] = []
    with whole_file(job.out) as temporary, open(temporary, "wb") as handle:
        for contig, (runs, (length, offset)) in enumerate(
            zip(_runs_of(job, advance), job.assembly.contigs, strict=True)
        ):
            if len(runs) and (runs[0, 0] < 0 or runs[-1, 1] > length):
                raise CorpusError(
                    f"{job.assembly.name}: contig {contig} has {length} bases, but a repeat of it is at "
                    f"{runs[0, 0]} to {runs[-1, 1]}. Do both belong to the same assembly?"
                )
            handle.seek(offset)
            for start, nibbles in job.assembly.contig_pieces(contig, PIECE_BP, advance=advance):
                soft = np.zeros(len(nibbles), bool)
                fill(soft, runs, start, np.True_)
                handle.write(pack(nibbles & _CODE, soft).data)
            n_masked.append(n_bases(runs))
    return {"n_masked": n_masked}


def _runs_of(job: MaskJob, advance: Advance) -> Iterator[Runs]:
    if job.mode == "kmer":
        if job.counts is None:
            raise ValueError("mode 'kmer' needs counts")
        return repeat_runs(job.assembly, RepeatCounts(job.counts), job.gap_bp, advance)
    none = np.empty((0, 2), np.int64)
    runs = job.runs if job.mode == "import" else {}
    return (runs.get(contig, none) for contig in range(len(job.assembly.contigs)))
