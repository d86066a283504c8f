"""Which segments share how many k-mers: sketches are joined range by range of hashes, then of segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from umbel.data.corpus.arrays import ArrayFile, writing_arrays
from umbel.data.corpus.executors import Advance, silent
from umbel.data.corpus.sketches import SketchFile, open_sketches, partition_width
from umbel.errors import CorpusError

MOST_SEGMENTS = (1 << 31) - 1
_DIGIT = 11
_BYTES_OF_A_PAIR = 24
_LOW = np.uint64(0xFFFFFFFF)
_ONE, _SHIFT_T, _SHIFT_S = np.uint64(1), np.uint64(1), np.uint64(33)


@dataclass(frozen=True)
class JoinJob:
    """One range of hashes over all assemblies."""

    sketches: tuple[Path, ...]
    """In an order that all jobs share: segments are numbered through it."""
    partition: int
    max_copies: int
    """K-mers in more segments than this are not compared."""
    out: Path
    memory_bytes: int = 1 << 30


def join_partition(job: JoinJob, advance: Advance = silent) -> dict[str, Any]:
    """Count for each ordered pair of segments the hashes of one partition that both have.

    A hash in 2 to ``max_copies`` segments counts for every pair (s, t) of them; and once more, under another key,
    where t and the segment behind it on the same contig both have it, and neither is s. A hash in more segments is
    dropped, which is counted for each segment that has it.

    Returns
    -------
    ``n_rows``: (hash, segment) rows; ``n_hashes``: different ones; ``n_dropped``: those dropped;
    ``n_pairs``: rows written, which depends on the memory, as nothing else does.

    Raises
    ------
    CorpusError
        If sketches are damaged, were made with different settings, or have too many segments.
    """
    opened = open_sketches(job.sketches)
    first = first_segments(opened)
    hashes, segments = _rows(opened, first, job.partition)
    has_next = _has_next(opened, first)
    dropped = np.zeros(first[-1], np.uint32)
    room = max(2 * job.max_copies**2, job.memory_bytes // 2 // _BYTES_OF_A_PAIR)
    # A group of m segments gives less than 2 m^2 rows, so few groups need little room.
    room = min(room, 2 * job.max_copies * len(hashes) + 1)
    pairs = np.empty(room, np.uint64)
    tally = np.zeros(2, np.int64)
    start = n_runs = n_pairs = 0
    with writing_arrays(job.out) as writer:
        while start < len(hashes):
            start, n = _emit(hashes, segments, has_next, start, job.max_copies, pairs, dropped, tally)
            if n:
                pairs[:n].sort()
                keys, counts = _run_lengths(pairs[:n])
                writer.add(f"pairs/{n_runs}", keys)
                writer.add(f"counts/{n_runs}", counts)
                n_runs += 1
                n_pairs += len(keys)
        hit = np.flatnonzero(dropped)
        writer.add("dropped_segments", hit.astype(np.uint32))
        writer.add("dropped_counts", dropped[hit])
        writer.facts = {"n_runs": n_runs}
    return {"n_rows": len(hashes), "n_hashes": int(tally[0]), "n_dropped": int(tally[1]), "n_pairs": n_pairs}


def first_segments(sketches: Sequence[SketchFile]) -> npt.NDArray[np.int64]:
    """Global number of each assembly's first segment, and behind them the number of all: ``(n_assemblies + 1,)``.

    Raises
    ------
    CorpusError
        If there are 2^31 segments or more.
    """
    first = np.concatenate(([0], np.cumsum([sketch.n_segments for sketch in sketches], dtype=np.int64)))
    if first[-1] > MOST_SEGMENTS:
        raise CorpusError(f"there are {first[-1]} segments, at most {MOST_SEGMENTS} can be compared: make them longer.")
    return first


def _rows(
    sketches: Sequence[SketchFile], first: npt.NDArray[np.int64], partition: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    """Rows of a partition with global segments, sorted by hash and then by segment."""
    parts = [sketch.partition(partition) for sketch in sketches]
    hashes = np.concatenate([part[0] for part in parts])
    segments = np.concatenate(
        [part[1] + np.uint32(begin) for part, begin in zip(parts, first[:-1], strict=True)], dtype=np.uint32
    )
    del parts
    settings = sketches[0].settings
    width = partition_width(settings["scaled"], settings["n_partitions"])
    return sort_rows(hashes, segments, partition * width, width)


def _has_next(sketches: Sequence[SketchFile], first: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether the segment behind a segment is on the same contig."""
    has_next = np.ones(first[-1], bool)
    for sketch, begin in zip(sketches, first[:-1], strict=True):
        has_next[begin + sketch.first_segment_of_contig()[1:] - 1] = False
    return has_next


def sort_rows(
    keys: npt.NDArray[np.uint64], values: npt.NDArray[np.uint32], lowest: int, width: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    """Sort rows by key, keeping the order of equal ones; the keys are ``lowest`` to ``lowest + width - 1``.

    References
    ----------
    Knuth 1998, The Art of Computer Programming 3, section 5.2.5, algorithm R (radix list sort), with arrays.

    Examples
    --------
    >>> keys, values = sort_rows(np.array([7, 5, 7], np.uint64), np.array([1, 2, 3], np.uint32), 5, 3)
    >>> keys.tolist(), values.tolist()
    ([5, 7, 7], [2, 1, 3])
    """
    spare_keys, spare_values = np.empty_like(keys), np.empty_like(values)
    for shift in range(0, (width - 1).bit_length(), _DIGIT):
        _scatter(keys, values, np.uint64(lowest), np.uint64(shift), spare_keys, spare_values)
        keys, values, spare_keys, spare_values = spare_keys, spare_values, keys, values
    return keys, values


@njit(cache=True, nogil=True)
def _scatter(keys, values, lowest, shift, to_keys, to_values):  # type: ignore[no-untyped-def]
    """Put rows in the order of one digit of their keys."""
    mask = np.uint64((1 << _DIGIT) - 1)
    places = np.zeros((1 << _DIGIT) + 1, np.int64)
    for i in range(len(keys)):
        places[((keys[i] - lowest) >> shift & mask) + _ONE] += 1
    for digit in range(1 << _DIGIT):
        places[digit + 1] += places[digit]
    for i in range(len(keys)):
        digit = (keys[i] - lowest) >> shift & mask
        to_keys[places[digit]], to_values[places[digit]] = keys[i], values[i]
        places[digit] += 1


@njit(cache=True, nogil=True)
def _emit(hashes, segments, has_next, start, max_copies, pairs, dropped, tally):  # type: ignore[no-untyped-def]
    """Write the pairs of group after group until ``pairs`` might be too short; give the next row and their number."""
    n = 0
    while start < len(hashes):
        end = start + 1
        while end < len(hashes) and hashes[end] == hashes[start]:
            end += 1
        copies = end - start
        if copies > max_copies:
            tally[1] += 1
            for i in range(start, end):
                dropped[segments[i]] += 1
        else:
            if n + 2 * copies * copies > len(pairs) and n:
                return start, n
            for i in range(start, end):
                for j in range(start, end):
                    if i == j:
                        continue
                    s, t = segments[i], segments[j]
                    key = (np.uint64(s) << _SHIFT_S) | (np.uint64(t) << _SHIFT_T)
                    pairs[n] = key
                    n += 1
                    # Segments ascend, so the one behind t can only be the next.
                    if has_next[t] and j + 1 < end and j + 1 != i and segments[j + 1] == t + 1:
                        pairs[n] = key | _ONE
                        n += 1
        tally[0] += 1
        start = end
    return start, n


@njit(cache=True, nogil=True)
def _run_lengths(ordered):  # type: ignore[no-untyped-def]
    """Different values of a sorted array, and how often each is there."""
    n = 1
    for i in range(1, len(ordered)):
        n += ordered[i] != ordered[i - 1]
    keys, counts = np.empty(n, np.uint64), np.empty(n, np.uint32)
    n = begin = 0
    for i in range(1, len(ordered) + 1):
        if i == len(ordered) or ordered[i] != ordered[begin]:
            keys[n], counts[n] = ordered[begin], i - begin
            n += 1
            begin = i
    return keys, counts


@dataclass(frozen=True)
class JudgeJob:
    """All sketches and all that was joined of them."""

    sketches: tuple[Path, ...]
    joins: tuple[Path, ...]
    out: Path


def judge_segments(job: JudgeJob, advance: Advance = silent) -> dict[str, Any]:
    """Write how many hashes each segment can be judged by: those in its sketch that were not dropped.

    Returns
    -------
    ``n_segments``, ``n_hashes`` and ``n_dropped``, added up over segments.
    """
    opened = open_sketches(job.sketches)
    first = first_segments(opened)
    n_hashes = np.concatenate([sketch.n_hashes() for sketch in opened])
    dropped = np.zeros(len(n_hashes), np.uint32)
    for path in job.joins:
        join = ArrayFile(path)
        dropped[join.read("dropped_segments")] += join.read("dropped_counts")
    with writing_arrays(job.out) as writer:
        writer.add("judged", n_hashes - dropped)
        writer.add("has_next", _has_next(opened, first))
        writer.add("first_segment", first)
    return {"n_segments": len(n_hashes), "n_hashes": int(n_hashes.sum()), "n_dropped": int(dropped.sum())}


@dataclass(frozen=True)
class ReduceJob:
    """One range of segments over everything that was joined."""

    joins: tuple[Path, ...]
    segments: Path
    """What :func:`judge_segments` wrote."""
    first: int
    last: int
    """Segments ``first`` to ``last - 1``, as the s of their pairs."""
    min_share: float
    """Pairs with a lower containment are left out."""
    min_hashes: int
    """Segments that fewer hashes can be judged by are left out as s, not as t."""
    out: Path


class Pairs(NamedTuple):
    """Ordered pairs (s, t), sorted: how much of s is in t and in the segment behind t.

    The containment of s in both together is ``(shared + shared_next - shared_both) / judged[s]``.
    """

    s: npt.NDArray[np.uint32]
    t: npt.NDArray[np.uint32]
    shared: npt.NDArray[np.uint32]
    """Hashes of s that are in t; at least 1."""
    shared_next: npt.NDArray[np.uint32]
    """Hashes of s that are in t + 1; 0 where that is on another contig, or is s."""
    shared_both: npt.NDArray[np.uint32]
    """Hashes of s that are in both."""

    @property
    def union(self) -> npt.NDArray[np.uint32]:
        """Hashes of s that are in t or in t + 1."""
        return self.shared + self.shared_next - self.shared_both


def reduce_pairs(job: ReduceJob, advance: Advance = silent) -> dict[str, Any]:
    """Add up the pairs of some segments over all partitions, and keep those with enough in common.

    A copy of s lies in two neighbouring segments at most, whatever its offset (in three where s is one of the longer
    last segments), so its containment is looked for in every pair of neighbours.

    Returns
    -------
    ``n_pairs`` before, and ``n_kept`` after.
    """
    segments = ArrayFile(job.segments)
    keys, counts = _read_pairs(job.joins, job.first, job.last)
    keys, counts = sort_rows(keys, counts, job.first << 33, max(1, (job.last - job.first) << 33))
    found = Pairs(*_unions(keys, counts, segments.map("has_next")))
    judged = segments.read("judged", job.first, job.last)[found.s - np.uint32(job.first)]
    is_kept = (found.union >= job.min_share * judged) & (judged >= job.min_hashes)
    with writing_arrays(job.out) as writer:
        for name, column in zip(Pairs._fields, found, strict=True):
            writer.add(name, column[is_kept])
    return {"n_pairs": len(found.s), "n_kept": int(is_kept.sum())}


def _read_pairs(joins: Sequence[Path], first: int, last: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    keys, counts = [np.empty(0, np.uint64)], [np.empty(0, np.uint32)]
    edges = np.array([first, last], np.uint64) << _SHIFT_S
    for path in joins:
        join = ArrayFile(path)
        for run in range(join.facts["n_runs"]):
            start, end = (int(edge) for edge in np.searchsorted(join.map(f"pairs/{run}"), edges))
            keys.append(join.read(f"pairs/{run}", start, end))
            counts.append(join.read(f"counts/{run}", start, end))
    return np.concatenate(keys), np.concatenate(counts)


@njit(cache=True, nogil=True)
def _unions(keys, counts, has_next):  # type: ignore[no-untyped-def]
    """Add up equal keys, and lay the row of (s, t) beside that of (s, t + 1)."""
    n = 0
    for i in range(len(keys)):
        n += (keys[i] & _ONE) == 0 and (i == 0 or keys[i] != keys[i - 1])
    columns = np.zeros((5, n), np.uint32)
    s, t, shared, shared_next, shared_both = columns[0], columns[1], columns[2], columns[3], columns[4]
    n = -1
    for i in range(len(keys)):
        if keys[i] & _ONE:
            # The key of what is in both follows on that of what is in t.
            shared_both[n] += counts[i]
            continue
        if i == 0 or keys[i] != keys[i - 1]:
            n += 1
            s[n], t[n] = keys[i] >> _SHIFT_S, keys[i] >> _SHIFT_T & _LOW
        shared[n] += counts[i]
    for i in range(len(s) - 1):
        if s[i + 1] == s[i] and t[i + 1] == t[i] + 1 and has_next[t[i]]:
            shared_next[i] = shared[i + 1]
    return s, t, shared, shared_next, shared_both


def plan_ranges(joins: Sequence[Path], n_segments: int, memory_bytes: int) -> list[tuple[int, int]]:
    """Cut the segments into ranges whose pairs fit into the memory, as far as one segment's do.

    Any cut gives the same pairs in the end.
    """
    edges = np.unique(np.linspace(0, n_segments, min(n_segments, 4096) + 1).astype(np.int64))
    rows = np.zeros(len(edges), np.int64)
    for path in joins:
        join = ArrayFile(path)
        for run in range(join.facts["n_runs"]):
            rows += np.searchsorted(join.map(f"pairs/{run}"), edges.astype(np.uint64) << _SHIFT_S)
    most = max(1, memory_bytes // (2 * _BYTES_OF_A_PAIR))
    cuts = [0]
    for i in range(1, len(edges)):
        if rows[i] - rows[cuts[-1]] > most and i - 1 > cuts[-1]:
            cuts.append(i - 1)
    cuts.append(len(edges) - 1)
    return [(int(edges[a]), int(edges[b])) for a, b in pairwise(cuts) if a < b]


def load_pairs(paths: Sequence[Path]) -> Pairs:
    """Read what :func:`reduce_pairs` wrote for ascending ranges of segments."""
    files = [ArrayFile(path) for path in paths]
    return Pairs(*(np.concatenate([file.read(name) for file in files]) for name in Pairs._fields))
