"""A table that is written part by part, so that a killed call goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from umbel.errors import RunError
from umbel.files import sha256_json, whole_file, write_json


def parts_folder(target: Path) -> Path:
    """Give the folder in which the parts of a table wait.

    Examples
    --------
    >>> parts_folder(Path("out.parquet")).name
    'out.parquet.parts'
    """
    return target.with_name(target.name + ".parts")


def open_parts(folder: Path, identity: Mapping[str, object]) -> list[Path]:
    """Find the finished parts of an earlier call with the same identity, or start a folder for them.

    Raises
    ------
    RunError
        If the folder belongs to another call.
    """
    key = {"call": sha256_json(identity)}
    described = folder / "call.json"
    if described.is_file():
        if json.loads(described.read_text(encoding="utf-8")) != key:
            raise RunError(
                f"{folder}: holds an unfinished table of other inputs or settings. Finish that call, delete the "
                "folder, or choose another -o"
            )
        return sorted(folder.glob("part-*.parquet"))
    write_json(described, key)
    return []


def write_part(folder: Path, number: int, table: pa.Table) -> Path:
    """Write part ``number``, from 0, whole, in place of one that is there."""
    path = folder / f"part-{number:06d}.parquet"
    with whole_file(path) as temporary:
        pq.write_table(table, temporary)
    return path


def metadata(facts: Mapping[str, object]) -> dict[str, str]:
    """Put what made a table into the form of Parquet's file metadata."""
    return {"umbel": json.dumps(facts, sort_keys=True)}
