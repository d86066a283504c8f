"""Make an atlas: record, knock out, compute, draw; each part goes on where a stopped one was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import umbel
from umbel.evaluate.experts.atlas import Atlas
from umbel.evaluate.experts.folder import Recording
from umbel.evaluate.experts.page import write_atlas_page
from umbel.evaluate.experts.recording import RecordSettings, record
from umbel.evaluate.experts.routes import RoutedModel
from umbel.evaluate.experts.source import Source
from umbel.evaluate.experts.statistics.units import effective_units
from umbel.evaluate.experts.tables import make_tables
from umbel.progress import Reporter, reporter_or_silent

RECORDING, TWINS = "recording", "random"


@dataclass(frozen=True)
class AtlasSettings:
    """How to make an atlas.

    Attributes
    ----------
    record
        How to record.
    n_draws
        Bootstrap draws of units for the intervals.
    seed
        Of the draws.
    """

    record: RecordSettings = field(default_factory=RecordSettings)
    n_draws: int = 1000
    seed: int = 0


def make_atlas(
    model: RoutedModel,
    source: Source,
    out: str | Path,
    settings: AtlasSettings | None = None,
    *,
    twins: Sequence[RoutedModel] = (),
    ablation: Callable[[], Iterable[Mapping[str, Any]]] | None = None,
    tracks: Callable[[Recording], Iterable[str]] | None = None,
    notes: Iterable[str] = (),
    reporter: Reporter | None = None,
) -> Atlas:
    """Record a source and write ``atlas.json``, ``tables/`` and ``atlas.html``; a stopped one goes on.

    Parameters
    ----------
    model, source
        What routes what.
    out
        A folder.
    twins
        Networks of the same shape with random weights, which stand beside the model.
    ablation
        Makes the rows of the table ``ablation``; None leaves that column empty, which the page says.
    tracks
        Writes files beside the page and gives their names.
    notes
        Sentences for the page.

    Raises
    ------
    ConfigError
        If the folder holds an atlas of something else.
    """
    settings, reporter, folder = settings or AtlasSettings(), reporter_or_silent(reporter), Path(out)
    recording = record(model, source, folder / RECORDING, settings.record, reporter=reporter)
    plain = replace(settings.record, n_shifts=0, items=False)
    beside = [
        record(twin, source, folder / f"{TWINS}-{number}", plain, reporter=reporter, title="random weights").totals
        for number, twin in enumerate(twins)
    ]
    knocked = list(ablation()) if ablation is not None else []
    tables = make_tables(
        recording, source, knocked, beside, n_draws=settings.n_draws, seed=settings.seed, reporter=reporter
    )
    files = list(tracks(recording)) if tracks is not None else []
    atlas = Atlas(_facts(recording, settings, [*notes], files, len(twins)), tables)
    atlas.save(folder)
    write_atlas_page(atlas, folder)
    return atlas


def _facts(
    recording: Recording, settings: AtlasSettings, notes: list[str], tracks: list[str], n_random: int
) -> dict[str, Any]:
    totals, facts = recording.totals, recording.facts
    # Of stretches that are like each other, or unequal units, fewer count.
    clusters = facts["source"].get("effective_clusters")
    is_text = int(recording.sums.arrays["is_text"]) == 1
    for site, sums in zip(recording.sites, totals.sites, strict=True):
        lost = site.top_k * int(totals.items.sum()) - int(sums.counts.sum())
        if lost:
            notes.append(f"{site.name}: {lost:,} choices were not carried out, because the expert was full or skipped.")
    if not facts["settings"]["n_shifts"]:
        notes.append("Labels were not turned against the routing (n_shifts = 0), so there are no p-values.")
    return {
        "model": facts["model"],
        "source": facts["source"],
        "settings": {
            **facts["settings"],
            "n_random": n_random,
            "n_draws": settings.n_draws,
            "statistics_seed": settings.seed,
        },
        "versions": {
            "umbel": umbel.__version__,
            **{name: version(name) for name in ("torch", "transformers", "numpy")},
        },
        "sample": {
            "n_items": int(totals.items.sum()),
            "n_stretches": facts["n_stretches"],
            "n_units": int((totals.items > 0).sum()),
            "effective_units": min(each for each in (clusters, effective_units(totals.items)) if each is not None),
            "item": "token" if is_text else "base",
        },
        "labellings": [asdict(labelling) for labelling in recording.labellings],
        "notes": notes,
        "tracks": tracks,
    }
