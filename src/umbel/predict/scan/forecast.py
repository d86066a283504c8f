"""What a scan will take, before it is begun: windows, hours and bytes."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from umbel.genome.reference import Reference
from umbel.predict.scan.readouts import Readout
from umbel.predict.scan.stitching import BASES_AT_ONCE, StretchValues, read_stretch
from umbel.predict.scan.windows import Stretch

_LOOKED_AT = 200
# Zoom levels and indices of bigWig, over its compressed values.
_BESIDES = 1.35


@dataclass(frozen=True)
class Forecast:
    """What a scan will take.

    Attributes
    ----------
    n_bases
        Bases asked for.
    n_windows
        Windows to go through; ``n_read`` of them, about, hold bases and are read by the model.
    seconds_per_window
        Measured on a sample, in one process; None where there is nothing to read.
    hours
        Of all windows, with so many workers that do not get into each other's way.
    output_gb
        Of all tracks, about.
    """

    n_bases: int
    n_windows: int
    n_read: int
    seconds_per_window: float | None
    hours: float
    output_gb: float

    def in_words(self) -> str:
        """Say it in one line.

        Examples
        --------
        >>> Forecast(17_000_000_000, 22_135_417, 22_000_000, 0.01, 61.1, 120.0).in_words()
        '17,000,000,000 bases in 22,135,417 windows (about 22,000,000 with bases): about 61 hours, 120 GB of tracks'
        """
        long = f"{self.hours:,.0f} hours" if self.hours >= 10 else f"{self.hours * 60:,.1f} minutes"
        size = f"{self.output_gb:,.0f} GB" if self.output_gb >= 10 else f"{self.output_gb * 1000:,.1f} MB"
        return (
            f"{self.n_bases:,} bases in {self.n_windows:,} windows (about {self.n_read:,} with bases): about {long}, "
            f"{size} of tracks"
        )


def forecast(readout: Readout, reference: Reference, stretches: Sequence[Stretch], workers: int) -> Forecast:
    """Read a few windows, and tell what all will take.

    Parameters
    ----------
    readout, reference
        Model and genome.
    stretches
        All of the scan, at least one.
    workers
        Processes.
    """
    tiling, counts = stretches[0].tiling, [_n_windows(stretch) for stretch in stretches]
    n_windows = sum(counts)
    looked = [stretches[i] for i in np.unique(np.linspace(0, len(stretches) - 1, _LOOKED_AT).astype(int)).tolist()]
    readable = []
    for number, stretch in enumerate(looked):
        windows = stretch.windows
        window = windows[number * 7 % len(windows)]
        codes = reference.fetch(stretch.contig, window.start, window.end)
        if len(codes) >= readout.min_bases and (codes < 4).any():
            readable.append((stretch, window))
    n_read = round(n_windows * len(readable) / len(looked))
    n_bases = sum(stretch.size for stretch in stretches)
    if not readable:
        return Forecast(n_bases, n_windows, n_read, None, 0.0, 0.0)
    stretch, window = readable[len(readable) // 2]
    at_once = max(1, min(8, BASES_AT_ONCE // tiling.window_bp))
    sample = Stretch(stretch.contig, stretch.contig_bp, 0, _around(window.kept_start, at_once, stretch), tiling)
    # The first pass compiles and warms up.
    read_stretch(readout, reference, sample, lambda _: None)
    began = time.perf_counter()
    found = read_stretch(readout, reference, sample, lambda _: None)
    each = (time.perf_counter() - began) / max(1, found.n_read)
    per_base = _bytes_per_base(found)
    hours = n_read * each / 3600 / max(1, min(workers, len(stretches)))
    return Forecast(n_bases, n_windows, n_read, each, hours, n_bases * per_base * _BESIDES / 1e9)


def _n_windows(stretch: Stretch) -> int:
    first = stretch.tiling.speaker(stretch.wanted[0][0], stretch.contig_bp)
    if len(stretch.wanted) > 1:
        return len(stretch.windows)
    return stretch.tiling.speaker(stretch.wanted[0][1] - 1, stretch.contig_bp) - first + 1


def _around(base: int, n_windows: int, stretch: Stretch) -> tuple[tuple[int, int], ...]:
    return ((base, min(base + n_windows * stretch.tiling.step_bp, stretch.contig_bp)),)


def _bytes_per_base(found: StretchValues) -> float:
    packed = sum(len(zlib.compress(np.ascontiguousarray(row).tobytes())) for row in found.values)
    return packed / max(1, int(np.diff(found.runs, axis=1).sum()))
