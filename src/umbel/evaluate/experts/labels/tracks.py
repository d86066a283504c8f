"""A numeric track, such as conservation or accessibility, as quantile classes of the stretches looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from umbel.errors import AnnotationError
from umbel.evaluate.experts.labels.labeller import made_of
from umbel.evaluate.experts.labels.quantiles import Floats, quantile_edges, quantile_labels, quantile_names
from umbel.evaluate.experts.source import Labelling, Labels
from umbel.genome.interval import Interval
from umbel.genome.signal import Signal, open_signal

N_CLASSES = 4
MOST_VALUES = 1 << 22
"""Of more bases than these every nth is looked at to find the edges."""


class Track:
    r"""A bigWig or bedGraph file, which becomes a labelling once the stretches are known.

    Parameters
    ----------
    name
        Of the labelling.
    path
        The file.
    contig_lengths
        Name to length in bases, of the genome.
    n_classes
        Of about as many bases each; fewer where many values are equal.

    Raises
    ------
    AnnotationError
        As :func:`umbel.genome.signal.open_signal`.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.bedgraph"
    >>> _ = source.write_text("chr1\t0\t4\t0.5\nchr1\t4\t8\t2\n")
    >>> labels = Track("open", source, {"chr1": 9}).fit([Interval("chr1", 0, 9)])
    >>> labels.labelling.classes, labels.labels("chr1", 3, 9).tolist()
    (('<= 0.5', '> 0.5'), [0, 1, 1, 1, 1, -1])
    """

    def __init__(self, name: str, path: str | Path, contig_lengths: Mapping[str, int], n_classes: int = N_CLASSES):
        self.name, self.path, self.n_classes = name, Path(path), n_classes
        self._signal = open_signal(path, contig_lengths)

    def fit(self, stretches: Sequence[Interval]) -> TrackLabels:
        """Cut the values on some stretches into classes.

        Raises
        ------
        AnnotationError
            If the track has no value there, or a single one.
        """
        n_bases = sum(len(stretch) for stretch in stretches)
        step = -(-n_bases // MOST_VALUES)
        parts = [self._signal.values(each.contig, each.start, each.end)[::step] for each in stretches]
        values = np.concatenate(parts) if parts else np.zeros(0)
        finite = values[np.isfinite(values)]
        if not len(finite):
            raise AnnotationError(
                "it has no value on any of the stretches. Choose other contigs or more stretches, or leave it out.",
                self.path,
            )
        edges = quantile_edges(finite, self.n_classes)
        if not len(edges):
            raise AnnotationError(
                f"it has the value {finite[0]:g} wherever it has one on the stretches, which makes no classes. "
                "Choose more stretches, or leave it out.",
                self.path,
            )
        notes = []
        if len(edges) + 1 < self.n_classes:
            notes.append(f"{self.path.name}: many values are equal, so there are {len(edges) + 1} classes.")
        facts = made_of(
            self.path,
            notes,
            edges=edges.tolist(),
            every_nth_base=step,
            share_with_value=len(finite) / len(values),
        )
        return TrackLabels(Labelling(self.name, quantile_names(edges), facts=facts), self._signal, edges)


class TrackLabels:
    """Quantile classes of a track; see :meth:`Track.fit`."""

    def __init__(self, labelling: Labelling, signal: Signal, edges: Floats):
        self.labelling, self._signal, self._edges = labelling, signal, edges

    def labels(self, contig: str, start: int, end: int) -> Labels:
        """Give the class of each base; -1 where the track has no value."""
        return quantile_labels(self._signal.values(contig, start, end), self._edges)

    def close(self) -> None:
        """Close the file."""
        self._signal.close()
