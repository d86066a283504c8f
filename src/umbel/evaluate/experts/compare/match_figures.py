"""Figures of experts paired up: how well, beside chance and random networks; and which with which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.evaluate.experts.compare.figures import COLOURS, GREY, INK, WIDTH_IN, tidy
from umbel.page import as_svg, figure_style

Rows = Sequence[Mapping[str, Any]]
TITLES = {"items": "choices that agree, experts paired", "profiles": "correlation of paired profiles"}
_PER_ROW = 4
_ANNOTATED = 8


@dataclass(frozen=True)
class Heat:
    """The similarity of every two experts of one router in two models.

    Attributes
    ----------
    title, rows, columns
        Of the panel, the first model, the second.
    similarity
        ``(E, F)``.
    partner
        ``(E,)``, -1 for none.
    low
        0 for overlaps, -1 for correlations.
    """

    title: str
    rows: str
    columns: str
    similarity: npt.NDArray[np.float64]
    partner: npt.NDArray[np.int64]
    low: float


def matching_figure(rows: Rows) -> Any:
    """Draw each pair's matched value by layer, beside its chance, and beside pairs of random networks."""
    from matplotlib.figure import Figure

    ways = list(dict.fromkeys(row["by"] for row in rows))
    layers = list(dict.fromkeys((row["site"], row["layer"]) for row in rows))
    panel_in = 0.2 + 0.42 * len(layers)
    height = panel_in + 0.95
    left = 0.85
    width = (WIDTH_IN - left - 0.1) / len(ways)
    with figure_style("compare matching"):
        figure = Figure(figsize=(WIDTH_IN, height), facecolor="none")
        for column, by in enumerate(ways):
            box = ((left + column * width) / WIDTH_IN, 0.45 / height, (width - 0.2) / WIDTH_IN, panel_in / height)
            axes = figure.add_axes(box, facecolor="none")
            for y, (site, _) in enumerate(layers):
                _points(axes, y, [row for row in rows if row["by"] == by and row["site"] == site])
            axes.set_ylim(len(layers) - 0.4, -0.6)
            axes.set_yticks(range(len(layers)), [f"layer {layer}" if column == 0 else "" for _, layer in layers])
            least = min((row["matched"] for row in rows if row["by"] == by), default=0.0)
            axes.set_xlim(min(0.0, least) - 0.03, 1.03)
            axes.set_xlabel(TITLES[by], fontsize=8, loc="left")
            tidy(axes)
        figure.legend(handles=_handles(rows), loc="upper left", ncols=5, fontsize=8, frameon=False)
        return as_svg(figure)


_STYLES = {
    "trained": ("D", COLOURS[0], -0.18),
    "trained and random": ("s", COLOURS[4], 0.02),
    "two random": ("o", GREY, 0.16),
    "chance": ("|", INK, -0.18),
}


def _points(axes: Any, y: int, rows: Rows) -> None:
    for row in rows:
        kind = ("trained", "trained and random", "two random")[row["n_controls"]]
        marker, paint, offset = _STYLES[kind]
        filled = paint if kind == "trained" else "none"
        if row["matched_low"] is not None and kind == "trained":
            axes.plot([row["matched_low"], row["matched_high"]], [y + offset] * 2, color=paint, linewidth=1.5, zorder=3)
        axes.plot([row["matched"]], [y + offset], marker, mfc=filled, mec=paint, markersize=5, zorder=4)
        if kind == "trained":
            marker, paint, offset = _STYLES["chance"]
            value = row["chance"] if row["chance_high"] is None else row["chance_high"]
            axes.plot([value], [y + offset], marker, color=paint, markersize=9, mew=1.4, zorder=2)


def _handles(rows: Rows) -> list[Any]:
    from matplotlib.lines import Line2D

    def point(kind: str, label: str) -> Any:
        marker, paint, _ = _STYLES[kind]
        filled = paint if kind == "trained" else "none"
        return Line2D([], [], linestyle="", marker=marker, mfc=filled, mec=paint, markersize=5, label=label)

    handles = [point("trained", "two trained"), point("chance", "chance for these")]
    if any(row["n_controls"] == 1 for row in rows):
        handles.append(point("trained and random", "trained and random weights"))
    if any(row["n_controls"] == 2 for row in rows):
        handles.append(point("two random", "two with random weights"))
    return handles


def heat_figure(heats: Sequence[Heat]) -> Any:
    """Draw similarities, the second model's experts in the order of those that they are paired with."""
    from matplotlib.figure import Figure

    n_columns = min(_PER_ROW, len(heats))
    n_rows = ceil(len(heats) / n_columns)
    cell = WIDTH_IN / _PER_ROW
    panel_in = cell - 0.75
    height = n_rows * (panel_in + 0.95)
    with figure_style("compare heat"):
        figure = Figure(figsize=(WIDTH_IN, height), facecolor="none")
        for number, heat in enumerate(heats):
            row, column = divmod(number, n_columns)
            bottom = height - 0.45 - panel_in - row * (panel_in + 0.95)
            box = ((column * cell + 0.55) / WIDTH_IN, bottom / height, panel_in / WIDTH_IN, panel_in / height)
            _heat(figure.add_axes(box), heat)
        return as_svg(figure)


def order_of(heat: Heat) -> list[int]:
    """Give the second model's experts in the order of their partners, those without one last.

    Examples
    --------
    >>> order_of(Heat("", "", "", np.zeros((2, 3)), np.array([2, 0]), 0.0))
    [2, 0, 1]
    """
    paired = [int(f) for f in heat.partner if f >= 0]
    return paired + [f for f in range(heat.similarity.shape[1]) if f not in paired]


def _heat(axes: Any, heat: Heat) -> None:
    order = order_of(heat)
    values = heat.similarity[:, order]
    n_rows, n_columns = values.shape
    colours = "PuOr" if heat.low < 0 else "Purples"
    axes.imshow(values, cmap=colours, vmin=heat.low, vmax=1, aspect="auto", interpolation="nearest")
    if max(n_rows, n_columns) <= _ANNOTATED:
        for e, f in np.ndindex(values.shape):
            dark = abs(values[e, f]) > 0.6
            text = "–" if np.isnan(values[e, f]) else f"{values[e, f]:.2f}".replace("-", "−")
            axes.text(f, e, text, ha="center", va="center", fontsize=7, color="white" if dark else INK)
        axes.set_xticks(range(n_columns), order)
        axes.set_yticks(range(n_rows))
    axes.tick_params(labelsize=7, length=1.5)
    axes.set_title(heat.title, fontsize=8, loc="left", color=INK)
    axes.set_ylabel(heat.rows, fontsize=8)
    axes.set_xlabel(heat.columns, fontsize=8)
    axes.spines[:].set_visible(False)
