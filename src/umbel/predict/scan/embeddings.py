"""Embeddings along whole chromosomes, of contigs far longer than training, in memory that does not grow with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import umbel
from umbel.data.stretches import encode_contig
from umbel.errors import CheckpointError, ConfigError, RunError
from umbel.files import sha256_file, whole_file, write_json
from umbel.genome.fasta import read_fasta
from umbel.model.backbone import Backbone
from umbel.model.hyena import HyenaState
from umbel.model.streaming import Memory, keep_filters, needs_overlap, require_windows, stream
from umbel.predict.parts import metadata, open_parts, parts_folder, write_part
from umbel.predict.predictor import Predictor
from umbel.predict.scan.bins import Bins, OpenBin, no_rows
from umbel.predict.scan.stream_report import MeasuredCost, StreamingReport, Survey, measure, survey
from umbel.progress import Reporter, reporter_or_silent

WINDOWS_PER_PART = 16
"""Windows that are computed between two states on disk; what a killed run repeats at most."""
ROWS_AT_ONCE = 4_096
"""Rows of a row group of the table, about."""


@dataclass(frozen=True)
class ScanSettings:
    """How contigs are cut, averaged and checked.

    Attributes
    ----------
    chunk_tokens
        Tokens that a window gives, at least 1.
    overlap_tokens
        Tokens that a window sees besides, on either side; -1 is 1,024 where the model has attention, else 0.
    bin_bp
        Bases of a row, at least 1.
    check_tokens
        Tokens on which streaming is compared with one pass; 0 leaves the comparison out.
    """

    chunk_tokens: int = 2_048
    overlap_tokens: int = -1
    bin_bp: int = 1_000
    check_tokens: int = 4_096

    def __post_init__(self) -> None:
        for name, least in (("chunk_tokens", 1), ("overlap_tokens", -1), ("bin_bp", 1), ("check_tokens", 0)):
            if getattr(self, name) < least:
                option = name.replace("_", "-")
                raise ConfigError(f"--{option} is {getattr(self, name)}: give {least} or more")

    def resolved(self, backbone: Backbone) -> ScanSettings:
        """Fill in the overlap that this model needs.

        Raises
        ------
        ConfigError
            If the model cannot be streamed in such windows.
        """
        overlap = self.overlap_tokens
        if overlap < 0:
            overlap = 1_024 if needs_overlap(backbone) else 0
        require_windows(backbone, self.chunk_tokens, overlap)
        return replace(self, overlap_tokens=overlap)


@dataclass(frozen=True)
class ScanResult:
    """What was written: rows in the table, how many of them have no embedding, and what streaming cost."""

    path: Path
    rows: int
    without_tokens: int
    streaming: StreamingReport


@dataclass(frozen=True)
class _State:
    """Where a scan stands between two windows: contigs and bases behind it, and how far it is in the next contig."""

    opened: OpenBin
    contig: int = 0
    bases: int = 0
    memory: Memory = field(default_factory=Memory)

    def save(self, folder: Path, parts: int) -> None:
        """Write it whole, as that after ``parts`` parts."""
        states = {layer: (state.recent, state.filter) for layer, state in self.memory.states.items()}
        content = {"contig": self.contig, "bases": self.bases, "done": self.memory.done, "states": states}
        opened = (self.opened.number, torch.from_numpy(self.opened.total), self.opened.count)
        with whole_file(folder / "state.pt") as temporary:
            torch.save({"parts": parts, "opened": opened, **content}, temporary)

    @classmethod
    def load(cls, folder: Path, width: int, device: torch.device) -> tuple[_State, int]:
        """Read it, and the number of parts before it; the beginning where there is none.

        Raises
        ------
        RunError
            If the file is damaged.
        """
        path = folder / "state.pt"
        if not path.is_file():
            return cls(OpenBin(0, np.zeros(width))), 0
        try:
            told: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
            number, total, count = told["opened"]
            states = {layer: HyenaState(*both) for layer, both in told["states"].items()}
            memory = Memory(told["done"], states)
            return cls(OpenBin(number, total.cpu().numpy(), count), told["contig"], told["bases"], memory), told[
                "parts"
            ]
        except Exception as error:
            # A truncated archive fails in many ways (zip, pickle, storage), all of which mean the same here.
            raise RunError(f"{path} is damaged ({type(error).__name__}): delete {folder} and begin again") from error


def _windows(
    predictor: Predictor, source: Path, settings: ScanSettings, state: _State
) -> Iterator[tuple[pa.Table, _State]]:
    """Go on from a state; give the rows that each window finishes, and the state after it."""
    for number, record in enumerate(read_fasta(source)):
        if number < state.contig:
            continue
        n_bases, before = len(record.codes), state.bases
        ids, starts = encode_contig(predictor.tokens, record.codes)
        if state.memory.done:
            before -= int(starts[state.memory.done])
        bins = Bins(record.name, record.codes, settings.bin_bp, state.opened)
        windows = stream(
            predictor.backbone,
            torch.from_numpy(ids).to(predictor.device),
            chunk=settings.chunk_tokens,
            overlap=settings.overlap_tokens,
            memory=state.memory,
        )
        for window in windows:
            here = slice(window.start, window.end)
            hidden = window.hidden.float().cpu().numpy()
            wrong = ~np.isfinite(hidden).all(1)
            if wrong.any():
                place = int(starts[window.start + int(wrong.argmax())])
                raise CheckpointError(
                    f"hidden states are not finite at base {place + 1:,} of contig {record.name!r}: the weights are "
                    "damaged, or their training diverged. Use another checkpoint"
                )
            is_last = window.end == len(ids)
            until = n_bases if is_last else int(starts[window.end])
            rows = bins.add(ids[here], starts[here], hidden, until)
            if is_last:
                state = _State(OpenBin(0, np.zeros(hidden.shape[1])), number + 1, before + n_bases)
            else:
                state = _State(bins.opened, number, before + until, window.memory)
            yield rows, state


def _write_parts(
    predictor: Predictor, source: Path, settings: ScanSettings, folder: Path, total: int, reporter: Reporter
) -> int:
    """Write all parts that are not there yet; give their number."""
    begun, parts = _State.load(folder, predictor.config.d_model, predictor.device)
    tables, done = [], begun.bases
    task = reporter.start("scanning", total, "bases", done)
    for table, state in _windows(predictor, source, settings, begun):
        tables.append(table)
        if len(tables) == WINDOWS_PER_PART:
            write_part(folder, parts, pa.concat_tables(tables))
            parts, tables = parts + 1, []
            state.save(folder, parts)
        task.advance(state.bases - done)
        done = state.bases
    if tables:
        write_part(folder, parts, pa.concat_tables(tables))
        parts += 1
        state.save(folder, parts)
    task.close()
    return parts


def _report(predictor: Predictor, on: Survey, settings: ScanSettings, folder: Path) -> StreamingReport:
    """Measure what streaming costs, or read what an earlier call measured."""
    path = folder / "cost.json"
    if not path.is_file():
        found = measure(predictor, on, settings.chunk_tokens, settings.overlap_tokens, settings.check_tokens)
        write_json(path, found and asdict(found))
    told = json.loads(path.read_text(encoding="utf-8"))
    cost = told and MeasuredCost(**told)
    return StreamingReport(settings.chunk_tokens, settings.overlap_tokens, needs_overlap(predictor.backbone), cost)


def _join(parts: list[Path], target: Path, facts: dict[str, Any], width: int) -> tuple[int, int]:
    """Write the table from its parts, some rows at a time; give its rows, and how many have no embedding."""
    schema = no_rows(width).schema.with_metadata(metadata(facts))
    rows, empty, tables = 0, 0, []
    with whole_file(target) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for i, path in enumerate(parts):
            tables.append(pq.read_table(path))
            rows, empty = rows + len(tables[-1]), empty + tables[-1]["embedding"].null_count
            if sum(map(len, tables)) >= ROWS_AT_ONCE or i + 1 == len(parts):
                whole = pa.concat_tables(tables)
                writer.write_table(whole.cast(schema))
                tables = []
    return rows, empty


def scan_embeddings(
    predictor: Predictor,
    source: str | Path,
    out: str | Path,
    *,
    settings: ScanSettings | None = None,
    reporter: Reporter | None = None,
) -> ScanResult:
    """Embed every ``bin_bp`` bases of every contig of a FASTA, each with its whole contig before it.

    Contigs are read forward, window by window. HyenaLite layers go on from window to window and give what one pass
    over the contig gives; attention sees ``overlap_tokens`` beyond its window at least. What that costs is measured
    and told in the result and in the file's metadata.

    The table has ``contig, start, end, n_bases, embedding``, in file order: 0-based half-open positions, every base
    in exactly one row; real bases (A, C, G, T); and D float32, the mean of the last hidden states over the tokens
    of real bases that begin in the bin, null where there are none.

    Memory holds a contig's letters and tokens, about 6 to 11 bytes a base, and the hidden states of one window.
    A killed run leaves ``<out>.parts``; the same call continues from there and writes the same bytes.

    Raises
    ------
    ConfigError
        If the model has layers that read against time, or the windows do not fit it.
    FastaError, CheckpointError
        If an input is wrong, or hidden states are not finite; nothing is written then.
    RunError
        If ``<out>.parts`` belongs to another call, or is damaged.
    OutputError
        If the disk is full; ``out`` is as it was before.
    """
    reporter = reporter_or_silent(reporter)
    target, origin = Path(out), Path(source)
    settings = (settings or ScanSettings()).resolved(predictor.backbone)
    found = survey(origin, predictor, settings.check_tokens)
    identity = {
        "umbel": umbel.__version__,
        "weights": predictor.weights_hash,
        "source": sha256_file(origin),
        "strand": "forward",
        "settings": asdict(settings),
    }
    folder = parts_folder(target)
    open_parts(folder, identity)
    keep_filters(predictor.backbone, max(settings.chunk_tokens + 2 * settings.overlap_tokens, settings.check_tokens))
    try:
        report = _report(predictor, found, settings, folder)
        n_parts = _write_parts(predictor, origin, settings, folder, found.n_bases, reporter)
    except CheckpointError as error:
        # The same call would fail again: there is nothing to go on from.
        shutil.rmtree(folder)
        raise CheckpointError(f"{predictor.source}: {error}") from error
    facts = {**identity, "streaming": report.as_dict()}
    parts = open_parts(folder, identity)[:n_parts]
    rows, empty = _join(parts, target, facts, predictor.config.d_model)
    shutil.rmtree(folder)
    return ScanResult(target, rows, empty, report)
