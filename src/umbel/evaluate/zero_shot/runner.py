"""``umbel zeroshot``: draw, score, compare, and write what was found."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import umbel
from umbel.errors import ConfigError, FastaError
from umbel.evaluate.facts import find_run, model_facts, run_facts
from umbel.evaluate.zero_shot.allele_rows import draw_from_alleles
from umbel.evaluate.zero_shot.auroc import Area, Comparison
from umbel.evaluate.zero_shot.baselines import Floats, composition_scores, fit_markov, strata
from umbel.evaluate.zero_shot.coding_rows import draw_from_genes
from umbel.evaluate.zero_shot.page import write_page
from umbel.evaluate.zero_shot.rows import Drawn, Rows
from umbel.evaluate.zero_shot.scoring import model_scores
from umbel.evaluate.zero_shot.settings import ZeroShotSettings
from umbel.evaluate.zero_shot.wording import MATCHINGS, MODEL
from umbel.files import sha256_file, whole_file, write_json
from umbel.genome.reference import Reference
from umbel.model.shipped import model_path
from umbel.predict.predictor import Predictor
from umbel.predict.variants.settings import VariantSettings
from umbel.progress import Reporter, reporter_or_silent

FORMAT_VERSION = 1
MIN_MATCHED = 20
RESULTS_FILE, ROWS_FILE, PARTS_FOLDER = "results.json", "predictions.parquet", "zeroshot.parts"


def zero_shot(
    checkpoint: str | Path,
    fasta: str | Path,
    gff3: str | Path | None,
    out: str | Path,
    *,
    vcf: str | Path | None = None,
    settings: ZeroShotSettings | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Ask an untuned model which substitutions do harm, and baselines the same about the same.

    Parameters
    ----------
    checkpoint
        Checkpoint or run folder, or ``mini``.
    fasta
        The genome: FASTA or 2bit.
    gff3
        Its genes: nonsense and missense substitutions are compared with synonymous ones.
    out
        Folder for ``results.json``, ``predictions.parquet``, ``report.html`` and ``auroc.svg``. A stopped call goes on
        where it was, with the same bytes in the end.
    vcf
        In place of the genes: rare alleles are compared with common ones.
    settings
        How many, and from where.
    device, reporter
        Where it computes, and where progress goes.

    Returns
    -------
    The content of ``results.json``.

    Raises
    ------
    ConfigError
        If neither or both of genes and alleles are given, or the tokens are learnt words.
    AnnotationError, VcfError, FastaError
        If a file is broken, or gives too few substitutions.
    RunError
        If the folder holds the unfinished result of another call.
    """
    if (gff3 is None) == (vcf is None):
        raise ConfigError("name either a GFF3, for coding substitutions, or --vcf, for common and rare alleles")
    chosen = settings or ZeroShotSettings()
    reporter = reporter_or_silent(reporter)
    folder = Path(out)
    predictor = Predictor.load(checkpoint, device)
    predictor.require_base_probabilities()
    window = VariantSettings(window_bp=chosen.window_bp).resolved(predictor.window_bp)
    with Reference.open(fasta) as reference:
        reporter.say(f"drawing from {gff3 or vcf}")
        if gff3 is not None:
            drawn = draw_from_genes(reference, gff3, chosen)
        else:
            assert vcf is not None
            drawn = draw_from_alleles(reference, vcf, chosen)
        identity = {
            "umbel": umbel.__version__,
            "fasta": sha256_file(fasta),
            "rows": sha256_file(gff3 if gff3 is not None else str(vcf)),
            "settings": asdict(chosen) | {"note": "", "n_random": 0, "n_draws": 0},
        }
        nets = [predictor, *(predictor.with_random_weights(chosen.seed + i) for i in range(chosen.n_random))]
        names = [MODEL, *(f"random-{i}" for i in range(chosen.n_random))]
        scores = {
            name: model_scores(
                net, reference, drawn.rows, window.flank_bp, folder / PARTS_FOLDER / name, identity, reporter, name
            )
            for name, net in zip(names, nets, strict=True)
        }
        markov = fit_markov(reference, drawn.tested, chosen.fit_bp, reporter)
        scores["markov"] = markov.scores(reference, drawn.rows)
    usable = ~np.isnan(scores[MODEL])
    if not usable.all():
        drawn, scores = _without(drawn, scores, usable, fasta)
    per_comparison = [
        _comparison(drawn, scores, positive, negative, chosen) for positive, negative in drawn.comparisons
    ]
    _, run = find_run(checkpoint)
    result = {
        "format_version": FORMAT_VERSION,
        "umbel": umbel.__version__,
        "model": model_facts(predictor, model_path(checkpoint).resolve().name),
        "run": run_facts(run),
        "inputs": {
            "fasta": {"name": Path(fasta).name, "sha256": identity["fasta"]},
            drawn.facts["from"]: {"name": Path(gff3 or str(vcf)).name, "sha256": identity["rows"]},
        },
        "settings": asdict(chosen) | {"window_bp": window.window_bp, "flank_bp": window.flank_bp},
        "data": dict(drawn.facts) | {"without_context": int((~usable).sum())},
        "markov": markov.choice.to_dict() | {"n_bp": markov.n_bp},
        "comparisons": [told for told, _ in per_comparison],
    }
    columns = {name: column for _, each in per_comparison for name, column in each.items()}
    _write_rows(folder / ROWS_FILE, drawn.rows, scores, columns)
    write_page(result, folder)
    write_json(folder / RESULTS_FILE, result)
    shutil.rmtree(folder / PARTS_FOLDER)
    return result


def _without(
    drawn: Drawn, scores: Mapping[str, Floats], usable: np.ndarray, fasta: str | Path
) -> tuple[Drawn, dict[str, Floats]]:
    """Leave out the rows that the model has no score for, from all scores alike."""
    if not usable.any():
        raise FastaError("no window around a substitution has enough known bases for a token of this model.", fasta)
    kept = Drawn(drawn.rows.only(usable), drawn.counts, drawn.comparisons, drawn.facts, drawn.tested)
    return kept, {name: values[usable] for name, values in scores.items()}


def _comparison(
    drawn: Drawn, scores: Mapping[str, Floats], positive: str, negative: str, settings: ZeroShotSettings
) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Compare two classes by every score, within every matching; give the result, and the scores that were fitted."""
    rows = drawn.rows
    above, below = rows.classes.index(positive), rows.classes.index(negative)
    composition = composition_scores(drawn, above, below)
    randoms = [values for name, values in scores.items() if name.startswith("random-")]
    table = {MODEL: [scores[MODEL]], "random": randoms, "markov": [scores["markov"]]}
    table |= {name: [values] for name, values in composition.items()}
    which = (rows.label == above) | (rows.label == below)
    told: dict[str, Any] = {}
    for matching in MATCHINGS:
        if matching == "frame" and not rows.is_coding:
            continue
        comparison = Comparison(
            rows.label[which] == above,
            strata(rows, matching)[which],
            rows.cluster[which],
            settings.n_draws,
            settings.seed,
        )
        told[matching] = _areas(comparison, {n: [v[which] for v in values] for n, values in table.items()})
    fitted = {name if name in ("gc", "cpg") else f"{name}:{positive}": values for name, values in composition.items()}
    return {"positive": positive, "negative": negative, "matchings": told}, fitted


def _areas(comparison: Comparison, table: Mapping[str, list[Floats]]) -> dict[str, Any]:
    n_positive, n_negative = comparison.n_usable()
    if min(n_positive, n_negative) < MIN_MATCHED:
        return {
            "missing": f"Only {n_positive} and {n_negative} substitutions have a partner, and {MIN_MATCHED} are needed."
        }
    areas: dict[str, Area] = {name: comparison.area(values) for name, values in table.items()}
    return {
        "n_positive": n_positive,
        "n_negative": n_negative,
        "n_clusters": areas[MODEL].n_units,
        "scores": {name: area.to_dict() for name, area in areas.items()},
        "differences": {name: areas[MODEL].minus(area) for name, area in areas.items() if name != MODEL},
    }


def _write_rows(path: Path, rows: Rows, scores: Mapping[str, Floats], fitted: Mapping[str, Floats]) -> None:
    """Write every substitution with all scores; each is higher where more harm is expected."""
    letters = np.array(list("ACGT"))
    names, genes = np.array(rows.contigs), np.array(rows.clusters)
    columns: dict[str, Any] = {
        "contig": names[rows.contig],
        "pos": rows.position + 1,
        "ref": letters[rows.ref],
        "alt": letters[rows.alt],
        "class": np.array(rows.classes)[rows.label],
        "cluster": genes[rows.cluster],
    }
    if rows.is_coding:
        columns["codon_position"] = rows.codon_position + 1
    columns |= {f"harm:{name}": values for name, values in {**scores, **fitted}.items()}
    with whole_file(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")
