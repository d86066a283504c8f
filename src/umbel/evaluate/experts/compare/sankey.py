"""Where the items of each expert go from one checkpoint to the next: ribbons between stacks, a panel a router."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.evaluate.experts.compare.figures import GREY, INK, WIDTH_IN, colour
from umbel.page import as_svg, figure_style

THINNEST = 0.002
"""Of all items; thinner ribbons are not drawn."""
_GAP, _NODE = 0.018, 0.05
_PER_ROW = 3


@dataclass(frozen=True)
class Flow:
    """One router through some checkpoints.

    Attributes
    ----------
    title
        Of the panel.
    names
        Checkpoints, C of them.
    tables
        ``C - 1`` arrays ``(E, F)``: items whose first choice went from e to f.
    """

    title: str
    names: tuple[str, ...]
    tables: tuple[npt.NDArray[np.int64], ...]


def sankey_figure(flows: Sequence[Flow]) -> Any:
    """Draw a panel for each router; what stays with the expert of one number is pale, what moves is not."""
    from matplotlib.figure import Figure

    n_columns = min(_PER_ROW, len(flows))
    n_rows = ceil(len(flows) / n_columns)
    panel_in = 2.6
    height = n_rows * (panel_in + 0.62)
    with figure_style("compare sankey"):
        figure = Figure(figsize=(WIDTH_IN, height), facecolor="none")
        for number, flow in enumerate(flows):
            row, column = divmod(number, n_columns)
            box = (
                (column + 0.03) / n_columns,
                (height - 0.3 - panel_in - row * (panel_in + 0.62)) / height,
                0.94 / n_columns,
                panel_in / height,
            )
            axes = figure.add_axes(box, facecolor="none")
            _draw(axes, flow)
        return as_svg(figure)


def stack(counts: npt.NDArray[np.int64], room: float) -> npt.NDArray[np.float64]:
    """Give where each expert's stack begins, ``(E,)``, from the top of a column of height 1 with gaps between them.

    Examples
    --------
    >>> stack(np.array([3, 1]), room=0.8).round(3).tolist()
    [0.0, 0.618]
    """
    heights = counts / max(1, counts.sum()) * room
    return np.asarray(np.cumsum(heights) - heights + _GAP * np.arange(len(counts)))


def _draw(axes: Any, flow: Flow) -> None:
    from matplotlib.patches import Rectangle

    total = max(1, int(flow.tables[0].sum()))
    columns = [flow.tables[0].sum(1), *(table.sum(0) for table in flow.tables)]
    room = 1 - _GAP * (max(len(column) for column in columns) - 1)
    starts = [stack(column, room) for column in columns]
    for place, table in enumerate(flow.tables):
        _ribbons(axes, table, starts[place], starts[place + 1], place, room / total)
    for place, (column, start) in enumerate(zip(columns, starts, strict=True)):
        for e, n in enumerate(column):
            size = n * room / total
            axes.add_patch(
                Rectangle((place - _NODE / 2, start[e]), _NODE, size, facecolor=colour(e), linewidth=0, zorder=3)
            )
            if size > 0.035:
                axes.text(
                    place, start[e] + size / 2, str(e), ha="center", va="center", fontsize=7, color="white", zorder=4
                )
        align = "left" if place == 0 else "right" if place == len(columns) - 1 else "center"
        edge = place + {"left": -_NODE / 2, "right": _NODE / 2, "center": 0.0}[align]
        axes.text(edge, 1.03, flow.names[place], ha=align, va="top", fontsize=8, color=INK)
    axes.set_xlim(-0.06, len(columns) - 1 + 0.06)
    axes.set_ylim(1.1, -0.01)
    axes.set_title(flow.title, fontsize=9, color=INK, loc="left")
    axes.axis("off")


def _ribbons(axes: Any, table: npt.NDArray[np.int64], left: Any, right: Any, place: int, scale: float) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    out, into = left.copy(), right.copy()
    total = table.sum()
    for e, f in np.ndindex(table.shape):
        size = table[e, f] * scale
        a, b = out[e], into[f]
        out[e] += size
        into[f] += size
        if table[e, f] < THINNEST * total:
            continue
        x, y = place + _NODE / 2, place + 1 - _NODE / 2
        middle = (x + y) / 2
        points = [(x, a), (middle, a), (middle, b), (y, b), (y, b + size), (middle, b + size), (middle, a + size)]
        codes = [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4, Path.LINETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
        path = Path([*points, (x, a + size)], codes)
        stays = e == f
        axes.add_patch(
            PathPatch(path, facecolor=colour(e), edgecolor=GREY, linewidth=0, alpha=0.22 if stays else 0.62, zorder=1)
        )
