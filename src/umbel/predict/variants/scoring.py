"""Score every allele of a VCF file: ``umbel variants``."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import umbel
from umbel.files import sha256_file
from umbel.genome.reference import Reference
from umbel.genome.vcf import VcfFile
from umbel.predict.head import Head
from umbel.predict.parts import open_parts, parts_folder, write_part
from umbel.predict.predictor import Predictor
from umbel.predict.variants.alleles import Limits
from umbel.predict.variants.background import Scores, read_background, score_background, write_background
from umbel.predict.variants.calibration import Calibration
from umbel.predict.variants.checks import require_fit, result_warnings
from umbel.predict.variants.head_score import HeadDifference
from umbel.predict.variants.output import (
    header_lines,
    require_unscored,
    with_calibration,
    write_table,
    write_vcf,
)
from umbel.predict.variants.record_scorer import RecordScorer
from umbel.predict.variants.scores import columns_of
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
    require_fit(predictor, settings, head, target, Path(vcf))
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
        job = RecordScorer(predictor, file, genome, names, settings, limits, difference, written)
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
        warnings += result_warnings(predictor, settings, found, done, drawn, target)
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


def _background(
    job: RecordScorer,
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
    job: RecordScorer,
    parts: list[Path],
    found: Survey,
    folder: Path,
    calibration: Calibration | None,
    reporter: Reporter,
) -> None:
    """Write the parts that are not there yet, and append them."""
    done = 1 + pq.read_table(parts[-1], columns=["record"])["record"][-1].as_py() if parts else 0
    task = reporter.start("variants", found.n_records, "records", done=done)
    for block in job.blocks(done):
        parts.append(write_part(folder, len(parts), job.table(done, block, calibration)))
        done += len(block)
        task.advance(len(block))
    task.close()
