"""The leaderboard of a suite as Markdown: the tables of the page, without its plots."""

from __future__ import annotations

import re
from collections.abc import Sequence

from umbel.evaluate.bench.cited import OVERALL, Cited
from umbel.evaluate.bench.leaderboard import Board, Cell, Leaderboard, mean_metric
from umbel.evaluate.bench.reading import gaps, how_to_read
from umbel.evaluate.bench.wording import (
    BASELINES,
    IN_A_SENTENCE,
    PAIR_WORDS,
    ROW_NAMES,
    VERDICT_WORDS,
    difference_text,
    interval_text,
    judge,
    metric_name,
    score_text,
    seeds_text,
    tally,
)

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~&])")
STAMP = "published, not run here"


def escape(text: str) -> str:
    r"""Make text stand for itself in Markdown, in a table too.

    Examples
    --------
    >>> escape("a|b_c")
    'a\\|b\\_c'
    """
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def render_markdown(board: Leaderboard) -> str:
    """Return the tables and sentences of the page as Markdown."""
    n, total = len(board.datasets), len(board.suite["datasets"])
    lines = [f"# {escape(board.suite['title'])}", ""]
    lines += [f"{n} of {total} datasets of suite {escape(board.suite['name'])}; {escape(board.suite['paper'])}.", ""]
    for source in board.sources:
        limit = source.result["config"]["max_train"]
        model = source.result["model"]
        lines += [
            f"- **{escape(source.label)}**: {escape(source.method)}; seeds {', '.join(map(str, source.seeds))}; "
            f"{'at most ' + format(limit, ',') if limit else 'all'} training examples of a dataset; "
            f"{model['n_parameters']:,} parameters, weights {model['weights_hash'][:12]}; "
            f"umbel {source.result['umbel']}"
        ]
        lines += [f"  - Beside {IN_A_SENTENCE[row]}: {tally(board.verdicts(source, row))}" for row in BASELINES]
    licences = dict.fromkeys(board.facts(each.name)["licence"] for each in board.datasets)
    lines += ["", f"Licence of the data: {escape(', '.join(licences))}.", ""]
    means = [each for each in (*board.groups, board.overall) if each.cells]
    if board.has_parts:
        lines += ["## Means of tasks", "", *_scores(board, means, "Task"), ""]
    lines += [f"- {escape(line)}" for line in gaps(board)]
    lines += ["", "## Datasets", "", *_scores(board, board.datasets, "Dataset"), ""]
    for each in board.datasets:
        lines += _dataset(board, each)
    if board.pairs:
        lines += ["## Models against each other", "", *_pairs(board), ""]
    lines += ["## Copies between the splits", "", *_copies(board), ""]
    if board.citations.footnotes:
        lines += ["## Published, not run here", "", *_cited(board), ""]
        lines += [f"{i}. {escape(line)}" for i, line in enumerate(board.citations.footnotes, 1)] + [""]
    lines += ["## How to read this", "", *(f"- {escape(line)}" for line in how_to_read(board)), ""]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"| {' | '.join(['---', *['---:'] * (len(head) - 1)])} |",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _name(each: Board) -> str:
    return "All datasets" if each.name == OVERALL else escape(each.name)


def _scores(board: Leaderboard, boards: Sequence[Board], what: str) -> list[str]:
    head = [what, "Metric", *(escape(entry.label) for entry in board.entries)]
    rows = [
        [_name(each), mean_metric(each), *(_cell(each.cells.get(entry.key)) for entry in board.entries)]
        for each in boards
    ]
    return _table(head, rows)


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "not run"
    if cell.estimate["value"] is None:
        return "not defined"
    flags = "".join(f"; ⚠ {escape(flag)}" for flag in cell.flags)
    interval, seeds = interval_text(cell.estimate), seeds_text(cell.estimate)
    return f"{score_text(cell.estimate['value'])} ({interval}; {seeds}){flags}"


def _dataset(board: Leaderboard, each: Board) -> list[str]:
    lines = [f"### {escape(each.name)}", ""]
    for line in board.sentences(each):
        lines += [escape(line), ""]
    several = len(board.sources) > 1
    rows = [
        [
            *([escape(source.label)] if several else []),
            ROW_NAMES[row],
            difference_text(each.differences[source.tag][row]),
            VERDICT_WORDS[judge(each.differences[source.tag][row])],
        ]
        for source in board.sources
        if source.tag in each.differences
        for row in BASELINES
    ]
    head = [*(["Model"] if several else []), "Row", f"Model minus it, {metric_name(each.metric)}", "In words"]
    lines += [*_table(head, rows), ""]
    entries = [entry for entry in board.entries if entry.key in each.cells]
    cells = [each.cells[entry.key] for entry in entries]
    metrics = dict.fromkeys(name for cell in cells for name in cell.metrics or {})
    table = [[escape(metric_name(name)), *(_metric(cell, name) for cell in cells)] for name in metrics]
    lines += [*_table(["Metric", *(escape(entry.label) for entry in entries)], table), ""]
    told = [*board.data_lines(each.name), *(f"Copies, {line}" for line in board.copy_lines(each.name))]
    told += board.facts(each.name)["notes"]
    return [*lines, *(f"- {escape(line)}" for line in told), ""]


def _metric(cell: Cell, name: str) -> str:
    estimate = (cell.metrics or {}).get(name)
    if estimate is None or estimate["value"] is None:
        return "not defined"
    return f"{score_text(estimate['value'])} ({interval_text(estimate)})"


def _pairs(board: Leaderboard) -> list[str]:
    metrics = {each.name: metric_name(each.metric) for each in board.datasets}
    rows = [
        [
            escape(pair.dataset),
            escape(pair.first),
            escape(pair.second),
            metrics[pair.dataset],
            difference_text(pair.difference),
            PAIR_WORDS[judge(pair.difference)],
        ]
        for pair in board.pairs
    ]
    return _table(["Dataset", "First", "Second", "Metric", "First minus second", "In words"], rows)


def _copies(board: Leaderboard) -> list[str]:
    rows = []
    for each in board.datasets:
        audits = board.copies(each.name)
        for tags, audit in audits.items():
            pair = audit["between"]["train/test"]
            name = escape(each.name) + (f" ({tags})" if len(audits) > 1 else "")
            near = f"{pair['near']:,} ({100 * pair['near_share']:.1f} %)"
            rows.append(
                [name, f"{pair['exact']:,} ({100 * pair['exact_share']:.1f} %)", near, f"{pair['conflicts']:,}"]
            )
    return _table(
        ["Dataset", "Test examples with an exact copy in train", "with a near-copy", "with another target"], rows
    )


def _cited(board: Leaderboard) -> list[str]:
    citations = board.citations
    told: list[tuple[str, Cited]] = []
    for name, found in (*citations.by_group.items(), *citations.by_dataset.items()):
        told += [("all datasets" if name == OVERALL else name, one) for one in found]
    told += [(one.row.group or one.row.dataset, one) for one in citations.compute]
    head = ["Where", "Model", "Score", "Metric", "FLOP of fine-tuning", "Note", "How"]
    rows = [
        [
            escape(where),
            escape(one.model),
            score_text(one.row.value),
            escape(metric_name(one.row.metric)),
            "" if one.row.training_pflop is None else f"{one.row.training_pflop * 1e15:.1e}",
            str(one.footnote),
            STAMP,
        ]
        for where, one in told
    ]
    return _table(head, rows)
