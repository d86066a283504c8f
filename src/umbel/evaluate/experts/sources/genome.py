"""Labelled stretches of a genome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from umbel.data.labelled.copies import find_copies
from umbel.errors import ConfigError, FastaError
from umbel.evaluate.experts.labels.groups import GroupLabels
from umbel.evaluate.experts.labels.labeller import Labeller, file_facts
from umbel.evaluate.experts.labels.tracks import Track, TrackLabels
from umbel.evaluate.experts.source import Labelling, Stretch
from umbel.evaluate.experts.sources.choosing import choose_stretches
from umbel.evaluate.experts.sources.units import make_units
from umbel.evaluate.experts.statistics.units import effective_units
from umbel.evaluate.experts.totals import MAX_UNITS
from umbel.genome.annotation import read_bed, some_names
from umbel.genome.interval import Interval
from umbel.genome.reference import Reference
from umbel.genome.runs import as_runs, merge
from umbel.genome.sequence import Codes, N

CLUSTER_BP = 1 << 28
"""Of more bases than these the clusters of like stretches are not looked for."""
STRETCH_BP, N_STRETCHES = 65_536, 32


class GenomeSource:
    r"""Stretches of a genome that are evenly spread, with the classes of their bases.

    A unit is a stretch, or several neighbours where there are more than ``max_units``; units never mix classes of
    labellings of contigs. Of labellings with fewer than two classes on the stretches nothing can be said: they are left
    out, and the facts tell it.

    Parameters
    ----------
    fasta
        FASTA or 2bit; or a genome that is open already, which is closed with this.
    labellers
        Of bases, numeric tracks, or of contigs. No two may have one name.
    stretch_bp, n_stretches, seed
        See :func:`~umbel.evaluate.experts.sources.choosing.choose_stretches`; ``n_stretches=0`` takes all.
    contigs
        Those to take stretches from; none named: all.
    regions
        BED file or intervals to take stretches from; strands and names play no part.
    max_units
        At most :data:`~umbel.evaluate.experts.totals.MAX_UNITS`.

    Attributes
    ----------
    labellings, n_units, facts
        See :class:`~umbel.evaluate.experts.source.Source`.
    stretches
        Where they are, in the order of the genome.

    Raises
    ------
    ConfigError
        If a contig is not there, sizes are out of range, or two labellings have one name.
    FastaError
        If no stretch holds enough A, C, G and T.

    Examples
    --------
    >>> import tempfile
    >>> from umbel.evaluate.experts.labels.soft_mask import SoftMaskLabels
    >>> path = Path(tempfile.mkdtemp()) / "a.fa"
    >>> _ = path.write_text(">chr1\nACGTacgtACGT\n")
    >>> genome = Reference.open(path)
    >>> with GenomeSource(genome, [SoftMaskLabels(genome)], stretch_bp=6, n_stretches=0) as source:
    ...     len(source), source.stretch(1).start, source.stretch(1).labels["repeat"].tolist()
    (2, 6, [0, 0, 1, 1, 1, 1])
    """

    def __init__(
        self,
        fasta: str | Path | Reference,
        labellers: Sequence[Labeller | Track | GroupLabels],
        *,
        stretch_bp: int = STRETCH_BP,
        n_stretches: int = N_STRETCHES,
        seed: int = 0,
        contigs: Sequence[str] = (),
        regions: str | Path | Sequence[Interval] | None = None,
        max_units: int = MAX_UNITS,
    ):
        self._genome = fasta if isinstance(fasta, Reference) else Reference.open(fasta)
        self._closed_with: list[TrackLabels] = []
        try:
            self._build(labellers, stretch_bp, n_stretches, seed, contigs, regions, max_units)
        except BaseException:
            self.close()
            raise

    def _build(
        self,
        labellers: Sequence[Labeller | Track | GroupLabels],
        stretch_bp: int,
        n_stretches: int,
        seed: int,
        contigs: Sequence[str],
        regions: str | Path | Sequence[Interval] | None,
        max_units: int,
    ) -> None:
        """Choose the stretches, look at all of them once, and tell what there is."""
        if stretch_bp < 1 or n_stretches < 0 or not 1 <= max_units <= MAX_UNITS:
            raise ConfigError(
                f"stretch_bp is {stretch_bp}, n_stretches {n_stretches} and max_units {max_units}: give at least 1 "
                f"base, 0 (all) or more stretches, and 1 to {MAX_UNITS} units"
            )
        within = _regions(self._genome, contigs, regions)
        chosen = choose_stretches(within, stretch_bp, n_stretches, seed, self._acgt)
        self.stretches = chosen.stretches
        if not self.stretches:
            raise FastaError(
                f"none of {chosen.n_candidates:,} stretches of {stretch_bp:,} bases holds enough A, C, G and T. "
                "Choose other contigs or regions.",
                self._genome.path,
            )
        fitted: list[Labeller | GroupLabels] = [
            each.fit(self.stretches) if isinstance(each, Track) else each for each in labellers
        ]
        self._closed_with = [each for each in fitted if isinstance(each, TrackLabels)]
        _require_names([each.labelling.name for each in fitted])
        of_bases = [each for each in fitted if not isinstance(each, GroupLabels)]
        of_contigs = [each for each in fitted if isinstance(each, GroupLabels)]
        n_acgt, counts, codes = self._count(of_bases)
        for each in of_contigs:
            classes = [each.class_of(stretch.contig) for stretch in self.stretches]
            counts[each.labelling.name] = _counted(np.array(classes), len(each.labelling.classes))
        kept = {name for name, found in counts.items() if np.count_nonzero(found[:-1]) >= 2}
        self._of_bases = [each for each in of_bases if each.labelling.name in kept]
        self._of_contigs = [each for each in of_contigs if each.labelling.name in kept]
        both: list[Labeller | GroupLabels] = [*self._of_bases, *self._of_contigs]
        self.labellings: tuple[Labelling, ...] = tuple(each.labelling for each in both)
        kinds = [tuple(each.class_of(stretch.contig) for each in self._of_contigs) for stretch in self.stretches]
        units = make_units(np.arange(len(self.stretches)), kinds, max_units)
        self._units, self.n_units = units.of_stretch, units.n_units
        left_out = {
            each.labelling.name: _reason(each.labelling, counts[each.labelling.name])
            for each in fitted
            if each.labelling.name not in kept
        }
        self.facts: dict[str, Any] = {
            "kind": "genome",
            "genome": file_facts(self._genome.path),
            "stretch_bp": stretch_bp,
            "n_stretches": len(self.stretches),
            "n_stretches_wanted": n_stretches,
            "n_candidates": chosen.n_candidates,
            "n_without_acgt": chosen.n_poor,
            "seed": seed,
            "contigs": list(dict.fromkeys(stretch.contig for stretch in self.stretches)),
            "regions": file_facts(regions) if isinstance(regions, str | Path) else None,
            "n_bases": n_acgt,
            "class_counts": {
                each.labelling.name: _named(each.labelling, counts[each.labelling.name]) for each in fitted
            },
            "labellings": {each.labelling.name: each.labelling.facts for each in fitted},
            "left_out": left_out,
            "n_units": self.n_units,
            "unit": "neighbouring stretches" if units.is_joined else "stretch",
            **_clusters(codes),
            "notes": _notes(fitted, left_out, len(self.stretches), n_stretches, chosen.n_poor),
        }

    def __len__(self) -> int:
        return len(self.stretches)

    def stretch(self, i: int) -> Stretch:
        """Read the ith, in the order of the genome."""
        place = self.stretches[i]
        return Stretch(
            place.contig,
            place.start,
            self._genome.fetch(place.contig, place.start, place.end),
            int(self._units[i]),
            {each.labelling.name: each.labels(place.contig, place.start, place.end) for each in self._of_bases},
            {each.labelling.name: each.class_of(place.contig) for each in self._of_contigs},
        )

    def close(self) -> None:
        """Close the genome, and the tracks."""
        self._genome.close()
        for track in self._closed_with:
            track.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _acgt(self, place: Interval) -> float:
        return float(np.mean(self._genome.fetch(place.contig, place.start, place.end) < N))

    def _count(self, labellers: Sequence[Labeller]) -> tuple[int, dict[str, Any], list[Codes]]:
        """Count A, C, G and T by class, the last being none; and keep the bases, if they are few."""
        counts = {each.labelling.name: np.zeros(len(each.labelling.classes) + 1, np.int64) for each in labellers}
        is_few = sum(len(place) for place in self.stretches) <= CLUSTER_BP
        n_acgt, kept = 0, []
        for place in self.stretches:
            codes = self._genome.fetch(place.contig, place.start, place.end)
            known = codes < N
            n_acgt += int(np.count_nonzero(known))
            for each in labellers:
                labels = each.labels(place.contig, place.start, place.end)
                counts[each.labelling.name] += _counted(labels[known], len(each.labelling.classes))
            if is_few:
                kept.append(codes)
        return n_acgt, counts, kept


def _regions(
    genome: Reference, contigs: Sequence[str], regions: str | Path | Sequence[Interval] | None
) -> list[Interval]:
    """Give what stretches may be taken from, in the order of the genome."""
    for contig in contigs:
        if contig not in genome.lengths:
            raise ConfigError(f"contig {contig!r} is not in {genome.path.name}, which has {some_names(genome.lengths)}")
    wanted = set(contigs or genome.lengths)
    if regions is None:
        return [Interval(name, 0, length) for name, length in genome.lengths.items() if name in wanted and length]
    intervals = read_bed(regions, genome.lengths) if isinstance(regions, str | Path) else regions
    of_contig: dict[str, list[tuple[int, int]]] = {}
    for each in intervals:
        if each.contig not in genome.lengths or each.end > genome.lengths[each.contig]:
            raise ConfigError(f"region {each} is not in {genome.path.name}, which has {some_names(genome.lengths)}")
        of_contig.setdefault(each.contig, []).append((each.start, each.end))
    found = [
        Interval(name, start, end)
        for name in genome.lengths
        if name in wanted and name in of_contig
        for start, end in merge(as_runs(of_contig[name])).tolist()
    ]
    if not found:
        raise ConfigError("no region is on the contigs that were named: name others, or leave one of the two out")
    return found


def _require_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two labellings are named {name!r}: give one of them another name")


def _counted(labels: Any, n_classes: int) -> Any:
    """Count classes, and what has none in the last place."""
    return np.bincount(np.where(labels < 0, n_classes, labels), minlength=n_classes + 1)


def _named(labelling: Labelling, counts: Any) -> dict[str, int]:
    return dict(zip((*labelling.classes, "none"), counts.tolist(), strict=True))


def _reason(labelling: Labelling, counts: Any) -> str:
    present = [name for name, n in zip(labelling.classes, counts, strict=False) if n]
    what = "stretches" if labelling.level == "sequence" else "bases"
    if not present:
        return f"no class has any {what} here"
    return f"of its classes only {present[0]!r} has {what} here"


def _clusters(codes: list[Codes]) -> dict[str, Any]:
    """Tell how many clusters of like stretches there are; nothing where there are too many bases."""
    if not codes:
        return {"n_clusters": None, "effective_clusters": None}
    group = find_copies([codes]).group
    sizes = np.bincount(group, [len(one) for one in codes])
    return {
        "n_clusters": len(np.unique(group)),
        "effective_clusters": effective_units(np.asarray(sizes)),
    }


def _notes(
    labellers: Sequence[Any], left_out: Mapping[str, str], n_stretches: int, n_wanted: int, n_poor: int
) -> list[str]:
    told = dict.fromkeys(note for each in labellers for note in each.labelling.facts.get("notes", []))
    notes = [*told, *(f"Labelling {name!r} is left out: {reason}." for name, reason in left_out.items())]
    if n_wanted > n_stretches:
        notes.append(f"{n_wanted:,} stretches were asked for, and there are {n_stretches:,} to choose.")
    if n_poor:
        what = "without any A, C, G and T" if n_wanted == 0 else "with less than half A, C, G and T"
        notes.append(f"{n_poor:,} stretches {what} were passed over.")
    return notes
