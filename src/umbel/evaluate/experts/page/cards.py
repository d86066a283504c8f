"""Cards: all that is known of one expert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from umbel.evaluate.experts.page.heat import is_marked, shade
from umbel.evaluate.experts.page.logo import logos
from umbel.evaluate.experts.page.views import Row, SiteView, is_told
from umbel.evaluate.experts.page.words import interval, percent, tested
from umbel.evaluate.wording import number, signed

MAX_CARDS = 240
"""Cards on one page, shared among the routers; the tables have every expert."""
_MIN_CARDS = 4
_MAX_CLASSES, _MAX_ABLATED, _MAX_WINDOWS = 5, 5, 5


@dataclass(frozen=True)
class Card:
    """One expert at one router.

    Attributes
    ----------
    site, expert
        Which.
    row
        Its row of table ``experts``.
    load, load_interval, weight, ablation, ablation_interval
        In words.
    more, less
        Labelling, class, what was found and its shade: classes it takes more and less of than of the rest, farthest
        from even first, those that survive the false discovery rate.
    ablated
        Labelling, class, change of masked loss, interval: the classes that lose most without it.
    logo
        Of :func:`~umbel.evaluate.experts.page.logo.logos`, or None.
    windows
        Place, share in per cent, classes.
    """

    site: int
    expert: int
    row: Row
    load: str
    load_interval: str
    weight: str | None
    ablation: str | None
    ablation_interval: str
    more: list[tuple[str, str, str, str]]
    less: list[tuple[str, str, str, str]]
    ablated: list[tuple[str, str, str, str]]
    logo: dict[str, Any] | None
    windows: list[tuple[str, str, str]]


def strength(row: Row) -> float:
    """How far above even a pair is for certain: the lower end of its interval, or the log odds where there is none."""
    return float(row["log2_odds"] if row["low"] is None else row["low"])


def place(row: Row, is_dna: bool) -> str:
    """Write a window as a genome browser reads it, ``contig:start-end``, 1-based with both ends.

    Examples
    --------
    >>> place({"contig": "chr1", "start": 100, "end": 228}, True)
    'chr1:101-228'
    """
    if is_dna:
        return f"{row['contig']}:{row['start'] + 1}-{row['end']}"
    return f"{row['contig']}, {row['start']:,} to {row['end']:,}"


def cards(view: SiteView, n_sites: int, is_dna: bool) -> list[Card]:
    """Make the cards of a router: of all its experts, or of those with the strongest enrichment."""
    rows: dict[int, list[Row]] = {}
    for of_labelling in view.enrichment.values():
        for row in of_labelling.values():
            if is_told(row, view):
                rows.setdefault(row["expert"], []).append(row)
    chosen = _choose(view, rows, max(_MIN_CARDS, MAX_CARDS // n_sites))
    drawn = logos(view, [row["expert"] for row in chosen])
    return [_card(view, row, rows.get(row["expert"], []), drawn.get(row["expert"]), is_dna) for row in chosen]


def _choose(view: SiteView, rows: dict[int, list[Row]], most: int) -> list[Row]:
    if len(view.experts) <= most:
        return view.experts

    def rank(expert: Row) -> tuple[float, float]:
        marked = [strength(row) for row in rows.get(expert["expert"], []) if is_marked(row)]
        return max(marked, default=float("-inf")), expert["load"]

    chosen = sorted(view.experts, key=rank, reverse=True)[:most]
    return sorted(chosen, key=lambda row: row["expert"])


def _card(view: SiteView, expert: Row, rows: Sequence[Row], logo: dict[str, Any] | None, is_dna: bool) -> Card:
    marked = [row for row in rows if is_marked(row)]
    more = sorted((row for row in marked if row["log2_odds"] > 0), key=strength, reverse=True)
    less = sorted((row for row in marked if row["log2_odds"] < 0), key=lambda row: row["log2_odds"])
    known = [row for row in view.ablation.get(expert["expert"], []) if row["delta"] is not None]
    ablated = sorted(known, key=lambda row: -row["delta"])[:_MAX_ABLATED]
    windows = sorted(view.windows.get(expert["expert"], []), key=lambda row: row["rank"])[:_MAX_WINDOWS]
    return Card(
        site=view.site,
        expert=expert["expert"],
        row=expert,
        load=percent(expert["load"]),
        load_interval=interval(expert, "load_low", "load_high", 1, 100),
        weight=None if expert["weight_share"] is None else percent(expert["weight_share"]),
        ablation=None if expert["ablation"] is None else signed(expert["ablation"], 4),
        ablation_interval=interval(expert, "ablation_low", "ablation_high", 4),
        more=[_told(row) for row in more[:_MAX_CLASSES]],
        less=[_told(row) for row in less[:_MAX_CLASSES]],
        ablated=[
            (row["labelling"], row["class"], signed(row["delta"], 4), interval(row, "low", "high", 4))
            for row in ablated
        ],
        logo=logo,
        windows=[(place(row, is_dna), number(100 * row["share"], 0), row["classes"]) for row in windows],
    )


def _told(row: Row) -> tuple[str, str, str, str]:
    return row["labelling"], row["class"], tested(row), shade(row["log2_odds"])
