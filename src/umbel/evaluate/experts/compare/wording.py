"""What a comparison found, and what it does not say, as sentences computed from its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from umbel.evaluate.experts.compare.checkpoints import Checkpoint, are_alike
from umbel.evaluate.experts.compare.designs import MAX_STAGES
from umbel.evaluate.experts.compare.settings import CompareSettings
from umbel.evaluate.wording import number, signed

Rows = Sequence[Mapping[str, Any]]

_FEW_UNITS, _FEW_STEPS = 20, 4
_MOVED = ("router", "experts", "shared experts", "mixer", "dense FFN", "embedding", "norms")


def percent(value: float) -> str:
    """Write a share in percent.

    Examples
    --------
    >>> percent(0.4567), percent(1.0), percent(0.99996)
    ('45.7 %', '100 %', '>99.9 %')
    """
    if 0.9995 < value < 1:
        return ">99.9 %"
    return f"{100 * value:.0f} %" if value in (0, 1) else f"{100 * value:.1f} %"


def findings(names: Sequence[str], settings: CompareSettings, tables: Mapping[str, Rows]) -> list[str]:
    """Say what was found, in the order in which one asks."""
    if settings.match:
        return [line for by in ("items", "profiles") for line in _matched(tables["seeds"], by)]
    steps = [(names[0], names[-1])]
    if len(names) <= _FEW_STEPS:
        steps = list(dict.fromkeys((row["first"], row["second"]) for row in tables["drift"])) or steps
    return [line for step in steps for line in _step(*step, tables)] + _stages(tables["stages"])


def _step(first: str, second: str, tables: Mapping[str, Rows]) -> list[str]:
    here = [row for row in tables["agreement"] if (row["first"], row["second"]) == (first, second)]
    parts = {
        row["group"]: row
        for row in tables["drift"]
        if (row["first"], row["second"]) == (first, second) and row["layer"] is None
    }
    lines = []
    if parts:
        moved = [name for name in _MOVED if name in parts and not parts[name]["is_frozen"]]
        frozen = [name for name in _MOVED if name in parts and parts[name]["is_frozen"]]
        told = [f"{name} {percent(parts[name]['relative_change'] or 0)}" for name in moved]
        line = f"{first} to {second}, weights: {_router_or_experts(parts)}"
        line += f". Change relative to their norm: {', '.join(told)}" if told else ""
        lines.append(line + (f"; exactly as they were: {', '.join(frozen)}." if frozen and moved else "."))
    if here:
        mean = {key: sum(row[key] for row in here) / len(here) for key in ("agreement", "expected")}
        lowest = min(here, key=lambda row: row["agreement"])
        line = (
            f"{first} to {second}, choices: {percent(mean['agreement'])} stayed, the mean of {len(here)} "
            f"router{'s' if len(here) > 1 else ''}; their loads alone would give {percent(mean['expected'])}"
        )
        if len(here) > 1:
            line += f". Fewest stayed in layer {lowest['layer']}, {percent(lowest['agreement'])}"
        lines.append(line + ".")
    return lines


def _router_or_experts(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Answer the question of the page."""
    if all(row["is_frozen"] for row in parts.values()):
        return "none of them moved"
    router, experts = (
        (parts[name]["relative_change"] or 0.0) if name in parts and not parts[name]["is_frozen"] else 0.0
        for name in ("router", "experts")
    )
    if not router and not experts:
        return "neither router nor experts moved; what they are given did"
    if not router or not experts:
        return "the experts moved and the router did not" if experts else "the router moved and the experts did not"
    if max(router, experts) < 1.2 * min(router, experts):
        return "router and experts moved about alike"
    return "the experts moved more than the router" if experts > router else "the router moved more than the experts"


def _stages(rows: Rows) -> list[str]:
    lines = []
    for labelling in dict.fromkeys(row["labelling"] for row in rows):
        here = [row for row in rows if row["labelling"] == labelling]
        routers = {row["site"]: row for row in here}
        changed = [row for row in routers.values() if not row["is_suppressed"]]
        up = sum(row["total"] > 0 for row in changed)
        lines.append(
            f"Divergence between the classes of {labelling}: rose at {up} and fell at {len(changed) - up} of "
            f"{len(routers)} router{'s' if len(routers) > 1 else ''}"
            + (f"; at {len(routers) - len(changed)} no change can be told." if len(changed) < len(routers) else ".")
        )
    return lines


def _matched(rows: Rows, by: str) -> list[str]:
    lines = []
    for row in rows:
        if row["by"] != by:
            continue
        digits = percent if by == "items" else (lambda value: number(value, 2))
        what = (
            "of choices agree once experts are paired up" if by == "items" else "is the correlation of paired profiles"
        )
        spread = "" if row["sd"] is None else f" (SD between seeds {digits(row['sd'])})"
        pairs = f"{row['n_pairs']} pairs of seeds" if row["n_pairs"] > 1 else "one pair"
        line = (
            f"Layer {row['layer']}: {digits(row['matched'])}{spread} {what}, {pairs}; {digits(row['chance'])} by chance"
        )
        if row["control_high"] is not None:
            verdict = "more than" if row["matched"] > row["control_high"] else "not more than"
            count = f"any of {row['n_control_pairs']} pairs" if row["n_control_pairs"] > 1 else "the one pair"
            line += f"; {verdict} {count} with random weights in them (up to {digits(row['control_high'])})"
        lines.append(line + ".")
    return lines


def notes(
    checkpoints: Sequence[Checkpoint], settings: CompareSettings, tables: Mapping[str, Rows], n_units: int
) -> list[str]:
    """List what a reader must know before quoting the numbers."""
    found = []
    real = [checkpoint for checkpoint in checkpoints if not checkpoint.is_control]
    unlike = {why for a, b in combinations(real, 2) if (why := are_alike(a, b))}
    found += [
        f"{why}: whether they choose the same experts cannot be asked; their divergences are told."
        for why in sorted(unlike)
    ]
    if len(real) == len(checkpoints):
        found.append(
            "No networks with random weights stand beside these (--random N, for models of umbel): that two models "
            "agree may come from the letters alone."
        )
    elif settings.match and sum(checkpoint.is_control for checkpoint in checkpoints) < 2:
        found.append("One network with random weights only: what two of them share is not known (--random 2).")
    if n_units < _FEW_UNITS:
        found.append(f"Only {n_units} units of like sequence: intervals from so few are too narrow.")
    if settings.design != "none":
        lacking = [checkpoint.name for checkpoint in real if not checkpoint.weights]
        if lacking:
            found.append(f"Weights of {', '.join(lacking)} were not given, so drift is not told.")
    if settings.design == "chain" and len(real) > 2:
        if len(real) > MAX_STAGES + 1:
            found.append(f"{len(real)} checkpoints: a split into more than {MAX_STAGES} stages is not made.")
        else:
            found.append(
                "The checkpoints are a chain: what a stage adds was measured after those before it, and in another "
                "order it could add something else. Only a 2x2 design averages over the order."
            )
    if tables["stages"] and any(row["is_suppressed"] for row in tables["stages"]):
        found.append("Shares of stages are not told where the interval of the total change holds 0.")
    if settings.match:
        found.append(
            "Experts are paired so that they agree as much as possible, which flatters: compare with the pairing made "
            "on other units (held_out), with chance, and with random networks, all paired in the same way."
        )
    return found


def entropy_words(row: Mapping[str, Any]) -> str:
    """Say how the entropy of a router changed.

    Examples
    --------
    >>> entropy_words({"entropy_change": 0.25, "entropy_change_low": 0.2, "entropy_change_high": 0.3})
    '+0.250 (0.200 to 0.300)'
    """
    if row["entropy_change"] is None:
        return "not known"
    value = signed(row["entropy_change"], 3)
    if row["entropy_change_low"] is None:
        return value
    return f"{value} ({number(row['entropy_change_low'], 3)} to {number(row['entropy_change_high'], 3)})"
