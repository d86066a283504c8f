"""A recording on disk: what was recorded of what, and the sums."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from umbel.errors import InputError
from umbel.evaluate.experts.accumulator import Accumulator, Arrays
from umbel.evaluate.experts.routes import RoutedSequence, Site
from umbel.evaluate.experts.source import Labelling, Stretch
from umbel.evaluate.experts.totals import Totals
from umbel.files import sha256_json, whole_file

FACTS, SUMS, ITEMS = "recording.json", "sums.npz", "items"


@dataclass(frozen=True)
class Recording:
    """A finished recording.

    Attributes
    ----------
    folder
        Where it is.
    sites, labellings
        Of the model and of the source.
    facts
        ``model``, ``source``, ``settings``, ``n_stretches``: plain JSON.
    sums
        The adder that it grew in.
    """

    folder: Path
    sites: tuple[Site, ...]
    labellings: tuple[Labelling, ...]
    facts: dict[str, Any]
    sums: Accumulator

    @cached_property
    def totals(self) -> Totals:
        """What the statistics are made of."""
        return self.sums.totals()

    @classmethod
    def load(cls, folder: str | Path) -> Recording:
        """Read a folder that :func:`umbel.evaluate.experts.recording.record` wrote.

        Raises
        ------
        InputError
            If it is none, or the recording was not finished.
        """
        path = Path(folder)
        facts, arrays = read_state(path)
        if facts is None or arrays is None:
            raise InputError("no recording of experts is here. umbel experts record makes one.", path)
        done = int(arrays.pop("n_done"))
        if done < facts["n_stretches"]:
            raise InputError(
                f"the recording stopped at {done:,} of {facts['n_stretches']:,} stretches. Run the same command again.",
                path,
            )
        sites = tuple(Site(**site) for site in facts["sites"])
        labellings = tuple(Labelling(**{**each, "classes": tuple(each["classes"])}) for each in facts["labellings"])
        n_units, settings = len(arrays["items"]), facts["settings"]
        sums = Accumulator(sites, labellings, n_units, settings["n_shifts"], settings["seed"], arrays)
        return cls(path, sites, labellings, facts, sums)


def facts_of(
    sites: tuple[Site, ...],
    labellings: tuple[Labelling, ...],
    model: Mapping[str, Any],
    source: Mapping[str, Any],
    settings: Mapping[str, Any],
    n_stretches: int,
) -> dict[str, Any]:
    """Put together what a recording is of; ``key`` is a hash of all of it."""
    facts: dict[str, Any] = {
        "model": dict(model),
        "source": dict(source),
        "settings": dict(settings),
        "n_stretches": n_stretches,
        "sites": [asdict(site) for site in sites],
        "labellings": [asdict(labelling) for labelling in labellings],
    }
    # Tuples become lists, as they will be when the file is read.
    facts = json.loads(json.dumps(facts))
    return {**facts, "key": sha256_json(facts)}


def read_state(folder: Path) -> tuple[dict[str, Any] | None, Arrays | None]:
    """Read what there is of a recording, finished or not; None for what is not there.

    Raises
    ------
    InputError
        If a file is damaged.
    """
    facts, sums = folder / FACTS, folder / SUMS
    if not facts.exists():
        return None, None
    try:
        told = json.loads(facts.read_text(encoding="utf-8"))
        if not sums.exists():
            return told, None
        with np.load(sums) as file:
            return told, {name: file[name] for name in file.files}
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise InputError(
            f"not a recording of ours, or damaged ({error}). Delete it and record again.", folder
        ) from error


def write_state(folder: Path, arrays: Arrays, n_done: int) -> None:
    """Write the sums so far, whole."""
    with whole_file(folder / SUMS) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, n_done=np.array(n_done), **arrays)


def write_items(folder: Path, first: int, chunk: list[tuple[Stretch, RoutedSequence]], sites: tuple[Site, ...]) -> None:
    """Write every item of some stretches as Parquet: ``items/part-N.parquet``, N the number of the first stretch.

    Columns: ``sequence``, ``start`` (0-based on the contig; of text the number of the token), ``token`` (base code 0 to
    3, or token id); and for each site ``siteN_experts``, ``siteN_weights`` (lists of K), ``siteN_entropy`` (nats) and
    ``siteN_margin``.
    """
    columns: dict[str, list[Any]] = {}
    for stretch, routed in chunk:
        there = np.flatnonzero(routed.counted)
        columns.setdefault("sequence", []).append(pa.array([stretch.name] * len(there)).dictionary_encode())
        columns.setdefault("start", []).append(pa.array(stretch.start + there))
        columns.setdefault("token", []).append(pa.array(routed.tokens[there]))
        for i, site in enumerate(routed.sites):
            part = site.part(there)
            for name, values in (("experts", part.experts), ("weights", part.weights)):
                rows = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), sites[i].top_k)
                columns.setdefault(f"site{i}_{name}", []).append(rows)
            for name, values in (("entropy", part.entropy), ("margin", part.margin)):
                columns.setdefault(f"site{i}_{name}", []).append(pa.array(values))
    table = pa.table({name: pa.chunked_array(parts) for name, parts in columns.items()}).unify_dictionaries()
    with whole_file(folder / ITEMS / f"part-{first:08d}.parquet") as temporary:
        pq.write_table(table, temporary)
