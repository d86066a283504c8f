"""Score against the compute of fine-tuning, one panel a task, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from umbel.evaluate.bench.cited import OVERALL, Cited
from umbel.evaluate.bench.leaderboard import Board, Leaderboard
from umbel.evaluate.wording import number
from umbel.page import as_svg, figure_style

# Okabe & Ito's colours darkened for text; each kind of row has a marker of its own, too.
_LOOKS = {
    "model": ("#0072B2", "o"),
    "random": ("#a3437a", "^"),
    "cnn": ("#00795a", "s"),
    "kmer": ("#7a5200", "D"),
    "majority": ("#6b6b66", "X"),
    "published": ("#45453f", "o"),
}
_WIDTH_IN, _HEIGHT_IN = 3.55, 2.7
_LETTER_PT, _LINE_PT = 5.4, 11.5
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_PETA = 1e15
_FAR = 1.0
"""A majority farther below the others than they are apart, times this, is told at the edge."""
# Where labels are tried, in points from the marker: beside it first, then above and below, then farther off.
_PLACES = [(side * 7, rise) for rise in (0, 8, -8, 13, -13, 20, -20, 28, -28, 36, -36, 46, -46) for side in (1, -1)]


@dataclass(frozen=True)
class Point:
    """One marker; ``flops`` 0 stands at the broken edge."""

    label: str
    look: str
    flops: float
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Panel:
    """One drawing: its title, what the points tell, and what they are."""

    title: str
    unit: str
    points: tuple[Point, ...]
    is_published: bool = False

    @property
    def has_compute(self) -> bool:
        """Whether any point took compute that was counted."""
        return any(point.flops > 0 for point in self.points)


def panels(board: Leaderboard, names: dict[str, str]) -> list[Panel]:
    """Choose what is drawn: the suite and its tasks where all their datasets were run, else each dataset.

    Parameters
    ----------
    board
        The page.
    names
        Metric of each mean or dataset, as it is called on the page.
    """
    means = [each for each in (board.overall, *board.groups) if each.cells]
    chosen: Sequence[Board] = means or board.datasets
    found = [_panel(board, each, names) for each in chosen]
    return [panel for panel in found if panel.has_compute]


def _panel(board: Leaderboard, each: Board, names: dict[str, str]) -> Panel:
    points = []
    for entry in board.entries:
        cell = each.cells.get(entry.key)
        if cell is not None and cell.estimate["value"] is not None:
            estimate = cell.estimate
            points.append(Point(entry.tag, entry.row, cell.flops, estimate["value"], estimate["low"], estimate["high"]))
    cited = [each_cited for each_cited in board.citations.compute if _is_of(each_cited, board.suite["name"], each)]
    points += [_published_point(each_cited) for each_cited in cited]
    title = "all datasets" if each.name == OVERALL else each.name.replace("_", " ")
    return Panel(title, names[each.name], tuple(points))


def _is_of(cited: Cited, suite: str, each: Board) -> bool:
    row = cited.row
    return (
        row.suite == suite and not row.part and each.name in (row.dataset or row.group,) and row.metric == each.metric
    )


def _published_point(cited: Cited) -> Point:
    assert cited.row.training_pflop is not None
    return Point(cited.row.model, "published", cited.row.training_pflop * _PETA, cited.row.value)


def published_panel(board: Leaderboard) -> Panel | None:
    """Give the published means that come with their compute and are over other datasets than any panel's."""
    cited = [each for each in board.citations.compute if each.row.suite != board.suite["name"]]
    if not cited:
        return None
    points = tuple(_published_point(each) for each in cited)
    return Panel(cited[0].row.group, "mean of several metrics", points, is_published=True)


def draw(panel: Panel, salt: str) -> Markup:
    """Draw a panel; ``salt`` tells it from others on the page."""
    with figure_style(salt):
        figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), facecolor="none")
        axes = figure.add_axes((0.14, 0.185, 0.8, 0.79), facecolor="none")
        first, last, edge = _decades(panel)
        low, high = _limits(panel)
        points = [_held(point, low, high) for point in panel.points]
        axes.set_xlim(first - edge, last)
        axes.set_ylim(low, high)
        places = [(math.log10(point.flops) if point.flops > 0 else first - 0.65 * edge) for point in panel.points]
        # Rows without compute share one place on the axis: shoved apart a little, their bars are seen.
        still = [i for i, point in enumerate(panel.points) if point.flops <= 0]
        for rank, i in enumerate(still):
            places[i] += 0.13 * edge * (rank - (len(still) - 1) / 2)
        for x, point in zip(places, points, strict=True):
            _mark(axes, x, point)
        _label(axes, places, points)
        powers = range(math.ceil(first), math.floor(last) + 1)
        ticks: list[float] = list(powers)
        labels = [f"10{str(power).translate(_SUPERSCRIPTS)}" for power in powers]
        if still:
            ticks, labels = [first - 0.65 * edge, *ticks], ["not counted", *labels]
            _break(axes, first, edge)
        axes.set_xticks(ticks, labels)
        axes.set_xlabel("FLOP of fine-tuning")
        axes.tick_params(labelsize=9)
        axes.grid(axis="y", color="#e6e6e1", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        return as_svg(figure)


def _decades(panel: Panel) -> tuple[float, float, float]:
    """Give the ends of the axis in powers of ten, at least two of them apart, and the width of the edge left of it."""
    powers = [math.log10(point.flops) for point in panel.points if point.flops > 0]
    first, last = math.floor(min(powers) - 0.1), math.ceil(max(powers) + 0.3)
    last = max(last, first + 2)
    return first, last, 0.55 * (last - first) if len(powers) < len(panel.points) else 0.0


def _limits(panel: Panel) -> tuple[float, float]:
    """Frame all points with their intervals, but not a majority so far below that it would flatten the rest."""

    def ends(points: Sequence[Point]) -> list[float]:
        return [end for point in points for end in (point.value, point.low, point.high) if end is not None]

    others = ends([point for point in panel.points if point.look != "majority"])
    every = ends(panel.points)
    low, high = min(every), max(every)
    if others and min(others) - low > _FAR * (max(others) - min(others)) > 0:
        low, high = min(others), max(others)
        pad = 0.16 * (high - low)
        return low - 2 * pad, high + pad
    pad = 0.09 * (high - low) or 0.05
    return low - pad, high + pad


def _held(point: Point, low: float, high: float) -> Point:
    """Put a point below the frame at its lower edge, its value told in its label."""
    if point.value >= low:
        return point
    return Point(f"{point.label} {number(point.value, 2)} ↓", point.look, point.flops, low + 0.06 * (high - low))


def _mark(axes: Any, x: float, point: Point) -> None:
    colour, marker = _LOOKS[point.look]
    is_hollow = point.look == "published"
    if point.low is not None and point.high is not None:
        axes.plot([x, x], [point.low, point.high], color=colour, linewidth=1.3, zorder=2)
    axes.plot(
        [x], [point.value], marker=marker, color=colour, markersize=6.5, linestyle="none", zorder=3,
        markerfacecolor="#fdfdfb" if is_hollow else colour, markeredgewidth=1.4 if is_hollow else 0.8,
        markeredgecolor=colour if is_hollow else "#fdfdfb",
    )  # fmt: skip


def _label(axes: Any, places: Sequence[float], points: Sequence[Point]) -> None:
    """Write each label where it hits no marker, no bar and no other label, as near to its marker as that can be."""
    to_points = 72 / axes.figure.dpi
    box = axes.get_window_extent()
    frame = (box.x0 * to_points, box.y0 * to_points, box.x1 * to_points, box.y1 * to_points)
    spots = [axes.transData.transform((x, point.value)) * to_points for x, point in zip(places, points, strict=True)]
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in spots]
    for x, point in zip(places, points, strict=True):
        if point.low is not None:
            (left, bottom), (_, top) = (
                axes.transData.transform((x, end)) * to_points for end in (point.low, point.high)
            )
            taken.append((left - 1, bottom, left + 1, top))
    for (x, y), place, point in sorted(zip(spots, places, points, strict=True), key=lambda each: -each[0][1]):
        width = _LETTER_PT * len(point.label)
        tried = []
        for dx, dy in _PLACES:
            left = x + dx if dx > 0 else x + dx - width
            area = (left, y + dy - _LINE_PT / 2, left + width, y + dy + _LINE_PT / 2)
            outside = max(frame[0] - area[0], frame[1] - area[1], area[2] - frame[2], area[3] - frame[3], 0.0)
            tried.append((sum(_overlap(area, other) for other in taken) + 50 * outside, dx, dy, area))
            if tried[-1][0] == 0:
                break
        _, dx, dy, area = min(tried, key=lambda each: each[0])
        taken.append(area)
        colour = _LOOKS[point.look][0]
        axes.annotate(
            point.label, (place, point.value), xytext=(dx, dy), textcoords="offset points", va="center",
            ha="left" if dx > 0 else "right", color=colour, fontsize=9, zorder=4,
            fontweight="bold" if point.look == "model" else "normal",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkB": 3} if abs(dy) > 8 else None,
        )  # fmt: skip


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _break(axes: Any, first: float, edge: float) -> None:
    """Break the axis between what has no FLOP and the powers of ten."""
    at = first - 0.2 * edge
    for shift in (-0.025, 0.025):
        axes.plot(
            [at + (shift - 0.02) * edge, at + (shift + 0.02) * edge], [-0.025, 0.025], color="#8a8a84", linewidth=1.2,
            transform=axes.get_xaxis_transform(), clip_on=False, zorder=5,
        )  # fmt: skip
