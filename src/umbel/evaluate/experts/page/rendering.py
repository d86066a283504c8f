"""``atlas.html`` from an atlas."""

from __future__ import annotations

from math import log2
from pathlib import Path
from typing import Any
from urllib.parse import quote

from umbel.evaluate.experts.atlas import SCHEMAS, TABLES_FOLDER, Atlas
from umbel.evaluate.experts.page import figures
from umbel.evaluate.experts.page.cards import MAX_CARDS, cards
from umbel.evaluate.experts.page.coactivation import pair_picture
from umbel.evaluate.experts.page.divergence import LN2, depth_rules, matrices, place
from umbel.evaluate.experts.page.findings import find
from umbel.evaluate.experts.page.heat import MANY, heat_maps, shade, shade_rules
from umbel.evaluate.experts.page.loads import load_bars
from umbel.evaluate.experts.page.logo import BASES, MIN_BASES, letter_outlines
from umbel.evaluate.experts.page.paths import path_pictures
from umbel.evaluate.experts.page.views import MIN_PER_EXPERT, LabellingView, SiteView, labelling_views, site_views
from umbel.evaluate.experts.page.words import count, nats, percent, some
from umbel.evaluate.wording import number, signed
from umbel.extras import require_packages
from umbel.files import whole_file
from umbel.page import template

PAGE_FILE = "atlas.html"
_SCALE_NATS = (0.01, 0.05, 0.2, 0.4)


def write_atlas_page(atlas: Atlas, folder: str | Path) -> Path:
    """Write ``atlas.html`` into a folder, whole or not at all; the same atlas gives the same bytes.

    Returns
    -------
    The file.

    Raises
    ------
    BackendError
        If matplotlib or jinja2 is not installed.
    OutputError
        If the disk is full, or not ours to write to.
    """
    path = Path(folder) / PAGE_FILE
    text = render_atlas(atlas)
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def render_atlas(atlas: Atlas) -> str:
    """Return the page as HTML: one file, without a network, and readable without scripts.

    Raises
    ------
    BackendError
        If matplotlib or jinja2 is not installed.
    RunError
        If a logo has other letters than A, C, G and T.
    """
    require_packages("the page of an atlas", "train", ("jinja2", "matplotlib"))
    views, labellings = site_views(atlas), labelling_views(atlas)
    sample = atlas.facts["sample"]
    item = sample.get("item", "item")
    filters = {
        "number": number, "signed": signed, "percent": percent, "nats": nats, "some": some, "path": quote,
        "plain": _plain,
    }  # fmt: skip
    return template(Path(__file__).parent, PAGE_FILE, filters).render(
        facts=atlas.facts,
        model=atlas.facts["model"],
        sample=sample,
        item=item,
        count=count,
        findings=find(atlas, views, labellings),
        sites=[_site(view, views, labellings, item) for view in views],
        overview=[_overview(view) for view in views],
        surety=figures.draw_surety(views),
        curves=[
            (each, figures.draw_divergence(each, views), figures.draw_contexts(each, views)) for each in labellings
        ],
        shades=[*shade_rules(), *depth_rules()],
        scale=[(nats(value), 100 * place(value)) for value in _SCALE_NATS],
        ln2=LN2,
        outlines=dict(zip(BASES, letter_outlines(), strict=True)) if atlas.tables["logos"].num_rows else {},
        has_pairs=atlas.tables["coactivation"].num_rows > 0,
        min_bases=MIN_BASES,
        min_per_expert=MIN_PER_EXPERT,
        max_cards=MAX_CARDS,
        tables=[(name, atlas.tables[name].num_rows) for name in SCHEMAS],
        tables_folder=TABLES_FOLDER,
    )


def _site(view: SiteView, views: list[SiteView], labellings: list[LabellingView], item: str) -> dict[str, Any]:
    """Give all that is shown of one router."""
    return {
        "view": view,
        "title": view.title[0].upper() + view.title[1:],
        "bars": load_bars(view),
        "heat": heat_maps(view, labellings),
        "matrices": matrices(view, labellings),
        "pairs": pair_picture(view),
        "paths": path_pictures(view, views),
        "cards": cards(view, len(views), is_dna=item == "base"),
    }


def _overview(view: SiteView) -> dict[str, Any]:
    """Give a row of the table of all routers: its numbers, and a coloured cell an expert."""
    n = view.layer["n_experts"]
    loads = []
    for row in view.experts:
        css = "dead" if row["is_dead"] or not row["load"] else shade(log2(row["load"] * n))
        title = f"expert {row['expert']}: {number(100 * row['load'], 2)} %"
        loads.append((css, title, percent(row["load"]) if n <= MANY else ""))
    return {"view": view, "loads": loads}


def _plain(value: Any) -> str:
    """Write a fact in words."""
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_plain(each)}" for key, each in sorted(value.items())) or "none"
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "none"
    return str(value)
