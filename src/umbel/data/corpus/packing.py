"""One assembly of a corpus: pack its contigs, cut its windows, class its bases. One process does one assembly."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from umbel.config import CorpusConfig
from umbel.data.corpus.manifest import ROLES, Assembly
from umbel.data.corpus.store import nibbles_name
from umbel.data.corpus.tables import CONTIGS_SCHEMA, REGIONS_SCHEMA, WINDOWS_SCHEMA
from umbel.errors import AnnotationError, ManifestError
from umbel.files import sha256_file, sha256_json, whole_file, write_json
from umbel.genome.annotation import read_gff3, region_runs
from umbel.genome.fasta import FastaRecord, read_fasta
from umbel.genome.sequence import N, pack

PARTS = ("contigs", "windows", "regions")
NO_ROLE = "none"


@dataclass(frozen=True)
class AssemblyJob:
    """What one process needs to know to pack one assembly."""

    manifest: Path
    assembly: Assembly
    config: CorpusConfig
    key: str
    """Identifies inputs and settings; a finished job with another key is not reused."""
    folder: Path
    """Where the corpus grows: ``corpus/`` has its final form, ``parts/`` what finished jobs left."""

    @property
    def nibbles(self) -> Path:
        """File of the packed contigs."""
        return self.folder / "corpus" / nibbles_name(self.assembly.name)

    @property
    def done_file(self) -> Path:
        """Written last, so that its presence means that the job is finished."""
        return self.folder / "parts" / f"{self.assembly.name}.json"

    def part(self, name: str) -> Path:
        """File of this assembly's rows of the table ``name``."""
        return self.folder / "parts" / f"{self.assembly.name}.{name}.parquet"

    def finished(self) -> dict[str, Any] | None:
        """Facts of this job if an earlier build finished it and its files are still what they were."""
        try:
            facts = json.loads(self.done_file.read_text(encoding="utf-8"))
            is_same = facts["key"] == self.key and all(
                sha256_file(self.folder / name) == digest for name, digest in facts["files"].items()
            )
        except (OSError, ValueError, KeyError):
            return None
        return facts if is_same else None


def cut_windows(length: int, config: CorpusConfig) -> tuple[npt.NDArray[np.int64], int]:
    """Cut a contig into windows that each begin ``window_bp - overlap_bp`` after the one before.

    The last window may be shorter; it is kept from ``min_window_bp`` on, and left out where the window before it
    already reaches the end of the contig.

    Returns
    -------
    windows
        int64 ``(n_windows, 2)``: start and end, 0-based half-open.
    n_lost
        Bases at the end of the contig that no window holds.

    Examples
    --------
    >>> windows, n_lost = cut_windows(1000, CorpusConfig(window_bp=500, overlap_bp=100))
    >>> windows.tolist(), n_lost
    ([[0, 500], [400, 900], [800, 1000]], 0)
    """
    step = config.window_bp - config.overlap_bp
    n_full = max(0, (length - config.window_bp) // step + 1)
    starts = np.arange(n_full, dtype=np.int64) * step
    ends = starts + config.window_bp
    reached = int(ends[-1]) if n_full else 0
    if reached == length:
        return np.column_stack((starts, ends)), 0
    tail_start = n_full * step
    if length - tail_start < config.min_window_bp:
        return np.column_stack((starts, ends)), length - reached
    return np.column_stack((np.append(starts, tail_start), np.append(ends, length))), 0


@dataclass
class _Tally:
    """Counts over the contigs of one role."""

    n_contigs: int = 0
    n_bases: int = 0
    soft_masked: int = 0
    letters: Counter[str] = field(default_factory=Counter)
    n_windows: int = 0
    n_windows_dropped_for_n: int = 0
    bases_lost_in_short_tails: int = 0

    def as_facts(self) -> dict[str, Any]:
        return {**vars(self), "letters": dict(sorted(self.letters.items()))}


def pack_assembly(job: AssemblyJob, on_contig: Callable[[str, int], None] | None = None) -> dict[str, Any]:
    """Write the packed contigs and the table parts of one assembly, and return what is to be told about it.

    Parameters
    ----------
    job
        The assembly, how to cut it, and where to write.
    on_contig
        Called with name and length after each contig.

    Raises
    ------
    FastaError, AnnotationError, ManifestError
        If an input is wrong, or the manifest names a contig that the FASTA does not have.
    OutputError
        If the files cannot be written.
    """
    assembly = job.assembly
    tallies = {role: _Tally() for role in (*ROLES, NO_ROLE)}
    contigs: list[dict[str, Any]] = []
    windows: list[npt.NDArray[np.int64]] = []
    offset = 0
    digest = hashlib.sha256()
    with whole_file(job.nibbles) as temporary, open(temporary, "wb") as handle:
        for record in read_fasta(assembly.fasta):
            role = assembly.role_of(record.name)
            contigs.append(
                {
                    "assembly": assembly.name,
                    "contig": record.name,
                    "length": len(record.codes),
                    "role": role,
                    "offset": offset,
                }
            )
            packed = pack(record.codes, record.soft_mask)
            handle.write(packed.data)
            digest.update(packed.data)
            offset += len(packed)
            tally = tallies[role or NO_ROLE]
            tally.n_contigs += 1
            tally.n_bases += len(record.codes)
            tally.soft_masked += int(np.count_nonzero(record.soft_mask))
            tally.letters.update(record.letters)
            if role:
                spans = _windows(record, job.config, tally)
                place = np.full((len(spans), 2), (len(contigs) - 1, ROLES.index(role)), np.int64)
                windows.append(np.hstack((place, spans)))
            if on_contig:
                on_contig(record.name, len(record.codes))
        lengths = {str(row["contig"]): int(row["length"]) for row in contigs}
        _require_contigs(job, lengths)
        regions, annotation = _regions(assembly, lengths)
    tables = {
        "contigs": pa.Table.from_pylist(contigs, CONTIGS_SCHEMA),
        "windows": _windows_table(assembly.name, list(lengths), windows),
        "regions": regions,
    }
    files = {str(job.nibbles.relative_to(job.folder)): digest.hexdigest()}
    for name, table in tables.items():
        write_table(job.part(name), table)
        files[str(job.part(name).relative_to(job.folder))] = sha256_file(job.part(name))
    facts = {
        "key": job.key,
        "files": files,
        # Windows follow from these and the settings; so this names the content whatever the file formats do.
        "content": sha256_json(
            {
                "contigs": [[row["contig"], row["length"], row["role"]] for row in contigs],
                "nibbles": digest.hexdigest(),
                "regions": _rows_sha256(regions) if assembly.gff3 else None,
            }
        ),
        "roles": {role: tally.as_facts() for role, tally in tallies.items()},
        "annotation": annotation,
    }
    write_json(job.done_file, facts)
    return facts


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file, whole or not at all; equal rows give equal bytes."""
    with whole_file(path) as temporary:
        # One chunk, so that the bytes depend on the rows and not on how they came together.
        pq.write_table(table.unify_dictionaries().combine_chunks(), temporary, compression="zstd")


def _windows(record: FastaRecord, config: CorpusConfig, tally: _Tally) -> npt.NDArray[np.int64]:
    """Start, end, known bases and soft-masked bases of the windows of a contig that do not hold too many N."""
    spans, n_lost = cut_windows(len(record.codes), config)
    is_n = record.codes == N
    counts = [
        (np.count_nonzero(is_n[start:end]), np.count_nonzero(record.soft_mask[start:end])) for start, end in spans
    ]
    n_unknown, soft_masked = np.array(counts, np.int64).reshape(-1, 2).T
    lengths = spans[:, 1] - spans[:, 0]
    keep = n_unknown <= config.max_n_frac * lengths
    tally.bases_lost_in_short_tails += n_lost
    tally.n_windows += int(np.count_nonzero(keep))
    tally.n_windows_dropped_for_n += int(np.count_nonzero(~keep))
    return np.column_stack((spans, lengths - n_unknown, soft_masked))[keep]


def _windows_table(assembly: str, contigs: list[str], windows: list[npt.NDArray[np.int64]]) -> pa.Table:
    """Join rows of contig, role, start, end, known and soft-masked bases into the window index of an assembly."""
    if not windows:
        return WINDOWS_SCHEMA.empty_table()
    contig, role, start, end, n_bases, soft_masked = np.concatenate(windows).T
    return pa.table(
        [
            _names(np.zeros(len(start)), [assembly]),
            _names(contig, contigs),
            start,
            end,
            _names(role, list(ROLES)),
            n_bases.astype(np.int32),
            soft_masked.astype(np.int32),
        ],
        schema=WINDOWS_SCHEMA,
    )


def _names(codes: npt.NDArray[Any], names: list[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(codes.astype(np.int32), names)


def _require_contigs(job: AssemblyJob, lengths: dict[str, int]) -> None:
    missing = [name for name in job.assembly.named_contigs if name not in lengths]
    if missing:
        there = list(lengths)
        raise ManifestError(
            f"assembly {job.assembly.name!r} names contig {', '.join(map(repr, missing[:3]))}"
            f"{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}, not found in {job.assembly.fasta}. "
            f"There are {len(there)} contigs, such as {', '.join(there[:5])}.",
            job.manifest,
        )


def _regions(assembly: Assembly, lengths: dict[str, int]) -> tuple[pa.Table, dict[str, Any] | None]:
    """Region runs of every contig, and what to tell about the annotation (``None``: there is none)."""
    if assembly.gff3 is None:
        return REGIONS_SCHEMA.empty_table(), None
    annotation = read_gff3(assembly.gff3, lengths)
    if not annotation.features:
        raise AnnotationError(
            "no exon, UTR or CDS on any contig of the FASTA. Leave gff3 out, or give the genes.", assembly.gff3
        )
    runs_of = region_runs(annotation.features, lengths)
    contig = np.repeat(np.arange(len(lengths)), [len(runs) for runs in runs_of.values()])
    start, end, region = np.concatenate(list(runs_of.values())).T
    table = pa.table(
        [
            _names(np.zeros(len(start)), [assembly.name]),
            _names(contig, list(lengths)),
            start,
            end,
            region.astype(np.uint8),
        ],
        schema=REGIONS_SCHEMA,
    )
    told = {"n_features": len(annotation.features), "unknown_contigs": dict(sorted(annotation.unknown_contigs.items()))}
    return table, told


def _rows_sha256(regions: pa.Table) -> str:
    """SHA-256 of the runs in order; the contigs they belong to follow from where the starts return to 0."""
    digest = hashlib.sha256()
    for name in ("start", "end", "region"):
        digest.update(np.ascontiguousarray(regions[name].to_numpy().astype("<i8")).data)
    return digest.hexdigest()
