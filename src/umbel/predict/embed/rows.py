"""The rows of the result, from the parts on disk: a row a window, or the mean of a sequence's windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from umbel.errors import ConfigError
from umbel.predict.embed.computing import Vectors, rows_per_part
from umbel.predict.embed.settings import EmbedSettings
from umbel.predict.embed.source import Source
from umbel.predict.embed.windows import Integers, Windows


def schema(width: int) -> pa.Schema:
    """Give the columns of the result; a row without real bases has a null embedding of D numbers."""
    return pa.schema(
        [
            ("name", pa.string()),
            ("contig", pa.string()),
            ("start", pa.int64()),
            ("end", pa.int64()),
            ("strand", pa.string()),
            ("n_bases", pa.int64()),
            ("embedding", pa.list_(pa.float32(), width)),
        ]
    )


def to_part(found: Vectors) -> pa.Table:
    """Make the table that waits on disk."""
    flat = pa.array(np.ascontiguousarray(found.values).ravel())
    values = pa.FixedSizeListArray.from_arrays(flat, found.values.shape[1])
    return pa.table({"n_bases": found.n_bases, "values": values})


def _from_part(path: Path) -> Vectors:
    table = pq.read_table(path)
    values = table["values"].combine_chunks()
    return Vectors(table["n_bases"].to_numpy(), values.flatten().to_numpy().reshape(-1, values.type.list_size))


def embeddings(rows: pa.Table) -> np.ndarray:
    """Take the vectors out of rows, float32 ``(n, D)``; NaN where a row has none."""
    column = rows["embedding"].combine_chunks()
    # Not flatten(), which leaves out null rows.
    values = column.values.to_numpy(zero_copy_only=False)
    width = column.type.list_size
    found = values[column.offset * width :][: len(column) * width].reshape(-1, width).copy()
    found[column.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return found


def require_one_window_each(source: Source, windows: Windows, settings: EmbedSettings) -> None:
    """See that what ``--per sequence`` joins can be joined: means can, the pooling of a part is not that of the whole.

    Raises
    ------
    ConfigError
        Saying which sequence is too long.
    """
    long = np.flatnonzero(windows.counts > 1)
    if settings.per == "sequence" and settings.pooling != "mean" and len(long):
        region = source.regions[int(long[0])]
        raise ConfigError(
            f"--per sequence --pooling {settings.pooling}: {region.name or region.contig} has {len(region):,} bases, "
            f"more than one window of {settings.window_bp:,}, and only means of windows can be joined. Give "
            "--pooling mean, a longer --window-bp, or --per window"
        )


def rows(source: Source, windows: Windows, settings: EmbedSettings, parts: Sequence[Path]) -> Iterator[pa.Table]:
    """Give the finished rows block by block; memory holds one part."""
    size = rows_per_part(windows)
    if settings.per == "sequence":
        yield from _joined(source, windows, parts, size)
        return
    for number, path in enumerate(parts):
        cuts, found = windows.cuts(number * size, (number + 1) * size), _from_part(path)
        yield _table(source, cuts.sequence, *source.places(cuts), found)


def _joined(source: Source, windows: Windows, parts: Sequence[Path], size: int) -> Iterator[pa.Table]:
    """Average the windows of each sequence, weighted by their real bases, in float64, in their order."""
    open_sequence, open_total, open_count = -1, np.zeros(0), 0
    for number, path in enumerate(parts):
        cuts, found = windows.cuts(number * size, (number + 1) * size), _from_part(path)
        begins = np.fromiter((run.start for run in cuts.runs()), np.int64)
        sequence = cuts.sequence[begins]
        totals = np.add.reduceat(found.values.astype(np.float64) * found.n_bases[:, None], begins)
        counts = np.add.reduceat(found.n_bases, begins)
        if sequence[0] == open_sequence:
            totals[0] += open_total
            counts[0] += open_count
        elif open_sequence >= 0:
            sequence = np.concatenate([[open_sequence], sequence])
            totals, counts = np.concatenate([[open_total], totals]), np.concatenate([[open_count], counts])
        open_sequence, open_total, open_count = int(sequence[-1]), totals[-1], int(counts[-1])
        # The last sequence may go on in the next part.
        n = len(sequence) if number == len(parts) - 1 else len(sequence) - 1
        if n:
            means = (totals[:n] / np.maximum(counts[:n], 1)[:, None]).astype(np.float32)
            regions = [source.regions[i] for i in sequence[:n].tolist()]
            start, end = (np.array([getattr(r, edge) for r in regions], np.int64) for edge in ("start", "end"))
            yield _table(source, sequence[:n], start, end, Vectors(counts[:n], means))


def _table(source: Source, sequence: Integers, start: Integers, end: Integers, found: Vectors) -> pa.Table:
    regions = [source.regions[i] for i in sequence.tolist()]
    width = found.values.shape[1]
    flat = pa.array(np.ascontiguousarray(found.values).ravel())
    columns = {
        "name": [region.name or region.contig for region in regions],
        "contig": [region.contig for region in regions],
        "start": start,
        "end": end,
        "strand": [region.strand for region in regions],
        "n_bases": found.n_bases,
        "embedding": pa.FixedSizeListArray.from_arrays(flat, width, mask=pa.array(found.n_bases == 0)),
    }
    return pa.table(columns, schema=schema(width))
