"""Write 2bit: a genome at a quarter of a byte a base, of which only some places may be known."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from umbel.errors import ConfigError
from umbel.genome.reference import Reference
from umbel.genome.runs import Runs, as_runs, merge, runs_where, subtract
from umbel.genome.sequence import Codes, N

_PIECE_BP = 1 << 22
_MAGIC = 0x1A412743
_LAST_OFFSET = 2**32 - 1
# T 0, C 1, A 2, G 3; N takes no bits, and its run tells.
_BITS_OF_CODE = np.array([2, 1, 3, 0, 0], np.uint8)


def twobit_bytes(lengths: Mapping[str, int]) -> int:
    """Size of a 2bit file of these contigs, without their runs of N and of soft mask."""
    return sum(32 + len(name.encode("utf-8")) + -(-length // 4) for name, length in lengths.items())


def write_twobit(path: Path, reference: Reference, places: Mapping[str, Runs]) -> None:
    r"""Write the contigs of ``places`` in full length; what lies outside the places is N.

    Parameters
    ----------
    path
        Where it is written, under this very name.
    reference
        The genome.
    places
        Contig to merged runs of bases, ``(n, 2)``.

    Raises
    ------
    ConfigError
        If the file would be longer than the 4 GiB that the format can address, or a name than 255 bytes.

    References
    ----------
    UCSC Genome Browser, "Data File Formats: .2bit format".

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.fa").write_text(">chr1\nACGTacgtNN\n")
    >>> with Reference.open(folder / "a.fa") as genome:
    ...     write_twobit(folder / "a.2bit", genome, {"chr1": as_runs([(2, 9)])})
    >>> with Reference.open(folder / "a.2bit") as genome:
    ...     genome.fetch("chr1", 0, 10).tolist()
    [4, 4, 2, 3, 0, 1, 2, 3, 4, 4]
    """
    if twobit_bytes({contig: reference.lengths[contig] for contig in places}) > _LAST_OFFSET:
        raise ConfigError("a 2bit file addresses 4 GiB, and these contigs need more")
    names = {contig: contig.encode("utf-8") for contig in places}
    with path.open("wb") as handle:
        handle.write(struct.pack("<4I", _MAGIC, 0, len(places), 0))
        offsets = {}
        for contig, name in names.items():
            if len(name) > 255:
                raise ConfigError(f"contig {contig!r}: 2bit has names of up to 255 bytes")
            handle.write(struct.pack("B", len(name)) + name)
            offsets[contig] = handle.tell()
            handle.write(bytes(4))
        for contig, runs in places.items():
            start = handle.tell()
            if start > _LAST_OFFSET:
                raise ConfigError("a 2bit file addresses 4 GiB, and these contigs need more")
            handle.seek(offsets[contig])
            handle.write(struct.pack("<I", start))
            handle.seek(start)
            _write_contig(handle, reference, contig, runs)


def _write_contig(handle: BinaryIO, reference: Reference, contig: str, runs: Runs) -> None:
    length = reference.lengths[contig]
    unknown, soft = [subtract(as_runs([(0, length)]), runs)], [as_runs([])]
    for start, end in _pieces(runs):
        codes, mask = reference.fetch_masked(contig, start, end)
        unknown.append(runs_where(codes == N, start))
        soft.append(runs_where(mask, start))
    handle.write(struct.pack("<I", length))
    for found in (unknown, soft):
        merged = merge(np.concatenate(found))
        handle.write(struct.pack("<I", len(merged)))
        handle.write(merged[:, 0].astype("<u4").tobytes() + (merged[:, 1] - merged[:, 0]).astype("<u4").tobytes())
    handle.write(bytes(4))
    begin = handle.tell()
    handle.truncate(begin + -(-length // 4))
    for start, end in _pieces(_whole_bytes(runs, length)):
        handle.seek(begin + start // 4)
        handle.write(_packed(reference.fetch(contig, start, end)).tobytes())
    handle.seek(begin + -(-length // 4))


def _whole_bytes(runs: Runs, length: int) -> Runs:
    """Widen runs to whole bytes of four bases."""
    return merge(np.minimum(np.column_stack((runs[:, 0] // 4, -(-runs[:, 1] // 4))) * 4, length))


def _pieces(runs: Runs) -> Iterator[tuple[int, int]]:
    for start, end in runs.tolist():
        for place in range(start, end, _PIECE_BP):
            yield place, min(place + _PIECE_BP, end)


def _packed(codes: Codes) -> npt.NDArray[np.uint8]:
    bits = np.zeros(-(-len(codes) // 4) * 4, np.uint8)
    bits[: len(codes)] = _BITS_OF_CODE[codes]
    quads = bits.reshape(-1, 4)
    return (quads[:, 0] << 6 | quads[:, 1] << 4 | quads[:, 2] << 2 | quads[:, 3]).astype(np.uint8)
