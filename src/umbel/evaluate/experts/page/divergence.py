"""Matrices of how differently two classes are routed, with the floor of chance in the other half."""

from __future__ import annotations

import math
from dataclasses import dataclass

from umbel.evaluate.experts.page.heat import Cell
from umbel.evaluate.experts.page.views import LabellingView, Row, SiteView
from umbel.evaluate.experts.page.words import interval, nats, percent
from umbel.evaluate.wording import number

LN2 = math.log(2)
_STEPS = 20
_WHITE, _FULL = (250, 250, 248), (84, 39, 136)


@dataclass(frozen=True)
class Matrix:
    """One labelling at one router: JS below the diagonal, the split-half floor above.

    Attributes
    ----------
    name
        Of the labelling.
    classes
        Rows and columns.
    rows
        Class, and its cells.
    marks
        What is marked on the scale: words, nats, and the place in per cent of its length.
    n_above, n_pairs
        Pairs whose interval lies above their floor, and pairs that have both.
    """

    name: str
    classes: list[str]
    rows: list[tuple[str, list[Cell]]]
    marks: list[tuple[str, str, float]]
    n_above: int
    n_pairs: int


def place(js: float) -> float:
    """Place of a divergence on the scale of colours, 0 to 1: its root, which is a distance, over that of ln 2.

    References
    ----------
    Endres & Schindelin 2003, "A new metric for probability distributions" (the root of JS is a metric).

    Examples
    --------
    >>> place(0.0), place(LN2 / 4), place(LN2)
    (0.0, 0.5, 1.0)
    """
    return math.sqrt(max(js, 0.0) / LN2)


def depth(js: float) -> str:
    """Class of CSS of a divergence, ``j0`` to ``j20``.

    Examples
    --------
    >>> depth(0.0), depth(LN2)
    ('j0', 'j20')
    """
    return f"j{round(_STEPS * min(place(js), 1.0))}"


def depth_rules() -> list[tuple[str, str, str]]:
    """Give for each class of :func:`depth` its background and text colour."""
    found = []
    for step in range(_STEPS + 1):
        mixed = [round(a + step / _STEPS * (b - a)) for a, b in zip(_WHITE, _FULL, strict=True)]
        luminance = 0.299 * mixed[0] + 0.587 * mixed[1] + 0.114 * mixed[2]
        text = "#1c1c1a" if luminance > 140 else "#ffffff"
        found.append((f"j{step}", "rgb({},{},{})".format(*mixed), text))
    return found


def is_above(row: Row) -> bool:
    """Whether the whole interval of a pair lies above its floor."""
    return row["js_low"] is not None and row["floor"] is not None and row["js_low"] > row["floor"]


def matrices(view: SiteView, labellings: list[LabellingView]) -> list[Matrix]:
    """Make the matrices of a router, of all labellings that have two classes or more there."""
    found = []
    for labelling in labellings:
        rows = view.divergence.get(labelling.name, [])
        known = [row for row in rows if row["js"] is not None]
        if not known:
            continue
        pairs = {(row["class_a"], row["class_b"]): row for row in rows}
        pairs |= {(b, a): row for (a, b), row in pairs.items()}
        present = {name for pair in pairs for name in pair}
        classes = [name for name in labelling.classes if name in present]
        table = []
        for i, a in enumerate(classes):
            cells = [
                Cell("d", "", "") if i == j else _cell(pairs.get((a, b)), is_floor=j > i) for j, b in enumerate(classes)
            ]
            table.append((a, cells))
        marks = [("largest", max(row["js"] for row in known))]
        floors = [row["floor"] for row in known if row["floor"] is not None]
        if floors:
            marks.insert(0, ("largest floor", max(floors)))
        with_both = [row for row in known if row["js_low"] is not None and row["floor"] is not None]
        found.append(
            Matrix(
                name=labelling.name,
                classes=classes,
                rows=table,
                marks=[(words, nats(value), 100 * min(place(value), 1.0)) for words, value in marks],
                n_above=sum(map(is_above, with_both)),
                n_pairs=len(with_both),
            )
        )
    return found


def _cell(row: Row | None, is_floor: bool) -> Cell:
    value = None if row is None else row["floor" if is_floor else "js"]
    if row is None or value is None:
        return Cell("x", "not measured" if is_floor else "not enough items", "–")
    if is_floor:
        return Cell(f"{depth(value)} f", f"floor of {row['class_a']} and {row['class_b']}", nats(value))
    told = interval(row, "js_low", "js_high", 4)
    title = f"{number(row['js'], 4)} nats {told}, " if told else f"{number(row['js'], 4)} nats, "
    title += f"{number(row['js'] / LN2, 4)} bits, {percent(row['js'] / LN2)} % of ln 2"
    return Cell(f"{depth(value)} q" if is_above(row) else depth(value), title, nats(value))
