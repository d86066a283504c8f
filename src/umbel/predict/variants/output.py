"""The scored file: the input's records with FILTER and INFO added, or a table; written from the parts in one go."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pysam

from umbel.errors import VcfError
from umbel.files import whole_file
from umbel.genome.reference import Reference
from umbel.genome.vcf import VcfFile
from umbel.predict.parts import metadata
from umbel.predict.variants.alleles import FILTERS
from umbel.predict.variants.settings import Score
from umbel.predict.variants.survey import TABIX_LIMIT_BP, Survey

_MEANING: Mapping[Score, str] = {
    "llr": "log P(ALT) - log P(REF) of the bases that differ, all hidden at once",
    "pll": "Pseudo-log-likelihood of the window with ALT minus that with REF",
    "embedding": "Euclidean distance between the mean embeddings of the windows with ALT and with REF",
    "head": "What the tuned head says of the window with ALT minus what it says with REF",
}
_INDEX_SUFFIXES = (".tbi", ".csi")


def info_key(column: str) -> str:
    """Name the INFO entry of a column.

    Examples
    --------
    >>> info_key("llr"), info_key("llr_pct"), info_key("head_leaf_z")
    ('UMBEL_LLR', 'UMBEL_LLR_PCT', 'UMBEL_HEAD_leaf_Z')
    """
    for suffix in ("_pct", "_z"):
        if column.endswith(suffix):
            return info_key(column.removesuffix(suffix)) + suffix.upper()
    if column.startswith("head_"):
        return f"UMBEL_HEAD_{column.removeprefix('head_')}"
    return f"UMBEL_{column.upper()}"


def with_calibration(columns: Sequence[str], is_calibrated: bool) -> list[str]:
    """Name what is written of each score: itself, its percentile and its standard score."""
    return [f"{name}{suffix}" for name in columns for suffix in (("", "_pct", "_z") if is_calibrated else ("",))]


def table_schema(columns: Sequence[str]) -> pa.Schema:
    """Give the columns of the parts and of the table: a row for each record and allele.

    ``record`` counts from 0; ``allele`` from 1, and is 0 in the only row of a record without alleles. ``start``
    (0-based), ``norm_ref`` and ``norm_alt`` are the left-normalised variant without shared bases.
    """
    texts = ("contig", "ref", "alt", "fate", "filter", "kind", "norm_ref", "norm_alt")
    kinds = {"record": pa.int64(), "allele": pa.int32(), "pos": pa.int64(), "start": pa.int64()}
    kinds |= dict.fromkeys(texts, pa.string()) | dict.fromkeys(columns, pa.float64())
    order = ["record", "allele", "contig", "pos", "ref", "alt", "fate", "filter", "kind"]
    return pa.schema([(name, kinds[name]) for name in [*order, "start", "norm_ref", "norm_alt", *columns]])


@dataclass(frozen=True)
class Written:
    """What was written: how many records had each FILTER of ours and how many alleles each fate."""

    records: int
    scored_records: int
    filters: dict[str, int]
    fates: dict[str, int]
    index: Path | None


def header_lines(
    vcf: VcfFile,
    found: Survey,
    names: Mapping[str, str],
    reference: Reference,
    columns: Mapping[str, Score],
    is_calibrated: bool,
    facts: Mapping[str, Any],
) -> list[str]:
    """Give the lines that the header gets: contigs that it lacks, our FILTER and INFO, and what made the scores."""
    lines = []
    for contig in found.records_of:
        if contig not in vcf.header.contigs and contig in names:
            length, md5 = reference.lengths[names[contig]], reference.contig_md5(names[contig])
            lines.append(f"##contig=<ID={contig},length={length},md5={md5}>")
    known = vcf.header.ids("FILTER")
    lines += [f'##FILTER=<ID={name},Description="{text}">' for name, text in FILTERS.items() if name not in known]
    for column, score in columns.items():
        key = info_key(column)
        told = {key: _MEANING[score]}
        if is_calibrated:
            told[f"{key}_PCT"] = f"Percent of random variants of the same kind and length with a weaker effect by {key}"
            told[f"{key}_Z"] = f"({key} - median) / (1.4826 MAD) of random variants of the same kind and length"
        for name, text in told.items():
            lines.append(f'##INFO=<ID={name},Number=A,Type=Float,Description="{text}">')
    quoted = (f"{key}={json.dumps(_plain(value), ensure_ascii=False)}" for key, value in facts.items())
    return [*lines, f"##umbel=<ID=variants,{','.join(quoted)}>"]


def _plain(value: Any) -> str:
    """Write a fact as text without quotes of its own, which not every reader of VCF can bear."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_plain(one)}" for key, one in value.items())
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def require_unscored(vcf: VcfFile, columns: Sequence[str]) -> None:
    """See that the file does not have these scores already.

    Raises
    ------
    VcfError
        Naming them, and how to take them out.
    """
    there = sorted(vcf.header.ids("INFO") & {info_key(column) for column in columns})
    if there:
        raise VcfError(
            f"its header already defines {', '.join(there)}: it was scored before. Score the original file, or take "
            f"them out with: bcftools annotate -x {','.join(f'INFO/{name}' for name in there)}",
            vcf.path,
        )


def _rows(parts: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for path in parts:
        yield from pq.read_table(path).to_pylist()


class _Tally:
    """Counts of what became of records and alleles."""

    def __init__(self) -> None:
        self.records = self.scored = 0
        self.filters = dict.fromkeys(FILTERS, 0)
        self.fates: dict[str, int] = {}

    def add(self, rows: list[dict[str, Any]]) -> list[str]:
        """Count a record; give the filters that it gets, in their order."""
        self.records += 1
        self.scored += any(row["fate"] == "scored" for row in rows)
        filters = {row["filter"] for row in rows}
        for row in rows:
            if row["allele"]:
                self.fates[row["fate"]] = self.fates.get(row["fate"], 0) + 1
        for name in filters - {None}:
            self.filters[name] += 1
        return [name for name in FILTERS if name in filters]

    def written(self, index: Path | None) -> Written:
        return Written(self.records, self.scored, self.filters, self.fates, index)


def _info(rows: list[dict[str, Any]], columns: Sequence[str]) -> list[str]:
    """Write the entries that have a value for any allele."""
    entries = []
    for column in columns:
        values = [row[column] for row in rows]
        # NaN is not equal to itself.
        texts = ["." if value is None or value != value else f"{value:.6g}" for value in values]
        if any(text != "." for text in texts):
            entries.append(f"{info_key(column)}={','.join(texts)}")
    return entries


def write_vcf(
    vcf: VcfFile, parts: Sequence[Path], target: Path, header: Sequence[str], columns: Sequence[str], found: Survey
) -> Written:
    """Write the records, in their order, as bgzip, and an index beside it where they are sorted.

    The index is tbi, or csi where a contig, or a record, goes beyond what tbi reaches.
    """
    tally = _Tally()
    groups = groupby(_rows(parts), key=lambda row: row["record"])
    with whole_file(target) as temporary:
        with pysam.BGZFile(str(temporary), "wb", None) as file:
            file.write(vcf.header.with_lines(header).encode("utf-8", "surrogateescape"))
            for record, (_, group) in zip(vcf.records(), groups, strict=True):
                rows = list(group)
                filters = tally.add(rows)
                text = record.with_additions(filters, _info(rows, columns) if rows[0]["allele"] else [])
                file.write(f"{text}\n".encode("utf-8", "surrogateescape"))
        # A reader never sees an index of another file: the old one goes before the new file comes.
        for suffix in _INDEX_SUFFIXES:
            target.with_name(target.name + suffix).unlink(missing_ok=True)
    return tally.written(_write_index(target, found) if found.is_sorted else None)


def _write_index(target: Path, found: Survey) -> Path:
    is_long = found.longest_bp > TABIX_LIMIT_BP
    index = target.with_name(target.name + (".csi" if is_long else ".tbi"))
    with whole_file(index) as temporary:
        pysam.tabix_index(str(target), preset="vcf", csi=is_long, index=str(temporary), force=True, keep_original=True)
    return index


def write_table(parts: Sequence[Path], target: Path, columns: Sequence[str], facts: Mapping[str, Any]) -> Written:
    """Write the rows of all parts as one Parquet table, a part at a time."""
    tally = _Tally()
    schema = table_schema(columns).with_metadata(metadata(facts))
    with whole_file(target) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for path in parts:
            table = pq.read_table(path)
            for _, group in groupby(table.to_pylist(), key=lambda row: row["record"]):
                tally.add(list(group))
            writer.write_table(table.cast(schema))
    return tally.written(None)
