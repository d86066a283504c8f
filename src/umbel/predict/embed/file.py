"""Embeddings of a file of sequences or regions, as a table that can be resumed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import umbel
from umbel.errors import ConfigError
from umbel.predict.embed.computing import rows_per_part, vectors
from umbel.predict.embed.rows import require_one_window_each, rows, to_part
from umbel.predict.embed.settings import EmbedSettings
from umbel.predict.embed.source import Source, open_source
from umbel.predict.embed.stored import require_suffix, write_rows
from umbel.predict.embed.windows import Windows
from umbel.predict.parts import open_parts, parts_folder, write_part
from umbel.predict.predictor import Predictor
from umbel.progress import Reporter, reporter_or_silent

if TYPE_CHECKING:
    from umbel.predict.embed.picture import Picture, PictureSettings
    from umbel.predict.search.index import Addition


@dataclass(frozen=True)
class EmbedResult:
    """What was written.

    Attributes
    ----------
    rows, without_bases
        Rows of the table, and how many of them have no real base and so no embedding.
    search
        What was added to a search index, where one was asked for.
    picture
        What was drawn, where a picture was asked for.
    """

    path: Path
    rows: int
    without_bases: int
    search: Addition | None = None
    picture: Picture | None = None


def embed_file(
    predictor: Predictor,
    source: str | Path,
    out: str | Path,
    *,
    fasta: str | Path | None = None,
    regions: Sequence[str] = (),
    settings: EmbedSettings | None = None,
    search: str | Path | None = None,
    species: str = "",
    picture: PictureSettings | None = None,
    reporter: Reporter | None = None,
) -> EmbedResult:
    """Embed every window or record of a FASTA, the ``regions`` of it, or the intervals of a BED on ``fasta``.

    The rows have ``name, contig, start, end, strand, n_bases``, with 0-based half-open positions and the number of real
    bases (A, C, G, T), and D float32. A region on ``-`` is read as its reverse complement.

    A killed run leaves ``<out>.parts``; the same call continues from there and writes the same bytes.

    Parameters
    ----------
    source
        FASTA or 2bit, which is read where needed and never held whole (unless it is plain gzip); or with ``fasta`` a
        BED.
    out
        ``.parquet``: a column ``embedding``, null where there is no real base; what made it is in the metadata, as
        JSON. ``.h5ad`` or ``.zarr``: AnnData, whose X is NaN there; what made it is ``uns["umbel"]``.
    search
        Folder of a search index that gets the rows too, under the name ``species``; see :mod:`umbel.predict.search`.
    picture
        What to draw of the rows.

    Raises
    ------
    FastaError, AnnotationError, ConfigError
        If an input or a setting is wrong; nothing is written then.
    InputError
        If a record or region is shorter than one token of the model; nothing is written then.
    BackendError
        If a package is missing.
    RunError
        If ``<out>.parts`` belongs to another call, or the index to another model or other settings.
    OutputError
        If the disk is full; ``out`` is as it was before.
    """
    target = Path(out)
    require_suffix(target)
    settings = (settings or EmbedSettings()).resolved(predictor)
    if search is not None:
        from umbel.predict.search.index import SearchIndex

        index = SearchIndex.at(search, predictor, settings)
        if not species:
            raise ConfigError("--search needs --species NAME: what the rows of this genome are found by")
    elif species:
        raise ConfigError("--species goes with --search: it is the name that an index keeps beside the rows")
    with open_source(source, fasta, regions) as opened:
        windows = opened.windows(settings.window_bp, settings.stride_bp, predictor.min_bases)
        require_one_window_each(opened, windows, settings)
        if picture is not None:
            picture.require(opened)
        facts = {
            "umbel": umbel.__version__,
            "weights": predictor.weights_hash,
            "precision": predictor.precision,
            "settings": asdict(settings),
            **opened.facts(),
        }
        folder = parts_folder(target)
        parts = open_parts(folder, facts)
        _compute(predictor, opened, windows, settings, parts, folder, reporter_or_silent(reporter))
        n_rows = len(windows) if settings.per == "window" else len(opened.regions)
        blocks = rows(opened, windows, settings, parts)
        n_empty = write_rows(target, blocks, n_rows, predictor.config.d_model, facts)
        added = drawn = None
        if search is not None:
            added = index.add(lambda: rows(opened, windows, settings, parts), species)
        if picture is not None:
            drawn = picture.draw(predictor, opened, windows, settings, parts, reporter_or_silent(reporter))
    shutil.rmtree(folder)
    return EmbedResult(target, n_rows, n_empty, added, drawn)


def _compute(
    predictor: Predictor,
    source: Source,
    windows: Windows,
    settings: EmbedSettings,
    parts: list[Path],
    folder: Path,
    reporter: Reporter,
) -> None:
    """Make the parts that are not there; the disk is written to in another thread."""
    size = rows_per_part(windows)
    done = min(len(parts) * size, len(windows))
    task = reporter.start("embedding", len(windows), "windows", done=done)
    with ThreadPoolExecutor(1, thread_name_prefix="umbel-write") as writer:
        writing: list[Future[Path]] = []
        for found in vectors(predictor, source, windows, settings, done):
            number = len(parts) + len(writing)
            writing.append(writer.submit(write_part, folder, number, to_part(found)))
            # A disk that is full is told at the next part, not at the end.
            for earlier in writing[:-1]:
                parts.append(earlier.result())
            writing = writing[-1:]
            task.advance(len(found.n_bases))
        parts.extend(last.result() for last in writing)
    task.close()
