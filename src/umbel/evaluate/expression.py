"""Expression of genes in several tissues, from more and more of the sequence around where they begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from umbel.data.labelled.examples import Examples
from umbel.data.labelled.task import Task
from umbel.errors import ConfigError, LabelError
from umbel.evaluate.genome_roles import ROLES, read_roles
from umbel.genome.annotation import some_names
from umbel.genome.genes import read_genes, start_site
from umbel.genome.interval import Interval
from umbel.genome.sequence import Codes, revcomp

LENGTHS_BP = (512, 1024, 2048, 4096, 8192)
_PREFIXES = ("gene-", "gene:")


@dataclass(frozen=True)
class ExpressionExamples:
    """The same genes at every length, by role."""

    examples: Mapping[int, Mapping[str, Examples]]
    """Length in bases to ``train``, ``valid`` and ``test``."""
    facts: Mapping[str, Any]
    """As plain JSON: genes used, and those left out by reason."""


@dataclass(frozen=True)
class _Table:
    genes: list[str]
    tissues: tuple[str, ...]
    values: npt.NDArray[np.float32]


def read_expression_examples(
    table: str | Path,
    gff3: str | Path,
    fasta: str | Path,
    roles: Mapping[str, str],
    *,
    lengths_bp: Sequence[int] = LENGTHS_BP,
) -> ExpressionExamples:
    """Make regression examples: ln(1 + expression) in each tissue from the window around a gene's first base.

    A window of L bases is read on the gene's strand, with the first transcribed base (the 5' end of the gene's feature)
    at index L / 2. A gene is used if the longest window lies inside the contig (or stretch of it) that has the role, so
    that all lengths have the same genes and can be compared; the others are counted.

    Parameters
    ----------
    table
        CSV, TSV or Parquet: gene ids in the first column, one column of values >= 0 for each tissue. A gene id is the
        ID of a gene in the GFF3, with or without its ``gene-`` or ``gene:``.
    gff3, fasta
        Of the assembly.
    roles
        Contig (or ``contig:first-last``) to ``train``, ``valid`` or ``test``. Genes without a role are not used, and
        counted.
    lengths_bp
        Lengths of windows, even numbers.

    Raises
    ------
    LabelError
        With the row: a gene twice or without a name, a value that is negative, missing or no number; no column of
        values; or none of the genes is in the GFF3.
    ConfigError
        If a length is odd or below 2, or a role is wrong or has no gene.
    AnnotationError, FastaError
        If these files are broken.
    """
    if not lengths_bp or any(length < 2 or length % 2 for length in lengths_bp):
        raise ConfigError(f"lengths of windows are {list(lengths_bp)}: give even numbers from 2 on")
    assembly = read_roles(fasta, roles)
    values = _read_table(Path(table))
    places = {gene.name: gene for gene in read_genes(gff3, assembly.lengths).genes}
    bare = {_bare(name): gene for name, gene in places.items()}
    half = max(lengths_bp) // 2
    rows: dict[str, list[int]] = {role: [] for role in ROLES}
    found: dict[int, Interval] = {}
    left_out = {"not_in_gff3": 0, "without_role": 0, "near_end": 0}
    for row, name in enumerate(values.genes):
        gene = places.get(name) or bare.get(name)
        if gene is None:
            left_out["not_in_gff3"] += 1
            continue
        place = assembly.find(gene.contig, start_site(gene))
        if place is None:
            left_out["without_role"] += 1
        elif not place[1].start + half <= start_site(gene) < place[1].end - half:
            left_out["near_end"] += 1
        else:
            found[row] = gene
            rows[place[0]].append(row)
    if left_out["not_in_gff3"] == len(values.genes):
        raise LabelError(
            f"none of its genes ({some_names(values.genes)}) is in the GFF3 ({some_names(places)}). "
            "Rename those of one of the two files.",
            table,
        )
    empty = [role for role, chosen in rows.items() if not chosen]
    if empty:
        raise ConfigError(f"no gene of {table} can be used for {empty[0]} ({left_out}): give that role other contigs")
    task = Task("regression", values.tissues)
    examples = {
        length: {
            role: Examples(
                task,
                tuple(values.genes[row] for row in chosen),
                tuple(window(assembly.codes[found[row].contig], found[row], length) for row in chosen),
                values.values[chosen],
                str(table),
                np.array(chosen, np.int64) + 1,
            )
            for role, chosen in rows.items()
        }
        for length in lengths_bp
    }
    facts = {
        "n_genes": {role: len(chosen) for role, chosen in rows.items()},
        "left_out": left_out,
        "lengths_bp": list(lengths_bp),
        "values": "ln(1 + x)",
    }
    return ExpressionExamples(examples, facts)


def window(codes: Codes, gene: Interval, length_bp: int) -> Codes:
    """Read ``length_bp`` bases on the gene's strand, its first base at index ``length_bp / 2``.

    Examples
    --------
    >>> codes = np.array([0, 0, 1, 2, 3, 3], np.uint8)
    >>> window(codes, Interval("c", 2, 4, "+"), 4).tolist(), window(codes, Interval("c", 2, 4, "-"), 4).tolist()
    ([0, 0, 1, 2], [0, 0, 1, 2])
    """
    site, half = start_site(gene), length_bp // 2
    if gene.strand == "+":
        return codes[site - half : site + half]
    return revcomp(codes[site - half + 1 : site + half + 1])


def _bare(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _read_table(path: Path) -> _Table:
    """Read gene ids and ln(1 + value), and refuse what cannot be one."""
    table = _arrow_table(path)
    if table.num_columns < 2 or not table.num_rows:
        raise LabelError("it needs gene ids in the first column, a column of values for each tissue, and rows.", path)
    first, *tissues = table.column_names
    genes = ["" if name is None else str(name) for name in table[first].to_pylist()]
    seen: dict[str, int] = {}
    for row, gene in enumerate(genes, start=1):
        if not gene:
            raise LabelError(f"column {first!r} is empty: give every row the id of a gene.", path, row)
        if gene in seen:
            raise LabelError(f"gene {gene!r} was already in row {seen[gene]}. Keep one of the two.", path, row)
        seen[gene] = row
    columns = []
    for name in tissues:
        column = table[name]
        if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
            row = next((i for i, value in enumerate(column.to_pylist(), 1) if not _is_number(value)), 1)
            raise LabelError(f"column {name!r} has {column[row - 1].as_py()!r}, which is no number.", path, row)
        values = column.cast(pa.float64()).to_numpy()
        bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
        if len(bad):
            raise LabelError(
                f"column {name!r} has {column[int(bad[0])].as_py()}: expression is a number from 0 on, "
                "and not its logarithm.",
                path,
                int(bad[0]) + 1,
            )
        columns.append(np.log1p(values))
    return _Table(genes, tuple(tissues), np.column_stack(columns).astype(np.float32))


def _arrow_table(path: Path) -> pa.Table:
    try:
        with open(path, "rb") as handle:
            is_parquet = handle.read(4) == b"PAR1"
        if is_parquet:
            return pq.read_table(path)
        with open(path, encoding="utf-8", errors="replace") as handle:
            delimiter = "\t" if "\t" in handle.readline() else ","
        # Text of gene ids stays text, also where all look like numbers.
        with pa_csv.open_csv(path, parse_options=pa_csv.ParseOptions(delimiter=delimiter)) as reader:
            first = reader.schema.names[0]
        options = pa_csv.ConvertOptions(column_types={first: pa.string()})
        return pa_csv.read_csv(path, parse_options=pa_csv.ParseOptions(delimiter=delimiter), convert_options=options)
    except OSError as error:
        raise LabelError(f"cannot be read: {error.strerror or error}.", path) from error
    except pa.ArrowInvalid as error:
        raise LabelError(f"this is no table that can be read ({error}).", path) from error


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
