"""Which parts of a genome are scanned: all of it, some contigs, or the regions of a BED file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from umbel.errors import ConfigError
from umbel.genome.annotation import bed_rows, read_bed, some_names
from umbel.genome.runs import Runs, as_runs, merge

Places = dict[str, Runs]
"""Contig to merged runs of bases, ``(n, 2)``, in the order of the genome; contigs without any are left out."""


def chosen_places(lengths: Mapping[str, int], regions: str | Path | None = None, contigs: Sequence[str] = ()) -> Places:
    """Give the bases to scan.

    Parameters
    ----------
    lengths
        Contig to length, of the genome.
    regions
        BED file; only its intervals are scanned.
    contigs
        Only these contigs are scanned.

    Raises
    ------
    ConfigError
        If a contig is not in the genome, or nothing is left.
    AnnotationError
        If the BED file is wrong, or an interval is not inside a contig.

    Examples
    --------
    >>> {contig: runs.tolist() for contig, runs in chosen_places({"a": 9, "b": 5}, contigs=["b"]).items()}
    {'b': [[0, 5]]}
    """
    for contig in contigs:
        if contig not in lengths:
            raise ConfigError(f"no contig {contig!r} in the genome; there are, for example, {some_names(lengths)}")
    allowed = set(contigs) or set(lengths)
    if regions is None:
        return {contig: as_runs([(0, length)]) for contig, length in lengths.items() if contig in allowed}
    read_bed(regions, lengths)
    found: dict[str, list[tuple[int, int]]] = {}
    for row in bed_rows(regions, lengths):
        if row.contig in allowed:
            found.setdefault(row.contig, []).append((row.start, row.end))
    if not found:
        raise ConfigError(f"no interval of {regions} lies on {', '.join(contigs)}")
    return {contig: merge(as_runs(found[contig])) for contig in lengths if contig in found}


def n_bases(places: Places) -> int:
    """Count the bases of places."""
    return int(sum(np.diff(runs, axis=1).sum() for runs in places.values()))
