"""What an atlas says, in sentences; each is computed from the numbers, whatever they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log

from umbel.evaluate.experts.atlas import Atlas
from umbel.evaluate.experts.page.cards import strength
from umbel.evaluate.experts.page.heat import is_marked
from umbel.evaluate.experts.page.views import (
    Q_LEVEL,
    LabellingView,
    Row,
    SiteView,
    is_told,
    labelling_views,
    site_views,
)
from umbel.evaluate.experts.page.words import count, interval, nats, percent, some, tested
from umbel.evaluate.wording import number, signed

_N_STRONGEST = 3
_NEARLY_ALL = 0.9
_BELOW = 0.025
_MANY = 400
_CONTEXTS = (
    ("context_base", "the base"),
    ("context_3mer", "its 3-mer"),
    ("context_6mer", "its 6-mer"),
    ("context_token", "the token"),
)
_FDR = f"a false discovery rate of {100 * Q_LEVEL:.0f} %"


@dataclass(frozen=True)
class Finding:
    """A sentence of the summary.

    Attributes
    ----------
    verdict
        ``more`` (something was found), ``bad`` (something is wrong), ``even`` (nothing to be told apart), ``fact``, or
        ``missing``.
    about, text
        What it is about, and what is said of it.
    site
        The router that it points to, or None.
    """

    verdict: str
    about: str
    text: str
    site: int | None = None


def sentences(atlas: Atlas) -> list[str]:
    """Say in plain text what the page says at its top."""
    return [f"{found.about}: {found.text}" for found in find(atlas, site_views(atlas), labelling_views(atlas))]


def find(atlas: Atlas, views: Sequence[SiteView], labellings: Sequence[LabellingView]) -> list[Finding]:
    """Say what was recorded, found and not found."""
    item = atlas.facts["sample"].get("item", "item")
    found = [Finding("fact", "Recorded", _recorded(atlas, views, item)), *_loads(views, item)]
    for labelling in labellings:
        found += [*_specialisation(labelling, views), *_contexts(labelling, views), *_enriched(labelling, views)]
    return [*found, *_importance(views, item), *_missing(atlas, views, labellings, item)]


def _recorded(atlas: Atlas, views: Sequence[SiteView], item: str) -> str:
    sample, model = atlas.facts["sample"], atlas.facts["model"]
    effective = sample["effective_units"]
    worth = (
        "worth an unknown number of independent ones"
        if effective is None
        else f"worth {number(effective, 1)} independent ones"
    )
    kinds: dict[str, list[str]] = {}
    for view in views:
        told = f"{view.layer['n_experts']} experts, top-{view.layer['top_k']}, {_scores(view.layer['scores'])}"
        if view.layer["n_shared"]:
            told += f", {count(view.layer['n_shared'], 'shared expert')} beside them"
        kinds.setdefault(told, []).append(str(view.layer["layer"]))
    routers = "; ".join(f"{'layer' if len(at) == 1 else 'layers'} {some(at)} ({kind})" for kind, at in kinds.items())
    precision = model.get("dtype") or model.get("precision") or "precision not stated"
    quantised = f"quantised ({model['quantisation']})" if model.get("quantisation") else "not quantised"
    if "quantisation" not in model:
        quantised = "quantisation not stated"
    stretches = count(sample["n_stretches"], "stretch").replace("stretchs", "stretches")
    units = count(sample["n_units"], "unit")
    return (
        f"{count(sample['n_items'], item)} in {stretches} and {units} of like sequence, {worth}; "
        f"{count(len(views), 'router')}: {routers}; {precision}, {quantised}."
    )


def _scores(name: str) -> str:
    return "scores not known" if name == "unknown" else f"{name} scores"


def _loads(views: Sequence[SiteView], item: str) -> list[Finding]:
    found = []
    n_all = sum(len(view.experts) for view in views)
    kinds = (
        ("is_dead", "Dead", f"no {item} at all"),
        ("is_starving", "Starving", "less than a twentieth of an even share"),
    )
    for column, about, what in kinds:
        by_layer = {view.title: [str(row["expert"]) for row in view.experts if row[column]] for view in views}
        n = sum(map(len, by_layer.values()))
        if n:
            where = [
                f"{'expert' if len(experts) == 1 else 'experts'} {some(experts)} of {title}"
                for title, experts in by_layer.items()
                if experts
            ]
            verb = "takes" if n == 1 else "take"
            found.append(Finding("bad", about, f"{n:,} of {n_all:,} experts {verb} {what} ({'; '.join(where)})."))
    if not found:
        found.append(Finding("fact", "Loads", f"none of {n_all:,} experts is dead or starving."))
    thin = [view.title for view in views if not view.layer["is_enough"]]
    if thin:
        found.append(Finding("missing", "Loads", f"too few {item}s to call an expert dead (N < 20 E/k): {some(thin)}."))
    worst = max(views, key=lambda view: view.layer["max_over_mean"], default=None)
    if worst is not None:
        layer = worst.layer
        text = (
            f"least even in {worst.title}: the busiest expert takes {number(layer['max_over_mean'], 2)} times the mean "
            f"({number(layer['max_over_mean_bound'], 1)} is possible); {number(layer['effective_experts'], 1)} of "
            f"{layer['n_experts']} experts would carry as much evenly."
        )
        found.append(Finding("fact", "Balance", text, worst.site))
    return found


def _specialisation(labelling: LabellingView, views: Sequence[SiteView]) -> list[Finding]:
    """Whether the expert tells more of the class than it does of moved labels, and than in an untrained network."""
    rows = [(view, view.information[labelling.name]) for view in views if labelling.name in view.information]
    known = [(view, row) for view, row in rows if row["mi"] is not None]
    if not known:
        return []
    about = f"Specialisation, {labelling.name}"
    view, row = max(known, key=lambda pair: pair[1]["mi"])
    told = interval(row, "mi_low", "mi_high", 4)
    size = f"{nats(row['mi'])} nats{' ' + told if told else ''} of {nats(_bound(row, view))} possible"
    with_both = [(v, r) for v, r in known if r["mi_low"] is not None and r["chance"] is not None]
    if not with_both:
        text = f"largest in {view.title}, {size}; without interval or moved labels, nothing tells it from chance."
        return [Finding("missing", about, text, view.site)]
    above = [v for v, r in with_both if r["mi_low"] > r["chance"]]
    if not above:
        chance = "no moved labels" if row["chance"] is None else f"moved labels give {nats(row['chance'])}"
        text = f"in no layer above chance; largest in {view.title}, {size}, {chance}{_untrained(row)}."
        return [Finding("even", about, text, view.site)]
    where = "all" if len(above) == len(known) else f"{len(above)} of"
    times = "" if not row["chance"] else f", {number(row['mi'] / row['chance'], 1)} times what moved labels give"
    text = (
        f"above chance in {where} {count(len(known), 'layer')}; largest in {view.title}, {size}{times}"
        f"{_untrained(row)}."
    )
    return [Finding("more", about, text, view.site)]


def _untrained(row: Row) -> str:
    if row["random"] is None:
        return ""
    return f"; {nats(row['random'])} in the same network with random weights"


def _bound(row: Row, view: SiteView) -> float:

    return log(max(min(row["n_classes"], view.layer["n_experts"]), 1))


def _contexts(labelling: LabellingView, views: Sequence[SiteView]) -> list[Finding]:
    """How much of the divergence is explained by which base or token an item is."""
    told: list[str] = []
    known: list[float] = []
    for column, words in _CONTEXTS:
        shares = [view.information[labelling.name][column] for view in views if labelling.name in view.information]
        if any(share is not None for share in shares):
            known = [share for share in shares if share is not None]
            low, high = percent(min(known)), percent(max(known))
            told.append(f"{words} alone {low} %" if low == high else f"{words} alone {low} to {high} %")
    if not told:
        return []
    rest = "little is left that needs more context" if min(known) > _NEARLY_ALL else "what is left needs more context"
    text = f"{some(told)} of the divergence of classes; {rest}."
    return [Finding("fact", f"Explained, {labelling.name}", text)]


def _enriched(labelling: LabellingView, views: Sequence[SiteView]) -> list[Finding]:
    rows = [
        (view, row)
        for view in views
        for row in view.enrichment.get(labelling.name, {}).values()
        if is_told(row, view) and row["q"] is not None
    ]
    if not rows:
        return []
    marked = [(view, row) for view, row in rows if is_marked(row)]
    about = f"Enrichment, {labelling.name}"
    above = sorted((pair for pair in marked if pair[1]["log2_odds"] > 0), key=lambda pair: -strength(pair[1]))
    if not marked:
        return [Finding("even", about, f"none of {len(rows):,} pairs of expert and class survives {_FDR}.")]
    verb = "survives" if len(marked) == 1 else "survive"
    share = f"{len(marked):,} of {len(rows):,} pairs of expert and class {verb} {_FDR}"
    if not above:
        return [Finding("more", about, f"{share}, all of them below even.")]
    strongest = [
        f"expert {row['expert']} of {view.title} for {row['class']} (log2 odds {tested(row)})"
        for view, row in above[:_N_STRONGEST]
    ]
    return [
        Finding(
            "more",
            about,
            f"{share}; farthest above even, by the lower ends of their intervals: {'; '.join(strongest)}.",
            above[0][0].site,
        )
    ]


def _importance(views: Sequence[SiteView], item: str) -> list[Finding]:
    known = [(view, row) for view in views for row in view.experts if row["ablation"] is not None]
    if not known:
        return []
    sure = [row for _, row in known if row["ablation_low"] is not None and row["ablation_low"] > 0]
    view, row = max(known, key=lambda pair: pair[1]["ablation"])
    told = interval(row, "ablation_low", "ablation_high", 4)
    by_chance = number(_BELOW * len(known), 0 if len(known) >= _MANY else 1)
    text = (
        f"the whole 95 % interval of the change of masked loss lies above 0 for {len(sure):,} of {len(known):,} "
        f"experts that were knocked out (about {by_chance} would by chance alone); largest for "
        f"expert {row['expert']} of {view.title}, {signed(row['ablation'], 4)} nats per hidden {item}"
        f"{' ' + told if told else ''}{_and_its_class(view, row)}."
    )
    return [Finding("fact", "Importance", text, view.site)]


def _and_its_class(view: SiteView, expert: Row) -> str:
    """Say whether the most important expert is a specialist."""
    rows = [
        row
        for of_labelling in view.enrichment.values()
        for row in of_labelling.values()
        if row["expert"] == expert["expert"] and is_told(row, view) and is_marked(row) and row["log2_odds"] > 0
    ]
    if not view.enrichment:
        return ""
    if not rows:
        return ", which is enriched in no class"
    best = max(rows, key=strength)
    return f", whose strongest class is {best['class']} (log2 odds {signed(best['log2_odds'], 2)})"


def _missing(atlas: Atlas, views: Sequence[SiteView], labellings: Sequence[LabellingView], item: str) -> list[Finding]:
    """Say what the atlas lacks, and what that keeps a reader from knowing."""
    n_rows: Callable[[str], int] = lambda name: atlas.tables[name].num_rows  # noqa: E731
    told: list[str] = []
    if not labellings:
        told.append(f"No {item} was labelled, so that nothing here says what experts are for.")
    for labelling in labellings:
        seen = {name for view in views for _, name in view.enrichment.get(labelling.name, {})}
        if seen and (absent := [name for name in labelling.classes if name not in seen]):
            told.append(f"No {item} is of {labelling.name} {some(absent)}.")
    if not any(row["ablation"] is not None for view in views for row in view.experts):
        told.append("No expert was knocked out, so that nothing here says how important any of them is.")
    unscored = [view.title for view in views if view.layer["router_entropy"] is None]
    if unscored:
        told.append(f"Without scores of the router there is no entropy or margin: {some(unscored)}.")
    if any(view.layer["top_k"] >= 2 for view in views) and not n_rows("coactivation"):
        told.append("Which experts are taken together was not counted.")
    if len(views) > 1 and not n_rows("paths"):
        told.append("Which expert follows which was not counted.")
    if not n_rows("logos"):
        told.append("There are no sequence logos: no bases around were counted.")
    if not n_rows("top_windows"):
        told.append("There are no top windows.")
    found = [Finding("missing", "Not here", " ".join(told))] if told else []
    return found + [Finding("missing", "Note", line) for line in atlas.facts["notes"]]
