"""The tables of an atlas, computed from a recording: load, enrichment, divergence, information, paths, logos."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from umbel.evaluate.experts.accumulator import N_TOP, TOP_BP
from umbel.evaluate.experts.atlas import SCHEMAS, empty_table, make_table
from umbel.evaluate.experts.folder import Recording
from umbel.evaluate.experts.source import Labelling, Source
from umbel.evaluate.experts.statistics.coactivation import coactivation
from umbel.evaluate.experts.statistics.divergence import bits, describe_divergences, normalised
from umbel.evaluate.experts.statistics.enrichment import benjamini_hochberg, enrichment, permutation
from umbel.evaluate.experts.statistics.information import (
    describe_information,
    explained_by_context,
    information_by_chance,
    mutual_information,
)
from umbel.evaluate.experts.statistics.load import Load, describe_load, load_intervals
from umbel.evaluate.experts.totals import AROUND, Totals
from umbel.progress import Reporter, reporter_or_silent

Row = dict[str, Any]
ALL = "all"
"""In rows of ablations the labelling that every hidden base is in."""
_CONTEXT_COLUMNS = {"base": "context_base", "3-mer": "context_3mer", "6-mer": "context_6mer", "token": "context_token"}


def make_tables(
    recording: Recording,
    source: Source | None = None,
    ablation: Iterable[Mapping[str, Any]] = (),
    twins: Sequence[Totals] = (),
    *,
    n_draws: int = 1000,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> dict[str, pa.Table]:
    """Compute all tables of :data:`umbel.evaluate.experts.atlas.SCHEMAS`.

    Parameters
    ----------
    recording
        Finished.
    source
        What was recorded; asked for the places and classes of the top windows, which are left out without it. Pairs of
        experts are left out at routers that drop tokens.
    ablation
        Rows of the table ``ablation``, where experts were knocked out.
    twins
        Of networks of the same shape with random weights, over the same source.
    n_draws, seed
        Bootstrap draws of units, and what makes them the same each time. As many permutations of units test labellings
        of sequences as labels were turned for those of bases.
    """
    totals = recording.totals
    knocked = list(ablation)
    n_sites = len(recording.sites)
    task = reporter_or_silent(reporter).start("statistics", n_sites, "routers")
    rows: dict[str, list[Row]] = {name: [] for name in SCHEMAS}
    for i in range(n_sites):
        rows["layers"].append(_layer(recording, totals, i))
        rows["experts"] += _experts(recording, totals, i, knocked, n_draws, seed)
        rows["paths"] += _paths(totals, i)
        rows["logos"] += _logos(recording, totals, i)
        rows["coactivation"] += _pairs(recording, totals, i)
        for labelling in recording.labellings:
            found = _labelling(recording, totals, i, labelling, twins, n_draws, seed)
            for name, some in found.items():
                rows[name] += some
        task.advance()
    task.close()
    for row, q in zip(rows["enrichment"], _q_values(rows["enrichment"]), strict=True):
        row["q"] = q
    if source is not None:
        rows["top_windows"] = _top_windows(recording, source)
    # What it does over all bases stands in the table of experts.
    of_classes = [row for row in knocked if row["labelling"] != ALL]
    rows["ablation"] = [{name: row[name] for name in SCHEMAS["ablation"].names} for row in of_classes]
    return {name: _table(name, some) for name, some in rows.items()}


def _table(name: str, rows: Sequence[Row]) -> pa.Table:
    if not rows:
        return empty_table(name)
    return make_table(name, {column: [row[column] for row in rows] for column in SCHEMAS[name].names})


def _place(recording: Recording, i: int) -> Row:
    return {"site": i, "layer": recording.sites[i].layer}


def _n_dropped(recording: Recording, totals: Totals, i: int) -> int:
    """Count the choices that were not carried out, because the expert was full."""
    return recording.sites[i].top_k * int(totals.items.sum()) - int(totals.sites[i].counts.sum())


def _load(recording: Recording, totals: Totals, i: int) -> Load:
    counts, top_k = totals.sites[i].counts.sum(0), recording.sites[i].top_k
    if not _n_dropped(recording, totals, i):
        return describe_load(counts, top_k, int(totals.items.sum()))
    # Of choices that were carried out; an item may have fewer of them than K.
    load = describe_load(counts, 1, int(counts.sum()))
    n_experts = len(counts)
    return replace(load, max_over_mean_bound=n_experts / top_k, cv_bound=math.sqrt(n_experts / top_k - 1))


def _layer(recording: Recording, totals: Totals, i: int) -> Row:
    site, sums = recording.sites[i], totals.sites[i]
    n_items, n_scored, n_margins = int(totals.items.sum()), int(sums.n_scored.sum()), int(sums.n_margins.sum())
    load = _load(recording, totals, i)
    entropy = float(sums.entropy.sum() / n_scored) if n_scored else None
    return _place(recording, i) | {
        "name": site.name,
        "n_experts": site.n_experts,
        "top_k": site.top_k,
        "n_shared": site.n_shared,
        "scores": site.scores,
        "n_items": n_items,
        "max_over_mean": load.max_over_mean,
        "max_over_mean_bound": load.max_over_mean_bound,
        "cv": load.cv,
        "cv_bound": load.cv_bound,
        "gini": load.gini,
        "effective_experts": load.effective_experts,
        "load_entropy": load.entropy,
        "n_dead": len(load.dead),
        "n_starving": len(load.starving),
        "is_enough": load.is_enough,
        "router_entropy": entropy,
        "router_entropy_share": None if entropy is None else min(1.0, entropy / math.log(site.n_experts)),
        "margin": float(sums.margin.sum() / n_margins) if n_margins else None,
    }


def _experts(
    recording: Recording, totals: Totals, i: int, knocked: Sequence[Mapping[str, Any]], n_draws: int, seed: int
) -> list[Row]:
    site, sums = recording.sites[i], totals.sites[i]
    counts = sums.counts.sum(0)
    load = _load(recording, totals, i)
    intervals = load_intervals(sums.counts, n_draws=n_draws, seed=seed)
    mass = sums.weights.sum(0)
    whole = {row["expert"]: row for row in knocked if row["site"] == i and row["labelling"] == ALL}
    return [
        _place(recording, i)
        | {
            "expert": e,
            "n_choices": int(counts[e]),
            "load": float(load.load[e]),
            "load_low": intervals.low[e],
            "load_high": intervals.high[e],
            "weight_share": float(mass[e] / mass.sum()) if mass.sum() > 0 else None,
            "is_dead": e in load.dead,
            "is_starving": e in load.starving,
            "ablation": whole[e]["delta"] if e in whole else None,
            "ablation_low": whole[e]["low"] if e in whole else None,
            "ablation_high": whole[e]["high"] if e in whole else None,
        }
        for e in range(site.n_experts)
    ]


def _labelling(
    recording: Recording,
    totals: Totals,
    i: int,
    labelling: Labelling,
    twins: Sequence[Totals],
    n_draws: int,
    seed: int,
) -> dict[str, list[Row]]:
    name = labelling.name
    joint = totals.sites[i].joint[name]
    n_moved = recording.facts["settings"]["n_shifts"]
    moved = permutation(joint, n_moved, seed) if labelling.level == "sequence" else totals.sites[i].shifted[name]
    place = {"labelling": name} | _place(recording, i)
    found = {"enrichment": _enrichment(labelling.classes, labelling.level, joint, moved, place, n_draws, seed)}
    if len(labelling.classes) > 1:
        found["divergence"] = _divergence(labelling.classes, joint, place, n_draws, seed)
        found["information"] = _information(totals, i, name, joint, moved, twins, place, n_draws, seed)
    return found


def _enrichment(
    classes: Sequence[str], level: str, joint: Any, moved: Any, place: Row, n_draws: int, seed: int
) -> list[Row]:
    if not len(moved):
        # Never turned: the numbers without a test.
        found = enrichment(joint, joint.sum(0)[None], n_draws, seed)
        p, z = np.full_like(found.p, np.nan), np.full_like(found.z, np.nan)
    else:
        found = enrichment(joint, moved, n_draws, seed)
        p, z = found.p, found.z
    return [
        place
        | {
            "level": level,
            "class": name,
            "expert": e,
            "n_joint": int(found.n_joint[c, e]),
            "n_class": int(found.n_class[c]),
            "share_in_class": found.share_in_class[c, e],
            "share_overall": found.share_overall[e],
            "log2_odds": found.log2_odds[c, e],
            "low": found.low[c, e],
            "high": found.high[c, e],
            "p": p[c, e],
            "q": None,
            "z": z[c, e] if np.isfinite(z[c, e]) else None,
        }
        for c, name in enumerate(classes)
        for e in range(joint.shape[2])
    ]


def _divergence(classes: Sequence[str], joint: Any, place: Row, n_draws: int, seed: int) -> list[Row]:
    found = describe_divergences(joint, n_draws=n_draws, seed=seed)
    floor = found.floor
    return [
        place
        | {
            "class_a": classes[a],
            "class_b": classes[b],
            "js": found.js.value[a, b],
            "js_low": found.corrected.low[a, b],
            "js_high": found.corrected.high[a, b],
            "js_bits": float(bits(found.js.value[a, b])),
            "js_share": float(normalised(found.js.value[a, b], 2)),
            "floor": floor[a, b],
            "js_corrected": found.corrected.value[a, b],
        }
        for a in range(len(classes))
        for b in range(a + 1, len(classes))
    ]


def _information(
    totals: Totals,
    i: int,
    name: str,
    joint: Any,
    moved: Any,
    twins: Sequence[Totals],
    place: Row,
    n_draws: int,
    seed: int,
) -> list[Row]:
    if not joint.any():
        return []
    found = describe_information(joint, n_draws=n_draws, seed=seed)
    row = place | {
        "n_classes": found.n_classes,
        "mi": found.mi.value,
        "mi_low": found.corrected.low,
        "mi_high": found.corrected.high,
        "mi_bits": float(bits(found.mi.value)),
        "mi_share": found.mi.value / found.bound if found.bound > 0 else None,
        "chance": None,
        "p": None,
        "random": None,
        **dict.fromkeys(_CONTEXT_COLUMNS.values()),
    }
    if len(moved):
        by_chance = information_by_chance(joint.sum(0), moved)
        row |= {"chance": by_chance.floor, "p": by_chance.p}
    if twins:
        row["random"] = float(np.mean([mutual_information(twin.sites[i].joint[name].sum(0)) for twin in twins]))
    for kind, table in totals.sites[i].contexts.items():
        words = totals.class_contexts[name, kind]
        if words.any():
            row[_CONTEXT_COLUMNS[kind]] = explained_by_context(joint.sum(0), words, table, measured=found.js).share
    return [row]


def _q_values(rows: Sequence[Row]) -> list[float | None]:
    """Correct the p-values of all labellings, routers and experts together."""
    p = np.array([np.nan if row["p"] is None else row["p"] for row in rows], np.float64)
    return [None if np.isnan(q) else float(q) for q in benjamini_hochberg(p)] if len(p) else []


def _pairs(recording: Recording, totals: Totals, i: int) -> list[Row]:
    site = recording.sites[i]
    if site.top_k < 2 or _n_dropped(recording, totals, i):
        return []
    found = coactivation(totals.sites[i].pairs, int(totals.items.sum()))
    return [
        _place(recording, i)
        | {
            "expert_a": a,
            "expert_b": b,
            "n": int(totals.sites[i].pairs[a, b]),
            "observed": found.observed[a, b],
            "expected": found.expected[a, b],
            "lift": found.lift[a, b],
        }
        for a in range(site.n_experts)
        for b in range(site.n_experts)
        if a != b
    ]


def _paths(totals: Totals, i: int) -> list[Row]:
    table = totals.sites[i].paths
    return [
        {"site_before": i - 1, "site": i, "expert_before": int(a), "expert": int(b), "n": int(table[a, b])}
        for a, b in np.argwhere(table)
    ]


def _logos(recording: Recording, totals: Totals, i: int) -> list[Row]:
    return [
        _place(recording, i) | {"expert": e, "offset": w - AROUND, "base": "ACGT"[base], "n": int(n)}
        for e, table in enumerate(totals.sites[i].around)
        for w, counts in enumerate(table)
        for base, n in enumerate(counts.tolist())
    ]


def _top_windows(recording: Recording, source: Source) -> list[Row]:
    """Say where each expert's top windows are, and what class most of their bases have."""
    a = recording.sums.arrays
    rows = []
    for i, site in enumerate(recording.sites):
        for e in range(site.n_experts):
            for rank in range(N_TOP):
                number, start = int(a[f"{i}/top_stretch"][e, rank]), int(a[f"{i}/top_start"][e, rank])
                share = float(a[f"{i}/top_score"][e, rank])
                if number < 0 or share <= 0:
                    continue
                stretch = source.stretch(number)
                told = []
                for labelling in recording.labellings:
                    if labelling.level == "sequence":
                        c = stretch.classes.get(labelling.name, -1)
                    else:
                        inside = stretch.labels[labelling.name][start : start + TOP_BP]
                        # None counts as a class: it wins where most bases have none.
                        c = int(np.bincount(inside.astype(np.int64) + 1).argmax()) - 1
                    if c >= 0:
                        told.append(f"{labelling.name}={labelling.classes[c]}")
                begin = stretch.start + start
                rows.append(
                    _place(recording, i)
                    | {
                        "expert": e,
                        "rank": rank + 1,
                        "contig": stretch.name,
                        "start": begin,
                        "end": begin + TOP_BP,
                        "share": share,
                        "classes": "; ".join(told),
                    }
                )
    return rows
