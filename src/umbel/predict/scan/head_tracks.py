"""Tracks of a tuned head: classes of bases, numbers of bins, or what it says of the whole window around a place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from umbel.data.labelled.task import Task
from umbel.genome.sequence import Codes
from umbel.predict.choices import Strand, require_strand
from umbel.predict.scan.readouts import Reading, without_n
from umbel.predict.tracks.track import PRECISION, Track, file_names


class SaysOutputs(Protocol):
    """The part of :class:`umbel.predict.head.Head` that a scan uses."""

    task: Task
    weights_hash: str
    min_bases: int
    window_bp: int

    def outputs(self, codes: Sequence[Codes], strand: Strand = "forward") -> list[npt.NDArray[np.float32]]:
        """Give numbers in their units: ``(outputs,)`` or ``(bins, outputs)`` a sequence."""

    def probabilities(self, codes: Sequence[Codes], strand: Strand = "forward") -> list[npt.NDArray[np.float32]]:
        """Give probabilities of classes or labels: ``(outputs,)`` or ``(L_i, classes)`` a sequence."""


class HeadTracks:
    """One track a class, label or output of a tuned head.

    Classes and labels are drawn as probabilities, quantities in their own units.

    Parameters
    ----------
    head
        The tuned model.
    strand
        ``both`` averages the outputs for both strands, before they become probabilities.
    """

    label_names: tuple[str, ...] = ()

    def __init__(self, head: SaysOutputs, strand: Strand = "both"):
        require_strand(strand)
        self._head, self._strand = head, strand
        self.min_bases, self.task = head.min_bases, head.task
        self.step_bp = {"bases": 1, "bins": head.task.bin_bp}.get(head.task.kind, 0)
        names = head.task.names
        self.tracks = tuple(
            Track(file, name) if head.task.is_numbers else Track(file, name, "probability", 0.0, 1.0, PRECISION)
            for file, name in zip(file_names(names), names, strict=True)
        )

    @property
    def facts(self) -> dict[str, Any]:
        """Weights, task and strand."""
        task = {"kind": self.task.kind, "names": list(self.task.names), "bin_bp": self.task.bin_bp}
        return {"weights": self._head.weights_hash, "task": task, "strand": self._strand}

    def read(self, codes: Sequence[Codes]) -> list[Reading]:
        """Read windows; see :class:`umbel.predict.scan.readouts.Readout`."""
        readings = []
        say = self._head.outputs if self.task.is_numbers else self._head.probabilities
        for output, sequence in zip(say(codes, self._strand), codes, strict=True):
            table = output[None] if output.ndim == 1 else output
            values = table.T.astype(np.float32)
            readings.append(Reading(without_n(values, sequence, self.step_bp)))
        return readings
