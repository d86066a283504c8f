"""Figures of a comparison: agreement by layer, drift of weights, and saturation along training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from umbel.evaluate.experts.compare.drift import GROUPS
from umbel.page import as_svg, figure_style

Rows = Sequence[Mapping[str, Any]]

# Okabe & Ito's colours, darkened where they would be pale on paper.
COLOURS = ("#0072B2", "#b34a00", "#00795a", "#a3437a", "#7a5200", "#4c6f00", "#3d3d8f", "#8a1f1f")
GREY, INK = "#8a8a84", "#45453f"
WIDTH_IN = 9.4
_LABELS_IN = 0.85


def colour(i: int) -> str:
    """Give the ith colour, round and round."""
    return COLOURS[i % len(COLOURS)]


def tidy(axes: Any, *, grid: str = "x") -> None:
    """Take away what is no data."""
    axes.grid(axis=grid, color="#e6e6e1", linewidth=0.7, zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, length=2)


def agreement_figure(rows: Rows, pairs: Sequence[tuple[str, str]]) -> Any:
    """Draw agreement by layer for some pairs of checkpoints, beside what loads alone give and random networks."""
    from matplotlib.figure import Figure

    layers = list(dict.fromkeys((row["site"], row["layer"]) for row in rows))
    panel_in = 0.16 + 0.24 * len(layers)
    height = 0.1 + len(pairs) * (panel_in + 0.42) + 0.35
    with figure_style("compare agreement"):
        figure = Figure(figsize=(WIDTH_IN, height), facecolor="none")
        for number, (first, second) in enumerate(pairs):
            bottom = height - 0.32 - panel_in - number * (panel_in + 0.42)
            axes = figure.add_axes(
                (_LABELS_IN / WIDTH_IN, bottom / height, (WIDTH_IN - _LABELS_IN - 0.2) / WIDTH_IN, panel_in / height),
                facecolor="none",
            )
            here = {row["site"]: row for row in rows if (row["first"], row["second"]) == (first, second)}
            for y, (site, _) in enumerate(layers):
                _agreement_row(axes, y, here[site], [r for r in rows if r["is_control"] and r["site"] == site])
            axes.set_xlim(-0.01, 1.01)
            axes.set_ylim(len(layers) - 0.4, -0.6)
            axes.set_yticks(range(len(layers)), [f"layer {layer}" for _, layer in layers])
            axes.set_title(f"{first} to {second}", fontsize=9, loc="left", color=INK)
            tidy(axes)
            if number == len(pairs) - 1:
                axes.set_xlabel("share of choices that are the same (1: all)", fontsize=8, loc="left")
        return as_svg(figure)


def _agreement_row(axes: Any, y: int, row: Mapping[str, Any], controls: Rows) -> None:
    for control in controls:
        axes.plot([control["agreement"]], [y], "o", mfc="none", mec=GREY, markersize=4.5, zorder=2)
    axes.plot([row["expected"]] * 2, [y - 0.32, y + 0.32], color=INK, linewidth=1.4, zorder=3)
    if row["agreement_low"] is not None:
        axes.plot([row["agreement_low"], row["agreement_high"]], [y, y], color=COLOURS[0], linewidth=2, zorder=4)
    axes.plot([row["agreement"]], [y], "D", color=COLOURS[0], markersize=5.5, zorder=5)


def drift_figure(rows: Rows, steps: Sequence[tuple[str, str]]) -> Any:
    """Draw how far each group of weights moved in each step, relative to its norm; frozen ones are named."""
    from matplotlib.figure import Figure

    whole = {(row["first"], row["second"], row["group"]): row for row in rows if row["layer"] is None}
    groups = [group for group in GROUPS if any(key[2] == group for key in whole)]
    bar_in = 0.19
    panel_in = len(groups) * (len(steps) * bar_in + 0.14)
    height = panel_in + 0.75
    with figure_style("compare drift"):
        figure = Figure(figsize=(WIDTH_IN, height), facecolor="none")
        left = 1.35 / WIDTH_IN
        axes = figure.add_axes((left, 0.5 / height, 0.97 - left, panel_in / height), facecolor="none")
        most = max((row["relative_change"] or 0 for row in whole.values()), default=0) or 1
        thick = 0.8 / len(steps)
        for y, group in enumerate(groups):
            for number, (first, second) in enumerate(steps):
                row = whole.get((first, second, group))
                if row is None:
                    continue
                place = y - 0.4 + thick * (number + 0.5)
                value = row["relative_change"] or 0
                axes.barh(place, value, thick * 0.86, color=colour(number), zorder=2)
                text = "frozen" if row["is_frozen"] else f"{value:.3g}, cos {row['cosine'] or 0:.3f}"
                if 0 < row["moved_share"] < 0.995:
                    text += f", {100 * row['moved_share']:.3g} % moved"
                axes.text(value + 0.01 * most, place, text, va="center", fontsize=7.5, color=INK)
        axes.set_yticks(range(len(groups)), groups)
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.set_xlim(0, most * 1.28)
        axes.set_xlabel("change of the weights, relative to their norm before", fontsize=8, loc="left")
        tidy(axes)
        axes.tick_params(axis="y", labelsize=9, length=0)
        _key(figure, axes, [f"{a} to {b}" for a, b in steps])
        return as_svg(figure)


def _key(figure: Any, axes: Any, names: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colour(i), label=name) for i, name in enumerate(names)]
    axes.legend(handles=handles, loc="lower right", fontsize=8, frameon=False, bbox_to_anchor=(1.0, 0.0))


def saturation_figure(rows: Rows) -> Any:
    """Draw each router's agreement with the last checkpoint, along training."""
    from matplotlib.figure import Figure

    by_step = all(row["step"] is not None for row in rows)
    names = list(dict.fromkeys(row["checkpoint"] for row in rows))
    layers = list(dict.fromkeys((row["site"], row["layer"]) for row in rows))
    with figure_style("compare saturation"):
        figure = Figure(figsize=(WIDTH_IN, 3.2), facecolor="none")
        axes = figure.add_axes((0.07, 0.16, 0.78, 0.8), facecolor="none")
        for number, (site, layer) in enumerate(layers):
            here = [row for row in rows if row["site"] == site]
            xs = [row["step"] if by_step else row["order"] for row in here]
            ys = [row["agreement"] for row in here]
            lows = [row["agreement"] if row["agreement_low"] is None else row["agreement_low"] for row in here]
            highs = [row["agreement"] if row["agreement_high"] is None else row["agreement_high"] for row in here]
            axes.fill_between(xs, lows, highs, color=colour(number), alpha=0.18, linewidth=0)
            axes.plot(xs, ys, "o-", color=colour(number), markersize=4, linewidth=1.4, label=f"layer {layer}")
            axes.plot(xs, [row["expected"] for row in here], "--", color=colour(number), linewidth=1)
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("choices as in the last", fontsize=8)
        if by_step:
            axes.set_xlabel("training step", fontsize=8, loc="left")
        else:
            axes.set_xticks(range(len(names)), names)
        tidy(axes, grid="y")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
        return as_svg(figure)
