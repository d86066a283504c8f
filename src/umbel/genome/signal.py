"""A number for every base, read where asked: bigWig, or bedGraph."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from umbel.errors import AnnotationError
from umbel.extras import require_packages
from umbel.genome.annotation import some_names
from umbel.genome.lines import read_lines

Values = npt.NDArray[np.float64]

# First bytes of a bigWig file, in either byte order (Kent et al. 2010).
_BIGWIG = (b"\x26\xfc\x8f\x88", b"\x88\x8f\xfc\x26")


class Signal(Protocol):
    """Numbers along a genome."""

    @property
    def lengths(self) -> Mapping[str, int]:
        """Contigs that have values, with their length in bases; 0 where the file does not tell it."""

    def values(self, contig: str, start: int, end: int) -> Values:
        """Give the value of each base: float64 ``(end - start,)``, NaN where there is none."""

    def close(self) -> None:
        """Give back what is open."""


def open_signal(path: str | Path, contig_lengths: Mapping[str, int]) -> Signal:
    r"""Open a bigWig or bedGraph file (this plain, gzip or bgzip), told by its content.

    Parameters
    ----------
    path
        The file.
    contig_lengths
        Name to length in bases, of the FASTA that the file belongs to.

    Raises
    ------
    AnnotationError
        With the line: no such file, another format, values that overlap or are no numbers; no contig in common with
        the FASTA; or a contig of another length.
    BackendError
        If it is bigWig and pyBigWig is not installed.

    References
    ----------
    Kent et al. 2010, "BigWig and BigBed", doi:10.1093/bioinformatics/btq351.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.bedgraph"
    >>> _ = source.write_text("chr1\t2\t4\t0.5\n")
    >>> open_signal(source, {"chr1": 9}).values("chr1", 1, 5).tolist()
    [nan, 0.5, 0.5, nan]
    """
    is_bigwig = _first_bytes(path) in _BIGWIG
    signal: Signal = _BigWig(path) if is_bigwig else _BedGraph(path, contig_lengths)
    shared = [contig for contig in signal.lengths if contig in contig_lengths]
    if not shared:
        raise AnnotationError(
            f"none of its contigs ({some_names(signal.lengths)}) is in the FASTA ({some_names(contig_lengths)}). "
            "Rename the contigs of one of the two files, or give the file of this assembly.",
            path,
        )
    for contig in shared:
        if signal.lengths[contig] not in (0, contig_lengths[contig]):
            raise AnnotationError(
                f"contig {contig!r} has {signal.lengths[contig]:,} bases here and {contig_lengths[contig]:,} in the "
                "FASTA: the file is of another assembly. Give the one of this assembly.",
                path,
            )
    return signal


def _first_bytes(path: str | Path) -> bytes:
    try:
        with open(path, "rb") as handle:
            return handle.read(4)
    except OSError as error:
        raise AnnotationError(f"cannot be read: {error.strerror or error}. Check the path.", path) from error


class _BigWig:
    """Values of a bigWig file, through its index."""

    def __init__(self, path: str | Path):
        require_packages("a bigWig file", "tracks", ("pyBigWig",))
        import pyBigWig

        try:
            self._file: Any = pyBigWig.open(str(path))
            self.lengths: dict[str, int] = dict(self._file.chroms())
        except RuntimeError as error:
            raise AnnotationError("the bigWig file is damaged. Copy or download it again.", path) from error

    def values(self, contig: str, start: int, end: int) -> Values:
        if contig not in self.lengths or end <= start:
            return np.full(end - start, np.nan)
        return np.asarray(self._file.values(contig, start, end, numpy=True), np.float64)

    def close(self) -> None:
        self._file.close()


class _BedGraph:
    """Values of a bedGraph file, held as runs."""

    def __init__(self, path: str | Path, contig_lengths: Mapping[str, int]):
        flat: dict[str, array[float]] = {}
        for number, line in read_lines(path, AnnotationError):
            words = line.decode("utf-8", "replace").split()
            if not words or words[0].startswith("#") or words[0] in ("track", "browser"):
                continue
            if len(words) != 4 or words[0] in ("fixedStep", "variableStep"):
                raise AnnotationError(
                    "bedGraph has four columns: contig, start, end and value. Convert other files to bigWig.",
                    path,
                    number,
                )
            contig = words[0]
            try:
                start, end, value = int(words[1]), int(words[2]), float(words[3])
            except ValueError:
                raise AnnotationError(
                    f"start {words[1]!r}, end {words[2]!r} and value {words[3]!r} must be numbers.", path, number
                ) from None
            if not 0 <= start < end <= contig_lengths.get(contig, end):
                raise AnnotationError(
                    f"start {start} and end {end} do not lie inside contig {contig!r} of {contig_lengths[contig]:,} "
                    "bases. Does the file belong to this assembly?"
                    if contig in contig_lengths
                    else f"start {start} and end {end} do not bound at least one base.",
                    path,
                    number,
                )
            # Line numbers come along until the order is known, to tell where two overlap.
            flat.setdefault(contig, array("d")).extend((start, end, value, number))
        if not flat:
            raise AnnotationError("the file holds no value. Leave it out, or check how it was made.", path)
        self.lengths = dict.fromkeys(flat, 0)
        self._runs: dict[str, Values] = {}
        for contig, rows in flat.items():
            table = np.array(rows).reshape(-1, 4)
            table = table[np.argsort(table[:, 0], kind="stable")]
            overlaps = np.flatnonzero(table[1:, 0] < table[:-1, 1])
            if len(overlaps):
                first, second = sorted((int(table[overlaps[0], 3]), int(table[overlaps[0] + 1, 3])))
                raise AnnotationError(
                    f"its bases have a value in line {first} already. Give each base one value.", path, second
                )
            self._runs[contig] = table[:, :3]

    def values(self, contig: str, start: int, end: int) -> Values:
        found = np.full(end - start, np.nan)
        if contig not in self._runs:
            return found
        runs = self._runs[contig]
        first = int(np.searchsorted(runs[:, 1], start, side="right"))
        last = int(np.searchsorted(runs[:, 0], end, side="left"))
        for run_start, run_end, value in runs[first:last].tolist():
            found[max(int(run_start) - start, 0) : int(run_end) - start] = value
        return found

    def close(self) -> None:
        self._runs.clear()
