"""Stretches as jobs: read in this process or in several, each written whole to a file of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import current_process
from pathlib import Path
from typing import Any

from umbel.genome.reference import Reference
from umbel.predict.precision import Precision
from umbel.predict.predictor import Predictor
from umbel.predict.scan.readouts import Readout
from umbel.predict.scan.settings import TrackSettings
from umbel.predict.scan.stitching import read_stretch
from umbel.predict.scan.windows import Stretch


@dataclass(frozen=True)
class Loading:
    """How a worker comes by model and genome.

    Attributes
    ----------
    checkpoint, reference
        Where they are; no checkpoint where a model is made and not loaded.
    settings
        What is read.
    precision
        Of the model, as :meth:`umbel.predict.predictor.Predictor.load` takes it.
    devices
        One or more; workers take turns.
    threads
        CPU threads of each worker; 0 leaves the choice to torch.
    """

    checkpoint: Path | None
    reference: Path
    settings: TrackSettings
    precision: Precision
    devices: tuple[str, ...]
    threads: int


@dataclass(frozen=True)
class StretchJob:
    """One stretch, and the file that its values go to."""

    stretch: Stretch
    path: Path
    loading: Loading

    @property
    def size(self) -> int:
        """Bases that are wanted."""
        return self.stretch.size


_opened: dict[Loading, tuple[Readout, Reference]] = {}
"""What this process has loaded already."""


def lend(loading: Loading, readout: Readout, reference: Reference) -> None:
    """Let jobs of this process use what is loaded."""
    _opened[loading] = (readout, reference)


def take_back(loading: Loading) -> None:
    """End what :func:`lend` began."""
    _opened.pop(loading, None)


def run_stretch(job: StretchJob, advance: Callable[[int], None]) -> dict[str, Any]:
    """Read a stretch and write its file."""
    if job.loading not in _opened:
        _opened[job.loading] = _load(job.loading)
    readout, reference = _opened[job.loading]
    read_stretch(readout, reference, job.stretch, advance).save(job.path)
    return {}


def _load(loading: Loading) -> tuple[Readout, Reference]:
    import torch

    if loading.threads:
        torch.set_num_threads(loading.threads)
    # The processes of a pool are counted as they start.
    turn = (current_process()._identity or (1,))[-1] - 1
    device = loading.devices[turn % len(loading.devices)]
    assert loading.checkpoint is not None
    predictor = Predictor.load(loading.checkpoint, device, loading.precision)
    return loading.settings.open(predictor), Reference.open(loading.reference)
