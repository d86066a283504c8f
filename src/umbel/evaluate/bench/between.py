"""Models against each other: paired tests on the examples that both predicted, from what is on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from umbel.evaluate.bench.runs import TEST_FILE
from umbel.evaluate.bench.table import MODEL
from umbel.evaluate.scores.comparisons import holm, paired_difference
from umbel.evaluate.scores.intervals import Bootstrap, bootstrap
from umbel.evaluate.scores.predictions import Predictions

PLACES = "model_runs"
"""Key of a dataset's results under which :func:`find_runs` puts the folders of the model's runs."""


@dataclass(frozen=True)
class Pair:
    """The first model minus the second on a dataset.

    Attributes
    ----------
    difference
        As :class:`umbel.evaluate.scores.comparisons.Difference` has it, and ``p_holm``, adjusted over all pairs of
        models on the dataset.
    """

    dataset: str
    first: str
    second: str
    difference: dict[str, Any]


def find_runs(result: dict[str, Any], folder: Path) -> None:
    """Tell each dataset of a result where the runs of its model are, below the folder of its ``bench.json``."""
    for name, found in result["datasets"].items():
        runs = [facts.get("run") for facts in found["rows"][MODEL]["facts"]]
        if all(runs):
            found[PLACES] = [str(folder / "datasets" / name / MODEL / run) for run in runs]


def compare(models: Mapping[str, Mapping[str, Any]]) -> list[Pair]:
    """Compare every two models on every dataset that both were run on.

    Parameters
    ----------
    models
        Label to the content of ``bench.json``; those that were not read from disk are left out.

    Raises
    ------
    RunError
        If predictions are not there or damaged, or of other examples.
    """
    pairs = []
    for name in dict.fromkeys(name for result in models.values() for name in result["datasets"]):
        rows = {label: result["datasets"][name] for label, result in models.items() if name in result["datasets"]}
        rows = {label: found for label, found in rows.items() if PLACES in found}
        if len(rows) < 2:
            continue
        n_draws = min(int(models[label]["config"]["n_draws"]) for label in rows)
        drawn = {label: _drawn(found[PLACES], n_draws) for label, found in rows.items()}
        metric = next(iter(rows.values()))["metric"]
        found = {(a, b): paired_difference(drawn[a], drawn[b], metric).to_dict() for a, b in combinations(drawn, 2)}
        adjusted = holm({f"{a}\0{b}": difference["p"] for (a, b), difference in found.items()})
        pairs += [Pair(name, a, b, told | {"p_holm": adjusted[f"{a}\0{b}"]}) for (a, b), told in found.items()]
    return pairs


def _drawn(folders: Sequence[str], n_draws: int) -> Bootstrap:
    return bootstrap([Predictions.load(Path(folder) / TEST_FILE) for folder in folders], n_draws=n_draws)
