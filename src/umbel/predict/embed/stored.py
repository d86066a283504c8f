"""The result as a file: Parquet, or AnnData in HDF5 or Zarr, whichever its name says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from umbel.errors import ConfigError
from umbel.extras import require_packages
from umbel.files import whole_file, whole_folder
from umbel.predict.embed.rows import embeddings, schema
from umbel.predict.parts import metadata

SUFFIXES = (".parquet", ".h5ad", ".zarr")
_CHUNK_BYTES = 4 << 20
_NUMBERS = ("start", "end", "n_bases")


def require_suffix(path: Path) -> None:
    """See that a result has a name that says what it is, and that what writes it is installed.

    Raises
    ------
    ConfigError
        Listing the suffixes.
    BackendError
        If a package is missing.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"-o {path}: the name says the format, so end it in {', '.join(SUFFIXES[:-1])} or .zarr")
    if path.suffix != ".parquet":
        require_packages(f"-o {path.name}", "tracks", ("anndata", "zarr", "h5py"))


def write_rows(path: Path, blocks: Iterator[pa.Table], n_rows: int, width: int, facts: Mapping[str, Any]) -> int:
    """Write a table whole, or not at all; give the number of rows without an embedding.

    Parameters
    ----------
    path
        ``.parquet``: a row group a block. ``.h5ad``, ``.zarr``: AnnData, in whose X those rows are NaN.
    facts
        What made it: for Parquet the file's metadata ``umbel`` as JSON, for AnnData ``uns["umbel"]``.
    """
    place: AbstractContextManager[Path] = whole_folder(path) if path.suffix == ".zarr" else whole_file(path)
    with place as temporary:
        if path.suffix == ".parquet":
            return _write_parquet(temporary, blocks, schema(width).with_metadata(metadata(facts)))
        if path.suffix == ".zarr":
            import zarr

            # Version 2 of the format, which all that read AnnData's stores read.
            return _write_anndata(zarr.open_group(temporary, mode="w", zarr_format=2), blocks, n_rows, width, facts)
        import h5py

        with h5py.File(temporary, "w") as file:
            return _write_anndata(file, blocks, n_rows, width, facts)


def _write_parquet(path: Path, blocks: Iterator[pa.Table], columns: pa.Schema) -> int:
    n_empty = 0
    with pq.ParquetWriter(path, columns) as writer:
        for block in blocks:
            writer.write_table(block.replace_schema_metadata(columns.metadata))
            n_empty += block["embedding"].null_count
    return n_empty


def _write_anndata(root: Any, blocks: Iterator[pa.Table], n_rows: int, width: int, facts: Mapping[str, Any]) -> int:
    """Fill a group of HDF5 or Zarr, X block by block; only ``obs`` is held in memory.

    The layout is AnnData's on-disk format: https://anndata.readthedocs.io/en/stable/fileformat-prose.html
    """
    import pandas
    from anndata.io import write_elem

    root.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    rows_a_chunk = max(1, min(n_rows, _CHUNK_BYTES // (4 * width)))
    create = root.create_array if hasattr(root, "create_array") else root.create_dataset
    X = create("X", shape=(n_rows, width), dtype="f4", chunks=(rows_a_chunk, width))
    X.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    place = 0
    columns: dict[str, list[Any]] = {name: [] for name in ("name", "contig", "strand", *_NUMBERS)}
    for block in blocks:
        X[place : place + len(block)] = embeddings(block)
        place += len(block)
        for name, found in columns.items():
            found.append(block[name].to_numpy() if name in _NUMBERS else block[name].to_pylist())
    obs: dict[str, Any] = {name: np.concatenate(columns[name]) for name in _NUMBERS}
    texts = {name: [text for part in columns[name] for text in part] for name in ("name", "contig", "strand")}
    obs |= {"name": texts["name"]}
    obs |= {name: pandas.Categorical(texts[name], list(dict.fromkeys(texts[name]))) for name in ("contig", "strand")}
    order = ["name", "contig", "start", "end", "strand", "n_bases"]
    write_elem(root, "obs", pandas.DataFrame(obs, columns=order, index=[str(i) for i in range(n_rows)]))
    write_elem(root, "var", pandas.DataFrame(index=[f"e{i}" for i in range(width)]))
    write_elem(root, "uns", {"umbel": _plain(facts)})
    for name in ("layers", "obsm", "varm", "obsp", "varp"):
        write_elem(root, name, {})
    return int(np.count_nonzero(obs["n_bases"] == 0))


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Turn lists into text, which HDF5 and Zarr keep alike."""
    return {
        key: _plain(value) if isinstance(value, Mapping) else json.dumps(value) if isinstance(value, list) else value
        for key, value in facts.items()
    }
