"""The packed bases of an assembly, read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit

from umbel.data.corpus.executors import Advance, silent
from umbel.errors import CorpusError
from umbel.genome.sequence import Codes

PIECE_BP = 1 << 21
"""Bases of a piece, as most of what reads them takes it."""


@dataclass(frozen=True)
class PackedAssembly:
    """Where the packed contigs of an assembly are; see docs/spec/corpus-format.md.

    Examples
    --------
    >>> import tempfile
    >>> from umbel.genome.sequence import encode, pack
    >>> path = Path(tempfile.mkdtemp()) / "a.nibbles"
    >>> _ = path.write_bytes(pack(*encode(b"ACGtN")[:2]).tobytes() + pack(*encode(b"GGT")[:2]).tobytes())
    >>> assembly = PackedAssembly("a", path, ((5, 0), (3, 3)))
    >>> [(contig, start, piece.tolist()) for contig, start, piece in assembly.pieces(4, 1)]
    [(0, 0, [0, 1, 2, 11, 4]), (0, 4, [4]), (1, 0, [2, 2, 3])]
    """

    name: str
    path: Path
    contigs: tuple[tuple[int, int], ...]
    """Length in bases and first byte of each contig, in the order of the file."""
    content: str = ""
    """Identifies the sequence, whatever its soft mask is."""

    @property
    def n_bases(self) -> int:
        """Length of all contigs together."""
        return sum(length for length, _ in self.contigs)

    def pieces(
        self, piece_bp: int, overlap_bp: int = 0, least_bp: int = 1, advance: Advance = silent
    ) -> Iterator[tuple[int, int, Codes]]:
        """Yield (contig, start, nibbles) of stretches that begin every ``piece_bp`` bases of each contig.

        Each has up to ``overlap_bp`` bases more than that, which the next one has too. What would begin less than
        ``least_bp`` before the end of a contig comes with the stretch before. A nibble is ``code | soft << 3``.
        ``advance`` is told the bases of each stretch, those of the next one apart, once it is done with.

        Raises
        ------
        CorpusError
            If the file is not there, or ends before its contigs do.
        """
        for contig in range(len(self.contigs)):
            for start, nibbles in self.contig_pieces(contig, piece_bp, overlap_bp, least_bp, advance):
                yield contig, start, nibbles

    def contig_pieces(
        self, contig: int, piece_bp: int, overlap_bp: int = 0, least_bp: int = 1, advance: Advance = silent
    ) -> Iterator[tuple[int, Codes]]:
        """Yield (start, nibbles) of one contig, as :meth:`pieces` does of all."""
        length, offset = self.contigs[contig]
        # At least one, however short the contig is.
        n_pieces = max(1, -(-(length - least_bp + 1) // piece_bp))
        try:
            with open(self.path, "rb", buffering=0) as handle:
                for start in range(0, n_pieces * piece_bp, piece_bp):
                    is_last = start == (n_pieces - 1) * piece_bp
                    end = length if is_last else min(length, start + piece_bp + overlap_bp)
                    first = start // 2
                    handle.seek(offset + first)
                    packed = np.fromfile(handle, np.uint8, -(-end // 2) - first)
                    if len(packed) < -(-end // 2) - first:
                        raise CorpusError(f"{self.path}: truncated. Build the corpus again.")
                    yield start, _spread(packed)[start - 2 * first : end - 2 * first]
                    advance(length - start if is_last else piece_bp)
        except OSError as error:
            raise CorpusError(f"{self.path}: cannot be read ({error}). Build the corpus again.") from error


@njit(cache=True, nogil=True)
def _spread(packed):  # type: ignore[no-untyped-def]
    """One nibble a byte, the low one first."""
    nibbles = np.empty(2 * len(packed), np.uint8)
    for i in range(len(packed)):
        nibbles[2 * i], nibbles[2 * i + 1] = packed[i] & 0x0F, packed[i] >> 4
    return nibbles
