"""How far two checkpoints send the same items to the same experts, beside what their loads alone would give.

Shapes: U units, E experts, K top-k.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from umbel.evaluate.experts.compare.checkpoints import Checkpoint
from umbel.evaluate.experts.compare.counting import Pair, Sums
from umbel.evaluate.experts.compare.paired import Floats, PairSums, SiteSums
from umbel.evaluate.experts.compare.tables import spread
from umbel.evaluate.experts.statistics.divergence import js_divergence
from umbel.evaluate.metrics import Estimate, Resamples, interval


def agreement_rows(
    checkpoints: Sequence[Checkpoint], sums: Sums, *, n_draws: int = 1000, seed: int = 0
) -> list[dict[str, Any]]:
    r"""One row for each two checkpoints and each router.

    - ``agreement``: the mean over items of :math:`|S \cap S'| / K`, with S and S' the experts that the two took, and K
      the larger top-k: 1 where they took the same. Beside the last checkpoint of a run it is router saturation.
    - ``expected``: what two routers of these loads would share that know nothing of each other,
      :math:`\sum_e p_e p'_e / K`, with :math:`p_e` the share of items that took e. It is K / E only where loads are
      even, which ``random_k`` is.
    - ``above_chance``: :math:`(agreement - expected) / (1 - expected)`; for top-1 Cohen's kappa.
    - ``same_first``: share of items with the same first choice.
    - ``entropy_first``, ``entropy_second``, ``entropy_change``: mean entropy of the router's probabilities, in nats,
      and second minus first.
    - ``load_js``: Jensen-Shannon divergence of the two loads, in nats.

    Intervals are from resampling units, the same draws for all rows, so that differences are paired.

    References
    ----------
    Muennighoff et al. 2024, "OLMoE", arXiv:2409.02060, section 5.1 (router saturation, there beside K / E). Cohen 1960,
    "A coefficient of agreement for nominal scales", eq. 1.
    """
    rows = []
    for (i, j), paired in sums.pairs.items():
        for number, pair in enumerate(paired):
            one, other = checkpoints[i].sites[number], checkpoints[j].sites[number]
            rows.append(
                _names(checkpoints, (i, j), number)
                | {"top_k": max(one.top_k, other.top_k), "random_k": max(one.top_k, other.top_k) / one.n_experts}
                | _agreement(
                    sums, pair, sums.sites[i][number], sums.sites[j][number], one.top_k, other.top_k, n_draws, seed
                )
            )
    return rows


def _agreement(
    sums: Sums, pair: PairSums, a: SiteSums, b: SiteSums, k_a: int, k_b: int, n_draws: int, seed: int
) -> dict[str, Any]:
    seen = sums.items > 0
    items = sums.items[seen].astype(np.float64)
    top_k = max(k_a, k_b)
    resamples = Resamples(int(seen.sum()), n_draws, seed)
    whole = [x[seen].astype(np.float64) for x in (pair.overlap, a.counts, b.counts)]
    overlap, counts_a, counts_b = (x.sum(0) for x in whole)
    drawn_items = resamples.sums(items)
    drawn = [resamples.sums(x) for x in whole]
    value, expected, above = _shares(overlap, counts_a, counts_b, items.sum(), top_k)
    draws = _shares(drawn[0], drawn[1], drawn[2], drawn_items, top_k)
    n = int(seen.sum())
    found: dict[str, Any] = {"n_items": int(items.sum()), "n_units": n}
    found |= spread("agreement", interval(float(value), draws[0], n))
    found["expected"] = float(expected)
    found |= spread("above_chance", _or_none(above, draws[2], n))
    found["same_first"] = float(np.trace(pair.first) / items.sum())
    found |= _entropy(sums, a, b, resamples, seen)
    found["load_js"] = float(js_divergence(counts_a, counts_b))
    return found


def _shares(overlap: Any, counts_a: Floats, counts_b: Floats, items: Any, top_k: int) -> tuple[Any, Any, Any]:
    value = overlap / (items * top_k)
    expected = (counts_a * counts_b).sum(-1) / (np.square(items) * top_k)
    room = 1 - expected
    above = np.where(room > 0, (value - expected) / np.where(room > 0, room, 1), np.nan)
    return value, expected, above


def _or_none(value: Any, draws: Floats, n_units: int) -> Estimate | None:
    # Where both send everything to one expert, there is no room above chance.
    return None if np.isnan(value) else interval(float(value), draws[~np.isnan(draws)], n_units)


def _entropy(sums: Sums, a: SiteSums, b: SiteSums, resamples: Resamples, seen: Any) -> dict[str, Any]:
    scored = [x.n_scored[seen].astype(np.float64) for x in (a, b)]
    if not all(x.all() for x in scored):
        return {"entropy_first": None, "entropy_second": None} | spread("entropy_change", None)
    totals = [x.entropy[seen] for x in (a, b)]
    means = [float(total.sum() / n.sum()) for total, n in zip(totals, scored, strict=True)]
    draws = [resamples.sums(total) / resamples.sums(n) for total, n in zip(totals, scored, strict=True)]
    change = interval(means[1] - means[0], draws[1] - draws[0], int(seen.sum()))
    return {"entropy_first": means[0], "entropy_second": means[1]} | spread("entropy_change", change)


def _names(checkpoints: Sequence[Checkpoint], pair: Pair, site: int) -> dict[str, Any]:
    a, b = checkpoints[pair[0]], checkpoints[pair[1]]
    return {
        "first": a.name,
        "second": b.name,
        "is_control": a.is_control or b.is_control,
        "site": site,
        "layer": a.sites[site].layer,
        "name": a.sites[site].name,
        "n_experts": a.sites[site].n_experts,
    }


def transition_rows(
    checkpoints: Sequence[Checkpoint], sums: Sums, labellings: dict[str, tuple[str, ...]]
) -> list[dict[str, Any]]:
    """One row for each two experts that share an item: ``n`` items whose first choice was the one and then the other.

    ``labelling`` and ``class`` are empty in the rows over all items.
    """
    rows = []
    for pair, paired in sums.pairs.items():
        for number, tables in enumerate(paired):
            names = {k: v for k, v in _names(checkpoints, pair, number).items() if k not in ("name", "n_experts")}
            parts = [("", "", tables.first)]
            for labelling, table in tables.by_class.items():
                parts += [(labelling, name, table[c]) for c, name in enumerate(labellings[labelling])]
            for labelling, name, table in parts:
                for e, f in np.argwhere(table).tolist():
                    rows.append(
                        names
                        | {"labelling": labelling, "class": name}
                        | {"expert_first": e, "expert_second": f, "n": int(table[e, f])}
                    )
    return rows


def saturation_rows(checkpoints: Sequence[Checkpoint], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Take from :func:`agreement_rows` each trained checkpoint beside the last, in their order."""
    trained = [checkpoint for checkpoint in checkpoints if not checkpoint.is_control]
    if len(trained) < 3:
        return []
    order = {checkpoint.name: (i, checkpoint.step) for i, checkpoint in enumerate(trained)}
    found = []
    for row in rows:
        if row["second"] == trained[-1].name and row["first"] in order:
            number, step = order[row["first"]]
            kept = ("site", "layer", "agreement", "agreement_low", "agreement_high", "expected", "random_k")
            found.append({"checkpoint": row["first"], "order": number, "step": step} | {k: row[k] for k in kept})
    return found
