"""Sequence logos of the bases around those that an expert takes, against the bases around all of its layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.errors import RunError
from umbel.evaluate.experts.page.views import Row, SiteView
from umbel.evaluate.wording import number
from umbel.page import BASE_COLOURS
from umbel.predict.ism.pictures import letter_places

BASES = "ACGT"
MIN_BASES = 100
"""Bases below which no logo is drawn."""
_SCALES_BITS = (0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 4.0, 8.0)
_LEAST_FRAC = 0.004
_COLUMN, _HEIGHT, _LEFT, _BOTTOM, _TOP = 20.0, 120.0, 40.0, 22.0, 8.0


def relative_bits(counts: npt.NDArray[Any], background: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Heights of the letters: each base's share of what a column tells, beyond the background.

    A column tells the Kullback-Leibler divergence of its bases from those of the background, less what a sample of its
    size would tell by chance, 3 / (2 n ln 2) bits, and never less than nothing.

    Parameters
    ----------
    counts, background
        ``(n, 4)``: bases around one expert's, and around those of all experts of its layer.

    Returns
    -------
    ``(n, 4)`` bits.

    References
    ----------
    Schneider & Stephens 1990, "Sequence logos"; Schneider et al. 1986, appendix (small samples); a background other
    than even as in Stormo 1998, "Information content and free energy in DNA-protein interactions".

    Examples
    --------
    >>> relative_bits(np.array([[1000, 0, 0, 0]]), np.array([[500, 500, 500, 500]])).round(2).tolist()
    [[2.0, 0.0, 0.0, 0.0]]
    """
    n = counts.sum(axis=1, keepdims=True).astype(np.float64)
    p = counts / np.maximum(n, 1)
    q = background / np.maximum(background.sum(axis=1, keepdims=True), 1)
    # A base that an expert has, its layer has too.
    terms = np.where(p > 0, p * np.log2(np.where(p > 0, p, 1) / np.where(q > 0, q, 1)), 0.0)
    by_chance = 3 / (2 * math.log(2) * np.maximum(n, 1))
    return np.asarray(p * np.maximum(terms.sum(axis=1, keepdims=True) - by_chance, 0.0))


def logo_counts(view: SiteView) -> tuple[list[int], dict[int, npt.NDArray[np.int64]]]:
    """Give the offsets that a router has, and for each expert ``(offsets, 4)`` counts."""
    offsets = sorted({row["offset"] for rows in view.logos.values() for row in rows})
    columns = {offset: i for i, offset in enumerate(offsets)}
    found = {}
    for expert, rows in sorted(view.logos.items()):
        counts = np.zeros((len(offsets), 4), np.int64)
        for row in rows:
            counts[columns[row["offset"]], _base(row)] += row["n"]
        found[expert] = counts
    return offsets, found


def _base(row: Row) -> int:
    if len(row["base"]) != 1 or row["base"] not in BASES:
        raise RunError(f"table logos, column base: must be A, C, G or T, not {row['base']!r}")
    return BASES.index(row["base"])


def logos(view: SiteView, experts: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Draw the logos of some experts of a router, all at one scale.

    Returns
    -------
    For each that has rows: ``svg``, ``here`` and ``around`` (bits at the base itself and at all others together) and
    ``n`` bases; without ``svg`` where there are too few.
    """
    offsets, counts = logo_counts(view)
    if not counts:
        return {}
    background = np.sum(list(counts.values()), axis=0)
    bits = {expert: relative_bits(table, background) for expert, table in counts.items()}
    sizes = {expert: int(table.sum(axis=1).max()) for expert, table in counts.items()}
    highest = max((b.sum(axis=1).max() for e, b in bits.items() if sizes[e] >= MIN_BASES), default=0.0)
    top = next((scale for scale in _SCALES_BITS if scale >= highest), _SCALES_BITS[-1])
    here = np.array(offsets) == 0
    found: dict[int, dict[str, Any]] = {}
    for expert in experts:
        if expert not in bits:
            continue
        told = {"here": float(bits[expert][here].sum()), "around": float(bits[expert][~here].sum())}
        found[expert] = {"n": sizes[expert], **told}
        if sizes[expert] >= MIN_BASES:
            found[expert]["svg"] = _draw(bits[expert], offsets, top, found[expert])
    return found


@lru_cache(maxsize=1)
def letter_outlines() -> tuple[str, ...]:
    """Outlines of A, C, G and T as paths of SVG, each filling the box of 0 to 1, its foot at 0 and its head at -1."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path as Outline
    from matplotlib.textpath import TextPath

    names = {Outline.MOVETO: "M", Outline.LINETO: "L", Outline.CURVE3: "Q", Outline.CURVE4: "C", Outline.CLOSEPOLY: "Z"}
    font = FontProperties(family="DejaVu Sans", weight="bold")
    found = []
    for letter in BASES:
        outline = TextPath((0, 0), letter, size=1, prop=font)
        box = outline.get_extents()
        parts = []
        for points, code in outline.iter_segments(curves=True, simplify=False):
            name = names[code]
            places = np.asarray(points).reshape(-1, 2)
            scaled = ((places - (box.x0, box.y0)) / (box.width, box.height) * (1, -1)).round(3) + 0.0
            parts.append(name + ("" if name == "Z" else " ".join(f"{v:g}" for v in scaled.ravel())))
        found.append("".join(parts))
    return tuple(found)


def _draw(bits: npt.NDArray[np.float64], offsets: list[int], top: float, told: Mapping[str, float]) -> Any:
    """Draw a logo as ``<svg>``; the letters are those of :func:`letter_outlines`, by the ids ``letter-A`` and so on."""
    from markupsafe import Markup

    width = _LEFT + _COLUMN * len(offsets) + 6
    foot = _TOP + _HEIGHT
    label = (
        f"Sequence logo: {number(told['here'], 3)} bits at the base itself, {number(told['around'], 3)} bits "
        "at its neighbours together"
    )
    parts = [f'<svg class="logo" viewBox="0 0 {width:g} {foot + _BOTTOM:g}" role="img" aria-label="{label}">']
    if 0 in offsets:
        x = _LEFT + _COLUMN * offsets.index(0)
        parts.append(f'<rect class="here" x="{x:g}" y="{_TOP:g}" width="{_COLUMN:g}" height="{_HEIGHT:g}"/>')
    for value in (0.0, top / 2, top):
        y = foot - _HEIGHT * value / top
        parts.append(f'<path class="grid" d="M{_LEFT:g} {y:g}H{width - 6:g}"/>')
        parts.append(f'<text class="end" x="{_LEFT - 5:g}" y="{y + 4:g}">{value:g}</text>')
    for base, letter in enumerate(BASES):
        places = [place for place in letter_places(bits, _LEAST_FRAC * top) if place[0] == base]
        if places:
            uses = []
            for _, column, bottom, height in places:
                x, y = _LEFT + _COLUMN * column + 0.6, foot - _HEIGHT * bottom / top
                uses.append(
                    f'<use href="#letter-{letter}" transform="matrix({_COLUMN - 1.2:g} 0 0 '
                    f'{_HEIGHT * height / top:.1f} {x:g} {y:.1f})"/>'
                )
            parts.append(f'<g fill="{BASE_COLOURS[base]}">{"".join(uses)}</g>')
    for column, offset in enumerate(offsets):
        if offset % 5 == 0:
            x = _LEFT + _COLUMN * (column + 0.5)
            name = "0" if offset == 0 else f"{offset:+d}".replace("-", "−")
            parts.append(f'<text class="mid" x="{x:g}" y="{foot + 15:g}">{name}</text>')
    parts.append("</svg>")
    return Markup("".join(parts))
