"""The tables of an atlas as the page walks through them: router by router, in order of depth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from umbel.evaluate.experts.atlas import Atlas

Row = dict[str, Any]
Q_LEVEL = 0.05
"""False discovery rate at which a pair of expert and class is marked."""
MIN_PER_EXPERT = 20
"""Choices for each expert below which a share says nothing: fewer than 20 E/k items."""


@dataclass(frozen=True)
class LabellingView:
    """One labelling: its name, ``base`` or ``sequence``, and its classes in the order of the page."""

    name: str
    level: str
    classes: list[str]


@dataclass(frozen=True)
class SiteView:
    """All rows of one router.

    Attributes
    ----------
    site, title
        Its number in the tables, and what the page calls it, such as ``layer 3``.
    layer
        Its row of table ``layers``.
    experts
        Its rows of table ``experts``, by expert.
    enrichment
        By labelling, expert and class.
    divergence
        By labelling, rows.
    information
        By labelling.
    pairs
        Rows of ``coactivation``.
    paths
        By router before, rows.
    logos, windows, ablation
        By expert, rows.
    """

    site: int
    title: str
    layer: Row
    experts: list[Row]
    enrichment: dict[str, dict[tuple[int, str], Row]]
    divergence: dict[str, list[Row]]
    information: dict[str, Row]
    pairs: list[Row]
    paths: dict[int, list[Row]]
    logos: dict[int, list[Row]]
    windows: dict[int, list[Row]]
    ablation: dict[int, list[Row]]


def labelling_views(atlas: Atlas) -> list[LabellingView]:
    """List the labellings: those that the facts name, then others that a table has, classes alike."""
    levels: dict[str, str] = {}
    classes: dict[str, dict[str, None]] = {}
    for told in atlas.facts.get("labellings", []):
        levels[told["name"]] = told.get("level", "base")
        classes[told["name"]] = dict.fromkeys(told.get("classes", []))
    for row in atlas.rows("enrichment"):
        levels.setdefault(row["labelling"], row["level"])
        classes.setdefault(row["labelling"], {})[row["class"]] = None
    for row in atlas.rows("divergence"):
        classes.setdefault(row["labelling"], {}).update({row["class_a"]: None, row["class_b"]: None})
    for name in ("information", "ablation"):
        for row in atlas.rows(name):
            classes.setdefault(row["labelling"], {})
    return [LabellingView(name, levels.get(name, "base"), list(found)) for name, found in classes.items()]


def site_views(atlas: Atlas) -> list[SiteView]:
    """Sort all rows by router, in order of depth."""
    layers = sorted(atlas.rows("layers"), key=lambda row: (row["layer"], row["site"]))
    depths = [row["layer"] for row in layers]
    sorted_rows = {
        name: _by(atlas.rows(name), "site")
        for name in (
            "experts", "enrichment", "divergence", "information", "coactivation", "paths", "logos", "top_windows",
            "ablation",
        )
    }  # fmt: skip
    found = []
    for layer in layers:
        site = layer["site"]
        rows = {name: by_site.get(site, []) for name, by_site in sorted_rows.items()}
        enrichment: dict[str, dict[tuple[int, str], Row]] = {}
        for row in rows["enrichment"]:
            enrichment.setdefault(row["labelling"], {})[row["expert"], row["class"]] = row
        # Two routers may sit in one layer.
        is_alone = depths.count(layer["layer"]) == 1
        found.append(
            SiteView(
                site=site,
                title=f"layer {layer['layer']}" if is_alone else f"layer {layer['layer']}, {layer['name']}",
                layer=layer,
                experts=sorted(rows["experts"], key=lambda row: row["expert"]),
                enrichment=enrichment,
                divergence=_by(rows["divergence"], "labelling"),
                information={row["labelling"]: row for row in rows["information"]},
                pairs=rows["coactivation"],
                paths=_by(rows["paths"], "site_before"),
                logos=_by(rows["logos"], "expert"),
                windows=_by(rows["top_windows"], "expert"),
                ablation=_by(rows["ablation"], "expert"),
            )
        )
    return found


def is_told(row: Row | None, view: SiteView) -> bool:
    """Whether there are numbers enough to say anything of an expert in a class.

    Examples
    --------
    >>> is_told(None, None)
    False
    """
    if row is None or row["log2_odds"] is None or not row["share_overall"]:
        return False
    return bool(row["n_class"] >= MIN_PER_EXPERT * view.layer["n_experts"])


def _by(rows: Iterable[Row], column: str) -> dict[Any, list[Row]]:
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(row[column], []).append(row)
    return found
