"""A search index: one LanceDB table of vectors and where they come from, of one model and one way of cutting."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from umbel.errors import RunError
from umbel.extras import require_packages
from umbel.files import writing
from umbel.predict.embed.rows import embeddings
from umbel.predict.embed.scaling import Scaling
from umbel.predict.embed.settings import EmbedSettings
from umbel.predict.predictor import Predictor
from umbel.predict.search.filters import quoted

_TABLE = "embeddings"
_KEYS = ("contig", "start", "end", "strand", "name")
_COMPARED = 1_000
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Addition:
    """What came to an index: rows added, rows that were there already, and rows without an embedding, left out."""

    path: Path
    added: int
    there_already: int
    without_bases: int


def _database(folder: Path) -> Any:
    require_packages("a search index", "search", ("lancedb",))
    # Its log tells of every table that is made for the first time.
    os.environ.setdefault("LANCE_LOG", "error")
    import lancedb

    return lancedb.connect(str(folder))


def _is_there(folder: Path) -> bool:
    """Whether a table was committed: a call that was killed before leaves files, and none of these."""
    return any((folder / f"{_TABLE}.lance" / "_versions").glob("*.manifest"))


class SearchIndex:
    """Rows of one or several species, found by the cosine of scaled vectors.

    Attributes
    ----------
    path
        Its folder, which LanceDB reads too (table ``embeddings``).
    weights, precision
        SHA-256 of the weights that made the vectors, and in what these computed.
    settings
        How sequences were cut and pooled.
    scaling
        Of the rows that came first: ``vector`` in the table is what it makes of an embedding. None in an index that
        has no row yet, and so no table.
    table
        The table of LanceDB.
    """

    def __init__(
        self, path: Path, weights: str, precision: str, settings: EmbedSettings, scaling: Scaling | None, table: Any
    ):
        self.path, self.weights, self.precision, self.settings = path, weights, precision, settings
        self.scaling, self.table = scaling, table

    @classmethod
    def open(cls, path: str | Path) -> SearchIndex:
        """Open an index that is there.

        Raises
        ------
        RunError
            If the folder holds none, or one that umbel did not make.
        """
        folder = Path(path)
        if not _is_there(folder):
            raise RunError(f"{folder} holds no search index: make one with umbel embed ... --search {folder}")
        table = _database(folder).open_table(_TABLE)
        try:
            told = json.loads(table.schema.metadata[b"umbel"])
            scaling = Scaling(*(np.array(told[name], np.float32) for name in ("mean", "spread")))
            return cls(folder, told["weights"], told["precision"], EmbedSettings(**told["settings"]), scaling, table)
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{folder} holds a LanceDB table that umbel did not make: choose another folder") from error

    @classmethod
    def at(cls, path: str | Path, predictor: Predictor, settings: EmbedSettings) -> SearchIndex:
        """Open an index for the vectors of a model; where there is none, its first rows will make it.

        Raises
        ------
        RunError
            If the one that is there has vectors of other weights, or of other settings.
        """
        folder = Path(path)
        if not _is_there(folder):
            require_packages("a search index", "search", ("lancedb",))
            return cls(folder, predictor.weights_hash, predictor.precision, settings, None, None)
        index = cls.open(folder)
        index.require_model(predictor)
        differ = [name for name, value in asdict(settings).items() if getattr(index.settings, name) != value]
        if differ:
            told = ", ".join(
                f"--{name.replace('_', '-')} {getattr(index.settings, name)} and not {getattr(settings, name)}"
                for name in differ
            )
            raise RunError(f"{folder} was made with {told}: give the same, or choose another folder")
        return index

    def require_model(self, predictor: Predictor) -> None:
        """See that a model is the one that made the vectors, in the same precision.

        Raises
        ------
        RunError
            With both hashes, or both precisions.
        """
        if predictor.weights_hash != self.weights:
            raise RunError(
                f"{self.path} holds vectors of weights {self.weights[:12]}, and this model's are "
                f"{predictor.weights_hash[:12]}: distances between the two mean nothing. Use the model that made the "
                "index, or choose another folder"
            )
        if predictor.precision != self.precision:
            raise RunError(
                f"{self.path} holds vectors that were computed in {self.precision}, and this model is loaded in "
                f"{predictor.precision}: give --precision {self.precision}"
            )

    def species(self) -> dict[str, int]:
        """Count the rows of each species."""
        column = self.table.search().select(["species"]).limit(None).to_arrow()["species"]
        counted = pc.value_counts(column.combine_chunks()).to_pylist()
        return {row["values"]: row["counts"] for row in sorted(counted, key=lambda row: row["values"])}

    def add(self, blocks: Callable[[], Iterator[pa.Table]], species: str) -> Addition:
        """Add rows that are not there yet, all of them or none.

        Parameters
        ----------
        blocks
            Gives them from the first on at every call, as :func:`umbel.predict.embed.rows.rows` does.

        Raises
        ------
        RunError
            If a row that is there has another vector: then it is of another assembly.
        OutputError
            If the disk is full.
        """
        there, samples = self._rows_of(species)
        self._require_same(blocks() if samples else iter(()), samples, species)
        n_before = len(there)
        counts = {"seen": 0, "empty": 0}
        scaling = self.scaling or self._measured(blocks())
        columns = _schema(len(scaling.mean))

        def new() -> Iterator[pa.RecordBatch]:
            for block in blocks():
                counts["empty"] += block["embedding"].null_count
                block = block.filter(pc.is_valid(block["embedding"]))
                counts["seen"] += len(block)
                is_new = []
                for key in _keys(block):
                    is_new.append(key not in there)
                    there.add(key)
                fresh = block.filter(pa.array(is_new, pa.bool_()))
                values: dict[str, Any] = {name: fresh[name] for name in (*_KEYS, "n_bases")}
                for name, text in (("species", species), ("weights", self.weights)):
                    values[name] = pa.array([text] * len(fresh), pa.string())
                flat = pa.array(scaling.apply(embeddings(fresh)).ravel())
                values["vector"] = pa.FixedSizeListArray.from_arrays(flat, len(scaling.mean))
                yield from pa.table({name: values[name] for name in columns.names}, schema=columns).to_batches()

        # One commit: a killed call has added nothing.
        with writing(self.path):
            if self.table is None:
                self._create(scaling, columns, new())
            else:
                self.table.add(pa.RecordBatchReader.from_batches(columns, new()))
        added = len(there) - n_before
        return Addition(self.path, added, counts["seen"] - added, counts["empty"])

    def _measured(self, blocks: Iterator[pa.Table]) -> Scaling:
        try:
            return Scaling.of(embeddings(block.filter(pc.is_valid(block["embedding"]))) for block in blocks)
        except ValueError as error:
            raise RunError(f"{self.path}: no row has an embedding, so there is nothing to search") from error

    def _create(self, scaling: Scaling, columns: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        facts = {"weights": self.weights, "precision": self.precision, "settings": asdict(self.settings)}
        facts |= {"mean": scaling.mean.tolist(), "spread": scaling.spread.tolist()}
        told = columns.with_metadata({"umbel": json.dumps(facts, sort_keys=True)})
        self.path.mkdir(parents=True, exist_ok=True)
        reader = pa.RecordBatchReader.from_batches(columns, batches)
        self.table = _database(self.path).create_table(_TABLE, reader, schema=told)
        self.scaling = scaling

    def _rows_of(self, species: str) -> tuple[set[tuple[Any, ...]], dict[tuple[Any, ...], np.ndarray]]:
        """Give the keys of a species' rows, and some of their vectors."""
        if self.table is None:
            return set(), {}
        mine = self.table.search().where(f"species = {quoted(species)}")
        rows = mine.select(list(_KEYS)).limit(None).to_arrow()
        some = mine.select([*_KEYS, "vector"]).limit(_COMPARED).to_arrow()
        vectors = np.array(some["vector"].to_pylist(), np.float32)
        return set(_keys(rows)), dict(zip(_keys(some), vectors, strict=True))

    def _require_same(
        self, blocks: Iterator[pa.Table], samples: dict[tuple[Any, ...], np.ndarray], species: str
    ) -> None:
        """See that rows which are there already have the vectors that they had."""
        for block in blocks:
            keys = _keys(block)
            known = [i for i, key in enumerate(keys) if key in samples]
            if not known:
                continue
            there = np.stack([samples[keys[i]] for i in known])
            # A row without an embedding is not in the index: its NaN is not near either.
            assert self.scaling is not None
            found = self.scaling.apply(embeddings(block.take(known)))
            near = np.linalg.norm(found - there, axis=1) <= _TOLERANCE * np.linalg.norm(there, axis=1)
            if not near.all():
                contig, start, end, *_ = keys[known[int(near.argmin())]]
                raise RunError(
                    f"{self.path} has another vector of {species} {contig}:{start + 1}-{end}, so that was another "
                    "sequence. Is this another assembly? Give it a --species of its own"
                )


def _keys(rows: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(rows[name].to_pylist() for name in _KEYS), strict=True))


def _schema(width: int) -> pa.Schema:
    return pa.schema(
        [
            ("species", pa.string()),
            ("contig", pa.string()),
            ("start", pa.int64()),
            ("end", pa.int64()),
            ("strand", pa.string()),
            ("name", pa.string()),
            ("n_bases", pa.int64()),
            ("vector", pa.list_(pa.float32(), width)),
            ("weights", pa.string()),
        ]
    )
