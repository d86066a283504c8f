"""Numbers that others published, for the cited rows of a leaderboard: none of them was run here."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from umbel.config.values import STRICT
from umbel.evaluate.suites.loading import load_suite, suite_names


@dataclass(frozen=True, config=STRICT)
class PublishedRow:
    """One published number."""

    suite: str
    """A suite of umbel, or the name of a comparison that is none of them."""
    dataset: str
    """``""``: the number is a mean over ``group``."""
    group: str
    part: str
    """Part of the test set, such as a species; ``""``: all of it."""
    model: str
    metric: str
    """One of :data:`~umbel.evaluate.suites.METRICS`; or ``r2_undefined`` (the paper leaves open which of two),
    ``mean`` (over several metrics), ``not stated``."""
    value: float
    """A fraction: 0.9363, not 93.63."""
    source: str
    trust: Literal["committed data", "third party", "claimed"]
    """Read in data that its authors committed, through someone else's summary, or in a paper's own claim."""
    note: str
    n_seeds: int | None = None
    params_m: float | None = None
    """Million parameters of the model."""
    training_pflop: float | None = None
    """What fine-tuning took, for all of what the number is over."""


def published(suite: str) -> list[PublishedRow]:
    """Give the published numbers of a suite, those of the datasets that it takes from other suites among them.

    Parameters
    ----------
    suite
        A suite of umbel; or ``dnallm_mark`` or ``hyenamoe``, whose means are over several suites.

    Examples
    --------
    >>> [(row.model, row.value) for row in published("mpgb") if row.group == "core_promoter" and not row.dataset]
    [('AgroNT', 0.5874), ('PlantDNAMamba', 0.6441), ('PlantBiMoE', 0.632)]
    """
    rows = [row for row in _all() if row.suite == suite]
    if suite in suite_names():
        used = {(data.folder.split("/")[0], data.name) for data in load_suite(suite).datasets if data.folder}
        rows += [row for row in _all() if row.suite != suite and (row.suite, row.dataset) in used]
    return rows


@cache
def _all() -> tuple[PublishedRow, ...]:
    text = (files("umbel.evaluate.suites") / "published.toml").read_text(encoding="utf-8")
    return tuple(row for table in tomllib.loads(text)["table"] for row in _rows(table))


def _rows(table: dict[str, Any]) -> list[PublishedRow]:
    models, scale = table["models"], table.get("scale", 1)
    shared = {key: table[key] for key in ("suite", "source", "trust", "note", "n_seeds") if key in table}
    columns = {key: table[key] for key in ("params_m", "training_pflop") if key in table}
    found = []
    for row in table["rows"]:
        if len(row["values"]) != len(models):
            raise ValueError(f"published.toml: {row} has not one value for each of {len(models)} models")
        for i, model in enumerate(models):
            facts: dict[str, Any] = {key: values[i] for key, values in columns.items() if values[i] != ""}
            facts |= {key: row.get(key, "") for key in ("dataset", "group", "part")}
            facts |= {"model": model, "metric": row["metric"], "value": round(row["values"][i] / scale, 6)}
            found.append(shared | facts)
    return TypeAdapter(list[PublishedRow]).validate_python(found)
