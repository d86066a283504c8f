"""Write BED and bedGraph as bgzip with an index: tbi, or csi where contigs are longer than 512 Mb."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from umbel.errors import ConfigError, OutputError

LONGEST_TBI_BP = 2**29
"""What a tbi index reaches; csi has no such end."""
# Okabe and Ito's colours, which differ for any colour vision; black is left out.
_COLOURS = (
    *((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0)),
    (240, 228, 66),
)


class BgzipLines:
    """A bgzip file of lines, indexed when it is closed; in a ``with`` block.

    Parameters
    ----------
    path
        Where it is written, under this very name; ends in ``.gz``.
    lengths
        Contig to length.
    preset
        Where positions stand in a line: ``bed`` or ``gff``.

    Attributes
    ----------
    n_lines
        Lines so far.
    index
        The index beside it, once closed.

    Raises
    ------
    ConfigError
        If a contig's name begins with ``#``: such lines are remarks in BED.
    """

    def __init__(self, path: Path, lengths: Mapping[str, int], preset: Literal["bed", "gff"] = "bed"):
        import pysam

        odd = next((name for name in lengths if name.startswith("#")), None)
        if odd is not None:
            raise ConfigError(f"contig {odd!r}: lines that begin with # are remarks in {preset.upper()}. Rename it")
        self.path, self.n_lines, self._preset = path, 0, preset
        self._csi = max(lengths.values()) > LONGEST_TBI_BP
        self.index = path.with_name(path.name + (".csi" if self._csi else ".tbi"))
        opened: Any = pysam.BGZFile
        self._file = opened(str(path), "wb")

    def write(self, lines: Iterable[str]) -> None:
        """Add lines, each without its end; contigs one after another, and within them by start."""
        text = "\n".join(lines)
        if text:
            self.n_lines += text.count("\n") + 1
            self._file.write(text.encode("utf-8") + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        import pysam

        self._file.close()
        if kind is not None:
            return
        if not self.n_lines:
            raise OutputError(f"{self.path.name}: there is no line to write, so no file is made")
        shift = 14 if self._csi else 0
        pysam.tabix_index(str(self.path), preset=self._preset, force=True, csi=self._csi, min_shift=shift)


class BedGraph(BgzipLines):
    """Numbers along contigs as text; neighbours with the same value share a line."""

    def add(self, contig: str, start: int, step_bp: int, values: npt.NDArray[np.float32], end: int) -> None:
        """Add values that follow each other; see :meth:`umbel.predict.tracks.bigwig.BigWig.add`."""
        first = np.flatnonzero(np.append(True, (values[1:] != values[:-1])))
        last = np.append(first[1:], len(values))
        there = np.isfinite(values[first])
        starts = (start + first[there] * step_bp).tolist()
        ends = np.minimum(start + last[there] * step_bp, end).tolist()
        told = values[first[there]].tolist()
        self.write(f"{contig}\t{a}\t{b}\t{value:.7g}" for a, b, value in zip(starts, ends, told, strict=True))


class LabelBed(BgzipLines):
    """A label of every base as BED9: neighbours with the same label are one line, in the colour of the label.

    Parameters
    ----------
    path, lengths
        As in :class:`BgzipLines`.
    names
        Of the labels 0, 1, ...; other numbers are no label.
    """

    def __init__(self, path: Path, lengths: Mapping[str, int], names: Sequence[str]):
        super().__init__(path, lengths)
        self._names, self._colours = names, label_colours(len(names))
        self._open: tuple[str, int, int, int] | None = None

    def add(self, contig: str, start: int, labels: npt.NDArray[np.uint8]) -> None:
        """Add the labels of bases that follow each other, ``(n,)``."""
        first = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
        last = np.append(first[1:], len(labels))
        lines = []
        for a, b, label in zip((start + first).tolist(), (start + last).tolist(), labels[first].tolist(), strict=True):
            if self._open is not None and self._open[0] == contig and self._open[2] == a and self._open[3] == label:
                self._open = (contig, self._open[1], b, label)
                continue
            lines += self._ended()
            self._open = (contig, a, b, label)
        self.write(lines)

    def _ended(self) -> list[str]:
        if self._open is None or self._open[3] >= len(self._names):
            return []
        contig, start, end, label = self._open
        colour = ",".join(map(str, self._colours[label]))
        return [f"{contig}\t{start}\t{end}\t{self._names[label]}\t0\t.\t{start}\t{end}\t{colour}"]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.write(self._ended())
        super().__exit__(kind, error, traceback)


def label_colours(n: int) -> list[tuple[int, int, int]]:
    """Give each of n labels a colour of its own, red, green and blue up to 255.

    Examples
    --------
    >>> label_colours(2), len(set(label_colours(64)))
    ([(0, 114, 178), (230, 159, 0)], 64)
    """
    found = list(_COLOURS[:n])
    for i in range(n - len(found)):
        # Steps of the golden angle keep any number of hues apart.
        r, g, b = colorsys.hsv_to_rgb(0.08 + i * 0.618034 % 1.0, 0.55 + 0.35 * (i % 2), 0.85 - 0.25 * (i % 3) / 2)
        found.append((round(255 * r), round(255 * g), round(255 * b)))
    return found
