"""How good an assembly is: lengths, gaps, composition, counted piece by piece."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from umbel.genome.piece import FastaPiece
from umbel.genome.sequence import C, G, N

GAP_BP = 10
"""A run of at least so many N divides a scaffold into contigs, in the sense of N50."""


@dataclass(frozen=True)
class AssemblyStatistics:
    """Facts of one assembly; a share of nothing is 0.

    Scaffolds are the records of the FASTA as they stand. Contigs, in the two ``contig_...`` values alone, are what is
    left of them between gaps: runs of at least 10 bases that are not A, C, G or T.

    References
    ----------
    N50: Earl et al. 2011, "Assemblathon 1", doi:10.1101/gr.126599.111. auN: Li 2020, "auN: a new metric
    to measure assembly contiguity".
    """

    n_bases: int
    """All letters, N among them."""
    n_contigs: int
    """Records of the FASTA."""
    scaffold_n50: int
    """Largest length such that the scaffolds at least so long have half of all bases of scaffolds."""
    contig_n50: int
    """The same of contigs; 0 if there is none."""
    scaffold_aun: float
    """Area under the Nx curve of scaffolds, sum of L^2 / sum of L: what a random base's scaffold measures."""
    contig_aun: float
    """The same of contigs."""
    n_frac: float
    """Share of N, and of what became N, in all bases."""
    gc_frac: float
    """(G + C) / (A + C + G + T)."""
    soft_masked_frac: float
    """Share of lower-case letters in all bases."""
    n_gaps: int
    """Runs of at least 10 N."""


class StatisticsBuilder:
    r"""Counts that grow by the pieces of a FASTA, in their order; memory holds the lengths and one piece.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from umbel.genome.fasta import read_pieces
    >>> source = Path(tempfile.mkdtemp()) / "a.fa"
    >>> _ = source.write_text(">c\n" + "G" * 30 + "N" * 10 + "a" * 60 + "\n")
    >>> builder = StatisticsBuilder()
    >>> for piece in read_pieces(source, 32):
    ...     builder.add(piece)
    >>> found = builder.result()
    >>> found.scaffold_n50, found.contig_n50, found.n_gaps, found.soft_masked_frac
    (100, 60, 1, 0.6)
    """

    def __init__(self) -> None:
        self._scaffolds, self._contigs = array("q"), array("q")
        self._n_unknown = self._n_gc = self._n_soft = self._n_gaps = 0
        # Of the scaffold that is being read: where its contig began, and its run of N if it is in one.
        self._contig_start = 0
        self._run_start: int | None = None

    def add(self, piece: FastaPiece) -> None:
        """Count one piece."""
        codes = piece.codes
        self._n_unknown += sum(piece.letters.values())
        self._n_gc += int(np.count_nonzero(codes == C)) + int(np.count_nonzero(codes == G))
        self._n_soft += int(np.count_nonzero(piece.soft_mask))
        gaps = self._runs(piece)
        gaps = gaps[gaps[:, 1] - gaps[:, 0] >= GAP_BP]
        self._n_gaps += len(gaps)
        ends = gaps[:, 0]
        if len(gaps):
            starts = np.append(self._contig_start, gaps[:-1, 1])
            self._contigs.extend((ends - starts)[ends > starts].tolist())
            self._contig_start = int(gaps[-1, 1])
        if piece.is_last:
            if piece.end > self._contig_start:
                self._contigs.append(piece.end - self._contig_start)
            self._scaffolds.append(piece.end)
            self._contig_start = 0

    def _runs(self, piece: FastaPiece) -> npt.NDArray[np.int64]:
        """Start and end in the scaffold of the runs of N that end in this piece, or with it if it is the last."""
        if not piece.letters and self._run_start is None:
            return np.empty((0, 2), np.int64)
        is_n = piece.codes == N
        changes = np.flatnonzero(is_n[1:] != is_n[:-1]) + 1 + piece.start
        if (self._run_start is not None) != is_n[0]:
            changes = np.append(piece.start, changes)
        if self._run_start is not None:
            changes = np.append(self._run_start, changes)
        self._run_start = None
        if len(changes) % 2:
            if piece.is_last:
                changes = np.append(changes, piece.end)
            else:
                self._run_start = int(changes[-1])
                changes = changes[:-1]
        return changes.reshape(-1, 2)

    def result(self) -> AssemblyStatistics:
        """Facts of all scaffolds that were added whole."""
        scaffolds, contigs = (np.sort(np.array(lengths, np.int64)) for lengths in (self._scaffolds, self._contigs))
        n_bases = int(scaffolds.sum())
        n_known = n_bases - self._n_unknown
        return AssemblyStatistics(
            n_bases=n_bases,
            n_contigs=len(scaffolds),
            scaffold_n50=_n50(scaffolds),
            contig_n50=_n50(contigs),
            scaffold_aun=_aun(scaffolds),
            contig_aun=_aun(contigs),
            n_frac=self._n_unknown / max(n_bases, 1),
            gc_frac=self._n_gc / max(n_known, 1),
            soft_masked_frac=self._n_soft / max(n_bases, 1),
            n_gaps=self._n_gaps,
        )


def _n50(lengths: npt.NDArray[np.int64]) -> int:
    """N50 of sorted lengths."""
    if not len(lengths):
        return 0
    from_longest = lengths[::-1].cumsum()
    return int(lengths[::-1][np.searchsorted(2 * from_longest, from_longest[-1])])


def _aun(lengths: npt.NDArray[np.int64]) -> float:
    # As real numbers, because squares of chromosomes add up beyond 64 bits.
    return float((lengths.astype(float) ** 2).sum() / max(int(lengths.sum()), 1))
