"""What stands on the page of a suite: its rows, datasets, means, differences and copies, gathered from results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from umbel.data.labelled.audit import audit_lines
from umbel.evaluate.bench.between import Pair, compare
from umbel.evaluate.bench.cited import OVERALL, Citations, cite
from umbel.evaluate.bench.joining import join
from umbel.evaluate.bench.means import mean_estimate
from umbel.evaluate.bench.table import MODEL
from umbel.evaluate.bench.wording import (
    BASELINES,
    ROW_NAMES,
    SHORT_NAMES,
    Verdict,
    judge,
    method_name,
    metric_name,
    sentence,
)

_CONSTANT = "majority"


@dataclass(frozen=True)
class Source:
    """A model with one method.

    Attributes
    ----------
    tag
        ``model``, or a capital letter where there are several.
    label
        Name on the page.
    """

    tag: str
    label: str
    method: str
    result: dict[str, Any]

    @property
    def seeds(self) -> list[int]:
        """Seeds of the runs."""
        return list(self.result["config"]["finetune"]["seeds"])


@dataclass(frozen=True)
class Entry:
    """A row that was run: a model, or a baseline, which several models may share."""

    key: str
    row: str
    label: str
    tag: str
    """Short name, for plots."""
    sources: tuple[int, ...]


@dataclass(frozen=True)
class Cell:
    """An entry on a dataset, or its mean over several."""

    estimate: dict[str, Any]
    flops: float
    """Of a run; over several datasets of all of them together."""
    seconds: float
    flags: tuple[str, ...] = ()
    """What went wrong, in words."""
    chosen: str = ""
    """What dev decided, and the learning rate."""
    metrics: Mapping[str, dict[str, Any]] | None = None
    """All of them; None for a mean."""


@dataclass(frozen=True)
class Board:
    """A dataset, a task, or a whole suite: cells of entries, and differences between them.

    Attributes
    ----------
    name
        Of the dataset or task; :data:`~umbel.evaluate.bench.cited.OVERALL` for the suite.
    metric
        ``""`` where several are averaged.
    members
        Datasets that belong to it.
    cells
        Key of an entry to its cell; of a task, only entries that have all its datasets.
    differences
        Tag of a source to baseline to its difference, the source's model minus it.
    missing
        Tag of a source to the datasets that it lacks; empty where there are none.
    """

    name: str
    metric: str
    members: tuple[str, ...]
    cells: Mapping[str, Cell]
    differences: Mapping[str, Mapping[str, dict[str, Any]]]
    missing: Mapping[str, tuple[str, ...]]

    def verdict(self, tag: str, row: str) -> Verdict:
        """How a source's model stands to a baseline."""
        return judge(self.differences[tag][row])


@dataclass(frozen=True)
class Leaderboard:
    """Everything that is on the page, in order."""

    suite: dict[str, Any]
    sources: tuple[Source, ...]
    entries: tuple[Entry, ...]
    datasets: tuple[Board, ...]
    groups: tuple[Board, ...]
    overall: Board
    citations: Citations
    pairs: tuple[Pair, ...] = ()
    """Models against each other, where their predictions are on disk."""

    @property
    def has_parts(self) -> bool:
        """Whether there is any mean that is not simply the one dataset of the page."""
        return any(board.cells for board in (*self.groups, self.overall)) and len(self.datasets) > 1

    def facts(self, dataset: str) -> dict[str, Any]:
        """Give what the first result says of a dataset."""
        found: dict[str, Any] = next(
            source.result["datasets"][dataset] for source in self.sources if dataset in source.result["datasets"]
        )
        return found

    def sentences(self, board: Board) -> list[str]:
        """Say in words how each model stands to its baselines on a dataset."""
        return [
            sentence(
                "the model" if len(self.sources) == 1 else source.label, board.differences[source.tag], board.metric
            )
            for source in self.sources
            if source.tag in board.differences
        ]

    def verdicts(self, source: Source, row: str) -> list[Verdict]:
        """How a model stands to a baseline on every dataset that it was run on."""
        return [board.verdict(source.tag, row) for board in self.datasets if source.tag in board.differences]

    def copies(self, dataset: str) -> dict[str, dict[str, Any]]:
        """Audits of a dataset that differ, each with the tags of the sources that it is of."""
        found: dict[str, dict[str, Any]] = {}
        for source in self.sources:
            if dataset in source.result["datasets"]:
                audit = source.result["datasets"][dataset]["data"]["copies"]
                same = next((tags for tags, known in found.items() if known == audit), None)
                if same is not None:
                    found[f"{same}, {source.tag}"] = found.pop(same)
                else:
                    found[source.tag] = audit
        return found

    def copy_lines(self, dataset: str) -> list[str]:
        """Audits of a dataset in words."""
        audits = self.copies(dataset)
        return [
            line if len(audits) == 1 else f"{tags}: {line}"
            for tags, audit in audits.items()
            for line in audit_lines(audit)
        ]

    def data_lines(self, dataset: str) -> list[str]:
        """Sizes of a dataset's splits, and what of them was used."""
        found: dict[str, list[str]] = {}
        for source in self.sources:
            if dataset in source.result["datasets"]:
                found.setdefault(_sizes(source.result["datasets"][dataset]["data"]), []).append(source.tag)
        return [line if len(found) == 1 else f"{', '.join(tags)}: {line}" for line, tags in found.items()]


def gather(results: Sequence[dict[str, Any]]) -> Leaderboard:
    """Gather the page of a suite from one or several results.

    Raises
    ------
    RunError
        If they do not belong into one table, or one has no baselines; see :func:`umbel.evaluate.bench.joining.join`.
    """
    joined = join(results)
    sources = tuple(_sources(joined))
    entries = tuple(_entries(sources))
    members: dict[str, str] = joined[0]["suite"]["datasets"]
    run = [name for name in members if any(name in result["datasets"] for result in joined)]
    boards = {name: _dataset(name, sources, entries) for name in run}
    groups = [
        _mean(group, [name for name in members if members[name] == group], boards, sources, entries)
        for group in dict.fromkeys(members[name] for name in run)
    ]
    overall = _mean(OVERALL, list(members), boards, sources, entries)
    metrics = {board.name: board.metric for board in (*groups, overall) if board.cells}
    citations = cite(joined[0]["suite"]["name"], {name: boards[name].metric for name in run}, metrics)
    pairs = compare({source.label: source.result for source in sources})
    return Leaderboard(
        joined[0]["suite"], sources, entries, tuple(boards.values()), tuple(groups), overall, citations, tuple(pairs)
    )


def _sources(joined: Sequence[dict[str, Any]]) -> list[Source]:
    names = [result["model"]["name"] for result in joined]
    found = []
    for i, result in enumerate(joined):
        tag = MODEL if len(joined) == 1 else _letters(i)
        label = names[i] if len(joined) == 1 else f"{tag} · {names[i]}, {result['config']['method']}"
        found.append(Source(tag, label, method_name(result["config"]), result))
    return found


def _letters(i: int) -> str:
    """Count in capital letters: A, B, ..., Z, AA, AB, and so on."""
    return (_letters(i // 26 - 1) if i >= 26 else "") + chr(ord("A") + i % 26)


def _entries(sources: Sequence[Source]) -> list[Entry]:
    found = [Entry(f"model:{i}", MODEL, source.label, source.tag, (i,)) for i, source in enumerate(sources)]
    for row in BASELINES:
        shared: list[list[int]] = []
        for i, source in enumerate(sources):
            same = next((each for each in shared if _is_same(row, sources[each[0]].result, source.result)), None)
            if same is None:
                shared.append([i])
            else:
                same.append(i)
        for each in shared:
            tags = ", ".join(sources[i].tag for i in each)
            beside = "" if len(shared) == 1 else f" (beside {tags})"
            short = "" if len(shared) == 1 else f" {tags}"
            found.append(Entry(f"{row}:{each[0]}", row, ROW_NAMES[row] + beside, SHORT_NAMES[row] + short, tuple(each)))
    return found


def _is_same(row: str, first: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether a baseline scored the same in two results, wherever both have it."""
    both = [name for name in first["datasets"] if name in other["datasets"]]
    return bool(both) and all(
        first["datasets"][name]["rows"][row]["metrics"] == other["datasets"][name]["rows"][row]["metrics"]
        for name in both
    )


def _dataset(name: str, sources: Sequence[Source], entries: Sequence[Entry]) -> Board:
    having = {
        i: source.result["datasets"][name] for i, source in enumerate(sources) if name in source.result["datasets"]
    }
    metric: str = next(iter(having.values()))["metric"]
    cells = {}
    for entry in entries:
        found = next((having[i]["rows"][entry.row] for i in entry.sources if i in having), None)
        if found is not None:
            cells[entry.key] = Cell(
                found["metrics"][metric],
                found["flops"],
                found["seconds"],
                _flags(entry.row, found),
                _chosen(found["facts"]),
                found["metrics"],
            )
    differences = {sources[i].tag: found["differences"] for i, found in having.items()}
    return Board(name, metric, (name,), cells, differences, {})


def _flags(row: str, found: dict[str, Any]) -> tuple[str, ...]:
    """Say which seeds collapsed, and which were tried again; a row that is constant by design is no failure."""
    if row == _CONSTANT:
        return ()
    flags = []
    reasons = [why for why in found["collapsed"] if why]
    if reasons:
        flags.append(f"{len(reasons)} of {len(found['collapsed'])} collapsed: {'; '.join(dict.fromkeys(reasons))}")
    retried = [facts["collapsed_tries"] for facts in found["facts"] if facts.get("collapsed_tries")]
    if retried:
        flags.append(
            f"{len(retried)} of {len(found['facts'])} collapsed on dev at first and were tried again at a lower "
            "learning rate"
        )
    problems = dict.fromkeys(facts["problem"] for facts in found["facts"] if facts.get("problem"))
    return (*flags, *problems)


def _chosen(facts: Sequence[Mapping[str, Any]]) -> str:
    """Say what was chosen on dev and the learning rate, values of several seeds side by side."""
    chosen: dict[str, list[str]] = {}
    for each in facts:
        for name, value in (each.get("chosen") or {}).items():
            if name not in ("by", "dev") and value is not None:
                chosen.setdefault(name, []).append(f"{value:.3g}" if isinstance(value, float) else str(value))
    rates = dict.fromkeys(f"{each['lr']:.2g}" for each in facts if "lr" in each)
    told = [f"{name} {' / '.join(dict.fromkeys(values))}" for name, values in chosen.items()]
    parts = [f"chosen on dev: {', '.join(told)}"] if told else []
    return "; ".join(parts + ([f"learning rate {' / '.join(rates)}"] if rates else []))


def _mean(
    name: str,
    members: Sequence[str],
    boards: Mapping[str, Board],
    sources: Sequence[Source],
    entries: Sequence[Entry],
) -> Board:
    """Average over datasets, for entries that have all of them."""
    missing = {
        source.tag: tuple(each for each in members if each not in source.result["datasets"]) for source in sources
    }
    metrics = {boards[each].metric for each in members if each in boards}
    cells = {}
    for entry in entries:
        if all(each in boards and entry.key in boards[each].cells for each in members):
            own = [boards[each].cells[entry.key] for each in members]
            flagged = [each for each, cell in zip(members, own, strict=True) if cell.flags]
            flags = (f"trouble in {', '.join(flagged)}, see there",) if flagged else ()
            cells[entry.key] = Cell(
                mean_estimate([cell.estimate for cell in own]),
                sum(cell.flops for cell in own),
                sum(cell.seconds for cell in own),
                flags,
            )
    differences = {
        source.tag: {
            row: mean_estimate([boards[each].differences[source.tag][row] for each in members]) for row in BASELINES
        }
        for source in sources
        if not missing[source.tag]
    }
    metric = metrics.pop() if len(metrics) == 1 else ""
    return Board(name, metric, tuple(members), cells, differences, {tag: each for tag, each in missing.items() if each})


def _sizes(data: Mapping[str, Any]) -> str:
    found, used = data["found"], data["used"]
    parts = [
        f"{name} {used[name]:,}" + (f" of {found[name]:,}" if used[name] != found[name] else "")
        for name in ("train", "dev", "test")
    ]
    dev = "" if data["dev_from"] == "file" else f" (dev: {data['dev_from']})"
    return f"{', '.join(parts)} examples{dev}"


def mean_metric(board: Board) -> str:
    """Name the metric of a mean."""
    return metric_name(board.metric) if board.metric else "several metrics"
