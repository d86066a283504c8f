"""The sketch of an assembly: which kept k-mers are in which of its segments. One process does one assembly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from umbel.data.corpus.arrays import ArrayFile, ArrayWriter, writing_arrays
from umbel.data.corpus.executors import Advance, silent
from umbel.data.corpus.pieces import PIECE_BP, PackedAssembly
from umbel.errors import CorpusError
from umbel.genome.sketch import Hashes, max_hash, sketch

# What a row needs while a run is put in order: itself twice, its partition and its place.
_BYTES_OF_A_ROW = 48
_FEWEST_ROWS = 1 << 12
MOST_PARTITIONS = 1 << 14


def segment_starts(length: int, segment_bp: int) -> npt.NDArray[np.int64]:
    """Where the segments of a contig begin: every ``segment_bp``, on a grid from 0.

    A last piece shorter than half a segment belongs to the segment before, so that segments have from half to one and
    a half times ``segment_bp`` (a contig shorter than half a segment is one segment).

    Examples
    --------
    >>> segment_starts(1000, 400).tolist(), segment_starts(999, 400).tolist(), segment_starts(100, 400).tolist()
    ([0, 400, 800], [0, 400], [0])
    """
    return np.arange(n_segments_of(length, segment_bp), dtype=np.int64) * segment_bp


def n_segments_of(length: int, segment_bp: int) -> int:
    """Count the segments of a contig of ``length`` bases; at least 1."""
    n_full, rest = divmod(length, segment_bp)
    return max(1, n_full + (2 * rest >= segment_bp))


def n_partitions_for(n_bases: int, scaled: int, memory_bytes: int) -> int:
    """How many ranges of hashes to join one by one, so that a range of ``n_bases`` bases fits into half the memory.

    Examples
    --------
    >>> n_partitions_for(10**11, 64, 2 * 10**9)
    63
    """
    rows = n_bases / scaled
    return int(min(MOST_PARTITIONS, max(1, -(-rows * 40 // (memory_bytes / 2)))))


@dataclass(frozen=True)
class SketchJob:
    """What one process needs to know to sketch one assembly."""

    assembly: PackedAssembly
    out: Path
    k: int
    scaled: int
    segment_bp: int
    n_partitions: int
    """Equal ranges of hashes that the rows are grouped by; they change no result."""
    memory_bytes: int = 1 << 29


def sketch_assembly(job: SketchJob, advance: Advance = silent) -> dict[str, Any]:
    """Write which kept hashes each segment of an assembly has.

    The file (see :class:`SketchFile`) appears whole or not at all. Segments are numbered through the assembly, in the
    order of its contigs. A k-mer belongs to the segment in which it begins, and is counted once in it.

    Returns
    -------
    ``n_segments``; ``n_rows``, the distinct hashes of all segments added up; ``n_bases``, read.

    Raises
    ------
    CorpusError
        If the packed bases are not there or truncated.
    OutputError
        If the file cannot be written.

    References
    ----------
    Irber et al. 2022, doi:10.1101/2022.01.11.475838.
    """
    if not 1 <= job.n_partitions <= MOST_PARTITIONS:
        raise ValueError(f"n_partitions is {job.n_partitions}: give 1 to {MOST_PARTITIONS}")
    lengths = np.array([length for length, _ in job.assembly.contigs], np.int64)
    n_segments = np.array([n_segments_of(int(length), job.segment_bp) for length in lengths], np.int64)
    first_segment = np.concatenate(([0], np.cumsum(n_segments)))
    n_hashes = np.zeros(first_segment[-1], np.uint32)
    piece_bp = max(1, PIECE_BP // job.segment_bp) * job.segment_bp
    with writing_arrays(job.out) as writer:
        rows = _Rows(writer, job)
        for contig, start, nibbles in job.assembly.pieces(piece_bp, job.k - 1, -(-job.segment_bp // 2), advance):
            hashes, positions = sketch(nibbles, job.k, job.scaled)
            # The grid of the piece is that of the contig, whose last segment may be longer than the grid's.
            first, last = start // job.segment_bp, int(n_segments[contig]) - 1
            local = np.minimum(positions // job.segment_bp + first, last) + first_segment[contig]
            rows.add(*_distinct(hashes, local.astype(np.uint32), n_hashes))
        rows.flush()
        writer.add("n_hashes", n_hashes)
        writer.add("first_segment_of_contig", first_segment)
        writer.facts = {
            "name": job.assembly.name,
            "content": job.assembly.content,
            "k": job.k,
            "scaled": job.scaled,
            "segment_bp": job.segment_bp,
            "n_partitions": job.n_partitions,
            "n_runs": rows.n_runs,
        }
    return {"n_segments": len(n_hashes), "n_rows": rows.n_rows, "n_bases": job.assembly.n_bases}


class _Rows:
    """Collects rows, and writes them in runs that are grouped by partition, so that none is sorted twice."""

    def __init__(self, writer: ArrayWriter, job: SketchJob):
        self._writer = writer
        self._n_partitions = job.n_partitions
        self._width = partition_width(job.scaled, job.n_partitions)
        self._most = max(_FEWEST_ROWS, job.memory_bytes // _BYTES_OF_A_ROW)
        self._waiting: list[tuple[Hashes, npt.NDArray[np.uint32]]] = []
        self._n_waiting = 0
        self.n_rows = 0
        self.n_runs = 0

    def add(self, hashes: Hashes, segments: npt.NDArray[np.uint32]) -> None:
        self._waiting.append((hashes, segments))
        self._n_waiting += len(hashes)
        if self._n_waiting >= self._most:
            self.flush()

    def flush(self) -> None:
        if not self._n_waiting:
            return
        hashes = np.concatenate([part[0] for part in self._waiting])
        segments = np.concatenate([part[1] for part in self._waiting])
        self._waiting, self._n_waiting = [], 0
        partition = (hashes // np.uint64(self._width)).astype(np.uint16)
        # Stable, so that within a partition the segments ascend.
        order = np.argsort(partition, kind="stable")
        counts = np.bincount(partition, minlength=self._n_partitions)
        self._writer.add(f"hashes/{self.n_runs}", hashes[order])
        self._writer.add(f"segments/{self.n_runs}", segments[order])
        self._writer.add(f"starts/{self.n_runs}", np.concatenate(([0], np.cumsum(counts))))
        self.n_rows += len(hashes)
        self.n_runs += 1


def partition_width(scaled: int, n_partitions: int) -> int:
    """Length of the ranges that the kept hashes are divided into."""
    return -(-(max_hash(scaled) + 1) // n_partitions)


@njit(cache=True, nogil=True)
def _distinct(hashes, segments, n_hashes):  # type: ignore[no-untyped-def]
    """Sort the hashes of each segment, drop the repeated ones, and count; segments must ascend."""
    kept_hashes, kept_segments = np.empty(len(hashes), np.uint64), np.empty(len(hashes), np.uint32)
    n = begin = 0
    for i in range(len(hashes) + 1):
        if i < len(hashes) and segments[i] == segments[begin]:
            continue
        if i == begin:
            break
        ordered = np.sort(hashes[begin:i])
        for j in range(len(ordered)):
            if j == 0 or ordered[j] != ordered[j - 1]:
                kept_hashes[n], kept_segments[n] = ordered[j], segments[begin]
                n_hashes[segments[begin]] += 1
                n += 1
        begin = i
    return kept_hashes[:n], kept_segments[:n]


class SketchFile:
    """What :func:`sketch_assembly` wrote, opened for reading."""

    def __init__(self, path: str | Path):
        self._arrays = ArrayFile(path)
        self.path = self._arrays.path
        facts = self._arrays.facts
        self.name: str = facts["name"]
        self.settings = {key: int(facts[key]) for key in ("k", "scaled", "segment_bp", "n_partitions")}
        self._n_runs: int = facts["n_runs"]

    @property
    def n_segments(self) -> int:
        """Number of segments of the assembly."""
        return self._arrays.length("n_hashes")

    def n_hashes(self) -> npt.NDArray[np.uint32]:
        """Distinct kept hashes of each segment, uint32 ``(n_segments,)``."""
        return self._arrays.read("n_hashes")

    def first_segment_of_contig(self) -> npt.NDArray[np.int64]:
        """First segment of each contig, and behind it ``n_segments``: int64 ``(n_contigs + 1,)``."""
        return self._arrays.read("first_segment_of_contig")

    def partition(self, number: int) -> tuple[Hashes, npt.NDArray[np.uint32]]:
        """Hashes of one partition and the segments they are in; within a hash the segments ascend."""
        hashes, segments = [np.empty(0, np.uint64)], [np.empty(0, np.uint32)]
        for run in range(self._n_runs):
            start, end = (int(edge) for edge in self._arrays.read(f"starts/{run}", number, number + 2))
            hashes.append(self._arrays.read(f"hashes/{run}", start, end))
            segments.append(self._arrays.read(f"segments/{run}", start, end))
        return np.concatenate(hashes), np.concatenate(segments)


def open_sketches(paths: tuple[Path, ...]) -> list[SketchFile]:
    """Open the sketches of assemblies that are to be compared.

    Raises
    ------
    CorpusError
        If two were made with other settings, so that their hashes would not meet.
    """
    opened = [SketchFile(path) for path in paths]
    for other in opened[1:]:
        if other.settings != opened[0].settings:
            raise CorpusError(
                f"{other.path}: sketched with {other.settings}, but {opened[0].path} with {opened[0].settings}. "
                "Sketch both alike."
            )
    return opened
