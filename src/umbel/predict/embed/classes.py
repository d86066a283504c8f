"""The class of each row of a picture: what its annotation has the most of, or its contig."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from umbel.genome.annotation import REGIONS, read_gff3, region_runs

_MOST_CONTIGS = 7
_GREY = "#a8a8a2"
# Okabe & Ito's colours, told apart with any colour vision.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#7a5200")
_REGION_NAMES = {"utr": "UTR", "cds": "CDS", "noncoding": "non-coding transcript"}
_REGION_COLOURS = {"intergenic": _GREY, "intron": "#E69F00", "utr": "#009E73", "cds": "#0072B2", "noncoding": "#CC79A7"}
_NOT_ANNOTATED = "contig without annotation"


@dataclass(frozen=True)
class Classes:
    """Names and colours of the classes that occur, and the class of each row, int64 ``(n,)``."""

    names: tuple[str, ...]
    colours: tuple[str, ...]
    of_row: npt.NDArray[np.int64]

    @property
    def counts(self) -> tuple[int, ...]:
        """Rows of each class."""
        return tuple(np.bincount(self.of_row, minlength=len(self.names)).tolist())


def _made(labels: Sequence[str], colour_of: Mapping[str, str]) -> Classes:
    present = [name for name in colour_of if name in set(labels)]
    number = {name: i for i, name in enumerate(present)}
    of_row = np.array([number[label] for label in labels], np.int64)
    return Classes(tuple(present), tuple(colour_of[name] for name in present), of_row)


def by_contig(contigs: Sequence[str]) -> Classes:
    """Class each row by its contig; of more than eight the seven with most rows have a colour of their own.

    Examples
    --------
    >>> by_contig(["b", "a", "b"]).names
    ('b', 'a')
    """
    names, counts = np.unique(np.array(contigs, dtype=object), return_counts=True)
    ordered = [str(names[i]) for i in np.lexsort((names, -counts))]
    if len(ordered) > _MOST_CONTIGS + 1:
        rest = f"{len(ordered) - _MOST_CONTIGS:,} other contigs"
        shown = set(ordered[:_MOST_CONTIGS])
        contigs = [contig if contig in shown else rest for contig in contigs]
        ordered = [*ordered[:_MOST_CONTIGS], rest]
    colours = (*_COLOURS, _GREY)
    return _made(contigs, dict(zip(ordered, colours, strict=False)))


def by_annotation(
    gff3: str | Path,
    contig_lengths: Mapping[str, int],
    contigs: Sequence[str],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
) -> Classes:
    """Class each row by the region class that most of its bases have; of two equal ones, the first named.

    The classes are those of :func:`umbel.genome.annotation.region_runs`; the strand of a gene makes no difference. Rows
    of contigs that have no feature have a class of their own.

    Raises
    ------
    AnnotationError
        If the annotation is wrong, or of another assembly.
    """
    features = read_gff3(gff3, contig_lengths).features
    wanted = {feature.contig for feature in features} & set(contigs)
    runs = region_runs([f for f in features if f.contig in wanted], {name: contig_lengths[name] for name in wanted})
    labels = []
    for contig, start, end in zip(contigs, starts.tolist(), ends.tolist(), strict=True):
        if contig not in runs:
            labels.append(_NOT_ANNOTATED)
            continue
        table = runs[contig]
        first = int(np.searchsorted(table[:, 1], start, side="right"))
        inside = table[first : int(np.searchsorted(table[:, 0], end, side="left"))]
        bases = np.minimum(inside[:, 1], end) - np.maximum(inside[:, 0], start)
        region = REGIONS[int(np.bincount(inside[:, 2], bases).argmax())]
        labels.append(_REGION_NAMES.get(region, region))
    colour_of = {_REGION_NAMES.get(name, name): colour for name, colour in _REGION_COLOURS.items()}
    return _made(labels, colour_of | {_NOT_ANNOTATED: "#1c1c1a"})
