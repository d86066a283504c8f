"""The report of the zero-shot benchmark: one page that needs nothing else, its figure, and a table of Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from umbel.evaluate.wording import judge, number, signed, span
from umbel.evaluate.zero_shot.wording import CLUSTERS, MATCHINGS, MODEL, ROW_NAMES, SIGNS, markdown, shown_rows
from umbel.files import whole_file
from umbel.page import as_svg, figure_style, template

PAGE_FILE, FIGURE_FILE, MARKDOWN_FILE = "report.html", "auroc.svg", "report.md"

# Okabe & Ito's colours darkened for text, as on the leaderboard.
_COLOURS = {MODEL: "#0072B2", "random": "#a3437a", "markov": "#00795a"}
_OTHER = "#7a5200"
_LABELS_IN, _PANEL_IN, _ROW_IN = 2.95, 1.75, 0.24


def write_page(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write ``report.html``, ``auroc.svg`` and ``report.md``, each whole or not at all."""
    figure = draw(result)
    texts = {PAGE_FILE: render(result, figure), FIGURE_FILE: str(figure), MARKDOWN_FILE: markdown(result)}
    for name, text in texts.items():
        with whole_file(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def render(result: Mapping[str, Any], figure: Any) -> str:
    """Return the page as HTML."""
    filters = {"number": number, "signed": signed, "span": span}
    return template(Path(__file__).parent, "zero_shot.html", filters).render(
        result=result,
        figure=figure,
        judge=lambda difference: judge(difference, better_below=False),
        matchings=MATCHINGS,
        compared=_compared,
        has_row=lambda comparison, name: any(name in shown_rows(found, m) for m, found in _compared(comparison)),
        model_row=MODEL,
        row_names=ROW_NAMES,
        shown_rows=shown_rows,
        signs=SIGNS,
        unit=CLUSTERS[result["data"]["from"]],
        fasta=result["inputs"]["fasta"]["name"],
        source=result["inputs"][result["data"]["from"]]["name"],
    )


def _compared(comparison: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Give the matchings that have numbers."""
    return [(matching, found) for matching, found in comparison["matchings"].items() if "missing" not in found]


def draw(result: Mapping[str, Any]) -> Any:
    """Draw every area with its interval: a row of panels a comparison, a panel a matching, as ``<svg>``."""
    from matplotlib.figure import Figure

    comparisons = result["comparisons"]
    matchings = [m for m in MATCHINGS if any("scores" in c["matchings"].get(m, {}) for c in comparisons)]
    rows = [
        name
        for name in ROW_NAMES
        if any(name in found.get("scores", ()) for c in comparisons for found in c["matchings"].values())
    ]
    low, high = _limits(comparisons)
    width = _LABELS_IN + _PANEL_IN * len(matchings) + 0.15
    panel_in = _ROW_IN * len(rows)
    height = 0.1 + len(comparisons) * (panel_in + 0.95)
    with figure_style("zero-shot"):
        figure = Figure(figsize=(width, height), facecolor="none")
        for i, comparison in enumerate(comparisons):
            bottom = (height - 0.45 - panel_in - i * (panel_in + 0.95)) / height
            for j, matching in enumerate(matchings):
                left = (_LABELS_IN + j * _PANEL_IN) / width
                box = (left, bottom, (_PANEL_IN - 0.22) / width, panel_in / height)
                axes = figure.add_axes(box, facecolor="none")
                _draw_panel(axes, comparison["matchings"].get(matching, {"missing": ""}), rows, matching, (low, high))
                axes.set_title(MATCHINGS[matching].replace(" and", "\nand"), fontsize=8, color="#45453f")
                if j == 0:
                    axes.set_yticks(range(len(rows)), [ROW_NAMES[name] for name in rows])
                    axes.get_yticklabels()[0].set_fontweight("bold")
                    axes.set_xlabel(f"AUROC, {comparison['positive']} against {comparison['negative']}", loc="left")
        return as_svg(figure)


def _limits(comparisons: list[dict[str, Any]]) -> tuple[float, float]:
    ends = [0.45, 0.55]
    for comparison in comparisons:
        for found in comparison["matchings"].values():
            for estimate in found.get("scores", {}).values():
                ends += [x for x in (estimate["value"], estimate["low"], estimate["high"]) if x is not None]
    return min(ends) - 0.02, max(ends) + 0.02


def _draw_panel(
    axes: Any, found: Mapping[str, Any], rows: list[str], matching: str, limits: tuple[float, float]
) -> None:
    axes.axvline(0.5, color="#8a8a84", linewidth=0.9, linestyle=(0, (3, 2)), zorder=1)
    if "missing" in found:
        axes.text(
            sum(limits) / 2, len(rows) / 2 - 0.5, "too few", ha="center", va="center", color="#6b6b66", fontsize=8
        )
    else:
        for row, name in enumerate(rows):
            if name in shown_rows(found, matching):
                estimate = found["scores"][name]
                colour = _COLOURS.get(name, _OTHER)
                if estimate["low"] is not None:
                    axes.plot([estimate["low"], estimate["high"]], [row, row], color=colour, linewidth=1.6, zorder=2)
                marker = "D" if name == MODEL else "o"
                axes.plot([estimate["value"]], [row], marker, color=colour, markersize=5, zorder=3)
    axes.set_xlim(*limits)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks([])
    axes.grid(axis="x", color="#e6e6e1", linewidth=0.7, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", labelsize=8, length=2)
    axes.tick_params(axis="y", labelsize=9, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
