"""Files of the Genomics Long-Range Benchmark: coordinates, around which windows of any length are cut."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.errors import ConfigError, LabelError
from umbel.evaluate.suites.manifest import Dataset, SplitName
from umbel.evaluate.suites.places import Place
from umbel.evaluate.suites.tables import read_columns
from umbel.genome.lines import read_lines

_SPLIT_WORDS = {"train": ("train",), "dev": ("validation", "valid"), "test": ("test",)}
_LABEL_BP, _ROWS_OF_A_SHARD = 114_688, 1000
_TRACK_ROWS = {"train": 33_891, "valid": 2195, "test": 1922}


def read_places(
    path: Path, dataset: Dataset, split: SplitName, folder: Path, window_bp: int, fits_bp: int
) -> Iterator[Place]:
    """Yield the windows of one split, in the order of the file.

    Parameters
    ----------
    path
        CSV with a column ``split`` and 1-based coordinates.
    dataset
        Its reader says which columns there are.
    split
        Which rows.
    folder
        Where the companions are.
    window_bp
        Bases of a window.
    fits_bp
        A row is left out where a window of so many bases would leave its chromosome.

    Raises
    ------
    LabelError
        With file and line: a column that is not there, no coordinate, a file of values that does not fit.
    ConfigError
        A window that does not fit the bins of ``lrb_tracks``.
    """
    reader = {"lrb_elements": _elements, "lrb_bins": _bins, "lrb_genes": _genes, "lrb_tracks": _tracks}
    if dataset.reader_of(split) == "lrb_variants":
        yield from _variants(path, dataset, split)
        return
    rows = reader[dataset.reader_of(split)](path, dataset, split, folder, window_bp)
    genome = dataset.genomes.get("*", "")
    for line, contig, first, last, strand, labels in rows:
        start, end = _window(first, last, window_bp)
        yield Place(
            f"{contig}:{first + 1}#{line}", genome, contig, start, end, strand, labels, line, path, line,
            needs=_window(first, last, max(fits_bp, window_bp)),
        )  # fmt: skip


def _window(first: int, last: int | None, window_bp: int) -> tuple[int, int]:
    """Start and end, 0-based, of a window around a base, or around a stretch, as the publishers' loader cuts it."""
    pad = (window_bp - ((last or first) - first)) // 2
    return first - pad, (last or first) + pad + window_bp % 2


def _elements(path: Path, dataset: Dataset, split: SplitName, folder: Path, window_bp: int) -> Iterator[Any]:
    columns = ("split", "CHROM", "START", "STOP", "label")
    for line, (_, contig, start, stop, label) in _of_split(path, columns, split):
        yield line, contig, _coordinate(path, line, start), _coordinate(path, line, stop), "+", (label,)


def _bins(path: Path, dataset: Dataset, split: SplitName, folder: Path, window_bp: int) -> Iterator[Any]:
    column = "HISTONES" if "histone" in dataset.name else "DNASE"
    for line, (_, contig, position, labels) in _of_split(path, ("split", "CHROM", "POS", column), split):
        fields = tuple(text.strip() for text in labels.strip("[] ").split(","))
        yield line, contig, _coordinate(path, line, position), None, "+", fields


def _genes(path: Path, dataset: Dataset, split: SplitName, folder: Path, window_bp: int) -> Iterator[Any]:
    values = folder / dataset.companions[0]
    table = _values(values)
    columns = ("split", "chrom", "CAGE_representative_TSS", "strand")
    n_rows = 0
    for n_rows, (line, (where, contig, position, strand)) in enumerate(read_columns(path, columns), start=1):
        if n_rows > len(table):
            raise LabelError(f"{values.name} has {len(table):,} rows, fewer than there are genes.", path, line)
        if where in _SPLIT_WORDS[split]:
            yield line, contig, _coordinate(path, line, position), None, strand, table[n_rows - 1]
    if n_rows < len(table):
        raise LabelError(f"{len(table):,} rows where {path.name} has {n_rows:,} genes.", values)


def _values(path: Path) -> list[tuple[str, ...]]:
    """Rows of a CSV with a first line of names, as texts."""
    lines = [line.decode("utf-8", "replace").strip() for _, line in read_lines(path, LabelError)]
    return [tuple(line.split(",")) for line in lines[1:] if line]


def _tracks(path: Path, dataset: Dataset, split: SplitName, folder: Path, window_bp: int) -> Iterator[Any]:
    if window_bp % (2 * dataset.bin_bp):
        raise ConfigError(f"{dataset.name}: a window of {window_bp:,} bases is no multiple of {2 * dataset.bin_bp}.")
    word = _SPLIT_WORDS[split][-1]
    columns = ("split", "chrom", "start", "stop", "npy_idx")
    for line, (_, contig, start, stop, index) in _of_split(path, columns, split):
        if not index.isdecimal():
            raise LabelError(f"npy_idx {index!r} is no number.", path, line)
        shard = path.parent / "targets_subset" / shard_name(word, int(index))
        read = partial(_read_tracks, shard, f"target-{word}-{index}.npy", window_bp, dataset.bin_bp)
        yield line, contig, _coordinate(path, line, start), _coordinate(path, line, stop), "+", read


def shard_name(word: str, index: int) -> str:
    """Name of the file with the tracks of one row; the last file of a split is shorter.

    Examples
    --------
    >>> shard_name("test", 1_500)
    'targets-test-1000-1921.npz'
    """
    first = index // _ROWS_OF_A_SHARD * _ROWS_OF_A_SHARD
    return f"targets-{word}-{first}-{min(first + _ROWS_OF_A_SHARD, _TRACK_ROWS[word]) - 1}.npz"


def shard_names(split: SplitName) -> list[str]:
    """Names of all files with the tracks of a split."""
    word = _SPLIT_WORDS[split][-1]
    return [shard_name(word, index) for index in range(0, _TRACK_ROWS[word], _ROWS_OF_A_SHARD)]


@lru_cache(maxsize=2)
def _shard(path: Path) -> Any:
    return np.load(path, allow_pickle=False)


def _read_tracks(shard: Path, key: str, window_bp: int, bin_bp: int) -> npt.NDArray[np.float32]:
    """Values of the bins of a window: those at its centre, and NaN where a longer window has none."""
    try:
        values = np.asarray(_shard(shard)[key][0], np.float32)
    except FileNotFoundError as error:
        raise LabelError("no such file. Fetch it, it holds the tracks.", shard) from error
    except (KeyError, ValueError, OSError) as error:
        raise LabelError(f"holds no array {key!r}.", shard) from error
    spare = (_LABEL_BP - window_bp) // 2 // bin_bp
    if spare >= 0:
        return values[spare : len(values) - spare]
    return np.pad(values, ((-spare, -spare), (0, 0)), constant_values=np.nan)


def _variants(path: Path, dataset: Dataset, split: SplitName) -> Iterator[Place]:
    label = "label" if "eqtl" in dataset.name else "INT_LABEL"
    genome = dataset.genomes.get("*", "")
    for line, (_, contig, position, ref, alt, value) in _of_split(
        path, ("split", "CHROM", "POS", "REF", "ALT", label), split
    ):
        place = _coordinate(path, line, position)
        name = f"{contig}:{position}{ref}>{alt}#{line}"
        yield Place(name, genome, contig, place, place + 1, "+", (value,), line, path, line)


def _of_split(path: Path, columns: tuple[str, ...], split: SplitName) -> Iterator[tuple[int, tuple[str, ...]]]:
    known = {word for words in _SPLIT_WORDS.values() for word in words}
    for line, fields in read_columns(path, columns):
        if fields[0] not in known:
            raise LabelError(f"split {fields[0]!r} is none of {', '.join(sorted(known))}.", path, line)
        if fields[0] in _SPLIT_WORDS[split]:
            yield line, fields


def _coordinate(path: Path, line: int, text: str) -> int:
    """0-based coordinate of a 1-based text; some tables hold whole numbers as 12.0."""
    digits = text.removesuffix(".0")
    if not digits.isdecimal() or int(digits) < 1:
        raise LabelError(f"coordinate {text!r} is no position from 1 on.", path, line)
    return int(digits) - 1
