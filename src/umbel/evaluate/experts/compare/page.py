"""``compare.html``: one page that needs nothing else, every figure with its unit and its controls."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import umbel
from umbel.evaluate.experts.compare import figures, match_figures, stage_figures
from umbel.evaluate.experts.compare.match_figures import Heat
from umbel.evaluate.experts.compare.sankey import THINNEST, Flow, sankey_figure
from umbel.evaluate.experts.compare.wording import entropy_words, percent
from umbel.evaluate.wording import number, signed
from umbel.files import whole_file
from umbel.page import template

if TYPE_CHECKING:
    from umbel.evaluate.experts.compare.runner import Comparison

MAX_PAIRS, MAX_COLUMNS, MAX_HEATS = 6, 5, 24
"""Most pairs, checkpoints in a row, and heat maps that are drawn; tables have all."""
_FEW = 3


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the page, whole or not at all."""
    text = render(comparison)
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render(comparison: Comparison) -> str:
    """Return the page as HTML."""
    tables, result = comparison.tables, comparison.result
    names = [each["name"] for each in result["checkpoints"] if not each["is_control"]]
    pairs = shown_pairs(comparison, names)
    every_step = list(dict.fromkeys((row["first"], row["second"]) for row in tables["drift"]))
    steps = every_step[:MAX_PAIRS]
    drawn: dict[str, Any] = {}
    if pairs:
        drawn["agreement"] = figures.agreement_figure(tables["agreement"], pairs)
    flows = [] if result["settings"]["match"] else find_flows(comparison, names)
    if flows:
        drawn["sankey"] = sankey_figure(flows)
    if steps:
        drawn["drift"] = figures.drift_figure(tables["drift"], steps)
    # Two points are no course, unless they are of a run.
    if tables["saturation"] and (len(names) > _FEW or any(row["step"] is not None for row in tables["saturation"])):
        drawn["saturation"] = figures.saturation_figure(tables["saturation"])
    if tables["differentiation"]:
        drawn["differentiation"] = stage_figures.differentiation_figure(tables["differentiation"])
    if tables["stages"]:
        drawn["stages"] = stage_figures.stages_figure(tables["stages"])
    if tables["matching"]:
        drawn["matching"] = match_figures.matching_figure(tables["matching"])
        drawn["heat"] = match_figures.heat_figure(find_heats(comparison))
    filters = {
        "unbroken": lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%"),
        "number": number,
        "signed": signed,
        "percent": percent,
        "estimate": _estimate,
    }
    return str(
        template(Path(__file__).parent, "compare.html", filters).render(
            result=result,
            tables=tables,
            names=names,
            controls=[each["name"] for each in result["checkpoints"] if each["is_control"]],
            pairs=pairs,
            n_pairs=len({(row["first"], row["second"]) for row in tables["agreement"] if not row["is_control"]}),
            n_steps=len(every_step),
            steps=steps,
            figures=drawn,
            thinnest=THINNEST,
            entropy_words=entropy_words,
            agreement_of=_by_pair(tables["agreement"]),
            drift_of=_by_layer(tables["drift"]),
            umbel=umbel.__version__,
        )
    )


def shown_pairs(comparison: Comparison, names: list[str]) -> list[tuple[str, str]]:
    """Choose the pairs of trained checkpoints that are drawn: each and the next first, then first and last."""
    there = {(row["first"], row["second"]) for row in comparison.tables["agreement"] if not row["is_control"]}
    if comparison.result["settings"]["match"]:
        wanted = sorted(there)
    else:
        wanted = [*pairwise(names), (names[0], names[-1]), *sorted(there)]
    return [pair for pair in dict.fromkeys(wanted) if pair in there][:MAX_PAIRS]


def find_flows(comparison: Comparison, names: list[str]) -> list[Flow]:
    """Lay the checkpoints out along each router: of a 2x2 design both ways, of many only some."""
    every = [each["name"] for each in comparison.result["checkpoints"]]
    if comparison.result["settings"]["design"] == "2x2":
        ways = [[names[0], names[1], names[3]], [names[0], names[2], names[3]]]
    elif len(names) > MAX_COLUMNS:
        ways = [[names[0], names[-1]]]
    else:
        ways = [names]
    flows = []
    for way in ways:
        numbers = [every.index(name) for name in way]
        links = [pair for pair in pairwise(numbers) if pair in comparison.sums.pairs]
        if len(links) < len(way) - 1:
            continue
        for m, site in enumerate(comparison.result["checkpoints"][numbers[0]]["sites"]):
            title = f"layer {site['layer']}" + (f", by way of {way[1]}" if len(ways) > 1 else "")
            flows.append(Flow(title, tuple(way), tuple(comparison.sums.pairs[link][m].first for link in links)))
    return flows


def find_heats(comparison: Comparison) -> list[Heat]:
    """Choose the similarities that are drawn: those of trained checkpoints, in the order of pairs."""
    checkpoints = comparison.result["checkpoints"]
    return [
        Heat(
            f"layer {checkpoints[i]['sites'][m]['layer']}, by {by}",
            f"{checkpoints[i]['name']}, experts",
            f"{checkpoints[j]['name']}, paired",
            matched.similarity,
            matched.partner,
            0.0 if by == "items" else -1.0,
        )
        for (i, j, m, by), matched in comparison.matches.items()
        if not (checkpoints[i]["is_control"] or checkpoints[j]["is_control"])
    ][:MAX_HEATS]


def _by_pair(rows: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["first"], row["second"]), []).append(row)
    return found


def _by_layer(rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[int, dict[str, Any]]]:
    """For each step and layer the rows of router and experts, and of the expert that moved most."""
    found: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for row in rows:
        if row["group"] not in ("router", "experts") or row["layer"] is None:
            continue
        here = found.setdefault((row["first"], row["second"]), {}).setdefault(row["layer"], {})
        if row["expert"] is None:
            here[row["group"]] = row
        elif (row["relative_change"] or 0) > (here.get("most", {}).get("relative_change") or -1):
            here["most"] = row
    return {step: {k: v for k, v in layers.items() if "router" in v} for step, layers in found.items()}


def _estimate(row: Mapping[str, Any], name: str, digits: int = 3) -> str:
    """Write a number of a row with its interval."""
    if row[name] is None:
        return "–"
    text = number(row[name], digits)
    if row[f"{name}_low"] is None:
        return text
    return f"{text} ({number(row[f'{name}_low'], digits)} to {number(row[f'{name}_high'], digits)})"
