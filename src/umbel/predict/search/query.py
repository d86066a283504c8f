"""Queries to a search index: a FASTA, a region of a genome or letters, embedded as the index was."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from umbel.errors import ConfigError
from umbel.genome.annotation import some_names
from umbel.genome.interval import Interval
from umbel.genome.sequence import IUPAC
from umbel.predict.embed.computing import all_vectors
from umbel.predict.embed.source import Source, open_source
from umbel.predict.predictor import Predictor
from umbel.predict.search.filters import condition
from umbel.predict.search.index import SearchIndex

_LISTS = 256


@dataclass(frozen=True)
class Found:
    """A row that was found.

    Attributes
    ----------
    query
        Name of the query, and its bases where it is one window of several.
    rank
        From 1, the most similar.
    similarity
        Cosine of the angle between the two scaled vectors, -1 to 1.
    species, name, interval, n_bases
        Of the row.
    """

    query: str
    rank: int
    similarity: float
    species: str
    name: str
    interval: Interval
    n_bases: int


@dataclass(frozen=True)
class SearchResult:
    """What was found, query by query; the rows of the index, and the queries that have no real base."""

    found: tuple[Found, ...]
    n_rows: int
    without_bases: tuple[str, ...]
    is_exact: bool


def search(
    predictor: Predictor,
    index: str | Path,
    query: str | Path,
    *,
    fasta: str | Path | None = None,
    k: int = 10,
    species: str = "",
    contig: str = "",
    interval: str = "",
    approximate: bool = False,
) -> SearchResult:
    """Find the rows of an index whose vectors point the most nearly where those of a query point.

    A query is cut and pooled as the index was, so one that is longer than a window is several.

    Parameters
    ----------
    query
        A FASTA or 2bit, every record of which is asked; with ``fasta``, a region of it such as ``chr1:1-1,000``
        (1-based, inclusive) or a BED; else letters.
    k
        Rows for each query.
    species, contig, interval
        Only rows of these; of an interval, such as ``chr1:1-1,000``, rows that share a base with it.
    approximate
        Use an index of LanceDB (lists of near vectors), made at the first such call, instead of looking at every row.

    Raises
    ------
    RunError
        If there is no index, or it is of other weights.
    ConfigError
        If the query is nothing of these, or the index has no row of that species or contig.
    FastaError, AnnotationError, InputError
        If a file is wrong, or a query is shorter than one token.
    """
    if k < 1:
        raise ConfigError(f"-k {k}: ask for 1 or more")
    opened = SearchIndex.open(index)
    opened.require_model(predictor)
    where = condition(species, contig, Interval.parse(interval) if interval else None)
    n_rows = opened.table.count_rows()
    if approximate:
        _require_lists(opened, n_rows)
    names, n_bases, vectors = _vectors(predictor, opened, query, fasta)
    found: list[Found] = []
    for name, n, vector in zip(names, n_bases.tolist(), vectors, strict=True):
        if n:
            found += _nearest(opened, name, vector, where, k, approximate)
    if where and not found and n_bases.any():
        _explain(opened, species, where)
    return SearchResult(tuple(found), n_rows, tuple(np.array(names)[n_bases == 0].tolist()), not approximate)


def _vectors(
    predictor: Predictor, index: SearchIndex, query: str | Path, fasta: str | Path | None
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Give names, real bases and vectors of a query: its windows, or its sequences where the index is of those."""
    settings = index.settings
    assert index.scaling is not None
    with _opened(query, fasta) as source:
        windows = source.windows(settings.window_bp, settings.stride_bp, predictor.min_bases)
        found = all_vectors(predictor, source, windows, settings)
        if settings.per == "sequence":
            names = [region.name or region.contig for region in source.regions]
            return names, found.n_bases, index.scaling.apply(found.values)
        cuts, names = windows.cuts(0, len(windows)), []
        for sequence, first, last in zip(*(x.tolist() for x in (cuts.sequence, cuts.start, cuts.end)), strict=True):
            region = source.regions[sequence]
            part = f" {first + 1}-{last}" if windows.counts[sequence] > 1 else ""
            names.append(f"{region.name or region.contig}{part}")
        return names, found.n_bases, index.scaling.apply(found.values)


@contextmanager
def _opened(query: str | Path, fasta: str | Path | None) -> Iterator[Source]:
    text = str(query)
    if Path(query).is_file():
        with open_source(query, fasta) as source:
            yield source
    elif fasta is not None:
        with open_source(fasta, regions=[text]) as source:
            yield source
    elif text and not set(text.upper()) - set(IUPAC):
        with tempfile.TemporaryDirectory(prefix="umbel-") as folder:
            letters = Path(folder) / "query.fa"
            letters.write_text(f">query\n{text}\n")
            with open_source(letters) as source:
                yield source
    else:
        raise ConfigError(
            f"query {text}: there is no such file, and these are no bases. Give a FASTA, letters, or a region such as "
            "chr1:1-1000 with --fasta"
        )


def _nearest(
    index: SearchIndex, name: str, vector: np.ndarray, where: str, k: int, approximate: bool
) -> Iterator[Found]:
    asked = index.table.search(vector, vector_column_name="vector").distance_type("cosine").limit(k)
    asked = asked.nprobes(20) if approximate else asked.bypass_vector_index()
    if where:
        asked = asked.where(where, prefilter=True)
    columns = ["species", "name", "contig", "start", "end", "strand", "n_bases", "_distance"]
    rows = asked.select(columns).to_arrow().to_pylist()
    rows.sort(key=lambda row: (row["_distance"], row["species"], row["contig"], row["start"], row["end"]))
    for rank, row in enumerate(rows, start=1):
        place = Interval(row["contig"], row["start"], row["end"], row["strand"], row["name"])
        yield Found(name, rank, 1 - row["_distance"], row["species"], row["name"], place, row["n_bases"])


def _require_lists(index: SearchIndex, n_rows: int) -> None:
    """Make lists of near vectors, or take in the rows that were added since."""
    from lancedb.index import IvfFlat

    if n_rows < _LISTS:
        raise ConfigError(f"--approximate: {index.path} has {n_rows} rows, and below {_LISTS} there is nothing to gain")
    if index.table.list_indices():
        index.table.optimize()
    else:
        index.table.create_index("vector", config=IvfFlat(distance_type="cosine"))


def _explain(index: SearchIndex, species: str, where: str) -> None:
    """Say why nothing was found under a condition.

    Raises
    ------
    ConfigError
        Always.
    """
    there = index.species()
    if species and species not in there:
        raise ConfigError(f"{index.path} has no species {species!r}; it has {some_names(there)}")
    raise ConfigError(f"no row of {index.path} fulfils {where}")
