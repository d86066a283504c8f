"""A genome read at any place, whatever its size: FASTA or 2bit, without holding it in memory."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import pysam

from umbel.errors import FastaError
from umbel.genome.fasta import read_pieces
from umbel.genome.lines import read_blocks
from umbel.genome.sequence import Codes, Mask, decode, encode, first_refused, pack, unpack
from umbel.genome.twobit import TwoBit, is_twobit

_PIECE_BP = 1 << 24


class _Source(Protocol):
    """Where the bases are; ``read`` may rely on a contig and a range that exist."""

    lengths: dict[str, int]

    def read(self, contig: str, start: int, end: int) -> tuple[Codes, Mask]: ...

    def close(self) -> None: ...


class Reference:
    r"""Any stretch of a genome, as codes and soft mask.

    2bit files, and FASTA that is plain or bgzip, are read where asked; FASTA is indexed first, by the ``.fai`` beside
    it that is newer, else by one that is thrown away afterwards. FASTA in plain gzip, or with lines of
    uneven length, cannot be indexed and is held in memory, half a byte a base.

    Contig names are verbatim; ambiguity letters are N. Use it in a ``with`` block, in one thread at a time.

    Attributes
    ----------
    path
        The file.
    lengths
        Bases of each contig, in the order of the file.

    Examples
    --------
    >>> path = Path(tempfile.mkdtemp()) / "a.fa"
    >>> _ = path.write_text(">chr1 first\nACGTac\nRT\n>chr2\nGG\n")
    >>> with Reference.open(path) as genome:
    ...     genome.lengths, decode(*genome.fetch_masked("chr1", 2, 8)), genome.fetch("chr2", 0, 1).tolist()
    ({'chr1': 8, 'chr2': 2}, 'GTacNT', [2])
    """

    def __init__(self, path: Path, source: _Source):
        self.path = path
        self.lengths = source.lengths
        self._source = source
        self._md5_of: dict[str, str] = {}

    @classmethod
    def open(cls, path: str | Path) -> Reference:
        """Open a genome.

        Raises
        ------
        FastaError
            If the file is missing, empty or damaged, or names a contig twice.
        """
        place = Path(path)
        if is_twobit(place):
            return cls(place, TwoBit(place))
        try:
            return cls(place, _Indexed(place))
        except _NoIndexError:
            return cls(place, _Packed(place))

    def fetch(self, contig: str, start: int, end: int) -> Codes:
        """Read bases ``start`` to ``end`` (0-based half-open) as uint8 codes ``(end - start,)``; A 0 ... N 4.

        Raises
        ------
        KeyError
            If there is no such contig.
        ValueError
            If the range is not inside the contig.
        FastaError
            If a letter there is no nucleotide.
        """
        return self.fetch_masked(contig, start, end)[0]

    def fetch_masked(self, contig: str, start: int, end: int) -> tuple[Codes, Mask]:
        """As :meth:`fetch`, with the soft mask ``(end - start,)``: True where the letter was lower case."""
        if contig not in self.lengths:
            raise KeyError(f"{self.path} has no contig {contig!r}")
        if not 0 <= start <= end <= self.lengths[contig]:
            raise ValueError(f"bases {start} to {end} are not inside {contig!r}, which has {self.lengths[contig]}")
        if start == end:
            return np.zeros(0, np.uint8), np.zeros(0, bool)
        return self._source.read(contig, start, end)

    def contig_md5(self, contig: str) -> str:
        """MD5 of a contig's letters in upper case: SAM's M5 where there is no ambiguity letter but N."""
        if contig in self._md5_of:
            return self._md5_of[contig]
        digest = hashlib.md5(usedforsecurity=False)
        for start in range(0, self.lengths[contig], _PIECE_BP):
            end = min(start + _PIECE_BP, self.lengths[contig])
            digest.update(decode(self.fetch(contig, start, end)).encode("ascii"))
        self._md5_of[contig] = digest.hexdigest()
        return self._md5_of[contig]

    def assembly_md5(self) -> str:
        """MD5 of ``name<TAB>length<TAB>contig_md5`` lines of all contigs, in the order of the file: reads all of it."""
        lines = (f"{name}\t{length}\t{self.contig_md5(name)}\n" for name, length in self.lengths.items())
        return hashlib.md5("".join(lines).encode("utf-8"), usedforsecurity=False).hexdigest()

    def close(self) -> None:
        """Give back what is open."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _NoIndexError(Exception):
    """The file cannot be read at random: it is read through, which also says what is wrong with it, if anything is."""


class _Indexed:
    """FASTA through htslib's index."""

    def __init__(self, path: Path):
        self._path = path
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        place = path
        if not _has_index(path):
            if not path.is_file():
                raise _NoIndexError
            # An index of a link to the file lands beside the link, and nothing is written beside the user's file.
            self._folder = tempfile.TemporaryDirectory(prefix="umbel-")
            place = Path(self._folder.name) / path.name
            place.symlink_to(path.resolve())
        try:
            with silent_htslib():
                self._file = pysam.FastaFile(str(place))
        except (OSError, ValueError) as error:
            self.close()
            raise _NoIndexError from error
        self.lengths = dict(zip(self._file.references, self._file.lengths, strict=True))
        # htslib leaves out a second contig of the same name, and empty ones: reading through tells which.
        if self._folder is not None and (_n_headers(path) != len(self.lengths) or 0 in self.lengths.values()):
            self.close()
            raise _NoIndexError

    def read(self, contig: str, start: int, end: int) -> tuple[Codes, Mask]:
        """Read a range that is inside the contig."""
        try:
            with silent_htslib():
                letters = self._file.fetch(contig, start, end).encode("ascii", "replace")
        except (OSError, ValueError):
            letters = b""
        if len(letters) != end - start:
            raise FastaError(
                f"contig {contig!r} cannot be read up to base {end:,}, which its index tells of: the file is damaged. "
                f"Delete {self._path.name}.fai where there is one, or copy the file again.",
                self._path,
            )
        try:
            codes, soft_mask, _ = encode(letters)
        except ValueError:
            place = first_refused(letters)
            raise FastaError(
                f"{chr(letters[place])!r} at base {start + place + 1:,} of contig {contig!r} is no nucleotide letter. "
                "Give nucleotide FASTA, without gaps, digits or amino acids.",
                self._path,
            ) from None
        return codes, soft_mask

    def close(self) -> None:
        """Close the file, and delete the index if it is ours."""
        if hasattr(self, "_file"):
            self._file.close()
        if self._folder is not None:
            self._folder.cleanup()


class _Packed:
    """FASTA that has to be read through: held in four bits a base."""

    def __init__(self, path: Path):
        parts: dict[str, list[Codes]] = {}
        self.lengths: dict[str, int] = {}
        for piece in read_pieces(path, _PIECE_BP):
            parts.setdefault(piece.name, []).append(pack(piece.codes, piece.soft_mask))
            self.lengths[piece.name] = piece.end
        # All pieces but the last have an even number of bases, so that their bytes follow one another.
        self._packed = {name: np.concatenate(parts.pop(name)) for name in list(parts)}

    def read(self, contig: str, start: int, end: int) -> tuple[Codes, Mask]:
        """Read a range that is inside the contig."""
        return unpack(self._packed[contig], start, end)

    def close(self) -> None:
        """Let go of the bases."""
        self._packed.clear()


@contextmanager
def silent_htslib() -> Iterator[None]:
    """Keep htslib from printing what is raised anyway."""
    said = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(said)


def _has_index(path: Path) -> bool:
    """Whether htslib finds an index beside the file that was made after it."""
    beside = [path.with_name(path.name + ".fai")]
    if path.is_file() and _is_gzip(path):
        beside.append(path.with_name(path.name + ".gzi"))
    return path.is_file() and all(
        index.is_file() and index.stat().st_mtime_ns >= path.stat().st_mtime_ns for index in beside
    )


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(2) == b"\x1f\x8b"


def _n_headers(path: Path) -> int:
    count, before = 0, b"\n"
    for block in read_blocks(path, FastaError):
        count += block.count(b"\n>") + (before == b"\n" and block.startswith(b">"))
        before = block[-1:]
    return count
