"""Records resolved and scored some at a time: what one part of the work holds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from umbel.genome.neighbourhood import Neighbourhood
from umbel.genome.reference import Reference
from umbel.genome.variant import Variant
from umbel.genome.vcf import VcfFile, VcfRecord
from umbel.predict.predictor import Predictor
from umbel.predict.variants.alleles import Allele, Limits, alleles_of
from umbel.predict.variants.calibration import Calibration, shape_of
from umbel.predict.variants.output import table_schema
from umbel.predict.variants.scores import HeadScore, score_windows
from umbel.predict.variants.settings import VariantSettings

PASSES_PER_PART = 512
RECORDS_PER_PART = 4_096
"""A part is full with so many passes over windows or so many records; it is what a killed call repeats at most."""


@dataclass(frozen=True)
class RecordScorer:
    """All that scoring needs, whichever record it is at."""

    predictor: Predictor
    vcf: VcfFile
    reference: Reference
    names: Mapping[str, str]
    settings: VariantSettings
    limits: Limits
    head: HeadScore | None
    columns: list[str]

    def passes(self, allele: Allele) -> int:
        """Count the passes over a window that an allele costs, about."""
        if allele.variant is None or allele.window is None:
            return 0
        n_passes = self.settings.n_passes
        costs = {"llr": 2, "pll": 4 * n_passes + 2 * min(len(allele.variant.alt), n_passes), "embedding": 4, "head": 4}
        return sum(costs[score] for score in self.settings.scores_of(allele.variant.kind))

    def blocks(self, done: int) -> Iterator[list[tuple[VcfRecord, list[Allele]]]]:
        """Resolve the records behind the first ``done``, and cut them into parts, the same ones wherever it begins."""
        block: list[tuple[VcfRecord, list[Allele]]] = []
        cost = 0
        genome = Neighbourhood(self.reference)
        for record in self.vcf.records(skip=done):
            alleles = alleles_of(record, self.names.get(record.contig), genome, self.limits)
            block.append((record, alleles))
            cost += sum(map(self.passes, alleles))
            if cost >= PASSES_PER_PART or len(block) == RECORDS_PER_PART:
                yield block
                block, cost = [], 0
        if block:
            yield block

    def table(
        self, first: int, block: list[tuple[VcfRecord, list[Allele]]], calibration: Calibration | None
    ) -> pa.Table:
        """Score a block, whose first record is number ``first``."""
        windows = [allele.window for _, alleles in block for allele in alleles if allele.window is not None]
        scores = score_windows(self.predictor, windows, self.settings, self.head)
        rows: list[dict[str, Any]] = []
        scored = 0
        for number, (record, alleles) in enumerate(block, start=first):
            place = {"record": number, "contig": record.contig, "pos": record.pos, "ref": record.ref}
            if not alleles:
                rows.append({**place, "allele": 0})
            for i, allele in enumerate(alleles):
                row = {**place, "allele": i + 1, "alt": record.alts[i], "fate": str(allele.fate)}
                row["filter"] = allele.filter
                if allele.variant is not None:
                    found = allele.variant
                    row |= {"kind": found.kind, "start": found.start, "norm_ref": found.ref, "norm_alt": found.alt}
                    if allele.window is not None:
                        own = {column: float(values[scored]) for column, values in scores.items()}
                        row |= _calibrated(own, found, calibration)
                        scored += 1
                rows.append(row)
        return pa.Table.from_pylist(rows, table_schema(self.columns))


def _calibrated(scores: dict[str, float], variant: Variant, calibration: Calibration | None) -> dict[str, float]:
    """Give the scores that a variant has, and what they are among random variants."""
    values = {column: score for column, score in scores.items() if not math.isnan(score)}
    if calibration is not None:
        shape = shape_of(variant)
        for column, score in list(values.items()):
            values[f"{column}_pct"], values[f"{column}_z"] = calibration.of(column, shape, score)
    return {name: float(value) for name, value in values.items() if not math.isnan(value)}
