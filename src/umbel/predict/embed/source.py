"""The sequences of a table: records of a FASTA, intervals of a BED, or regions of a genome, read window by window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from umbel.errors import AnnotationError, ConfigError, InputError
from umbel.files import sha256_file
from umbel.genome.annotation import read_bed, some_names
from umbel.genome.interval import Interval
from umbel.genome.reference import Reference
from umbel.genome.sequence import Codes, revcomp
from umbel.predict.embed.windows import Cuts, Integers, Windows


@dataclass(frozen=True)
class Source:
    """Sequences on a genome that is read where asked.

    Attributes
    ----------
    origin
        The file that was named first.
    genome
        Where the bases are. It is to be read in one thread at a time.
    regions
        The sequences, in order; those on ``-`` are read as their reverse complement.
    """

    origin: Path
    genome: Reference
    regions: Sequence[Interval]

    def windows(self, window_bp: int, stride_bp: int, min_bases: int) -> Windows:
        """Cut the sequences.

        Raises
        ------
        InputError
            If one is shorter than ``min_bases``, the bases of a token.
        """
        for region in self.regions:
            if len(region) < min_bases:
                raise InputError(
                    f"{region.name or region.contig} has {len(region)} bases, and this model's tokens have "
                    f"{min_bases}. Leave it out.",
                    self.origin,
                )
        return Windows([len(region) for region in self.regions], window_bp, stride_bp, min_bases)

    def places(self, cuts: Cuts) -> tuple[Integers, Integers]:
        """Give starts and ends of windows on their contigs, 0-based half-open."""
        start, end = np.empty_like(cuts.start), np.empty_like(cuts.end)
        for run in cuts.runs():
            region = self.regions[cuts.sequence[run.start]]
            if region.strand == "-":
                start[run], end[run] = region.end - cuts.end[run], region.end - cuts.start[run]
            else:
                start[run], end[run] = region.start + cuts.start[run], region.start + cuts.end[run]
        return start, end

    def read(self, cuts: Cuts) -> list[Codes]:
        """Read windows in the order of their strand; one request to the file for the neighbours of a sequence."""
        found: list[Codes] = []
        for run in cuts.runs():
            region = self.regions[cuts.sequence[run.start]]
            first, last = int(cuts.start[run].min()), int(cuts.end[run].max())
            if region.strand == "-":
                stretch = revcomp(self.genome.fetch(region.contig, region.end - last, region.end - first))
            else:
                stretch = self.genome.fetch(region.contig, region.start + first, region.start + last)
            ends = (cuts.end[run] - first).tolist()
            found += [stretch[i:j] for i, j in zip((cuts.start[run] - first).tolist(), ends, strict=True)]
        return found

    def facts(self) -> dict[str, Any]:
        """Say which files and places these are: SHA-256 of the files, and the regions that no file names."""
        told: dict[str, Any] = {"source": sha256_file(self.origin)}
        if self.genome.path != self.origin:
            told["fasta"] = sha256_file(self.genome.path)
        elif any(region.name for region in self.regions):
            told["regions"] = [str(region) for region in self.regions]
        return told


@contextmanager
def open_source(source: str | Path, fasta: str | Path | None = None, regions: Sequence[str] = ()) -> Iterator[Source]:
    """Open sequences: the records of a FASTA or 2bit, ``regions`` of it, or with ``fasta`` the intervals of a BED.

    Parameters
    ----------
    regions
        Such as ``chr1:1-1,000`` or ``chr1:1-1,000(-)``: 1-based, inclusive.

    Raises
    ------
    FastaError, AnnotationError
        If a file is missing or wrong, or an interval is not on the genome.
    ConfigError
        If a region is not on the genome.
    """
    origin = Path(source)
    if regions and fasta is not None:
        raise ConfigError("--region names places on the genome that stands first: leave --fasta out")
    if fasta is None and origin.name.endswith((".bed", ".bed.gz")):
        raise AnnotationError("regions need the sequence they are on: name it with --fasta", origin)
    with Reference.open(origin if fasta is None else fasta) as genome:
        if fasta is not None:
            found = read_bed(origin, genome.lengths)
        elif regions:
            found = [_region(text, genome) for text in regions]
        else:
            found = [Interval(name, 0, length) for name, length in genome.lengths.items()]
        yield Source(origin, genome, found)


def _region(text: str, genome: Reference) -> Interval:
    place = Interval.parse(text)
    if place.contig not in genome.lengths:
        raise ConfigError(
            f"region {text}: {genome.path} has no contig {place.contig!r}; there are, for example, "
            f"{some_names(genome.lengths)}"
        )
    if place.end > genome.lengths[place.contig]:
        raise ConfigError(
            f"region {text}: contig {place.contig!r} of {genome.path} has {genome.lengths[place.contig]:,} bases"
        )
    return Interval(place.contig, place.start, place.end, place.strand, str(place))
