"""The curves over depth: how surely routers choose, how far classes part, and how much of it context explains."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from umbel.evaluate.experts.page.views import LabellingView, Row, SiteView
from umbel.page import as_svg, figure_style

# Okabe & Ito's colours, told apart with any colour vision.
_LINE, _PALE, _BAND, _FLOOR, _BOUND = "#542788", "#c9c3d4", "#ddd3ea", "#7a5200", "#6b6b66"
_CONTEXTS = (
    ("context_base", "base", "#9aa5b1"),
    ("context_3mer", "3-mer", "#56B4E9"),
    ("context_6mer", "6-mer", "#0072B2"),
    ("context_token", "token", "#009E73"),
)
_MAX_PAIRS = 60
_MAX_MARKED = 12
_LN2 = math.log(2)
_WIDTH_IN = 8.6


def as_figure(figure: Figure) -> Any:
    """Give a figure as ``<svg>`` for a page with many: without the names of its groups, which repeat, and its facts."""
    from markupsafe import Markup

    drawn = re.sub(r"<metadata>.*?</metadata>\s*", "", str(as_svg(figure)), flags=re.DOTALL)
    return Markup(re.sub(r'<g id="[^"]*"', "<g", drawn))


def draw_surety(views: Sequence[SiteView]) -> Any | None:
    """Draw router entropy and margin over depth; None where no scores are known."""
    panels = (
        ("router_entropy_share", "router entropy / ln E", 1.0),
        ("margin", "margin of the choice", None),
    )
    if not any(view.layer[name] is not None for view in views for name, _, _ in panels):
        return None
    with figure_style("surety"):
        figure, both = _two_panels(2.5)
        for axes, (name, label, bound) in zip(both, panels, strict=True):
            known = [(i, view.layer[name]) for i, view in enumerate(views) if view.layer[name] is not None]
            axes.plot([i for i, _ in known], [value for _, value in known], "o-", color=_LINE, markersize=4)
            if bound is not None:
                axes.axhline(bound, color=_BOUND, linewidth=1, linestyle=(0, (3, 2)))
                axes.annotate("cannot tell experts apart", (0, bound), xytext=(3, 3), fontsize=8, color=_BOUND,
                              textcoords="offset points", xycoords=("axes fraction", "data"))  # fmt: skip
                axes.set_ylim(0, 1.14)
            else:
                least = min([0.0, *(value for _, value in known)])
                axes.set_ylim(least * 1.1, max([0.01, *(1.15 * value for _, value in known)]))
            _finish(axes, views, label)
        return as_figure(figure)


def draw_divergence(labelling: LabellingView, views: Sequence[SiteView]) -> Any | None:
    """Draw the divergence of classes over depth: every pair, and all classes at once, with floors and bounds."""
    pairs: dict[tuple[str, str], dict[int, Row]] = {}
    for i, view in enumerate(views):
        for row in view.divergence.get(labelling.name, []):
            if row["js"] is not None:
                pairs.setdefault((row["class_a"], row["class_b"]), {})[i] = row
    together = {
        i: view.information[labelling.name] for i, view in enumerate(views) if labelling.name in view.information
    }
    together = {i: row for i, row in together.items() if row["mi"] is not None}
    if not pairs and not together:
        return None
    with figure_style(f"divergence {labelling.name}"):
        figure, (left, right) = _two_panels(3.0)
        if pairs:
            strongest = max(pairs, key=lambda pair: float(np.mean([row["js"] for row in pairs[pair].values()])))
            others = sorted(pair for pair in pairs if pair != strongest)
            bottom = _bottom([v for rows in pairs.values() for row in rows.values() for v in (row["js"], row["floor"])])
            for pair in others[:_MAX_PAIRS]:
                marks = 2 if len(views) <= _MAX_MARKED else 0
                _line(left, pairs[pair], "js", bottom, color=_PALE, linewidth=0.9, markersize=marks)
            _band(left, pairs[strongest], "js", bottom, {"floor": "floor"})
            _frame(left, bottom, _LN2, "ln 2, the bound")
            left.set_title(
                _short(f"{strongest[0]} – {strongest[1]}"), fontsize=9, color=_LINE, loc="left", parse_math=False
            )
            _finish(left, views, "JS of two classes, nats")
        else:
            left.set_axis_off()
        if together:
            bottom = _bottom(
                [value for row in together.values() for value in (row["mi"], row["chance"], row["random"])]
            )
            n_classes = max(row["n_classes"] for row in together.values())
            n_experts = min(views[i].layer["n_experts"] for i in together)
            _band(right, together, "mi", bottom, {"chance": "moved labels", "random": "random weights"})
            least = "C" if n_classes <= n_experts else "E"
            _frame(
                right, bottom, math.log(max(min(n_classes, n_experts), 2)), f"ln {min(n_classes, n_experts)} ({least})"
            )
            right.set_title("all classes at once", fontsize=9, color=_LINE, loc="left", parse_math=False)
            _finish(right, views, "mutual information, nats")
        else:
            right.set_axis_off()
        return as_figure(figure)


def draw_contexts(labelling: LabellingView, views: Sequence[SiteView]) -> Any | None:
    """Draw the shares of divergence that contexts alone explain, bars by layer; None where none is known."""
    rows = [view.information.get(labelling.name) for view in views]
    shown = [each for each in _CONTEXTS if any(row is not None and row[each[0]] is not None for row in rows)]
    if not shown:
        return None
    with figure_style(f"contexts {labelling.name}"):
        width = min(_WIDTH_IN, 2.4 + 0.9 * len(views))
        figure = Figure(figsize=(width, 2.3), facecolor="none")
        axes = figure.add_axes((0.6 / width, 0.2, 1 - 1.2 / width, 0.68), facecolor="none")
        wide = 0.8 / len(shown)
        top = 1.0
        for k, (column, name, colour) in enumerate(shown):
            offset = wide * (k - (len(shown) - 1) / 2)
            values = [(i, row[column]) for i, row in enumerate(rows) if row is not None and row[column] is not None]
            top = max([top, *(value for _, value in values)])
            axes.bar([i + offset for i, _ in values], [value for _, value in values], 0.92 * wide, color=colour,
                     label=name, zorder=3)  # fmt: skip
            missing = [i for i in range(len(views)) if i not in dict(values)]
            axes.plot([i + offset for i in missing], [0.02] * len(missing), "x", color=_BOUND, markersize=4, zorder=3)
        axes.axhline(1, color=_BOUND, linewidth=1, linestyle=(0, (3, 2)))
        axes.annotate("all of it", (1, 1), xycoords=("axes fraction", "data"), xytext=(4, -3), fontsize=8,
                      textcoords="offset points", color=_BOUND, annotation_clip=False)  # fmt: skip
        axes.set_ylim(0, 1.06 * top)
        axes.legend(frameon=False, ncols=len(shown), loc="lower right", bbox_to_anchor=(1, 1), prop={"size": 8.5},
                    handlelength=1, borderpad=0)  # fmt: skip
        _finish(axes, views, "share explained")
        axes.set_xlim(-0.6, len(views) - 0.4)
        return as_figure(figure)


def _two_panels(height: float) -> tuple[Figure, tuple[Axes, Axes]]:
    """Lay out two panels by hand; finding the places costs more than the drawing."""
    figure = Figure(figsize=(_WIDTH_IN, height), facecolor="none")
    boxes = [(left / _WIDTH_IN, 0.5 / height, 3.25 / _WIDTH_IN, 1 - 0.8 / height) for left in (0.7, 4.85)]
    left, right = (figure.add_axes(box, facecolor="none") for box in boxes)
    return figure, (left, right)


def _bottom(values: Sequence[float | None]) -> float:
    """Lower end of a logarithmic axis: below the least number, within reason."""
    positive = [value for value in values if value is not None and value > 0]
    return max(min([*positive, 0.01]) / 2, 1e-6)


def _line(axes: Axes, rows: dict[int, Row], column: str, bottom: float, **style: Any) -> None:
    places = sorted(rows)
    values = [max(rows[i][column], bottom) for i in places]
    axes.plot(places, values, "o-" if style["markersize"] else "-", **style)


def _band(axes: Axes, rows: dict[int, Row], column: str, bottom: float, beside: dict[str, str]) -> None:
    """Draw a curve with its interval and, dotted, the columns that stand ``beside`` it, under their names."""
    known = [i for i in sorted(rows) if rows[i][f"{column}_low"] is not None and rows[i][f"{column}_high"] is not None]
    if known:
        low = [max(rows[i][f"{column}_low"], bottom) for i in known]
        high = [max(rows[i][f"{column}_high"], bottom) for i in known]
        axes.fill_between(known, low, high, color=_BAND, linewidth=0, zorder=2)
        axes.vlines(known, low, high, color=_LINE, linewidth=1.1, alpha=0.6, zorder=3)
    _line(axes, rows, column, bottom, color=_LINE, linewidth=1.8, markersize=4, zorder=4)
    for (other, name), colour in zip(beside.items(), (_FLOOR, _BOUND), strict=False):
        known = [i for i in sorted(rows) if rows[i][other] is not None]
        if known:
            values = [max(rows[i][other], bottom) for i in known]
            axes.plot(known, values, "s:", color=colour, linewidth=1.3, markersize=3, zorder=3)
            axes.annotate(name, (known[-1], values[-1]), xytext=(6, -3), textcoords="offset points", fontsize=8,
                          color=colour, annotation_clip=False)  # fmt: skip


def _frame(axes: Axes, bottom: float, bound: float, name: str) -> None:
    axes.set_yscale("log")
    axes.set_ylim(bottom, 1.9 * bound)
    axes.axhline(bound, color=_BOUND, linewidth=1, linestyle=(0, (3, 2)))
    axes.annotate(name, (0, bound), xycoords=("axes fraction", "data"), xytext=(3, 2), textcoords="offset points",
                  fontsize=8, color=_BOUND)  # fmt: skip
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6f}".rstrip("0").rstrip(".")))
    axes.yaxis.set_minor_locator(NullLocator())


def _short(words: str) -> str:
    return words if len(words) <= 48 else f"{words[:47]}…"


def _finish(axes: Axes, views: Sequence[SiteView], label: str) -> None:
    step = -(-len(views) // 16)
    ticks = range(0, len(views), step)
    axes.set_xticks(ticks, [str(views[i].layer["layer"]) for i in ticks])
    axes.set_xlim(-0.5, len(views) - 0.5)
    axes.set_xlabel("layer", fontsize=9)
    axes.set_ylabel(label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", color="#e6e6e1", linewidth=0.7, zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
