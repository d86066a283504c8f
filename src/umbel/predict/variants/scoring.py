"""Score every allele of a VCF file: ``umbel variants``."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import umbel
from umbel.data.bpe import BpeTokens
from umbel.errors import ConfigError
from umbel.files import sha256_file
from umbel.genome.neighbourhood import Neighbourhood
from umbel.genome.reference import Reference
from umbel.genome.variant import Variant
from umbel.genome.vcf import VcfFile, VcfRecord
from umbel.predict.head import Head
from umbel.predict.parts import open_parts, parts_folder, write_part
from umbel.predict.predictor import Predictor
from umbel.predict.variants.alleles import Allele, Limits, alleles_of
from umbel.predict.variants.background import Scores, read_background, score_background, write_background
from umbel.predict.variants.calibration import LEAST_DRAWS, Calibration, shape_of
from umbel.predict.variants.head_score import HeadDifference
from umbel.predict.variants.output import (
    Written,
    header_lines,
    require_unscored,
    table_schema,
    with_calibration,
    write_table,
    write_vcf,
)
from umbel.predict.variants.scores import HeadScore, columns_of, score_windows
from umbel.predict.variants.settings import VariantSettings
from umbel.predict.variants.survey import (
    Survey,
    contig_names,
    contig_warnings,
    read_contig_map,
    require_lengths,
    survey,
)
from umbel.progress import Reporter, reporter_or_silent

PASSES_PER_PART = 512
RECORDS_PER_PART = 4_096
"""A part is full with so many passes over windows or so many records; it is what a killed call repeats at most."""
_VCF_SUFFIXES = (".vcf.gz", ".vcf.bgz")


@dataclass(frozen=True)
class VariantsResult:
    """What was written, and what became of every record and allele.

    Attributes
    ----------
    path, index
        The scored file, and its index, None where there is none.
    records, scored_records
        Records of the input, all of which are in the output; and those with a score for an allele at least.
    filters
        Records by FILTER that they got; a record may have several.
    alleles
        Alleles by fate; see :class:`~umbel.predict.variants.alleles.Fate`.
    background
        Random variants by the class that they stand for.
    warnings
        What a reader of the scores has to know.
    """

    path: Path
    index: Path | None
    records: int
    scored_records: int
    filters: dict[str, int]
    alleles: dict[str, int]
    background: dict[str, int]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Job:
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


def score_variants(
    predictor: Predictor,
    vcf: str | Path,
    reference: str | Path,
    out: str | Path,
    *,
    settings: VariantSettings | None = None,
    head: Head | str | Path | None = None,
    contig_map: str | Path | None = None,
    background_file: str | Path | None = None,
    reporter: Reporter | None = None,
) -> VariantsResult:
    """Score every allele of every record of a VCF file, and write the file again with the scores.

    Each allele is taken alone, left-normalised as ``bcftools norm`` does, and compared with the reference in the
    window around it. All records are kept, in their order and word for word but for FILTER and INFO; those that cannot
    be scored get a FILTER that says why.

    Parameters
    ----------
    predictor
        The model.
    vcf
        VCF (plain, gzip or bgzip) or BCF; any ploidy, any FORMAT.
    reference
        The assembly that the variants were called on: FASTA (plain, gzip, bgzip) or 2bit.
    out
        ``.vcf.gz``: bgzip, with a tabix index where it is sorted. ``.parquet``: a row for each record and allele.
    settings
        Which scores, windows and background.
    head
        A tuned model, for the score ``head``, or where it is.
    contig_map
        Two columns, see :func:`~umbel.predict.variants.survey.read_contig_map`: names in the VCF and in the reference,
        where these differ.
    background_file
        Keeps the random variants' scores for other files of the same genome: read where it is there, and completed.
    reporter
        Where progress goes.

    Returns
    -------
    What became of every record and allele. A killed call leaves ``<out>.parts``; the same call continues from there
    and writes the same bytes.

    Raises
    ------
    VcfError
        With the line: a record or header that is not whole; a contig that is declared with another length than the
        reference has; scores that are there already. Nothing is written then.
    FastaError, InputError
        If the reference or the contig map is wrong.
    ConfigError
        If the settings, the name of ``out``, the model and the head do not fit each other.
    RunError
        If ``<out>.parts`` or the background file belongs to other inputs or settings.
    """
    reporter = reporter_or_silent(reporter)
    target = Path(out)
    if isinstance(head, str | Path):
        head = Head.load(head, str(predictor.device))
    settings = (settings or VariantSettings()).resolved(predictor.window_bp)
    _require_fit(predictor, settings, head, target, Path(vcf))
    file = VcfFile(vcf)
    with Reference.open(reference) as genome:
        told = {} if contig_map is None else read_contig_map(contig_map, genome)
        names = contig_names(genome, told)
        reporter.say(f"reading {file.path}")
        found = survey(file, names, genome, settings.max_allele_bp)
        require_lengths(file, found, names, genome)
        warnings = contig_warnings(found, names, genome)
        for warning in warnings:
            reporter.say(f"warning: {warning}")
        difference = None if head is None else HeadDifference(head)
        columns = columns_of(settings, difference)
        is_calibrated = settings.background > 0
        written = with_calibration(list(columns), is_calibrated)
        require_unscored(file, written)
        least = max(predictor.min_bases, 0 if head is None else head.min_bases)
        limits = Limits(settings.max_allele_bp, settings.flank_bp, least)
        job = _Job(predictor, file, genome, names, settings, limits, difference, written)
        same = {
            "umbel": umbel.__version__,
            "weights": predictor.weights_hash,
            "precision": predictor.precision,
            "head": None if head is None else head.weights_hash,
            "assembly": genome.assembly_md5(),
            "settings": settings.as_dict(),
        }
        identity = {**same, "vcf": sha256_file(vcf), "contig_map": told, "format": target.name.rpartition(".")[2]}
        folder = parts_folder(target)
        parts = open_parts(folder, identity)
        random = _background(job, found, folder, background_file, same, reporter) if is_calibrated else {}
        calibration = Calibration(random, settings.max_allele_bp) if is_calibrated else None
        _write_parts(job, parts, found, folder, calibration, reporter)
        facts = {
            "Version": umbel.__version__,
            "Model": predictor.source or "in memory",
            "Weights": predictor.weights_hash,
            "Precision": same["precision"],
            "Assembly": same["assembly"],
            "Settings": settings.as_dict(),
        }
        if head is not None:
            facts |= {"Head": head.source, "HeadWeights": head.weights_hash}
        if target.suffix == ".parquet":
            done = write_table(parts, target, written, identity)
        else:
            lines = header_lines(file, found, names, genome, columns, is_calibrated, facts)
            done = write_vcf(file, parts, target, lines, written, found)
        shutil.rmtree(folder)
        drawn = {str(shape): len(next(iter(scores.values()))) for shape, scores in sorted(random.items())}
        warnings += _warnings(predictor, settings, found, done, drawn, target)
    return VariantsResult(
        target, done.index, done.records, done.scored_records, done.filters, done.fates, drawn, tuple(warnings)
    )


def score_or_give(
    predictor: Predictor, vcf: str | Path, reference: str | Path, out: str | Path | None, **options: Any
) -> VariantsResult | pa.Table:
    """Score into ``out``, or where that is None give the table that a ``.parquet`` would hold."""
    if out is not None:
        return score_variants(predictor, vcf, reference, out, **options)
    with tempfile.TemporaryDirectory(prefix="umbel-") as folder:
        path = Path(folder) / "variants.parquet"
        score_variants(predictor, vcf, reference, path, **options)
        return pq.read_table(path, memory_map=False)


def _require_fit(
    predictor: Predictor, settings: VariantSettings, head: Head | None, target: Path, source: Path
) -> None:
    if not target.name.endswith((*_VCF_SUFFIXES, ".parquet")):
        raise ConfigError(f"-o {target}: end its name in .vcf.gz (bgzipped VCF) or .parquet (a table)")
    if target.exists() and source.exists() and target.samefile(source):
        raise ConfigError(f"-o {target}: is the input itself: give the scored file another name")
    if ("head" in settings.all_scores) != (head is not None):
        raise ConfigError(
            "--score head needs a tuned model: name it with --head"
            if head is None
            else "--head was given, and head is not among --score: add it, as in --score llr,head"
        )
    likelihoods = [name for name in settings.all_scores if name in ("llr", "pll")]
    if isinstance(predictor.tokens, BpeTokens) and likelihoods:
        raise ConfigError(
            f"--score {','.join(likelihoods)}: this model's tokens are learnt words (BPE), which give no probability "
            "of a single base. Use --score embedding, or head"
        )


def _background(
    job: _Job,
    found: Survey,
    folder: Path,
    background_file: str | Path | None,
    identity: Mapping[str, object],
    reporter: Reporter,
) -> Scores:
    kept = None if background_file is None else Path(background_file)
    there = {} if kept is None else read_background(kept, identity)
    lacking = found.classes - there.keys()
    new = (
        {}
        if not lacking
        else score_background(
            job.predictor, lacking, job.reference, job.limits, job.settings, folder / "background", job.head, reporter
        )
    )
    whole = there | new
    if kept is not None and new:
        write_background(kept, whole, identity)
    return {shape: whole[shape] for shape in sorted(found.classes)}


def _write_parts(
    job: _Job, parts: list[Path], found: Survey, folder: Path, calibration: Calibration | None, reporter: Reporter
) -> None:
    """Write the parts that are not there yet, and append them."""
    done = 1 + pq.read_table(parts[-1], columns=["record"])["record"][-1].as_py() if parts else 0
    task = reporter.start("variants", found.n_records, "records", done=done)
    for block in job.blocks(done):
        parts.append(write_part(folder, len(parts), job.table(done, block, calibration)))
        done += len(block)
        task.advance(len(block))
    task.close()


def _warnings(
    predictor: Predictor,
    settings: VariantSettings,
    found: Survey,
    done: Written,
    drawn: Mapping[str, int],
    target: Path,
) -> list[str]:
    warnings = []
    differing = done.filters["UMBEL_REF_MISMATCH"]
    if differing and differing >= 0.01 * done.records:
        warnings.append(
            f"REF differs from the reference at {differing:,} of {done.records:,} records: were these variants called "
            "on another assembly?"
        )
    if not found.is_sorted and target.suffix != ".parquet":
        warnings.append(
            f"the records are not sorted and stay as they are, so that there is no index: bcftools sort {target} -Oz "
            "-o SORTED.vcf.gz, then bcftools index SORTED.vcf.gz"
        )
    few = [f"{name} ({count})" for name, count in drawn.items() if count < settings.background]
    if few:
        warnings.append(
            f"the genome gave fewer than {settings.background} random variants without N in their windows: "
            f"{', '.join(few)}. With fewer than {LEAST_DRAWS} there is no percentile and no Z"
        )
    if settings.window_bp > predictor.window_bp:
        warnings.append(
            f"windows have up to {settings.window_bp:,} bases, and the model was trained on {predictor.window_bp:,}"
        )
    return warnings
