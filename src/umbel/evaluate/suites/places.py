"""Places of genomes that are to be cut out: what files of coordinates become, and the cutting."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from umbel.errors import LabelError
from umbel.evaluate.suites.rows import Row
from umbel.genome.fasta import read_fasta
from umbel.genome.sequence import Codes, N, revcomp

_SUFFIXES = (".fa", ".fa.gz", ".fasta", ".fasta.gz", ".fna", ".fna.gz", ".2bit")


@dataclass(frozen=True, eq=False, slots=True)
class Place:
    """A stretch of a contig with its labels."""

    name: str
    genome: str
    contig: str
    start: int
    """0-based; below 0 or, as ``end``, behind the contig where a window leaves it."""
    end: int
    strand: str
    labels: tuple[str, ...] | Callable[[], npt.NDArray[np.float32]]
    """Fields of the file, or a function that reads what it holds for every bin."""
    number: int
    path: Path
    line: int
    needs: tuple[int, int] | None = None
    """Start and end that must lie in the contig, or the place is left out; None: leaving the contig is an error."""


def find_genome(folder: Path, name: str, wanted_by: Path) -> Path:
    """Give the file of a genome that the user put into ``genomes``.

    Raises
    ------
    LabelError
        If it is not there, naming what to put where.
    """
    for suffix in _SUFFIXES:
        if (path := folder / "genomes" / f"{name}{suffix}").is_file():
            return path
    raise LabelError(
        f"its coordinates are of {name}. Put that genome into {folder / 'genomes'} as {name}.fa, {name}.fa.gz or "
        f"{name}.2bit.",
        wanted_by,
    )


def cut(places: Sequence[Place], folder: Path, on_left_out: Callable[[Place], None]) -> Iterator[Row]:
    """Yield the sequences of places, in their order; memory holds one contig of the genome beside them.

    Parameters
    ----------
    places
        Contigs may be named with or without ``chr``, and with or without the version of an accession.
    folder
        Its folder ``genomes`` holds the genomes.
    on_left_out
        Told of every place whose window leaves its contig and that may be left out.

    Raises
    ------
    LabelError
        With file and line: a genome or contig that is not there, a place that leaves its contig.
    """
    found: dict[int, Codes | None] = {}
    for genome in dict.fromkeys(place.genome for place in places):
        of_contig: dict[str, list[int]] = defaultdict(list)
        for i, place in enumerate(places):
            if place.genome == genome:
                of_contig[place.contig].append(i)
        path = find_genome(folder, genome, places[0].path)
        for record in read_fasta(path):
            for name in _names(record.name):
                for i in of_contig.pop(name, ()):
                    found[i] = _stretch(places[i], record.codes)
            if not of_contig:
                break
        if of_contig:
            contig, lost = next(iter(of_contig.items()))
            first = places[lost[0]]
            raise LabelError(f"{path.name} has no contig {contig!r}. Is it {genome}?", first.path, first.line)
    for i, place in enumerate(places):
        codes = found[i]
        if codes is None:
            on_left_out(place)
            continue
        n_unknown = int(np.count_nonzero(codes == N))
        labels = place.labels if isinstance(place.labels, tuple) else place.labels()
        letters = {"N": n_unknown} if n_unknown else {}
        yield Row(place.name, codes, letters, labels, place.number, place.path, place.line)


def _names(name: str) -> tuple[str, ...]:
    """Names that files of coordinates may use for a contig of a FASTA."""
    bare = re.sub(r"\.\d+$", "", name)
    return tuple(dict.fromkeys((name, f"chr{name}", name.removeprefix("chr"), bare)))


def _stretch(place: Place, contig: Codes) -> Codes | None:
    if place.needs is not None and (place.needs[0] < 0 or place.needs[1] >= len(contig)):
        return None
    if place.start < 0 or place.end > len(contig) or place.start >= place.end:
        raise LabelError(
            f"{place.start} to {place.end} is not inside {place.contig}, of {len(contig):,} bases. Is this the genome "
            "that the coordinates are of?",
            place.path,
            place.line,
        )
    stretch = contig[place.start : place.end]
    return revcomp(stretch) if place.strand == "-" else stretch.copy()
