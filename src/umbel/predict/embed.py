"""Embeddings of a file of sequences or regions, as a Parquet table that can be resumed."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import umbel
from umbel.errors import AnnotationError, ConfigError, InputError
from umbel.files import sha256_file, whole_file
from umbel.genome.annotation import read_bed
from umbel.genome.fasta import read_fasta
from umbel.genome.interval import Interval
from umbel.genome.sequence import Codes, revcomp
from umbel.predict.parts import metadata, open_parts, parts_folder, write_part
from umbel.predict.predictor import Predictor, Strand
from umbel.progress import Reporter, reporter_or_silent

ROWS_PER_PART = 256
"""Rows that are computed and stored together; what a killed run repeats at most."""


@dataclass(frozen=True)
class EmbedSettings:
    """How a file is cut and averaged.

    Attributes
    ----------
    per
        ``window``: one row a window. ``sequence``: one row a record or region, the mean over the real bases
        of all its windows.
    window_bp, stride_bp
        Length and distance of windows; 0 takes the model's training window, and windows side by side. A last
        shorter window holds the rest; a rest shorter than one token of the model joins the window before it.
    strand
        See :meth:`~umbel.predict.predictor.Predictor.embed`.
    """

    per: Literal["window", "sequence"] = "window"
    window_bp: int = 0
    stride_bp: int = 0
    strand: Strand = "both"

    def __post_init__(self) -> None:
        if self.per not in ("window", "sequence"):
            raise ConfigError(f"--per {self.per}: use window or sequence")
        if self.strand not in ("forward", "revcomp", "both"):
            raise ConfigError(f"--strand {self.strand}: use forward, revcomp or both")
        if self.window_bp < 0 or self.stride_bp < 0:
            raise ConfigError("--window-bp and --stride-bp must not be negative")


@dataclass(frozen=True)
class EmbedResult:
    """What was written: rows in the table, and how many of them have no real base and so no embedding."""

    path: Path
    rows: int
    without_bases: int


@dataclass(frozen=True)
class _Piece:
    """One window: a row of the table, or with ``per="sequence"`` a part of row ``group``."""

    group: int
    region: Interval
    codes: Codes


@dataclass(frozen=True)
class _Cut:
    """How sequences are cut into windows of ``window_bp`` every ``stride_bp``, none shorter than ``min_bases``."""

    window_bp: int
    stride_bp: int
    min_bases: int = 1

    def windows(self, length: int) -> Iterator[tuple[int, int]]:
        """Cut ``length`` bases; every base is in a window, and none lies wholly inside the one before.

        Examples
        --------
        >>> list(_Cut(4, 4).windows(10)), list(_Cut(4, 4).windows(3)), list(_Cut(4, 2).windows(8))
        ([(0, 4), (4, 8), (8, 10)], [(0, 3)], [(0, 4), (2, 6), (4, 8)])
        >>> list(_Cut(4, 4, min_bases=3).windows(10))
        [(0, 4), (4, 10)]
        """
        for start in range(0, length, self.stride_bp):
            is_last = start + self.window_bp >= length or length - start - self.stride_bp < self.min_bases
            yield start, length if is_last else start + self.window_bp
            if is_last:
                return


def _regions(source: Path, fasta: Path | None) -> list[Interval]:
    """List what the table is about, in file order: whole records, or the lines of a BED."""
    if fasta is not None:
        lengths = {record.name: len(record.codes) for record in read_fasta(fasta)}
        return read_bed(source, lengths)
    if source.name.endswith((".bed", ".bed.gz")):
        raise AnnotationError("regions need the sequence they are on: name it with --fasta", source)
    return [Interval(record.name, 0, len(record.codes)) for record in read_fasta(source)]


def _sequences(source: Path, fasta: Path | None, regions: list[Interval]) -> Iterator[Codes]:
    """Read the bases of each region, in order; regions on ``-`` come as their reverse complement."""
    if fasta is None:
        for record in read_fasta(source):
            yield record.codes
        return
    wanted = {region.contig for region in regions}
    contigs = {record.name: record.codes for record in read_fasta(fasta) if record.name in wanted}
    for region in regions:
        codes = contigs[region.contig][region.start : region.end]
        yield revcomp(codes) if region.strand == "-" else codes


def _pieces(sequences: Iterator[Codes], regions: list[Interval], cut: _Cut) -> Iterator[_Piece]:
    for group, (region, codes) in enumerate(zip(regions, sequences, strict=True)):
        for start, end in cut.windows(len(codes)):
            first, last = region.start + start, region.start + end
            if region.strand == "-":
                first, last = region.end - end, region.end - start
            place = Interval(region.contig, first, last, region.strand, region.name)
            yield _Piece(group, place, codes[start:end])


def _table(regions: list[Interval], n_bases: np.ndarray, values: np.ndarray) -> pa.Table:
    """Make the rows; a row without real bases has a null embedding."""
    width = values.shape[1]
    flat = pa.array(values.astype(np.float32).ravel())
    mask = pa.array(n_bases == 0)
    return pa.table(
        {
            "name": [region.name or region.contig for region in regions],
            "contig": [region.contig for region in regions],
            "start": pa.array([region.start for region in regions], pa.int64()),
            "end": pa.array([region.end for region in regions], pa.int64()),
            "strand": [region.strand for region in regions],
            "n_bases": pa.array(n_bases, pa.int64()),
            "embedding": pa.FixedSizeListArray.from_arrays(flat, width, mask=mask),
        }
    )


def _require_tokens(regions: list[Interval], source: Path, cut: _Cut) -> None:
    """Refuse windows and sequences that are shorter than one token of the model."""
    if cut.window_bp < cut.min_bases:
        raise ConfigError(f"--window-bp {cut.window_bp} is below the {cut.min_bases} bases of this model's tokens")
    for region in regions:
        if len(region) < cut.min_bases:
            raise InputError(
                f"{region.name or region.contig} has {len(region)} bases, and this model's tokens have "
                f"{cut.min_bases}. Leave it out.",
                source,
            )


def _embed_pieces(predictor: Predictor, pieces: list[_Piece], strand: Strand) -> tuple[np.ndarray, np.ndarray]:
    """Give real bases per piece, ``(n,)``, and embeddings, ``(n, D)``; zeros where there are no bases."""
    n_bases = np.array([int((piece.codes < 4).sum()) for piece in pieces])
    values = np.zeros((len(pieces), predictor.config.d_model), np.float32)
    if n_bases.any():
        values[n_bases > 0] = predictor.embed([p.codes for p, n in zip(pieces, n_bases, strict=True) if n], strand)
    return n_bases, values


def _merge(parts: list[Path], regions: list[Interval]) -> pa.Table:
    """Average the windows of each region, weighted by their real bases, in float64."""
    table = pa.concat_tables(pq.read_table(path) for path in parts)
    groups, n_bases = table["group"].to_numpy(), table["n_bases"].to_numpy().astype(np.float64)
    values = np.stack(table["values"].to_numpy())
    sums = np.zeros((len(regions), values.shape[1]))
    np.add.at(sums, groups, values * n_bases[:, None])
    counts = np.bincount(groups, n_bases, len(regions))
    return _table(regions, counts.astype(np.int64), sums / np.maximum(counts, 1)[:, None])


def embed_file(
    checkpoint: str | Path,
    source: str | Path,
    out: str | Path,
    *,
    fasta: str | Path | None = None,
    settings: EmbedSettings | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> EmbedResult:
    """Embed every window or record of a FASTA, or every region of a BED on ``fasta``.

    The table has ``name, contig, start, end, strand, n_bases, embedding``: 0-based half-open positions, real
    bases (A, C, G, T), and D float32. A row without a real base has a null embedding. Its file metadata say
    which weights, input and settings made it. A BED region on ``-`` is read as its reverse complement.

    A killed run leaves ``<out>.parts``; the same call continues from there and writes the same bytes.

    Raises
    ------
    FastaError, AnnotationError, CheckpointError
        If an input is wrong; nothing is written then.
    InputError
        If a record or region is shorter than one token of the model; nothing is written then.
    RunError
        If ``<out>.parts`` belongs to another call.
    OutputError
        If the disk is full; ``out`` is as it was before.
    """
    reporter = reporter_or_silent(reporter)
    settings = settings or EmbedSettings()
    target, origin = Path(out), Path(source)
    reference = None if fasta is None else Path(fasta)
    regions = _regions(origin, reference)
    predictor = Predictor.load(checkpoint, device)
    window_bp = settings.window_bp or predictor.window_bp
    stride_bp = settings.stride_bp or window_bp
    if stride_bp > window_bp:
        raise ConfigError(f"--stride-bp {stride_bp} is beyond --window-bp {window_bp}: bases would be left out")
    cut = _Cut(window_bp, stride_bp, predictor.min_bases)
    _require_tokens(regions, origin, cut)
    identity = {
        "umbel": umbel.__version__,
        "weights": predictor.weights_hash,
        "source": sha256_file(origin),
        "fasta": reference and sha256_file(reference),
        "settings": {**asdict(settings), "window_bp": window_bp, "stride_bp": stride_bp},
    }
    folder = parts_folder(target)
    parts = open_parts(folder, identity)
    total = sum(len(list(cut.windows(len(region)))) for region in regions)
    done = len(parts) * ROWS_PER_PART
    task = reporter.start("embedding", total, "windows", done=min(done, total))
    pieces = itertools.islice(_pieces(_sequences(origin, reference, regions), regions, cut), done, None)
    while part := list(itertools.islice(pieces, ROWS_PER_PART)):
        n_bases, values = _embed_pieces(predictor, part, settings.strand)
        if settings.per == "window":
            table = _table([piece.region for piece in part], n_bases, values)
        else:
            table = pa.table({"group": [piece.group for piece in part], "n_bases": n_bases, "values": list(values)})
        parts.append(write_part(folder, len(parts), table))
        task.advance(len(part))
    task.close()
    result = _merge(parts, regions) if settings.per == "sequence" else pa.concat_tables(map(pq.read_table, parts))
    with whole_file(target) as temporary:
        pq.write_table(result.replace_schema_metadata(metadata(identity)), temporary)
    shutil.rmtree(folder)
    return EmbedResult(target, result.num_rows, result["embedding"].null_count)
