"""Every number of a comparison as tables, tidy, one row a thing: Parquet and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from umbel.evaluate.experts.table_files import write_table
from umbel.evaluate.metrics import Estimate

_TEXT, _INT, _FLOAT, _BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()

_PAIR = {"first": _TEXT, "second": _TEXT}
_SITE = {"site": _INT, "layer": _INT}


def _estimate(name: str) -> dict[str, pa.DataType]:
    return {name: _FLOAT, f"{name}_low": _FLOAT, f"{name}_high": _FLOAT}


COLUMNS: dict[str, dict[str, pa.DataType]] = {
    "agreement": _PAIR
    | {"is_control": _BOOL}
    | _SITE
    | {"name": _TEXT, "n_experts": _INT, "top_k": _INT, "random_k": _FLOAT, "n_items": _INT, "n_units": _INT}
    | _estimate("agreement")
    | {"expected": _FLOAT}
    | _estimate("above_chance")
    | {"same_first": _FLOAT, "entropy_first": _FLOAT, "entropy_second": _FLOAT}
    | _estimate("entropy_change")
    | {"load_js": _FLOAT},
    "transitions": _PAIR
    | {"is_control": _BOOL}
    | _SITE
    | {"labelling": _TEXT, "class": _TEXT, "expert_first": _INT, "expert_second": _INT, "n": _INT},
    "saturation": {"checkpoint": _TEXT, "order": _INT, "step": _INT}
    | _SITE
    | _estimate("agreement")
    | {"expected": _FLOAT, "random_k": _FLOAT},
    "drift": _PAIR
    | {"group": _TEXT, "layer": _INT, "expert": _INT, "n_parameters": _INT, "relative_change": _FLOAT}
    | {"cosine": _FLOAT, "moved_share": _FLOAT, "is_frozen": _BOOL},
    "differentiation": {"checkpoint": _TEXT, "is_control": _BOOL, "labelling": _TEXT}
    | _SITE
    | {"n_classes": _INT}
    | _estimate("js")
    | {"js_raw": _FLOAT, "floor": _FLOAT, "bound": _FLOAT},
    "stages": {"labelling": _TEXT}
    | _SITE
    | {"stage": _TEXT}
    | _estimate("change")
    | {"order_low": _FLOAT, "order_high": _FLOAT}
    | _estimate("share")
    | _estimate("total")
    | {"is_suppressed": _BOOL, "is_order_dependent": _BOOL},
    "matching": _PAIR
    | {"n_controls": _INT}
    | _SITE
    | {"by": _TEXT, "raw": _FLOAT}
    | _estimate("matched")
    | {"held_out": _FLOAT, "chance": _FLOAT, "chance_high": _FLOAT, "p": _FLOAT},
    "partners": _PAIR | _SITE | {"by": _TEXT, "expert_first": _INT, "expert_second": _INT, "similarity": _FLOAT},
    "seeds": _SITE
    | {"by": _TEXT, "n_seeds": _INT, "n_pairs": _INT, "raw": _FLOAT, "matched": _FLOAT, "sd": _FLOAT}
    | {
        "chance": _FLOAT,
        "random": _FLOAT,
        "trained_to_random": _FLOAT,
        "control_high": _FLOAT,
        "n_control_pairs": _INT,
    },
}
"""Tables and their columns."""


def as_table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Make a table of rows.

    Raises
    ------
    ValueError
        If a row has other columns than the table, which would be dropped without a word.
    """
    columns = COLUMNS[name]
    for row in rows:
        if row.keys() != columns.keys():
            raise ValueError(f"{name}: a row has {sorted(row.keys() ^ columns.keys())} more or less than the table")
    return pa.table({key: pa.array([row[key] for row in rows], kind) for key, kind in columns.items()})


def write_tables(folder: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Path]:
    """Write ``NAME.parquet`` and ``NAME.csv`` of each table that has rows, each whole or not at all."""
    written: list[Path] = []
    for name, rows in tables.items():
        if rows:
            written += write_table(folder, name, as_table(name, rows))
    return written


def spread(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    """Give an estimate as the columns of a table; None where there is none.

    Examples
    --------
    >>> spread("js", Estimate(0.2, 0.1, 0.3))
    {'js': 0.2, 'js_low': 0.1, 'js_high': 0.3}
    """
    if estimate is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
