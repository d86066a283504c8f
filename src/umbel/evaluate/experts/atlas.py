"""The expert atlas as numbers: facts, and tidy tables with one row a thing; what the page draws and others read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from umbel.errors import RunError
from umbel.evaluate.experts.table_files import write_table
from umbel.files import sha256_file, whole_folder, write_json

ATLAS_FILE, TABLES_FOLDER = "atlas.json", "tables"
_FORMAT = 1
_TYPES = {"int": pa.int64(), "real": pa.float64(), "text": pa.string(), "bool": pa.bool_()}
_ROUNDING = 1e-9


def _schema(*columns: str) -> pa.Schema:
    """Make a schema from ``name type``; a type that ends in ``?`` may be null."""
    fields = []
    for column in columns:
        name, kind = column.split()
        fields.append(pa.field(name, _TYPES[kind.rstrip("?")], nullable=kind.endswith("?")))
    return pa.schema(fields)


SCHEMAS: dict[str, pa.Schema] = {
    "layers": _schema(
        "site int", "layer int", "name text", "n_experts int", "top_k int", "n_shared int", "scores text",
        "n_items int", "max_over_mean real", "max_over_mean_bound real", "cv real", "cv_bound real", "gini real",
        "effective_experts real", "load_entropy real", "n_dead int", "n_starving int", "is_enough bool",
        "router_entropy real?", "router_entropy_share real?", "margin real?",
    ),
    "experts": _schema(
        "site int", "layer int", "expert int", "n_choices int", "load real", "load_low real?", "load_high real?",
        "weight_share real?", "is_dead bool", "is_starving bool", "ablation real?", "ablation_low real?",
        "ablation_high real?",
    ),
    "enrichment": _schema(
        "labelling text", "level text", "class text", "site int", "layer int", "expert int", "n_joint int",
        "n_class int", "share_in_class real?", "share_overall real?", "log2_odds real?", "low real?", "high real?",
        "p real?", "q real?", "z real?",
    ),
    "divergence": _schema(
        "labelling text", "class_a text", "class_b text", "site int", "layer int", "js real?", "js_low real?",
        "js_high real?", "js_bits real?", "js_share real?", "floor real?", "js_corrected real?",
    ),
    "information": _schema(
        "labelling text", "site int", "layer int", "n_classes int", "mi real?", "mi_low real?", "mi_high real?",
        "mi_bits real?", "mi_share real?", "chance real?", "p real?", "random real?",
        "context_base real?", "context_3mer real?", "context_6mer real?", "context_token real?",
    ),
    "coactivation": _schema(
        "site int", "layer int", "expert_a int", "expert_b int", "n int", "observed real?", "expected real?",
        "lift real?",
    ),
    "paths": _schema("site_before int", "site int", "expert_before int", "expert int", "n int"),
    "logos": _schema("site int", "layer int", "expert int", "offset int", "base text", "n int"),
    "top_windows": _schema(
        "site int", "layer int", "expert int", "rank int", "contig text", "start int", "end int", "share real",
        "classes text",
    ),
    "ablation": _schema(
        "site int", "layer int", "expert int", "labelling text", "class text", "n_bases int", "delta real?",
        "low real?", "high real?",
    ),
}  # fmt: skip
"""Columns of every table and their types. Nats where nothing else is said; ``start`` is 0-based, ``end`` excluded;
``n_class`` and ``n_joint`` count choices (top-k a base), so that ``share_in_class`` is their ratio."""

KEYS: dict[str, tuple[str, ...]] = {
    "layers": ("site",),
    "experts": ("site", "expert"),
    "enrichment": ("labelling", "class", "site", "expert"),
    "divergence": ("labelling", "class_a", "class_b", "site"),
    "information": ("labelling", "site"),
    "coactivation": ("site", "expert_a", "expert_b"),
    "paths": ("site_before", "site", "expert_before", "expert"),
    "logos": ("site", "expert", "offset", "base"),
    "top_windows": ("site", "expert", "rank"),
    "ablation": ("site", "expert", "labelling", "class"),
}
"""The columns of each table that together name a row."""

_RANGES: dict[str, tuple[float, float]] = {
    "load": (0, 1), "weight_share": (0, 1), "gini": (0, 1), "load_entropy": (0, 1), "router_entropy_share": (0, 1),
    "share_in_class": (0, 1), "share_overall": (0, 1), "p": (0, 1), "q": (0, 1), "js": (0, math.log(2)),
    "js_bits": (0, 1), "js_share": (0, 1), "observed": (0, 1), "share": (0, 1), "n": (0, math.inf),
    "n_choices": (0, math.inf), "n_joint": (0, math.inf), "n_class": (0, math.inf), "top_k": (1, math.inf),
}  # fmt: skip
_SAMPLE = ("n_items", "n_stretches", "n_units", "effective_units")


def make_table(name: str, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> pa.Table:
    """Make a table of the atlas from its columns; None and NaN are null.

    Raises
    ------
    RunError
        If a column is missing, unknown, or holds what it may not; it names table and column.

    Examples
    --------
    >>> columns = {"site_before": [0], "site": [1], "expert_before": [2], "expert": [3], "n": [40]}
    >>> make_table("paths", columns).num_rows
    1
    """
    schema = SCHEMAS[name]
    _check_names(name, columns.keys())
    arrays = []
    for field in schema:
        try:
            arrays.append(pa.array(columns[field.name], type=field.type, from_pandas=True))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise RunError(f"table {name}, column {field.name}: is no column of {field.type}: {error}") from error
    try:
        return pa.Table.from_arrays(arrays, schema=schema)
    except pa.ArrowException as error:
        lengths = ", ".join(f"{field.name} {len(a)}" for field, a in zip(schema, arrays, strict=True))
        raise RunError(f"table {name}: the columns differ in length: {lengths}") from error


def empty_table(name: str) -> pa.Table:
    """Make a table without rows, for what was not measured.

    Examples
    --------
    >>> empty_table("coactivation").num_rows
    0
    """
    return SCHEMAS[name].empty_table()


@dataclass(frozen=True)
class Atlas:
    """What is known of a model's experts.

    Parameters
    ----------
    facts
        Plain JSON: dictionaries ``model``, ``source``, ``settings``, ``versions``; ``sample`` with ``n_items``,
        ``n_stretches``, ``n_units``, ``effective_units`` (None where not known), and ``item``, what an item is
        called (``base`` or ``token``); ``notes``, sentences that the page shows. May have ``tracks``, files beside
        the page, and ``labellings``, dictionaries of ``name``, ``level`` and ``classes`` in the order of the page.
    tables
        One of each of :data:`SCHEMAS`; see :func:`make_table` and :func:`empty_table`.

    Raises
    ------
    RunError
        If a table or column is missing, of another type, or holds an impossible number; it names both.
    """

    facts: dict[str, Any]
    tables: dict[str, pa.Table]

    def __post_init__(self) -> None:
        _check_facts(self.facts)
        if missing := [name for name in SCHEMAS if name not in self.tables]:
            raise RunError(
                f"an atlas without table {missing[0]}: give empty_table({missing[0]!r}) where nothing was measured"
            )
        if unknown := [name for name in self.tables if name not in SCHEMAS]:
            raise RunError(f"an atlas has no table {unknown[0]}; it has {', '.join(SCHEMAS)}")
        for name, table in self.tables.items():
            _check_table(name, table)
        _check_references(self.tables)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Give the rows of a table as dictionaries."""
        return self.tables[name].to_pylist()

    def save(self, folder: str | Path) -> list[Path]:
        """Write ``atlas.json`` and each table as Parquet and CSV in ``tables/``; other files there stay.

        Returns
        -------
        The files.

        Raises
        ------
        OutputError
            If the disk is full, or not ours to write to.
        """
        folder = Path(folder)
        tables = folder / TABLES_FOLDER
        told: dict[str, Any] = {}
        with whole_folder(tables) as temporary:
            for name, table in self.tables.items():
                file, _ = write_table(temporary, name, table)
                told[name] = {"rows": table.num_rows, "sha256": sha256_file(file)}
        # Last, with the hashes of the tables: a stop between the two is then seen when they are read.
        write_json(folder / ATLAS_FILE, {"format": _FORMAT, "facts": self.facts, "tables": told})
        return [folder / ATLAS_FILE, *sorted(tables.iterdir())]

    @classmethod
    def load(cls, folder: str | Path) -> Atlas:
        """Read what :meth:`save` wrote.

        Raises
        ------
        RunError
            If the folder holds no atlas, a newer one, or tables of another one.
        """
        folder = Path(folder)
        path = folder / ATLAS_FILE
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            facts, tables = dict(told["facts"]), dict(told["tables"])
        except FileNotFoundError as error:
            raise RunError(f"{folder} holds no expert atlas: it has no {ATLAS_FILE}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} is not the {ATLAS_FILE} of an expert atlas: make the atlas again") from error
        if told.get("format") != _FORMAT:
            raise RunError(f"{path} has format {told.get('format')}; this umbel reads format {_FORMAT}: update umbel")
        return cls(facts, {name: _read_table(folder, name, about) for name, about in tables.items()})


def _read_table(folder: Path, name: str, about: Mapping[str, Any]) -> pa.Table:
    path = folder / TABLES_FOLDER / f"{name}.parquet"
    if not path.is_file():
        raise RunError(f"{path} is missing: make the atlas again")
    if sha256_file(path) != about["sha256"]:
        raise RunError(f"{path} is not the table that {ATLAS_FILE} tells of: make the atlas again")
    return parquet.read_table(path)


def _check_facts(facts: Mapping[str, Any]) -> None:
    for name in ("model", "source", "settings", "versions", "sample"):
        if not isinstance(facts.get(name), dict):
            raise RunError(f"facts of an atlas, {name}: must be a dictionary, not {facts.get(name)!r}")
    for name in _SAMPLE:
        value = facts["sample"].get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        if not is_number and not (name == "effective_units" and value is None and name in facts["sample"]):
            raise RunError(f"facts of an atlas, sample.{name}: must be a number of 0 or more, not {value!r}")
    for name, is_needed in (("notes", True), ("tracks", False)):
        value = facts.get(name, None if is_needed else [])
        if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
            raise RunError(f"facts of an atlas, {name}: must be a list of texts, not {value!r}")
    for path in facts.get("tracks", []):
        if not path or path.startswith(("/", "\\")) or ":" in path or ".." in Path(path).parts:
            raise RunError(f"facts of an atlas, tracks: {path!r} is not a path below the folder of the page")
    try:
        json.dumps(facts, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RunError(f"the facts of an atlas are not plain JSON: {error}") from error


def _check_names(name: str, columns: Any) -> None:
    wanted = SCHEMAS[name].names
    if missing := [column for column in wanted if column not in columns]:
        raise RunError(f"table {name}, column {missing[0]}: is missing")
    if unknown := [column for column in columns if column not in wanted]:
        raise RunError(f"table {name}, column {unknown[0]}: is unknown; the table has {', '.join(wanted)}")


def _check_table(name: str, table: pa.Table) -> None:
    _check_names(name, table.column_names)
    for field in SCHEMAS[name]:
        column, where = table.column(field.name), f"table {name}, column {field.name}"
        if column.type != field.type:
            raise RunError(f"{where}: is of type {column.type}, not {field.type}")
        if column.null_count and not field.nullable:
            raise RunError(f"{where}: {column.null_count} rows have no value, and it may not be null")
        if pa.types.is_floating(field.type) and not pc.all(pc.is_finite(column), min_count=0).as_py():
            raise RunError(f"{where}: holds NaN or infinity; what is not known is null")
        if field.name in _RANGES and len(column) > column.null_count:
            low, high = _RANGES[field.name]
            found = pc.min_max(column).as_py()
            if found["min"] < low - _ROUNDING or found["max"] > high + _ROUNDING:
                bounds = f"{low:g} or more" if high == math.inf else f"within {low:g} and {high:.6g}"
                raise RunError(f"{where}: must be {bounds}, and is from {found['min']:g} to {found['max']:g}")
    if table.num_rows and table.select(KEYS[name]).group_by(list(KEYS[name])).aggregate([]).num_rows < table.num_rows:
        raise RunError(f"table {name}, columns {', '.join(KEYS[name])}: two rows have the same values in all of these")


def _check_references(tables: Mapping[str, pa.Table]) -> None:
    """See that every site and expert that a table tells of exists."""
    layers = tables["layers"]
    n_experts = dict(zip(layers["site"].to_pylist(), layers["n_experts"].to_pylist(), strict=True))
    pairs = {"expert": "site", "expert_a": "site", "expert_b": "site", "expert_before": "site_before"}
    for name, table in tables.items():
        for column in ("site", "site_before"):
            if column in table.column_names:
                unknown = set(table[column].unique().to_pylist()) - n_experts.keys()
                if unknown:
                    raise RunError(f"table {name}, column {column}: site {min(unknown)} is not in table layers")
        for column, site in pairs.items():
            if column in table.column_names and table.num_rows:
                top = table.group_by(site).aggregate([(column, "max"), (column, "min")]).to_pydict()
                for which, high, low in zip(top[site], top[f"{column}_max"], top[f"{column}_min"], strict=True):
                    if low < 0 or high >= n_experts[which]:
                        raise RunError(
                            f"table {name}, column {column}: site {which} has experts 0 to {n_experts[which] - 1}, "
                            f"not {low if low < 0 else high}"
                        )
