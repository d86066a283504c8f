"""First stage of a build: the contigs of one assembly, packed four bits a base, with statistics and gene regions."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from umbel.data.corpus.assembly import Assembly
from umbel.data.corpus.executors import Advance
from umbel.data.corpus.parts import Part
from umbel.data.corpus.statistics import StatisticsBuilder
from umbel.data.corpus.store import CHECKED_BYTES
from umbel.data.corpus.tables import REGIONS_SCHEMA, named
from umbel.errors import AnnotationError, ManifestError
from umbel.files import whole_file
from umbel.genome.annotation import Annotation, read_gff3, region_runs
from umbel.genome.fasta import read_pieces
from umbel.genome.sequence import pack

_PACKED_CONTIGS = pa.schema(
    {
        "contig": pa.string(),
        "length": pa.int64(),
        "offset": pa.int64(),
        "soft_masked": pa.int64(),
        "letters": pa.string(),
    }
)


@dataclass(frozen=True)
class PackJob:
    """Pack one assembly.

    Attributes
    ----------
    nibbles
        File to write; beside it the checksums of its blocks.
    size
        Bytes of the FASTA file, which is what is reported.
    """

    manifest: Path
    assembly: Assembly
    part: Part
    nibbles: Path
    size: int


@dataclass(frozen=True)
class PackedContig:
    """One contig as the pack stage found it; ``letters`` counts all that is not A, C, G or T."""

    contig: str
    length: int
    offset: int
    soft_masked: int
    letters: dict[str, int]


def pack_assembly(job: PackJob, advance: Advance) -> dict[str, Any]:
    """Write the packed contigs, their table and the gene regions; memory holds a piece of a contig.

    Raises
    ------
    FastaError, AnnotationError, ManifestError
        If an input is wrong, or the manifest names a contig that the FASTA does not have.
    OutputError
        If the files cannot be written.
    """
    contigs: list[dict[str, Any]] = []
    statistics = StatisticsBuilder()
    offset = 0
    letters: Counter[str] = Counter()
    with whole_file(job.nibbles) as temporary, open(temporary, "wb") as handle:
        for piece in read_pieces(job.assembly.fasta, on_bytes=advance):
            statistics.add(piece)
            if not piece.start:
                contigs.append({"contig": piece.name, "length": 0, "offset": offset, "soft_masked": 0})
                letters = Counter()
            row = contigs[-1]
            packed = pack(piece.codes, piece.soft_mask)
            handle.write(packed.data)
            offset += len(packed)
            row["length"] += len(piece.codes)
            row["soft_masked"] += int(np.count_nonzero(piece.soft_mask))
            letters.update(piece.letters)
            row["letters"] = json.dumps(letters, sort_keys=True)
        require_contigs(job.manifest, job.assembly, [row["contig"] for row in contigs])
        regions, annotation = _regions(job.assembly, {row["contig"]: row["length"] for row in contigs})
    sha256 = write_checksums(job.nibbles)
    tables = {"contigs": pa.Table.from_pylist(contigs, _PACKED_CONTIGS), "regions": regions}
    for name, table in tables.items():
        write_table(job.part.file(f"{name}.parquet"), table)
    facts = {
        "nibbles": sha256,
        "regions": _rows_sha256(regions) if job.assembly.gff3 else None,
        "statistics": asdict(statistics.result()),
        "annotation": annotation,
    }
    files = [job.nibbles, checksums_of(job.nibbles), *(job.part.file(f"{name}.parquet") for name in tables)]
    return job.part.save(facts, files)


def load_contigs(part: Part) -> list[PackedContig]:
    """Read the contigs of a packed assembly, in the order of its FASTA."""
    rows = pq.read_table(part.file("contigs.parquet")).to_pylist()
    return [PackedContig(**{**row, "letters": json.loads(row["letters"])}) for row in rows]


def checksums_of(nibbles: Path) -> Path:
    """Path of the block checksums beside a file of packed bases.

    Examples
    --------
    >>> checksums_of(Path("assemblies/TAIR10.nibbles")).name
    'TAIR10.crc32'
    """
    return nibbles.with_suffix(".crc32")


def write_checksums(nibbles: Path) -> str:
    """Write the CRC-32 of every block of ``CHECKED_BYTES``, little-endian uint32; return the SHA-256 of the whole."""
    sums, digest = [], hashlib.sha256()
    with open(nibbles, "rb") as handle:
        while block := handle.read(CHECKED_BYTES):
            sums.append(zlib.crc32(block))
            digest.update(block)
    with whole_file(checksums_of(nibbles)) as temporary:
        temporary.write_bytes(np.array(sums, "<u4").tobytes())
    return digest.hexdigest()


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file, whole or not at all; equal rows give equal bytes."""
    with whole_file(path) as temporary:
        # One chunk, so that the bytes depend on the rows and not on how they came together.
        pq.write_table(table.unify_dictionaries().combine_chunks(), temporary, compression="zstd")


def require_contigs(manifest: Path, assembly: Assembly, contigs: Sequence[str]) -> None:
    """See that the FASTA has every contig that the manifest names.

    Raises
    ------
    ManifestError
        Naming those that it lacks, and some that it has.
    """
    there = set(contigs)
    missing = [name for name in assembly.named_contigs if name not in there]
    if missing:
        raise ManifestError(
            f"assembly {assembly.name!r} names contig {', '.join(map(repr, missing[:3]))}"
            f"{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}, not found in {assembly.fasta}. "
            f"There are {len(there)} contigs, such as {', '.join(contigs[:5])}.",
            manifest,
        )


def read_genes(gff3: Path, lengths: Mapping[str, int]) -> Annotation:
    """Read the genes of an assembly, with the lengths of its contigs in bases.

    Raises
    ------
    AnnotationError
        As :func:`umbel.genome.annotation.read_gff3`, and if none of them has a part on a contig of the FASTA.
    """
    annotation = read_gff3(gff3, lengths)
    if not annotation.features:
        raise AnnotationError(
            "no exon, UTR or CDS on any contig of the FASTA. Leave gff3 out, or give the genes.", gff3
        )
    return annotation


def _regions(assembly: Assembly, lengths: dict[str, int]) -> tuple[pa.Table, dict[str, Any] | None]:
    """Region runs of every contig, and what to tell about the annotation (``None``: there is none)."""
    if assembly.gff3 is None:
        return REGIONS_SCHEMA.empty_table(), None
    annotation = read_genes(assembly.gff3, lengths)
    runs_of = region_runs(annotation.features, lengths)
    contig = np.repeat(np.arange(len(lengths)), [len(runs) for runs in runs_of.values()])
    start, end, region = np.concatenate(list(runs_of.values())).T
    columns: list[Any] = [named(np.zeros(len(start)), [assembly.name]), named(contig, list(lengths)), start, end]
    table = pa.table([*columns, region.astype(np.uint8)], schema=REGIONS_SCHEMA)
    told = {"n_features": len(annotation.features), "unknown_contigs": dict(sorted(annotation.unknown_contigs.items()))}
    return table, told


def _rows_sha256(regions: pa.Table) -> str:
    """SHA-256 of the runs in order; the contigs they belong to follow from where the starts return to 0."""
    digest = hashlib.sha256()
    for name in ("start", "end", "region"):
        column: npt.NDArray[Any] = regions[name].to_numpy()
        digest.update(np.ascontiguousarray(column.astype("<i8")).data)
    return digest.hexdigest()
