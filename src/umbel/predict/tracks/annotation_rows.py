"""The part of a GFF3 file that lies in some places, sorted: what a page shows beside its tracks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from umbel.errors import AnnotationError
from umbel.genome.annotation import gff3_rows, require_inside, some_names
from umbel.genome.lines import read_lines
from umbel.genome.runs import Runs, as_runs, merge


def annotation_lines(path: str | Path, places: Mapping[str, Runs], lengths: Mapping[str, int]) -> list[str]:
    """Give the feature lines in some places, by contig and start; with the rest of every gene that reaches in.

    Contig names are as in the genome, not escaped.

    Parameters
    ----------
    path
        GFF3, plain, gzip or bgzip.
    places
        Contig to merged runs of bases, ``(n, 2)``.
    lengths
        Contig to length.

    Raises
    ------
    AnnotationError
        With the line: a row that is not GFF3, or a feature beyond the end of its contig; or no feature on any of the
        contigs.
    """
    rows = []
    for _, row in gff3_rows(path):
        if row.contig in places:
            require_inside(row, lengths[row.contig], path)
            rows.append(row)
    if not rows:
        raise AnnotationError(f"no feature lies on the contigs that were scanned ({some_names(places)}).", path)
    contig_of = {contig: number for number, contig in enumerate(places)}
    table = np.array([(contig_of[row.contig], row.start, row.end) for row in rows], np.int64)
    kept = np.zeros(len(rows), bool)
    for contig, number in contig_of.items():
        mine = table[:, 0] == number
        first = mine & _overlapping(table, places[contig])
        reached = merge(np.concatenate([places[contig], as_runs(table[first, 1:].tolist())]))
        kept |= mine & _overlapping(table, reached)
    chosen = {rows[i].line: i for i in np.flatnonzero(kept).tolist()}
    lines = {
        chosen[number]: line.decode("utf-8", "replace").rstrip("\r\n")
        for number, line in read_lines(path, AnnotationError)
        if number in chosen
    }
    # Stable: a gene stays before its parts.
    order = sorted(lines, key=lambda i: (int(table[i, 0]), int(table[i, 1]), -int(table[i, 2]), i))
    return [f"{rows[i].contig}\t{lines[i].split(chr(9), 1)[1]}" for i in order]


def _overlapping(table: np.ndarray, runs: Runs) -> np.ndarray:
    """Tell which rows of contig, start and end share a base with merged runs."""
    if not len(runs):
        return np.zeros(len(table), bool)
    after = np.minimum(np.searchsorted(runs[:, 1], table[:, 1], side="right"), len(runs) - 1)
    return (runs[after, 0] < table[:, 2]) & (runs[after, 1] > table[:, 1])
