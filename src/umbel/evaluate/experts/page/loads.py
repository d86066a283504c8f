"""Bars of the experts' loads, with the even share and the greatest that is possible."""

from __future__ import annotations

from typing import Any

from umbel.evaluate.experts.page.views import SiteView
from umbel.evaluate.experts.page.words import interval, percent
from umbel.evaluate.wording import number

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 960.0, 150.0, 52.0, 24.0, 24.0
_MAX_NUMBERED = 16
_MOST_BARS = 130.0


def load_bars(view: SiteView) -> Any:
    """Draw the load of each expert of a router as ``<svg>``.

    The greatest possible load is 1/k: no item takes an expert twice. Where it is far above all bars, an arrow names it.
    """
    from markupsafe import Markup

    n, bound = len(view.experts), 1 / view.layer["top_k"]
    even = 1 / view.layer["n_experts"]
    tallest = max([even, *(row["load_high"] or row["load"] for row in view.experts)])
    is_bound_near = tallest > 0.5 * bound
    top = 1.04 * bound if is_bound_near else 1.25 * tallest
    foot = _TOP + _HEIGHT

    def y(share: float) -> str:
        return f"{foot - _HEIGHT * min(share / top, 1.0):.1f}"

    step = min((_WIDTH - _LEFT - 110) / n, _MOST_BARS)
    right = _LEFT + step * n
    n_dead = sum(row["is_dead"] for row in view.experts)
    label = (
        f"Loads of {n} experts, {percent(min(row['load'] for row in view.experts))} to "
        f"{percent(max(row['load'] for row in view.experts))} %; even is {percent(even)} %; {n_dead} dead"
    )
    parts = [
        f'<svg class="loads" viewBox="0 0 {_WIDTH:g} {foot + _BOTTOM:g}" role="img" aria-label="{label}">',
        f'<path class="axis" d="M{_LEFT:g} {foot:g}H{right:g}"/>',
        f'<text class="end" x="{_LEFT - 6:g}" y="{foot + 4:g}">0 %</text>',
        f'<path class="even" d="M{_LEFT:g} {y(even)}H{right:.1f}"/>',
        f'<text class="even" x="{right + 6:.1f}" y="{float(y(even)) + 4:.1f}">even, {percent(even)} %</text>',
    ]
    if is_bound_near:
        parts.append(f'<path class="bound" d="M{_LEFT:g} {y(bound)}H{right:.1f}"/>')
        parts.append(
            f'<text class="bound" x="{right + 6:.1f}" y="{float(y(bound)) + 4:.1f}">bound, {100 * bound:.3g} %</text>'
        )
    else:
        parts.append(f'<text class="bound" x="{right + 6:.1f}" y="{_TOP + 4:g}">↑ bound, {100 * bound:.3g} %</text>')
    for i, row in enumerate(view.experts):
        x, wide = _LEFT + step * (i + 0.12), 0.76 * step
        title = (
            f"expert {row['expert']}: {number(100 * row['load'], 2)} % {interval(row, 'load_low', 'load_high', 2, 100)}"
        )
        middle = f"{x + wide / 2:.1f}"
        if row["is_dead"]:
            parts.append(f'<text class="dead mid" x="{middle}" y="{foot - 5:g}"><title>{title}</title>✕</text>')
        else:
            css = "load starving" if row["is_starving"] else "load"
            height = foot - float(y(row["load"]))
            parts.append(
                f'<rect class="{css}" x="{x:.1f}" y="{y(row["load"])}" width="{wide:.1f}" height="{height:.1f}">'
                f"<title>{title.rstrip()}</title></rect>"
            )
            if row["load_low"] is not None and row["load_high"] is not None:
                parts.append(f'<path class="whisker" d="M{middle} {y(row["load_low"])}V{y(row["load_high"])}"/>')
        if n <= _MAX_NUMBERED and not row["is_dead"]:
            high = row["load_high"] if row["load_high"] is not None else row["load"]
            parts.append(f'<text class="mid" x="{middle}" y="{float(y(high)) - 5:.1f}">{percent(row["load"])} %</text>')
        if n <= 2 * _MAX_NUMBERED or row["expert"] % 4 == 0:
            parts.append(f'<text class="mid soft" x="{middle}" y="{foot + 16:g}">{row["expert"]}</text>')
    parts.append("</svg>")
    return Markup("".join(parts))
