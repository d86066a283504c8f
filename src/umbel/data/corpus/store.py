"""Read a built corpus: windows and any other stretch of its assemblies, without loading them.

``docs/spec/corpus-format.md`` says what is in the folder.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from umbel.config import CorpusConfig, from_dict
from umbel.data.corpus.manifest import ROLES
from umbel.data.corpus.tables import columns_of
from umbel.errors import ConfigError, CorpusError
from umbel.files import sha256_file
from umbel.genome.interval import Interval
from umbel.genome.sequence import Codes, Mask, unpack

FORMAT = "umbel-corpus"
FORMAT_VERSION = 2
FACTS_FILE = "corpus.json"
CONTIGS_FILE, WINDOWS_FILE, REGIONS_FILE = "contigs.parquet", "windows.parquet", "regions.parquet"
SEGMENTS_FILE = "segments.parquet"
CHECKED_BYTES = 1 << 18
"""Packed bases have one checksum for so many bytes."""


def nibbles_name(assembly: str) -> str:
    """Where in a corpus folder the packed bases of an assembly are.

    Examples
    --------
    >>> nibbles_name("TAIR10")
    'assemblies/TAIR10.nibbles'
    """
    return f"assemblies/{assembly}.nibbles"


@dataclass(frozen=True)
class Contig:
    """One contig of a corpus; ``role`` is ``""`` where it has none, and ``reason`` says why."""

    assembly: str
    contig: str
    length: int
    role: str
    reason: str = ""


@dataclass(frozen=True)
class Window:
    """One window of a corpus, 0-based half-open."""

    assembly: str
    contig: str
    start: int
    end: int
    role: str


@dataclass(frozen=True)
class Species:
    """A species of a corpus; ``family`` is ``""`` where the manifest does not tell it."""

    name: str
    family: str


class _Packed:
    """A memory map of packed bases, each block of which is compared with its checksum when it is first read."""

    def __init__(self, path: Path):
        self._path = path
        try:
            self._bytes = np.memmap(path, np.uint8, "r")
            self._sums = np.fromfile(path.with_suffix(".crc32"), "<u4")
        except (OSError, ValueError) as error:
            raise CorpusError(f"{path}: damaged ({error}). Build the corpus again.") from error
        if len(self._sums) != -(-len(self._bytes) // CHECKED_BYTES):
            raise CorpusError(f"{path}: truncated. Build the corpus again.")
        self._is_checked = np.zeros(len(self._sums), bool)

    def read(self, offset: int, length: int, start: int, end: int, contig: str) -> npt.NDArray[np.uint8]:
        """Give the packed contig at ``offset``, of which bases ``start`` to ``end`` have been checked."""
        n_bytes = -(-length // 2)
        if offset + n_bytes > len(self._bytes):
            raise CorpusError(f"{self._path}: truncated. Build the corpus again.")
        first, last = (offset + start // 2) // CHECKED_BYTES, (offset + max(start, end - 1) // 2) // CHECKED_BYTES
        for block in range(first, last + 1):
            if not self._is_checked[block]:
                part = self._bytes[block * CHECKED_BYTES : (block + 1) * CHECKED_BYTES]
                if zlib.crc32(part.data) != self._sums[block]:
                    raise CorpusError(
                        f"{self._path}: damaged in block {block} (bytes {block * CHECKED_BYTES:,} on), which holds "
                        f"bases of contig {contig!r}. Build the corpus again, or copy it again."
                    )
                self._is_checked[block] = True
        return self._bytes[offset : offset + n_bytes]


class Corpus:
    """A built corpus, opened for reading; use :meth:`open`.

    Reads need no lock, so threads may share one; a pickle holds the path only.

    Attributes
    ----------
    path
        The folder.
    facts
        The content of ``corpus.json``.
    hash
        Identifies settings and content, whatever the folder is called.
    config
        How the windows were cut.
    """

    def __init__(self, path: Path, facts: dict[str, Any]):
        self.path = path
        self.facts = facts
        self.hash: str = facts["hash"]
        self.config = from_dict(CorpusConfig, facts["settings"], f"{path / FACTS_FILE}, settings")
        self._packed: dict[str, _Packed] = {}

    @classmethod
    def open(cls, path: str | Path) -> Corpus:
        """Open a corpus folder; cheap, because the tables are read when first asked for.

        Raises
        ------
        CorpusError
            If the folder is no corpus, lacks a file, or was written in a newer format.
        """
        folder = Path(path)
        try:
            facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise CorpusError(
                f"{folder}: no corpus here (no {FACTS_FILE}). Build one with: umbel corpus build MANIFEST -o {folder}"
            ) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CorpusError(f"{folder / FACTS_FILE}: damaged ({error}). Build the corpus again.") from error
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise CorpusError(f"{folder / FACTS_FILE}: not the description of an umbel corpus.")
        if facts.get("format_version") != FORMAT_VERSION:
            raise CorpusError(
                f"{folder}: written in corpus format {facts.get('format_version')}, this umbel reads {FORMAT_VERSION}. "
                "Build the corpus again, or use the umbel that wrote it."
            )
        try:
            corpus = cls(folder, facts)
            missing = [name for name in facts["files"] if not (folder / name).is_file()]
        except (KeyError, TypeError, ConfigError) as error:
            raise CorpusError(f"{folder / FACTS_FILE}: damaged ({error}). Build the corpus again.") from error
        if missing:
            raise CorpusError(f"{folder}: {', '.join(missing)} is missing. Build the corpus again.")
        return corpus

    def __reduce__(self) -> tuple[Any, ...]:
        return (Corpus.open, (self.path,))

    def check(self) -> None:
        """Compare every file with the SHA-256 in ``corpus.json``.

        Raises
        ------
        CorpusError
            Naming the files that differ or are gone.
        """
        damaged = [
            name
            for name, facts in self.facts["files"].items()
            if not (self.path / name).is_file() or sha256_file(self.path / name) != facts["sha256"]
        ]
        if damaged:
            raise CorpusError(f"{self.path}: {', '.join(damaged)} is damaged or missing. Build the corpus again.")

    @cached_property
    def _contigs(self) -> dict[tuple[str, str], tuple[Contig, int]]:
        rows = self._table(CONTIGS_FILE).to_pylist()
        return {
            (row["assembly"], row["contig"]): (
                Contig(row["assembly"], row["contig"], row["length"], row["role"], row["reason"]),
                row["offset"],
            )
            for row in rows
        }

    @cached_property
    def windows(self) -> dict[str, npt.NDArray[Any]]:
        """Columns of the window index; text columns as codes, with the texts under ``*_names``."""
        return columns_of(self._table(WINDOWS_FILE))

    @cached_property
    def segments(self) -> dict[str, npt.NDArray[Any]]:
        """Columns of the segments that were compared, in the same form; only where the build looked for copies."""
        return columns_of(self._table(SEGMENTS_FILE))

    @cached_property
    def _regions(self) -> dict[tuple[str, str], tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]]:
        """Contig to (ends of its runs, their region codes); the runs cover the contig."""
        if REGIONS_FILE not in self.facts["files"]:
            return {}
        columns = columns_of(self._table(REGIONS_FILE))
        is_first = np.ones(len(columns["start"]), bool)
        is_first[1:] = (np.diff(columns["contig"]) != 0) | (np.diff(columns["assembly"]) != 0)
        starts = np.flatnonzero(is_first)
        ends = np.append(starts[1:], len(is_first))
        return {
            (
                str(columns["assembly_names"][columns["assembly"][start]]),
                str(columns["contig_names"][columns["contig"][start]]),
            ): (columns["end"][start:end], columns["region"][start:end])
            for start, end in zip(starts, ends, strict=True)
        }

    def _table(self, name: str) -> pa.Table:
        try:
            return pq.read_table(self.path / name)
        except (pa.ArrowException, OSError) as error:
            raise CorpusError(f"{self.path / name}: damaged ({error}). Build the corpus again.") from error

    @property
    def n_windows(self) -> int:
        """Number of windows of all roles together."""
        return len(self.windows["start"])

    @property
    def assemblies(self) -> tuple[str, ...]:
        """Names of the assemblies, in the order of the manifest."""
        return tuple(facts["assembly"] for facts in self.facts["assemblies"])

    @cached_property
    def species(self) -> tuple[Species, ...]:
        """Species of the corpus, in the order in which the manifest first names them."""
        family_of: dict[str, str] = {}
        for facts in self.facts["assemblies"]:
            family_of.setdefault(facts["species"], facts["family"])
        return tuple(Species(name, family) for name, family in family_of.items())

    def window_species(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Species of each window, ``(n,)``: indices into :attr:`species`."""
        place = {species.name: number for number, species in enumerate(self.species)}
        species_of = {facts["assembly"]: place[facts["species"]] for facts in self.facts["assemblies"]}
        columns = self.windows
        of_code = np.array([species_of[name] for name in columns["assembly_names"]], np.int64)
        return of_code[columns["assembly"][ids]]

    def contigs(self, role: str | None = None) -> list[Contig]:
        """Contigs of one role, or of all (``None``), in the order of manifest and FASTA."""
        if role is not None:
            _require_role(role)
        return [contig for contig, _ in self._contigs.values() if role is None or contig.role == role]

    def contig_offsets(self, assembly: str) -> list[tuple[Contig, int]]:
        """Contigs of an assembly, each with its first byte in the packed bases."""
        return [(contig, offset) for contig, offset in self._contigs.values() if contig.assembly == assembly]

    def window_ids(self, role: str) -> npt.NDArray[np.int64]:
        """Ids of the windows of a role, ascending; ids count over all roles from 0."""
        _require_role(role)
        names = self.windows["role_names"].tolist()
        if role not in names:
            return np.empty(0, np.int64)
        return np.flatnonzero(self.windows["role"] == names.index(role))

    def window_sizes(self, ids: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Length of each window, and how many of its bases are not N, ``(n,)`` each."""
        columns = self.windows
        return columns["end"][ids] - columns["start"][ids], columns["n_bases"][ids].astype(np.int64)

    def require_length(self, min_bases: int) -> None:
        """See that every window has at least ``min_bases`` bases.

        Raises
        ------
        CorpusError
            Naming a window that is shorter.
        """
        lengths, _ = self.window_sizes(np.arange(self.n_windows))
        if (lengths < min_bases).any():
            window = self.window(int(lengths.argmin()))
            where = Interval(window.contig, window.start, window.end)
            raise CorpusError(
                f"{self.path}: window {where} has {lengths.min()} bases, and the tokens have "
                f"{min_bases}. Build the corpus with --set corpus.min_window_bp={min_bases} or more."
            )

    def window(self, i: int) -> Window:
        """Where window ``i`` lies."""
        columns = self.windows
        if not 0 <= i < self.n_windows:
            raise CorpusError(f"{self.path}: no window {i}; the ids go from 0 to {self.n_windows - 1}.")
        assembly, contig, role = (
            str(columns[f"{key}_names"][columns[key][i]]) for key in ("assembly", "contig", "role")
        )
        return Window(assembly, contig, int(columns["start"][i]), int(columns["end"][i]), role)

    def read_window(self, i: int) -> tuple[Codes, Mask]:
        """Codes and soft mask of window ``i``, each ``(L,)``."""
        window = self.window(i)
        return self.read(window.assembly, window.contig, window.start, window.end)

    def read(self, assembly: str, contig: str, start: int, end: int) -> tuple[Codes, Mask]:
        """Codes (uint8, 0..4) and soft mask (bool) of bases ``start`` to ``end``, each ``(end - start,)``.

        Raises
        ------
        CorpusError
            If there is no such contig, or the range leaves it.
        """
        found, offset = self._contig(assembly, contig, start, end)
        packed = self._packed.get(assembly)
        if packed is None:
            packed = self._packed[assembly] = _Packed(self.path / nibbles_name(assembly))
        return unpack(packed.read(offset, found.length, start, end, contig), start, end)

    def regions(self, assembly: str, contig: str, start: int, end: int) -> npt.NDArray[np.uint8] | None:
        """Region code of each base, ``(end - start,)``, indices into ``umbel.genome.annotation.REGIONS``.

        ``None`` where the assembly came without annotation.
        """
        self._contig(assembly, contig, start, end)
        runs = self._regions.get((assembly, contig))
        if runs is None:
            return None
        run_ends, run_codes = runs
        # searchsorted "right": base p belongs to the first run whose end is beyond p.
        first, last = np.searchsorted(run_ends, [start, max(start, end - 1)], side="right")
        lengths = np.diff(np.clip(run_ends[first : last + 1], start, end), prepend=np.int64(start)).astype(np.int64)
        return np.repeat(run_codes[first : last + 1], lengths)

    def _contig(self, assembly: str, contig: str, start: int, end: int) -> tuple[Contig, int]:
        if (assembly, contig) not in self._contigs:
            raise CorpusError(f"{self.path}: no contig {contig!r} of assembly {assembly!r}. {self._some_contigs()}")
        found = self._contigs[assembly, contig]
        if not 0 <= start <= end <= found[0].length:
            raise CorpusError(f"{self.path}: {contig} has bases 0 to {found[0].length}, not {start} to {end}.")
        return found

    def _some_contigs(self) -> str:
        names = [f"{contig.contig} of {contig.assembly}" for contig in self.contigs()[:4]]
        return f"There are, for example, {', '.join(names)}."


def _require_role(role: str) -> None:
    if role not in ROLES:
        raise CorpusError(f"role {role!r} is none of {', '.join(ROLES)}.")
