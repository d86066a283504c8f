"""Which experts are taken together, where an item takes several."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from umbel.evaluate.experts.page.heat import MANY, Cell, shade
from umbel.evaluate.experts.page.views import Row, SiteView
from umbel.evaluate.experts.page.words import percent
from umbel.evaluate.wording import number

_N_STRONGEST = 8
_MIN_EXPECTED = 100
"""Items that independence must give a pair before it is named: few are many times more by chance."""


@dataclass(frozen=True)
class PairPicture:
    """The pairs of one router.

    Attributes
    ----------
    rows
        Expert and its cells; empty where there are too many experts for numbers.
    svg
        A picture instead, or None.
    most, least
        The pairs that are farthest above and below independence, as rows of the table.
    """

    rows: list[tuple[int, list[Cell]]]
    svg: Any
    most: list[Row]
    least: list[Row]


def pair_picture(view: SiteView) -> PairPicture | None:
    """Make the picture of a router's pairs; None where it has none."""
    pairs = {(row["expert_a"], row["expert_b"]): row for row in view.pairs if row["expert_a"] != row["expert_b"]}
    if not pairs:
        return None
    ids = [row["expert"] for row in view.experts]
    loads = {row["expert"]: row["n_choices"] for row in view.experts}
    # A pair is in the table in both directions, or in one.
    once = {tuple(sorted(pair)): row for pair, row in sorted(pairs.items(), reverse=True) if row["lift"] is not None}
    enough = [row for row in once.values() if row["expected"] * loads.get(row["expert_a"], 0) >= _MIN_EXPECTED]
    by_lift = sorted(enough, key=lambda row: (-row["lift"], row["expert_a"], row["expert_b"]))
    most = [row for row in by_lift[:_N_STRONGEST] if row["lift"] > 1]
    least = [row for row in by_lift[::-1][:_N_STRONGEST] if row["lift"] < 1]
    if len(ids) <= MANY:
        rows = [(a, [_cell(pairs.get((a, b)) or pairs.get((b, a)), a == b) for b in ids]) for a in ids]
        return PairPicture(rows, None, most, least)
    return PairPicture([], _draw(view, pairs, ids), most, least)


def _cell(row: Row | None, is_same: bool) -> Cell:
    if is_same:
        return Cell("d", "", "")
    if row is None or row["observed"] is None or row["lift"] is None:
        return Cell("x", "the expert is dead", "–")
    title = (
        f"{percent(row['observed'])} % of what expert {row['expert_a']} takes, {percent(row['expected'])} % expected, "
        f"{number(row['lift'], 2)} times"
    )
    return Cell(shade(math.log2(max(row["lift"], 1e-9))), title, percent(row["observed"]))


def _draw(view: SiteView, pairs: dict[tuple[int, int], Row], ids: list[int]) -> Any:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    from umbel.evaluate.experts.page.figures import as_figure
    from umbel.page import figure_style

    lifts = np.full((len(ids), len(ids)), np.nan)
    for i, a in enumerate(ids):
        for j, b in enumerate(ids):
            row = pairs.get((a, b)) or pairs.get((b, a))
            if a != b and row is not None and row["lift"] is not None:
                lifts[i, j] = math.log2(max(row["lift"], 0.25))
    scale = LinearSegmentedColormap.from_list("umbel", ["#b35806", "#fafaf8", "#542788"]).with_extremes(bad="#d8d8d4")
    with figure_style(f"pairs {view.site}"):
        figure = Figure(figsize=(6.2, 4.9), facecolor="none")
        axes = figure.add_axes((0.09, 0.1, 0.69, 0.87))
        beside = figure.add_axes((0.8, 0.2, 0.025, 0.65))
        image = axes.imshow(np.ma.masked_invalid(lifts), cmap=scale, vmin=-2, vmax=2, interpolation="none")
        bar = figure.colorbar(image, cax=beside, ticks=[-2, -1, 0, 1, 2])
        bar.ax.set_yticklabels(["¼ or less", "½", "as expected", "2 times", "4 or more"])
        bar.outline.set_visible(False)
        ticks = range(0, len(ids), max(1, len(ids) // 8))
        axes.set_xticks(ticks, [str(ids[i]) for i in ticks])
        axes.set_yticks(ticks, [str(ids[i]) for i in ticks])
        axes.set_xlabel("is taken too: expert")
        axes.set_ylabel("expert")
        axes.spines[:].set_visible(False)
        return as_figure(figure)
