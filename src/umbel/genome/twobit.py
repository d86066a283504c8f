"""Read the 2bit format of UCSC: four bases a byte, with runs of N and of soft mask beside them."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from umbel.errors import FastaError
from umbel.genome.piece import FastaPiece
from umbel.genome.runs import Runs, fill
from umbel.genome.sequence import A, C, Codes, G, Mask, N, T

_MAGIC = 0x1A412743
_ORDER_OF_MAGIC = {_MAGIC.to_bytes(4, "little"): "<", _MAGIC.to_bytes(4, "big"): ">"}
_BLOCK_BYTES = 1 << 20


def _byte_table() -> npt.NDArray[np.uint32]:
    """For each byte the codes of its four bases, the first in the highest bits, as the bytes of one number."""
    code_of_bits = np.array([T, C, A, G], np.uint8)
    byte = np.arange(256)
    return np.stack([code_of_bits[byte >> shift & 3] for shift in (6, 4, 2, 0)], axis=1).view(np.uint32).ravel()


_CODES_OF_BYTE = _byte_table()


def is_twobit(path: str | Path) -> bool:
    """Whether a file begins with the magic number of 2bit, in either byte order; False if it cannot be read."""
    try:
        with open(path, "rb") as handle:
            return handle.read(4) in _ORDER_OF_MAGIC
    except OSError:
        return False


@dataclass(frozen=True)
class _Record:
    """Where the bases of a contig are, and which of them are N or soft-masked: int64 ``(n, 2)`` of start and end."""

    length: int
    n_runs: Runs
    soft_runs: Runs
    offset: int


def read_twobit(
    path: str | Path, piece_bp: int = 1 << 24, on_bytes: Callable[[int], None] | None = None
) -> Iterator[FastaPiece]:
    """Yield the contigs of a 2bit file (version 0, either byte order) in the order of its index, in pieces.

    What is N in the file is counted as ``N``: the format does not keep other ambiguity letters.

    Parameters
    ----------
    path
        The file.
    piece_bp
        Bases of every piece but the last of a contig.
    on_bytes
        Told how many more bytes of the file were used up; in all, its size.

    Raises
    ------
    FastaError
        Naming the contig: truncated, another version, a contig without bases or two of one name, or runs of N or of
        mask that are not sorted or not inside the contig.

    References
    ----------
    UCSC Genome Browser, "Data File Formats: .2bit format".
    """
    told = 0
    try:
        with open(path, "rb") as handle:
            reader = _Reader(path, handle)
            for name, offset in reader.index():
                record = reader.record(name, offset)
                for start in range(0, record.length, piece_bp):
                    end = min(start + piece_bp, record.length)
                    codes, soft_mask, n_unknown = reader.stretch(record, start, end)
                    letters = {"N": n_unknown} if n_unknown else {}
                    yield FastaPiece(name, start, codes, soft_mask, letters, 0, end == record.length)
                    if on_bytes:
                        on_bytes(-(-(end - start) // 4))
                        told += -(-(end - start) // 4)
            if on_bytes:
                on_bytes(reader.size - told)
    except OSError as error:
        raise FastaError(f"cannot be read: {error.strerror or error}.", path) from error


class TwoBit:
    """A 2bit file read at any place; what stands before the bases of the contig read last is kept.

    Attributes
    ----------
    lengths
        Bases of each contig, in the order of the index.

    Raises
    ------
    FastaError
        As :func:`read_twobit`.
    """

    def __init__(self, path: str | Path):
        self._handle = open(path, "rb")  # noqa: SIM115 - closed by close()
        try:
            self._reader = _Reader(path, self._handle)
            self._offsets = dict(self._reader.index())
            self.lengths = {name: self._reader.length(name, offset) for name, offset in self._offsets.items()}
        except BaseException:
            self._handle.close()
            raise
        self._known: tuple[str, _Record] | None = None

    def read(self, contig: str, start: int, end: int) -> tuple[Codes, Mask]:
        """Read bases ``start`` to ``end``, which must be inside the contig, and their soft mask."""
        if self._known is None or self._known[0] != contig:
            self._known = contig, self._reader.record(contig, self._offsets[contig])
        record = self._known[1]
        codes, soft_mask, _ = self._reader.stretch(record, start, end)
        return codes, soft_mask

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


class _Reader:
    """Numbers and bases of a 2bit file, each checked to be inside the file."""

    def __init__(self, path: str | Path, handle: BinaryIO):
        self.path, self.handle = path, handle
        self.size = os.fstat(handle.fileno()).st_size
        self.order = _ORDER_OF_MAGIC[handle.read(4)]

    def refusal(self, problem: str) -> FastaError:
        return FastaError(problem, self.path)

    def take(self, n_bytes: int, where: str) -> bytes:
        """Next bytes; ``where`` is for the message if the file ends before them."""
        if self.handle.tell() + n_bytes > self.size:
            raise self.refusal(f"the 2bit file ends within {where}: it is truncated. Copy or download it again.")
        return self.handle.read(n_bytes)

    def numbers(self, count: int, where: str) -> npt.NDArray[np.int64]:
        """Next 32-bit numbers."""
        return np.frombuffer(self.take(4 * count, where), np.dtype(f"{self.order}u4")).astype(np.int64)

    def index(self) -> list[tuple[str, int]]:
        """Name and offset of each contig."""
        version, n_contigs, _ = self.numbers(3, "its header")
        if version:
            raise self.refusal(f"2bit of version {version} is not read, only 0. Convert it, or give FASTA.")
        if not n_contigs:
            raise self.refusal("the 2bit file holds no contig. Check how it was made.")
        offset_of: dict[str, int] = {}
        for _ in range(n_contigs):
            (n_letters,) = self.take(1, "its index")
            raw = self.take(n_letters, "its index")
            try:
                name = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise self.refusal(f"the name {raw!r} is not UTF-8 text. Rename the contig.") from error
            if not name:
                raise self.refusal("a contig of the 2bit file has no name. Give every contig a name.")
            if name in offset_of:
                raise self.refusal(f"contig {name!r} is there twice. Give every contig its own name.")
            (offset_of[name],) = struct.unpack(f"{self.order}I", self.take(4, "its index"))
        return list(offset_of.items())

    def length(self, name: str, offset: int) -> int:
        """Read how many bases a contig has."""
        where = f"contig {name!r}"
        self.handle.seek(offset)
        length = int(self.numbers(1, where)[0])
        if not length:
            raise self.refusal(f"{where} has no sequence. Remove the record, or complete the file.")
        return length

    def record(self, name: str, offset: int) -> _Record:
        """Read what stands before the bases of a contig."""
        where = f"contig {name!r}"
        length = self.length(name, offset)
        n_runs = self._runs(name, length, "N")
        soft_runs = self._runs(name, length, "soft mask")
        self.take(4, where)
        place = self.handle.tell()
        if place + -(-length // 4) > self.size:
            raise self.refusal(f"the 2bit file ends within {where}: it is truncated. Copy or download it again.")
        return _Record(length, n_runs, soft_runs, place)

    def _runs(self, name: str, length: int, what: str) -> Runs:
        where = f"contig {name!r}"
        n_runs = int(self.numbers(1, where)[0])
        starts = self.numbers(n_runs, where)
        ends = starts + self.numbers(n_runs, where)
        if n_runs and (ends[-1] > length or (ends < starts).any() or (starts[1:] < ends[:-1]).any()):
            raise self.refusal(
                f"the runs of {what} in {where} are not sorted, or go beyond its {length} bases: the file is damaged. "
                "Copy or download it again."
            )
        return np.column_stack((starts, ends))

    def stretch(self, record: _Record, start: int, end: int) -> tuple[Codes, Mask, int]:
        """Codes and soft mask of bases ``start`` to ``end``, and how many of them are N."""
        codes = self.bases(record, start, end)
        n_unknown = fill(codes, record.n_runs, start, np.uint8(N))
        soft_mask: Mask = np.zeros(end - start, bool)
        fill(soft_mask, record.soft_runs, start, np.True_)
        return codes, soft_mask, n_unknown

    def bases(self, record: _Record, start: int, end: int) -> Codes:
        """Codes of bases ``start`` to ``end``, runs of N not yet among them."""
        first, last = start // 4, -(-end // 4)
        self.handle.seek(record.offset + first)
        quads = np.empty(last - first, np.uint32)
        for place in range(0, last - first, _BLOCK_BYTES):
            block = self.handle.read(min(_BLOCK_BYTES, last - first - place))
            quads[place : place + len(block)] = _CODES_OF_BYTE[np.frombuffer(block, np.uint8)]
        return quads.view(np.uint8)[start - 4 * first : end - 4 * first]
