"""Record the routing of a source: in one pass, in bounded memory, stoppable at any moment."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

from umbel.errors import ConfigError
from umbel.evaluate.experts.accumulator import Accumulator
from umbel.evaluate.experts.folder import FACTS, Recording, facts_of, read_state, write_items, write_state
from umbel.evaluate.experts.routes import RoutedModel
from umbel.evaluate.experts.source import Source
from umbel.evaluate.experts.stretches import Reading, chunks, route_stretches
from umbel.evaluate.stages import code_version
from umbel.files import write_json
from umbel.progress import Reporter, reporter_or_silent

SAVE_EVERY_S = 15.0


@dataclass(frozen=True)
class RecordSettings:
    """How to record.

    Attributes
    ----------
    window_bp, overlap_bp
        How long stretches of DNA are cut; see :class:`~umbel.evaluate.experts.stretches.Reading`.
    n_shifts
        How often the labels of each stretch are turned against its routing, for chance; 0: never, and then there are
        no p-values.
    seed
        Of the distances.
    items
        Also write what every item took, as Parquet: some 10 bytes per base, router and expert.
    """

    window_bp: int = 0
    overlap_bp: int = -1
    n_shifts: int = 499
    seed: int = 0
    items: bool = False


def record(
    model: RoutedModel,
    source: Source,
    out: str | Path,
    settings: RecordSettings | None = None,
    *,
    reporter: Reporter | None = None,
    save_every_s: float = SAVE_EVERY_S,
    title: str = "routing",
) -> Recording:
    """Route every stretch of a source and keep sums; a stopped recording goes on where it was, to the same bytes.

    Memory and disk do not grow with the number of items, unless every item is asked for.

    Parameters
    ----------
    model
        Ours (:class:`~umbel.evaluate.experts.ours.OurModel`) or another's.
    source
        Labelled stretches.
    out
        A folder.
    save_every_s
        Seconds between two savings.
    title
        Of its progress.

    Raises
    ------
    ConfigError
        If the folder holds a recording of something else, or the source is empty.
    InputError
        If what is in the folder is damaged.
    """
    settings = settings or RecordSettings()
    folder, reporter = Path(out), reporter_or_silent(reporter)
    if not len(source):
        raise ConfigError("there is nothing to record: the source has no stretch")
    facts = facts_of(
        model.sites,
        source.labellings,
        model.facts,
        source.facts,
        {**asdict(settings), "code": code_version()},
        len(source),
    )
    told, arrays = read_state(folder)
    # A folder in which nothing was recorded yet may be taken for anything.
    if told is not None and arrays is not None and told["key"] != facts["key"]:
        other = [part for part in ("model", "source", "settings", "sites", "labellings") if told[part] != facts[part]]
        raise ConfigError(
            f"{folder}: holds a recording with another {', '.join(other) or 'length'}. Choose another folder with -o, "
            "or delete this one"
        )
    write_json(folder / FACTS, facts)
    done = int(arrays.pop("n_done")) if arrays is not None else 0
    sums = Accumulator(model.sites, source.labellings, source.n_units, settings.n_shifts, settings.seed, arrays)
    reading = Reading(settings.window_bp, settings.overlap_bp)
    task = reporter.start(title, len(source), "stretches", done)
    saved_at = time.monotonic()
    for chunk in chunks(source, done):
        routed = route_stretches(model, [stretch for _, stretch in chunk], reading)
        for (number, stretch), routes in zip(chunk, routed, strict=True):
            sums.add(number, stretch, routes)
        if settings.items:
            pairs = [(stretch, routes) for (_, stretch), routes in zip(chunk, routed, strict=True)]
            write_items(folder, chunk[0][0], pairs, model.sites)
        done = chunk[-1][0] + 1
        task.advance(len(chunk))
        if time.monotonic() - saved_at >= save_every_s or done == len(source):
            write_state(folder, sums.arrays, done)
            saved_at = time.monotonic()
    task.close()
    return Recording(folder, model.sites, source.labellings, facts, sums)
