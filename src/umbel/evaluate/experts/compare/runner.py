"""From checkpoints and a source to a folder: tables, ``compare.json`` and ``compare.html``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import umbel
from umbel.errors import RunError
from umbel.evaluate.experts.compare import wording
from umbel.evaluate.experts.compare.agreement import agreement_rows, saturation_rows, transition_rows
from umbel.evaluate.experts.compare.checkpoints import Checkpoint, are_alike, require_distinct
from umbel.evaluate.experts.compare.counting import STATE_FILE, Sums, choose_pairs, count
from umbel.evaluate.experts.compare.designs import (
    drift_steps,
    require_design,
    split_all,
    stage_rows,
    stages_of,
    trained,
)
from umbel.evaluate.experts.compare.differentiation import differentiate_all, differentiation_rows
from umbel.evaluate.experts.compare.drift import drift_rows
from umbel.evaluate.experts.compare.match import Matches, match_all, matching_rows, partner_rows, seed_rows
from umbel.evaluate.experts.compare.settings import CompareSettings
from umbel.evaluate.experts.compare.tables import write_tables
from umbel.evaluate.experts.source import Source
from umbel.evaluate.experts.statistics.units import effective_units
from umbel.evaluate.experts.stretches import Reading
from umbel.evaluate.stages import refuse_non_finite
from umbel.extras import require_packages
from umbel.files import write_json
from umbel.progress import Reporter, reporter_or_silent

RESULT_FILE, PAGE_FILE = "compare.json", "compare.html"
FORMAT, FORMAT_VERSION = "umbel-expert-comparison", 1
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes
    ----------
    folder
        Where it is.
    result
        The content of ``compare.json``: ``checkpoints``, ``settings``, ``source``, ``sample``, ``findings`` and
        ``notes`` as sentences, and ``tables``, the names of those on disk.
    tables
        Rows by name of table; see :data:`umbel.evaluate.experts.compare.tables.COLUMNS`.
    sums
        What was counted.
    matches
        Experts paired up, where that was asked for.
    """

    folder: Path
    result: dict[str, Any]
    tables: dict[str, Rows]
    sums: Sums
    matches: Matches


def compare(
    checkpoints: Sequence[Checkpoint],
    source: Source,
    out: str | Path,
    settings: CompareSettings | None = None,
    *,
    reporter: Reporter | None = None,
) -> Comparison:
    """Lay checkpoints side by side over the same sequences, and write a folder; a stopped one goes on where it was.

    Parameters
    ----------
    checkpoints
        In their order; controls (:func:`umbel.evaluate.experts.compare.checkpoints.random_twins`) at any place.
    source
        Labelled stretches.
    out
        A folder.

    Raises
    ------
    ConfigError
        If there are not two checkpoints of different names with routers, the design asks for others, or they make
        other tokens of a sequence.
    RunError
        If the folder holds something else.
    BackendError
        If a package for the page is not installed.
    """
    require_packages("umbel experts compare", "tracks", ("matplotlib", "jinja2"))
    from umbel.evaluate.experts.compare.page import write_page

    settings, reporter = settings or CompareSettings(), reporter_or_silent(reporter)
    checkpoints, folder = list(checkpoints), Path(out)
    require_distinct(checkpoints)
    require_design(checkpoints, settings.design)
    state = folder / STATE_FILE
    if folder.exists() and any(folder.iterdir()) and not state.is_file():
        raise RunError(f"{folder}: not empty, and no comparison of ours (no {STATE_FILE}). Choose another --out")
    # What a base is told by must be the same bases for all.
    window_bp = settings.window_bp or min(checkpoint.model.window for checkpoint in checkpoints)
    pairs = choose_pairs(checkpoints, match=settings.match)
    sums = count(
        checkpoints, pairs, source, seed=settings.seed, reading=Reading(window_bp), state=state, reporter=reporter
    )
    tables, matches = _tables(checkpoints, sums, source, settings, reporter)
    refuse_non_finite(tables, "compare")
    result = _result(checkpoints, sums, source, settings, window_bp, tables)
    comparison = Comparison(folder, result, tables, sums, matches)
    write_tables(folder, tables)
    write_page(comparison, folder / PAGE_FILE)
    write_json(folder / RESULT_FILE, result)
    return comparison


def _tables(
    checkpoints: list[Checkpoint], sums: Sums, source: Source, settings: CompareSettings, reporter: Reporter
) -> tuple[dict[str, Rows], Matches]:
    classes = {labelling.name: labelling.classes for labelling in source.labellings}
    drawn = {"n_draws": settings.n_draws, "seed": settings.seed}
    agreement = agreement_rows(checkpoints, sums, **drawn)
    reporter.say("divergences between classes")
    found = differentiate_all(checkpoints, sums, list(classes), **drawn)
    tables: dict[str, Rows] = {
        "agreement": agreement,
        "transitions": transition_rows(checkpoints, sums, classes),
        "saturation": saturation_rows(checkpoints, agreement) if settings.design == "chain" else [],
        "drift": _drift(checkpoints, settings),
        "differentiation": differentiation_rows(checkpoints, found),
        "stages": [],
        "matching": [],
        "partners": [],
        "seeds": [],
    }
    if stages_of(checkpoints, settings.design):
        split = split_all(checkpoints, sums, list(classes), settings.design, **drawn)
        tables["stages"] = stage_rows(checkpoints, split, settings.design)
    matches: Matches = {}
    if settings.match:
        reporter.say("pairing experts up")
        matches = match_all(checkpoints, sums, list(classes), n_permutations=settings.n_permutations, **drawn)
        tables["matching"] = matching_rows(checkpoints, matches)
        tables["partners"] = partner_rows(checkpoints, matches)
        tables["seeds"] = seed_rows(tables["matching"])
    return tables, matches


def _drift(checkpoints: list[Checkpoint], settings: CompareSettings) -> Rows:
    rows: Rows = []
    for i, j in drift_steps(checkpoints, settings.design):
        a, b = checkpoints[i], checkpoints[j]
        if a.weights and b.weights and not are_alike(a, b):
            names = {"first": a.name, "second": b.name}
            rows += [names | row for row in drift_rows(a.weights, b.weights, a.sites)]
    return rows


def _result(
    checkpoints: list[Checkpoint],
    sums: Sums,
    source: Source,
    settings: CompareSettings,
    window_bp: int,
    tables: Mapping[str, Rows],
) -> dict[str, Any]:
    seen = sums.items[sums.items > 0]
    result = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "umbel": umbel.__version__,
        "settings": asdict(settings) | {"window_bp": window_bp},
        "checkpoints": [checkpoint.describe() for checkpoint in checkpoints],
        "source": dict(source.facts),
        "labellings": [asdict(labelling) for labelling in source.labellings],
        "sample": {
            "n_items": int(seen.sum()),
            "n_stretches": sums.n_stretches,
            "n_units": len(seen),
            "effective_units": float(effective_units(seen)),
        },
        "tables": [name for name, rows in tables.items() if rows],
        "findings": wording.findings([checkpoints[i].name for i in trained(checkpoints)], settings, tables),
        "notes": wording.notes(checkpoints, settings, tables, len(seen)),
    }
    plain: dict[str, Any] = json.loads(json.dumps(result, default=_plain))
    return plain


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)
