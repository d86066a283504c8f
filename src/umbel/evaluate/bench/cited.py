"""Published numbers that belong beside a result: where they fit, and what to know before believing them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from umbel.evaluate.bench.wording import metric_name
from umbel.evaluate.suites.published import PublishedRow, published

OVERALL = ""
"""Stands for the mean over a whole suite, where groups are told by their names."""
_WHOLE_SUITE = "mean of the suite"
_COMPUTE_OF = {"mpgb": "dnallm_mark", "pgb": "dnallm_mark", "pdllm": "dnallm_mark"}
"""Suites of plants, for which there is a published mean over other tasks that comes with its compute."""
_TRUST = {
    "committed data": "read in data that its authors committed",
    "third party": "read through someone else's summary",
    "claimed": "the paper's own claim",
}


@dataclass(frozen=True)
class Cited:
    """A published number, and the number of its footnote."""

    row: PublishedRow
    footnote: int
    metric: str
    """Told where it is not the table's; ``""`` where it is."""

    @property
    def model(self) -> str:
        """Name of the model, and of the part of the test set where it is not the whole."""
        return f"{self.row.model}, {self.row.part} only" if self.row.part else self.row.model


@dataclass(frozen=True)
class Citations:
    """Published numbers of a suite.

    Attributes
    ----------
    by_dataset, by_group
        Name to its numbers; those over the whole suite are under :data:`OVERALL`.
    compute
        Numbers that come with what fine-tuning took; they may be of other tasks than the suite's.
    footnotes
        Source and caveats; the first is number 1.
    """

    by_dataset: Mapping[str, list[Cited]]
    by_group: Mapping[str, list[Cited]]
    compute: list[Cited]
    footnotes: list[str]


def cite(suite: str, datasets: Mapping[str, str], groups: Mapping[str, str]) -> Citations:
    """Find the published numbers that belong to what is on a page.

    Parameters
    ----------
    suite
        Its name.
    datasets, groups
        Dataset to its metric; group (and :data:`OVERALL`) to that of its mean, ``""`` for several metrics.
    """
    notes: dict[str, int] = {}

    def take(row: PublishedRow, metric: str) -> Cited:
        number = notes.setdefault(footnote(row), len(notes) + 1)
        return Cited(row, number, "" if row.metric == metric else metric_name(row.metric))

    by_dataset: dict[str, list[Cited]] = {}
    by_group: dict[str, list[Cited]] = {}
    for row in published(suite):
        group = OVERALL if row.group == _WHOLE_SUITE else row.group
        if row.dataset in datasets:
            by_dataset.setdefault(row.dataset, []).append(take(row, datasets[row.dataset]))
        elif not row.dataset and group in groups:
            by_group.setdefault(group, []).append(take(row, groups[group]))
    compute = published(suite) + (published(_COMPUTE_OF[suite]) if suite in _COMPUTE_OF else [])
    told = [take(row, "") for row in compute if row.training_pflop is not None]
    return Citations(by_dataset, by_group, told, list(notes))


def footnote(row: PublishedRow) -> str:
    """Say where a published number is from, how far to trust it, and of how many seeds it is.

    Examples
    --------
    >>> footnote(published("mpgb")[0])[:98]
    "PlantBiMoE, arXiv 2512.07113, means over the datasets of a task; read through someone else's summa"
    """
    seeds = {None: "; number of seeds not stated", 1: "; one seed"}.get(row.n_seeds, f"; {row.n_seeds} seeds")
    return f"{row.source}; {_TRUST[row.trust]}{'' if 'seed' in row.note.lower() else seeds}. {row.note}"
