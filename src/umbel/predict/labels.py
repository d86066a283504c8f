"""What a tuned model says of a file of sequences or regions, as a table that can be resumed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

import umbel
from umbel.errors import ConfigError
from umbel.files import whole_file
from umbel.predict.choices import Strand, require_strand
from umbel.predict.embed.source import Source, open_source
from umbel.predict.embed.windows import Windows
from umbel.predict.head import Head
from umbel.predict.parts import metadata, open_parts, parts_folder, write_part
from umbel.progress import Reporter, reporter_or_silent

ROWS_PER_PART = 256
"""Sequences that are read and stored together; what a killed run repeats at most."""
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class LabelsResult:
    """What was written.

    Attributes
    ----------
    rows, without_bases
        Rows of the table, and how many of them have no real base and so no prediction.
    beyond_window
        How many are longer than the window that the base was trained on.
    strand
        What was read.
    """

    path: Path
    rows: int
    without_bases: int
    beyond_window: int
    strand: Strand


def predict_file(
    head: Head,
    source: str | Path,
    out: str | Path,
    *,
    fasta: str | Path | None = None,
    regions: Sequence[str] = (),
    strand: Strand | None = None,
    reporter: Reporter | None = None,
) -> LabelsResult:
    """Say what a head says of every record of a FASTA, the ``regions`` of it, or the intervals of a BED on ``fasta``.

    The rows have ``name, contig, start, end, strand, n_bases`` as those of :mod:`umbel.predict.embed`, and then for
    classes ``predicted`` and each one's probability ``p_NAME``, for labels ``p_NAME``, for quantities ``value_NAME`` in
    their units. A sequence without a real base has nulls.

    A killed run leaves ``<out>.parts``; the same call continues from there and writes the same bytes.

    Parameters
    ----------
    out
        ``.parquet``, ``.csv`` or ``.tsv``.
    strand
        None takes the one that the model was scored on.

    Raises
    ------
    ConfigError
        If the head says something of every base or bin, for which ``umbel scan`` is; if nothing tells the strand; or
        for another suffix.
    FastaError, AnnotationError, InputError, RunError, OutputError
        As :func:`umbel.predict.embed.embed_file`.
    """
    target = Path(out)
    if target.suffix != ".parquet" and target.suffix not in _DELIMITERS:
        raise ConfigError(f"-o {target}: the name says the format, so end it in .parquet, .csv or .tsv")
    if head.task.is_along_sequence:
        raise ConfigError(
            f"{head.source}: a {head.task.kind} task has no one answer for a sequence. For tracks along a genome: "
            "umbel scan --track head"
        )
    read = strand or head.strand
    if read is None:
        raise ConfigError(
            f"{head.source}: nothing there tells whether the task is stranded: say --strand forward or both"
        )
    require_strand(read)
    with open_source(source, fasta, regions) as opened:
        longest = max(len(region) for region in opened.regions)
        windows = opened.windows(longest, longest, head.min_bases)
        facts = {"umbel": umbel.__version__, "weights": head.weights_hash, "strand": read, **opened.facts()}
        folder = parts_folder(target)
        parts = open_parts(folder, facts)
        done = min(len(parts) * ROWS_PER_PART, len(windows))
        task = reporter_or_silent(reporter).start("predicting", len(windows), "sequences", done=done)
        for start in range(done, len(windows), ROWS_PER_PART):
            table = _rows(head, opened, windows, range(start, min(start + ROWS_PER_PART, len(windows))), read)
            parts.append(write_part(folder, len(parts), table))
            task.advance(len(table))
        task.close()
        beyond = sum(len(region) > head.window_bp for region in opened.regions)
    table = pa.concat_tables(pq.read_table(part) for part in parts)
    with whole_file(target) as temporary:
        if target.suffix == ".parquet":
            pq.write_table(table.replace_schema_metadata(metadata(facts)), temporary)
        else:
            options = pyarrow.csv.WriteOptions(delimiter=_DELIMITERS[target.suffix], quoting_style="needed")
            pyarrow.csv.write_csv(table, temporary, options)
    shutil.rmtree(folder)
    return LabelsResult(target, len(table), int((table["n_bases"].to_numpy() == 0).sum()), beyond, read)


def _rows(head: Head, source: Source, windows: Windows, which: range, strand: Strand) -> pa.Table:
    regions = [source.regions[i] for i in which]
    codes = source.read(windows.cuts(which.start, which.stop))
    n_bases = np.array([int((sequence < 4).sum()) for sequence in codes], np.int64)
    known = n_bases > 0
    values = np.zeros((len(codes), len(head.output_names)), np.float32)
    if known.any():
        shown = [sequence for sequence, has_bases in zip(codes, known, strict=True) if has_bases]
        values[known] = np.stack((head.outputs if head.task.is_numbers else head.probabilities)(shown, strand))
    columns = {
        "name": pa.array([region.name or region.contig for region in regions], pa.string()),
        "contig": pa.array([region.contig for region in regions], pa.string()),
        "start": pa.array([region.start for region in regions], pa.int64()),
        "end": pa.array([region.end for region in regions], pa.int64()),
        "strand": pa.array([region.strand for region in regions], pa.string()),
        "n_bases": pa.array(n_bases),
        **_said(head, values, ~known),
    }
    return pa.table(columns)


def _said(head: Head, values: npt.NDArray[np.float32], missing: npt.NDArray[np.bool_]) -> dict[str, pa.Array]:
    found: dict[str, pa.Array] = {}
    if head.task.is_classes:
        names = [head.output_names[i] for i in values.argmax(1).tolist()]
        found["predicted"] = pa.array(names, pa.string(), mask=missing)
    prefix = "value" if head.task.is_numbers else "p"
    for i, name in enumerate(head.output_names):
        found[f"{prefix}_{name}"] = pa.array(values[:, i], pa.float32(), mask=missing)
    return found
