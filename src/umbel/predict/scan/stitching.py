"""One stretch of a contig: its windows read, cropped and put side by side, and how far neighbours disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.errors import CheckpointError, RunError
from umbel.files import whole_file
from umbel.genome.reference import Reference
from umbel.genome.runs import Runs, as_runs, merge
from umbel.predict.scan.readouts import Reading, Readout, real_bases
from umbel.predict.scan.windows import Stretch, Window

BASES_AT_ONCE = 1 << 17
"""Bases of the windows that are handed to the model together."""


@dataclass(frozen=True)
class Disagreement:
    """How far two windows are from each other where both see, track by track, ``(tracks,)`` each.

    Attributes
    ----------
    n, total, most
        Values compared, sum of the absolute differences, and the largest.
    """

    n: npt.NDArray[np.int64]
    total: npt.NDArray[np.float64]
    most: npt.NDArray[np.float64]

    @classmethod
    def none(cls, n_tracks: int) -> Disagreement:
        """Begin with nothing compared."""
        return cls(np.zeros(n_tracks, np.int64), np.zeros(n_tracks), np.zeros(n_tracks))

    def __add__(self, other: Disagreement) -> Disagreement:
        return Disagreement(self.n + other.n, self.total + other.total, np.maximum(self.most, other.most))


@dataclass(frozen=True)
class StretchValues:
    """What was read of a stretch.

    Attributes
    ----------
    runs
        ``(r, 2)``: places that have values, 0-based half-open; each holds whole values of ``step_bp`` bases, of which
        the last may be shorter. A ``step_bp`` of 0 makes each run one value.
    step_bp
        Bases of a value.
    values
        float32 ``(tracks, n)``, run after run; NaN where there is no value.
    labels
        uint8, the bases of all runs after each other, or None.
    at_seams, over_overlaps
        Disagreement of neighbours near the middle of their overlap, where one takes over from the other, and over all
        of it.
    n_read
        Windows that the model read; those without A, C, G and T are not.
    """

    runs: Runs
    step_bp: int
    values: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8] | None
    at_seams: Disagreement
    over_overlaps: Disagreement
    n_read: int

    def each_run(self) -> Iterator[tuple[int, int, npt.NDArray[np.float32], npt.NDArray[np.uint8] | None]]:
        """Yield start, end, ``(tracks, n)`` and labels of each run."""
        place = base = 0
        for start, end in self.runs.tolist():
            n = -(-(end - start) // self.step_bp) if self.step_bp else 1
            labels = None if self.labels is None else self.labels[base : base + end - start]
            yield start, end, self.values[:, place : place + n], labels
            place, base = place + n, base + end - start

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        arrays: dict[str, Any] = {"runs": self.runs, "step_bp": np.array(self.step_bp), "values": self.values}
        arrays["n_read"] = np.array(self.n_read)
        if self.labels is not None:
            arrays["labels"] = self.labels
        for name in ("at_seams", "over_overlaps"):
            found: Disagreement = getattr(self, name)
            arrays[name] = np.stack([found.n.astype(np.float64), found.total, found.most])
        with whole_file(path) as temporary, temporary.open("wb") as handle:
            np.savez_compressed(handle, **arrays)

    @classmethod
    def load(cls, path: Path) -> StretchValues:
        """Read it.

        Raises
        ------
        RunError
            If the file is damaged.
        """
        try:
            with path.open("rb") as handle, np.load(handle) as stored:
                arrays = {name: stored[name] for name in stored.files}
            at_seams, over_overlaps = (
                Disagreement(arrays[name][0].astype(np.int64), arrays[name][1], arrays[name][2])
                for name in ("at_seams", "over_overlaps")
            )
            return cls(
                arrays["runs"],
                int(arrays["step_bp"]),
                arrays["values"],
                arrays.get("labels"),
                at_seams,
                over_overlaps,
                int(arrays["n_read"]),
            )
        except Exception as error:
            # A damaged archive fails in many ways (zip, zlib, missing arrays), all of which mean the same here.
            raise RunError(
                f"{path} is damaged ({type(error).__name__}): delete this file and run the same command again"
            ) from error


def windows_read(path: Path) -> int:
    """Tell how many windows of a stretch the model read, from its file.

    Raises
    ------
    RunError
        If the file is damaged.
    """
    return StretchValues.load(path).n_read


@dataclass
class _Seams:
    """Differences between each window and the one after it."""

    step_bp: int
    at_seams: Disagreement
    over_overlaps: Disagreement
    before: tuple[Window, Reading] | None = field(default=None)

    def add(self, window: Window, reading: Reading | None) -> None:
        """Compare with the window before, if that was read and shares something with this one."""
        if reading is None or not self.step_bp:
            self.before = None
            return
        # Between two windows that are wanted, others may be left out.
        if self.before is not None and self.before[0].kept_end == window.kept_start < self.before[0].end:
            self._compare(*self.before, window, reading)
        self.before = (window, reading)

    def _compare(self, left: Window, left_reading: Reading, right: Window, right_reading: Reading) -> None:
        step = self.step_bp
        shared = (left.end - right.start) // step
        first = (right.start - left.start) // step
        a, b = left_reading.values[:, first : first + shared], right_reading.values[:, :shared]
        difference = np.abs(a.astype(np.float64) - b)
        self.over_overlaps += _summed(difference)
        middle = (left.kept_end - right.start) // step
        near = max(1, shared // 8)
        self.at_seams += _summed(difference[:, max(0, middle - near // 2) : middle + (near + 1) // 2])


def _summed(difference: npt.NDArray[np.float64]) -> Disagreement:
    there = ~np.isnan(difference)
    filled = np.where(there, difference, 0.0)
    most = filled.max(1) if filled.shape[1] else np.zeros(len(filled))
    return Disagreement(there.sum(1), filled.sum(1), most)


def read_stretch(
    readout: Readout, reference: Reference, stretch: Stretch, advance: Callable[[int], None]
) -> StretchValues:
    """Read the windows of a stretch, in batches that depend on the stretch alone.

    Raises
    ------
    CheckpointError
        If the model says something that is not finite, naming contig and base.
    """
    contig, step = stretch.contig, readout.step_bp
    seams = _Seams(step, Disagreement.none(len(readout.tracks)), Disagreement.none(len(readout.tracks)))
    windows = stretch.windows
    wanted = _whole_values(as_runs(stretch.wanted), windows[-1].kept_end, step)
    runs, values, labels, n_read = [], [], [], 0
    for window, codes, reading in _readings(readout, reference, contig, windows, advance):
        seams.add(window, reading)
        n_read += reading is not None
        if reading is not None:
            _require_finite(reading, codes, window, contig, step)
        inside = np.clip(wanted, window.kept_start, window.kept_end)
        for start, end in inside[inside[:, 1] > inside[:, 0]].tolist():
            first, last = start - window.start, end - window.start
            n = -(-(end - start) // step) if step else 1
            if reading is None:
                values.append(np.full((len(readout.tracks), n), np.nan, np.float32))
            else:
                place = first // step if step else 0
                values.append(_rounded(reading.values[:, place : place + n], readout))
            if readout.label_names:
                nothing = np.full(last - first, 255, np.uint8)
                labels.append(nothing if reading is None or reading.labels is None else reading.labels[first:last])
            runs.append((start, end))
    # Runs of single values per window must not melt into one.
    return StretchValues(
        merge(as_runs(runs)) if step else as_runs(runs),
        step,
        np.concatenate(values, axis=1),
        np.concatenate(labels) if labels else None,
        seams.at_seams,
        seams.over_overlaps,
        n_read,
    )


def _whole_values(wanted: Runs, end: int, step_bp: int) -> Runs:
    """Widen what is wanted to whole values, up to ``end``."""
    if step_bp <= 1:
        return wanted
    widened = np.column_stack((wanted[:, 0] // step_bp, -(-wanted[:, 1] // step_bp))) * step_bp
    return merge(np.minimum(widened, end))


def _readings(
    readout: Readout,
    reference: Reference,
    contig: str,
    windows: Sequence[Window],
    advance: Callable[[int], None],
) -> Iterator[tuple[Window, npt.NDArray[np.uint8], Reading | None]]:
    """Yield every window with its bases and what the model says of them; None where there is nothing to read."""
    at_once = max(1, BASES_AT_ONCE // max(window.end - window.start for window in windows))
    for first in range(0, len(windows), at_once):
        here = windows[first : first + at_once]
        codes = [reference.fetch(contig, window.start, window.end) for window in here]
        readable = [len(bases) >= readout.min_bases and bool((bases < 4).any()) for bases in codes]
        shown = [bases for bases, is_readable in zip(codes, readable, strict=True) if is_readable]
        found = iter(readout.read(shown) if shown else [])
        for window, bases, is_readable in zip(here, codes, readable, strict=True):
            yield window, bases, next(found) if is_readable else None
        advance(sum(window.kept_end - window.kept_start for window in here))


def _require_finite(reading: Reading, codes: npt.NDArray[np.uint8], window: Window, contig: str, step_bp: int) -> None:
    wrong = ~np.isfinite(reading.values).all(0) & (real_bases(codes, step_bp) > 0)
    if wrong.any():
        base = window.start + int(wrong.argmax()) * max(step_bp, 1)
        raise CheckpointError(
            f"the model says something that is not a finite number at base {base + 1:,} of contig {contig!r}: "
            "the weights are damaged, or their training diverged. Use another checkpoint"
        )


def _rounded(values: npt.NDArray[np.float32], readout: Readout) -> npt.NDArray[np.float32]:
    rounded = values.copy()
    for row, track in enumerate(readout.tracks):
        if track.precision:
            rounded[row] = np.round(values[row] / track.precision) * track.precision
    # Minus zero is zero.
    return rounded + np.float32(0)
