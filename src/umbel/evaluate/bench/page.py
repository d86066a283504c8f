"""The leaderboard of a suite as files: one page of HTML that needs nothing else, and the same tables as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from umbel.evaluate.bench.cited import OVERALL
from umbel.evaluate.bench.leaderboard import Board, Entry, Leaderboard, gather, mean_metric
from umbel.evaluate.bench.markdown import render_markdown
from umbel.evaluate.bench.reading import gaps, how_to_read
from umbel.evaluate.bench.table import MODEL
from umbel.evaluate.bench.wording import (
    BASELINES,
    IN_A_SENTENCE,
    PAIR_WORDS,
    VERDICT_SIGNS,
    VERDICT_WORDS,
    Verdict,
    difference_text,
    interval_text,
    judge,
    metric_name,
    score_text,
    seeds_text,
    tally,
)
from umbel.files import whole_file
from umbel.page import template

PAGE_FILE, MARKDOWN_FILE = "leaderboard.html", "leaderboard.md"
_OPEN_DATASETS = 3
"""With more datasets their details are folded."""
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def write_pages(results: Sequence[dict[str, Any]], folder: str | Path) -> list[Path]:
    """Write ``leaderboard.html`` and ``leaderboard.md`` of one suite; each is there whole or not at all.

    Parameters
    ----------
    results
        Contents of ``bench.json``, of several models and methods, or of parts of a suite.
    folder
        Made where it is not there.

    Returns
    -------
    The two files.

    Raises
    ------
    RunError
        If the results are of different suites or test data, or one lacks a baseline; nothing is written.
    OutputError
        If the disk is full; earlier pages are untouched.
    """
    board = gather(results)
    texts = {PAGE_FILE: render_page(board), MARKDOWN_FILE: render_markdown(board)}
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with whole_file(Path(folder) / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [Path(folder) / name for name in texts]


def render_page(board: Leaderboard) -> str:
    """Return the page as HTML."""
    from umbel.evaluate.bench.compute_figure import draw, panels, published_panel

    names = {each.name: metric_name(each.metric) for each in board.datasets}
    names |= {each.name: mean_metric(each) for each in (*board.groups, board.overall)}
    shown = panels(board, names)
    elsewhere = published_panel(board)
    filters = {
        "score": score_text,
        "interval": interval_text,
        "seeds": seeds_text,
        "difference": difference_text,
        "metric": metric_name,
        "plain": lambda name: name.replace("_", " "),
        "flops": flops_text,
        "seconds": seconds_text,
    }
    return template(Path(__file__).parent, "bench.html", filters).render(
        board=board,
        suite=board.suite,
        means=[each for each in (*board.groups, board.overall) if each.cells],
        mean_metric=mean_metric,
        gaps=gaps(board),
        overall=OVERALL,
        metric_rows=metric_rows,
        cell_verdicts=lambda each, entry: cell_verdicts(board, each, entry),
        judge=judge,
        baselines=BASELINES,
        in_a_sentence=IN_A_SENTENCE,
        signs=VERDICT_SIGNS,
        words=VERDICT_WORDS,
        pair_words=PAIR_WORDS,
        tally=tally,
        is_folded=len(board.datasets) > _OPEN_DATASETS,
        figures=[(panel, draw(panel, f"leaderboard {i}")) for i, panel in enumerate(shown)],
        published_figure=None if elsewhere is None else (elsewhere, draw(elsewhere, "leaderboard published")),
        licences=list(dict.fromkeys(board.facts(each.name)["licence"] for each in board.datasets)),
        reading=how_to_read(board),
        model_row=MODEL,
    )


def cell_verdicts(board: Leaderboard, each: Board, entry: Entry) -> list[tuple[Verdict, str]]:
    """Say how the models stand to a baseline: verdict and words; none for a row that is itself a model.

    With one model ``model better``; with several the tags that it holds for: ``better: A, C``.
    """
    if entry.row == MODEL:
        return []
    found: dict[Verdict, list[str]] = {}
    for i in entry.sources:
        tag = board.sources[i].tag
        if tag in each.differences:
            found.setdefault(each.verdict(tag, entry.row), []).append(tag)
    if len(board.sources) == 1:
        return [(verdict, VERDICT_WORDS[verdict]) for verdict in found]
    words = {verdict: word.removeprefix("model ") for verdict, word in VERDICT_WORDS.items()}
    return [(verdict, f"{words[verdict]}: {', '.join(tags)}") for verdict, tags in found.items()]


def metric_rows(board: Leaderboard, each: Board) -> list[tuple[str, list[dict[str, Any] | None]]]:
    """Give every metric of a dataset, and its estimate for each entry that was run on it."""
    cells = [each.cells[entry.key] for entry in board.entries if entry.key in each.cells]
    metrics = dict.fromkeys(name for cell in cells for name in cell.metrics or {})
    return [(name, [(cell.metrics or {}).get(name) for cell in cells]) for name in metrics]


def flops_text(flops: float) -> str:
    """Write compute as a power of ten, or that none was counted.

    Examples
    --------
    >>> flops_text(2.34e14), flops_text(0.0)
    ('2.3 × 10¹⁴', '–')
    """
    if flops <= 0:
        return "–"
    power = math.floor(math.log10(flops))
    digits = f"{flops / 10.0**power:.1f}"
    if digits == "10.0":
        digits, power = "1.0", power + 1
    return f"{digits} × 10{str(power).translate(_SUPERSCRIPTS)}"


def seconds_text(seconds: float) -> str:
    """Write a time.

    Examples
    --------
    >>> seconds_text(0.2), seconds_text(75), seconds_text(9000)
    ('under 1 s', '75 s', '2.5 h')
    """
    if seconds < 1:
        return "under 1 s"
    return (
        f"{seconds:.0f} s"
        if seconds < 600
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
