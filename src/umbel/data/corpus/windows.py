"""Last stage of a build: what is left of each contig, cut into windows, and the fate of every base."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from umbel.config import CorpusConfig
from umbel.data.corpus.executors import Advance
from umbel.data.corpus.manifest import ROLES
from umbel.data.corpus.packing import write_table
from umbel.data.corpus.parts import Part
from umbel.data.corpus.splits import REASONS
from umbel.data.corpus.tables import WINDOWS_SCHEMA, named
from umbel.data.corpus.window_counts import GC, SOFT, UNKNOWN, count_windows, find_gaps
from umbel.genome.runs import Runs, as_runs, merge, n_bases, subtract

EXCLUDED, HELD_OUT_COPY, DUPLICATE = "benchmark", "copy of held-out", "duplicate"
GAP, SHORT_TAIL, MANY_N = "gap", "short stretch", "window with N"
REMOVALS = (EXCLUDED, HELD_OUT_COPY, DUPLICATE)
FATES = (*REASONS, *REMOVALS, GAP, SHORT_TAIL, MANY_N, *ROLES)
"""What becomes of a base, in the order of the stages: the first that applies, and the last three are kept."""

N_BINS = 50
"""Bins of the histograms of GC and of repeats, over 0..1."""


@dataclass(frozen=True)
class CutContig:
    """A contig to be cut; one without role has the reason for it."""

    name: str
    length: int
    offset: int
    role: str
    reason: str


@dataclass(frozen=True)
class WindowJob:
    """Cut one assembly.

    Attributes
    ----------
    removed
        Removal (of :data:`REMOVALS`) to int64 ``(n, 3)``: index of the contig, start, end; in any order.
    """

    assembly: str
    nibbles: Path
    contigs: tuple[CutContig, ...]
    removed: dict[str, npt.NDArray[np.int64]]
    config: CorpusConfig
    part: Part
    size: int


@dataclass
class _Tally:
    """Windows of one role."""

    n_windows: int = 0
    n_windows_dropped_for_n: int = 0
    bases_lost_in_short_tails: int = 0


@dataclass
class _Seen:
    """What is counted while an assembly is cut."""

    tallies: dict[str, _Tally] = field(default_factory=lambda: {role: _Tally() for role in ROLES})
    fates: Counter[str] = field(default_factory=Counter)
    gc: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(N_BINS, np.int64))
    soft_masked: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(N_BINS, np.int64))


def cut_windows(length: int, config: CorpusConfig) -> tuple[npt.NDArray[np.int64], int]:
    """Cut a stretch into windows that each begin ``window_bp - overlap_bp`` after the one before.

    The last window may be shorter; it is kept from ``min_window_bp`` on, and left out where the window before it
    already reaches the end of the stretch.

    Returns
    -------
    windows
        int64 ``(n_windows, 2)``: start and end, 0-based half-open.
    n_lost
        Bases at the end of the stretch that no window holds.

    Examples
    --------
    >>> windows, n_lost = cut_windows(1000, CorpusConfig(window_bp=500, overlap_bp=100))
    >>> windows.tolist(), n_lost
    ([[0, 500], [400, 900], [800, 1000]], 0)
    """
    step = config.window_bp - config.overlap_bp
    n_full = max(0, (length - config.window_bp) // step + 1)
    starts = np.arange(n_full, dtype=np.int64) * step
    ends = starts + config.window_bp
    reached = int(ends[-1]) if n_full else 0
    if reached == length:
        return np.column_stack((starts, ends)), 0
    tail_start = n_full * step
    if length - tail_start < config.min_window_bp:
        return np.column_stack((starts, ends)), length - reached
    return np.column_stack((np.append(starts, tail_start), np.append(ends, length))), 0


def cut_assembly(job: WindowJob, advance: Advance) -> dict[str, Any]:
    """Write the window table of one assembly, and count what became of its bases."""
    seen = _Seen()
    removed = {removal: rows[np.argsort(rows[:, 0], kind="stable")] for removal, rows in job.removed.items()}
    rows: list[npt.NDArray[np.int64]] = []
    for number, contig in enumerate(job.contigs):
        if not contig.role:
            seen.fates[contig.reason] += contig.length
            advance(contig.length)
            continue
        windows = _windows(job, contig, _what_is_left(job, removed, number, seen), seen, advance)
        place = np.full((len(windows), 2), (number, ROLES.index(contig.role)), np.int64)
        rows.append(np.hstack((place, windows)))
    write_table(job.part.file("windows.parquet"), _windows_table(job, rows))
    facts = {
        "roles": {role: vars(tally) for role, tally in seen.tallies.items()},
        "fates": {fate: seen.fates[fate] for fate in FATES},
        "histograms": {"gc": seen.gc.tolist(), "soft_masked": seen.soft_masked.tolist()},
    }
    return job.part.save(facts, [job.part.file("windows.parquet")])


def _what_is_left(job: WindowJob, removed: dict[str, npt.NDArray[np.int64]], number: int, seen: _Seen) -> Runs:
    """Take the removed stretches (sorted by contig) and the gaps off a contig."""
    contig = job.contigs[number]
    left = as_runs([(0, contig.length)])
    for removal in REMOVALS:
        if removal in removed:
            first, last = np.searchsorted(removed[removal][:, 0], [number, number + 1])
            before = n_bases(left)
            left = subtract(left, merge(removed[removal][first:last, 1:]))
            seen.fates[removal] += before - n_bases(left)
    if job.config.split_n_bp:
        before = n_bases(left)
        left = subtract(left, find_gaps(job.nibbles, contig.offset, contig.length, job.config.split_n_bp))
        seen.fates[GAP] += before - n_bases(left)
    return left


def _windows(job: WindowJob, contig: CutContig, left: Runs, seen: _Seen, advance: Advance) -> npt.NDArray[np.int64]:
    """Start, end, known and soft-masked bases of the windows of a contig that do not hold too many N."""
    tally = seen.tallies[contig.role]
    cut = []
    for start, end in left.tolist():
        spans, n_lost = cut_windows(end - start, job.config)
        cut.append(spans + start)
        tally.bases_lost_in_short_tails += n_lost
        seen.fates[SHORT_TAIL] += n_lost
    spans = np.concatenate(cut) if cut else as_runs([])
    counts = []
    done = 0
    for part, gone in count_windows(job.nibbles, contig.offset, spans):
        counts.append(part)
        advance(min(gone, contig.length - done))
        done = min(contig.length, done + gone)
    advance(contig.length - done)
    counted = np.concatenate(counts) if counts else np.empty((0, 3), np.int64)
    lengths = spans[:, 1] - spans[:, 0]
    keep = counted[:, UNKNOWN] <= job.config.max_n_frac * lengths
    tally.n_windows += int(np.count_nonzero(keep))
    tally.n_windows_dropped_for_n += int(np.count_nonzero(~keep))
    n_kept = n_bases(merge(spans[keep]))
    seen.fates[contig.role] += n_kept
    seen.fates[MANY_N] += n_bases(merge(spans)) - n_kept
    known = lengths - counted[:, UNKNOWN]
    seen.gc += _histogram(counted[keep, GC] / np.maximum(known[keep], 1))
    seen.soft_masked += _histogram(counted[keep, SOFT] / lengths[keep])
    return np.column_stack((spans, known, counted[:, SOFT]))[keep]


def _histogram(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.histogram(shares, N_BINS, (0, 1))[0]


def _windows_table(job: WindowJob, rows: list[npt.NDArray[np.int64]]) -> pa.Table:
    """Join rows of contig, role, start, end, known and soft-masked bases."""
    if not rows:
        return WINDOWS_SCHEMA.empty_table()
    contig, role, start, end, known, soft_masked = np.concatenate(rows).T
    return pa.table(
        [
            named(np.zeros(len(start)), [job.assembly]),
            named(contig, [each.name for each in job.contigs]),
            start,
            end,
            named(role, ROLES),
            known.astype(np.int32),
            soft_masked.astype(np.int32),
        ],
        schema=WINDOWS_SCHEMA,
    )
