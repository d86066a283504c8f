"""Which expert follows which: first choices at one router and at the next, as a Sankey diagram."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import entr

from umbel.evaluate.experts.page.views import Row, SiteView
from umbel.evaluate.experts.page.words import percent
from umbel.evaluate.experts.statistics.divergence import shares_of
from umbel.evaluate.experts.statistics.information import mutual_information
from umbel.evaluate.wording import number
from umbel.page import between

MAX_ALL = 16
"""Experts up to which every flow is drawn."""
MAX_FLOWS = 120
"""Flows that are drawn where there are more experts: the strongest."""
_WIDTH, _BAR, _SIDE, _TOP = 960.0, 14.0, 60.0, 26.0
_EVEN = (176, 176, 170)
_FULL_LOG2 = 2.0


@dataclass(frozen=True)
class PathPicture:
    """The flows into one router from one before.

    Attributes
    ----------
    before, here
        What the page calls the two.
    svg
        The picture.
    n_flows, n_drawn, drawn_share
        Flows that are not empty, those drawn, and the share of items that these carry.
    told, told_share
        Mutual information of the two choices in nats, and over the lesser of their entropies, or None.
    strongest
        Expert before, expert, share of the items, and how many times more than from the loads alone: farthest above.
    """

    before: str
    here: str
    svg: Any
    n_flows: int
    n_drawn: int
    drawn_share: float
    told: float
    told_share: float | None
    strongest: tuple[int, int, float, float] | None


def path_pictures(view: SiteView, views: Sequence[SiteView]) -> list[PathPicture]:
    """Draw the flows into a router."""
    sites = {each.site: each for each in views}
    found = []
    for before, rows in sorted(view.paths.items()):
        source = sites[before]
        flows = flow_table(rows, source.layer["n_experts"], view.layer["n_experts"])
        if flows.sum() > 0:
            found.append(_picture(flows, source.title, view.title))
    return found


def flow_table(rows: Sequence[Row], n_before: int, n_here: int) -> npt.NDArray[np.int64]:
    """Put rows of table ``paths`` into ``(E before, E)`` counts."""
    flows = np.zeros((n_before, n_here), np.int64)
    for row in rows:
        flows[row["expert_before"], row["expert"]] += row["n"]
    return flows


def information(flows: npt.NDArray[Any]) -> tuple[float, float | None]:
    """Mutual information of two choices in nats, and over the lesser of their entropies (None where that is 0).

    Examples
    --------
    >>> round(information(np.array([[5, 0], [0, 5]]))[1], 6), information(np.array([[1, 1], [1, 1]]))[0]
    (1.0, 0.0)
    """
    told = float(mutual_information(flows))
    least = min(float(entr(shares_of(flows.sum(axis))).sum()) for axis in (0, 1))
    return told, told / least if least > 0 else None


def _picture(flows: npt.NDArray[np.int64], before: str, here: str) -> PathPicture:
    total = int(flows.sum())
    expected = np.outer(flows.sum(axis=1), flows.sum(axis=0)) / total
    order = np.argsort(-flows, axis=None, kind="stable")
    drawn = [(int(i) // flows.shape[1], int(i) % flows.shape[1]) for i in order if flows.flat[int(i)] > 0]
    n_flows = len(drawn)
    if max(flows.shape) > MAX_ALL:
        drawn = drawn[:MAX_FLOWS]
    told, told_share = information(flows)
    # A flow that few items expect can be many times more by chance.
    with_enough = [(a, b) for a, b in drawn if expected[a, b] >= 100]
    best = max(with_enough, key=lambda pair: flows[pair] / expected[pair], default=None)
    strongest = None
    if best is not None:
        strongest = (*best, float(flows[best] / total), float(flows[best] / expected[best]))
    return PathPicture(
        before=before,
        here=here,
        svg=_draw(flows, expected, drawn, before, here),
        n_flows=n_flows,
        n_drawn=len(drawn),
        drawn_share=sum(int(flows[pair]) for pair in drawn) / total,
        told=told,
        told_share=told_share,
        strongest=strongest,
    )


def flow_colour(lift: float) -> str:
    """Grey for a flow as the loads alone give it, violet above, brown below, full at four times or a quarter.

    Examples
    --------
    >>> flow_colour(1.0), flow_colour(4.0), flow_colour(0.0)
    ('#b0b0aa', '#542788', '#b35806')
    """
    return "#{:02x}{:02x}{:02x}".format(*between(math.log2(max(lift, 1e-9)) / _FULL_LOG2, _EVEN))


def _places(totals: npt.NDArray[np.int64], height: float, gap: float) -> list[tuple[float, float]]:
    """Give top and height of each expert's bar."""
    room = height - gap * (len(totals) - 1)
    found, top = [], _TOP
    for n in totals.tolist():
        tall = room * n / int(totals.sum())
        found.append((top, tall))
        top += tall + gap
    return found


def _draw(
    flows: npt.NDArray[np.int64], expected: npt.NDArray[Any], drawn: list[tuple[int, int]], before: str, here: str
) -> Any:
    from markupsafe import Markup, escape

    n_most = max(flows.shape)
    height = 260.0 if n_most <= MAX_ALL else 9.5 * n_most
    gap = 5.0 if n_most <= MAX_ALL else 2.0
    total = int(flows.sum())
    left, right = (_places(flows.sum(axis=axis), height, gap) for axis in (1, 0))
    x0, x1 = _SIDE + _BAR, _WIDTH - _SIDE - _BAR
    room = [height - gap * (n - 1) for n in flows.shape]
    # Within a bar, flows lie in the order of their other end, whether they are drawn or not.
    above_left = np.cumsum(flows, axis=1) - flows
    above_right = np.cumsum(flows, axis=0) - flows
    label = escape(f"Sankey diagram of first choices from {before} to {here}, {len(drawn)} flows")
    parts = [f'<svg class="sankey" viewBox="0 0 {_WIDTH:g} {_TOP + height + 6:g}" role="img" aria-label="{label}">']
    parts.append(f'<text class="soft" x="{_SIDE:g}" y="14">{escape(before)}</text>')
    parts.append(f'<text class="soft end" x="{_WIDTH - _SIDE:g}" y="14">{escape(here)}</text>')
    # Wide flows first, so that narrow ones lie above them.
    for a, b in drawn:
        n = int(flows[a, b])
        lift = n / float(expected[a, b])
        top_a = left[a][0] + room[0] * int(above_left[a, b]) / total
        top_b = right[b][0] + room[1] * int(above_right[a, b]) / total
        tall_a, tall_b = room[0] * n / total, room[1] * n / total
        middle = (x0 + x1) / 2
        outline = (
            f"M{x0:g} {top_a:.1f}C{middle:g} {top_a:.1f} {middle:g} {top_b:.1f} {x1:g} {top_b:.1f}v{tall_b:.2f}"
            f"C{middle:g} {top_b + tall_b:.1f} {middle:g} {top_a + tall_a:.1f} {x0:g} {top_a + tall_a:.1f}z"
        )
        title = f"{a} to {b}: {percent(n / total)} %, {number(lift, 2)} times what the loads give"
        parts.append(f'<path fill="{flow_colour(lift)}" d="{outline}"><title>{title}</title></path>')
    for places, x, text_x, css in ((left, _SIDE, _SIDE - 6, "end"), (right, x1, _WIDTH - _SIDE + 6, "begin")):
        for expert, (top, tall) in enumerate(places):
            if tall > 0:
                parts.append(f'<rect x="{x:g}" y="{top:.1f}" width="{_BAR:g}" height="{max(tall, 0.5):.1f}"/>')
            if tall >= (8 if n_most > MAX_ALL else 4):
                parts.append(f'<text class="{css}" x="{text_x:g}" y="{top + tall / 2 + 4:.1f}">{expert}</text>')
    parts.append("</svg>")
    return Markup("".join(parts))
