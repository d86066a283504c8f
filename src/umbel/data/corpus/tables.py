"""The tables of a corpus: their columns, and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_NAME = pa.dictionary(pa.int32(), pa.string())
CONTIGS_SCHEMA = pa.schema(
    {
        "assembly": _NAME,
        "contig": pa.string(),
        "length": pa.int64(),
        "role": _NAME,
        "offset": pa.int64(),
        "reason": pa.string(),
    }
)
WINDOWS_SCHEMA = pa.schema(
    {
        "assembly": _NAME,
        "contig": _NAME,
        "start": pa.int64(),
        "end": pa.int64(),
        "role": _NAME,
        "n_bases": pa.int32(),
        "soft_masked": pa.int32(),
    }
)
REGIONS_SCHEMA = pa.schema(
    {"assembly": _NAME, "contig": _NAME, "start": pa.int64(), "end": pa.int64(), "region": pa.uint8()}
)


SEGMENTS_SCHEMA = pa.schema(
    {
        "assembly": _NAME,
        "contig": _NAME,
        "start": pa.int64(),
        "end": pa.int64(),
        "role": _NAME,
        "cluster": pa.int32(),
        "fate": _NAME,
        "copy_of": pa.int32(),
    }
)


def named(codes: npt.NDArray[Any], names: Sequence[str]) -> pa.DictionaryArray:
    """Give a text column as indices into ``names``.

    Examples
    --------
    >>> named(np.array([1, 0]), ["a", "b"]).to_pylist()
    ['b', 'a']
    """
    return pa.DictionaryArray.from_arrays(codes.astype(np.int32), list(names))


def columns_of(table: pa.Table) -> dict[str, npt.NDArray[Any]]:
    """Columns of a table as arrays; a text column becomes codes, and its texts stand under ``<name>_names``."""
    columns: dict[str, npt.NDArray[Any]] = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_dictionary(column.type) or pa.types.is_string(column.type):
            texts = column.dictionary_encode() if pa.types.is_string(column.type) else column.unify_dictionaries()
            whole = pa.chunked_array(texts.chunks, type=texts.type).combine_chunks() if texts.num_chunks else None
            columns[name] = np.empty(0, np.int32) if whole is None else whole.indices.to_numpy()
            columns[f"{name}_names"] = np.array([] if whole is None else whole.dictionary.to_pylist(), dtype=object)
        else:
            columns[name] = column.to_numpy()
    return columns
