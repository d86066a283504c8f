"""Heat maps of expert by class: log2 odds in colour, with load and ablation beside, so that neither is forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from umbel.evaluate.experts.page.views import Q_LEVEL, LabellingView, SiteView, is_told
from umbel.evaluate.experts.page.words import interval, percent, tested
from umbel.evaluate.wording import number, signed
from umbel.page import cell_colour

_STEPS = 20
"""Shades on either side of even; a class of CSS each keeps a page of 100,000 cells small."""
_FULL_LOG2 = 2.0
MANY = 16
"""Experts beyond which rows are drawn low."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table: classes of CSS, what the pointer is told, and what is written."""

    css: str
    title: str
    text: str


@dataclass(frozen=True)
class HeatMap:
    """One labelling at one router.

    Attributes
    ----------
    name
        Of the labelling.
    columns
        Classes, and how many items of each there are, or None.
    rows
        Expert, its cells, its load and its ablation.
    is_low
        Whether there are many rows.
    n_marked, n_tested
        Pairs that survive the false discovery rate, and pairs that were tested.
    """

    name: str
    columns: list[tuple[str, int | None]]
    rows: list[tuple[int, list[Cell], Cell, Cell]]
    is_low: bool
    n_marked: int
    n_tested: int


def shade(log2: float) -> str:
    """Class of CSS of a log2 ratio, ``s0`` (a quarter or less) to ``s40`` (four times or more).

    Examples
    --------
    >>> shade(0.0), shade(-9.0), shade(0.52), shade(2.0)
    ('s20', 's0', 's25', 's40')
    """
    position = max(-1.0, min(1.0, log2 / _FULL_LOG2))
    return f"s{round(_STEPS * (1 + position))}"


def shade_rules() -> list[tuple[str, str, str]]:
    """Give for each class of :func:`shade` its background and text colour."""
    found = []
    for step in range(2 * _STEPS + 1):
        log2 = _FULL_LOG2 * (step / _STEPS - 1)
        background, text = cell_colour(2.0**log2, 1.0)
        found.append((f"s{step}", background.replace(" ", ""), text))
    return found


def is_marked(row: dict[str, Any]) -> bool:
    """Whether a pair survives the false discovery rate."""
    return row["q"] is not None and row["q"] < Q_LEVEL


def heat_maps(view: SiteView, labellings: list[LabellingView]) -> list[HeatMap]:
    """Make the heat maps of a router, of all labellings that have rows there."""
    found = []
    for labelling in labellings:
        rows = view.enrichment.get(labelling.name)
        if not rows:
            continue
        sizes = {row["class"]: row["n_class"] for row in rows.values()}
        told = [row for row in rows.values() if is_told(row, view)]
        found.append(
            HeatMap(
                name=labelling.name,
                columns=[
                    (name, sizes[name] // view.layer["top_k"] if name in sizes else None) for name in labelling.classes
                ],
                rows=[
                    (
                        expert["expert"],
                        [_cell(rows.get((expert["expert"], name)), expert, view) for name in labelling.classes],
                        load_cell(expert),
                        ablation_cell(expert),
                    )
                    for expert in view.experts
                ],
                is_low=len(view.experts) > MANY,
                n_marked=sum(is_marked(row) for row in told),
                n_tested=sum(row["q"] is not None for row in told),
            )
        )
    return found


def _cell(row: dict[str, Any] | None, expert: dict[str, Any], view: SiteView) -> Cell:
    if row is None or not row["n_class"]:
        return Cell("x", "no items of this class", "")
    if expert["is_dead"] or not row["share_overall"]:
        return Cell("x", "the expert is dead", "")
    if not is_told(row, view):
        return Cell("x", f"not enough items: {row['n_class'] // view.layer['top_k']:,}", "–")
    mark = "*" if is_marked(row) else ""
    css = shade(row["log2_odds"]) + (" q" if mark else "")
    return Cell(css, tested(row), f"{signed(row['log2_odds'], 1)}{mark}")


def load_cell(expert: dict[str, Any]) -> Cell:
    """Give the load in per cent; a dead or starving expert says so."""
    text = "dead" if expert["is_dead"] else percent(expert["load"])
    return Cell("n l", f"load {_span_percent(expert)}", text)


def _span_percent(expert: dict[str, Any]) -> str:
    told = interval(expert, "load_low", "load_high", 2, 100)
    return f"{number(100 * expert['load'], 2)} %" + (f" {told}" if told else "")


def ablation_cell(expert: dict[str, Any]) -> Cell:
    """Give the change of masked loss without the expert, bold where its interval leaves out 0."""
    if expert["ablation"] is None:
        return Cell("x", "not measured", "–")
    told = interval(expert, "ablation_low", "ablation_high", 5)
    sure = told and not expert["ablation_low"] <= 0 <= expert["ablation_high"]
    return Cell(
        "n q" if sure else "n", f"{signed(expert['ablation'], 5)} nats {told}".rstrip(), signed(expert["ablation"], 4)
    )
