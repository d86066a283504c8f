"""A table on disk, as Parquet for programs and as CSV for everything else."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet

from umbel.files import whole_file


def write_table(folder: Path, name: str, table: pa.Table) -> list[Path]:
    """Write ``NAME.parquet`` and ``NAME.csv`` into a folder, each whole or not at all.

    Examples
    --------
    >>> import tempfile
    >>> [path.name for path in write_table(Path(tempfile.mkdtemp()), "layers", pa.table({"layer": [1, 3]}))]
    ['layers.parquet', 'layers.csv']
    """
    written = []
    for path, write in ((folder / f"{name}.parquet", parquet.write_table), (folder / f"{name}.csv", csv.write_csv)):
        with whole_file(path) as temporary:
            write(table, temporary)
        written.append(path)
    return written
