"""The data card of a corpus as one self-contained page: what came in, what was left out and why, what it looks like."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

from umbel.data.balance import effective_species
from umbel.data.corpus.windows import FATES
from umbel.errors import BackendError
from umbel.files import whole_file
from umbel.page import template

CARD_FILE = "corpus.html"
_ROLES = ("train", "valid", "test")


def missing_for_card() -> list[str]:
    """Name the packages that drawing the card needs and that are not installed."""
    return [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]


def require_card() -> None:
    """See that the card can be drawn.

    Raises
    ------
    BackendError
        If matplotlib or jinja2 is not installed.
    """
    if missing := missing_for_card():
        raise BackendError(f"the data card needs {', '.join(missing)}: pip install 'umbel[train]'")


def write_card(corpus: dict[str, Any], path: Path) -> None:
    """Write the page of a corpus.

    Parameters
    ----------
    corpus
        The content of ``corpus.json``.
    path
        Where the page goes.

    Raises
    ------
    BackendError
        If matplotlib or jinja2 is not installed.
    """
    require_card()
    with whole_file(path) as temporary:
        temporary.write_text(render_card(corpus), encoding="utf-8")


def render_card(corpus: dict[str, Any]) -> str:
    """Return the page as HTML."""
    from umbel.data.corpus.card_figures import draw_histograms, draw_spectra

    rows = corpus["waterfall"]
    page = template(Path(__file__).parent, "card.html", {"bp": in_bp, "percent": _percent})
    return page.render(
        corpus=corpus,
        rows=rows,
        roles=_ROLES,
        fates=[fate for fate in FATES if any(row["fates"][fate] for row in rows)],
        losses=[fate for fate in FATES if fate not in _ROLES and any(row["fates"][fate] for row in rows)],
        total={"in": sum(row["in"] for row in rows)} | {f: sum(row["fates"][f] for row in rows) for f in FATES},
        tree=species_tree(corpus["assemblies"], rows),
        effective=effective_number([row["fates"]["train"] for row in rows]),
        gc_svg=draw_histograms(corpus["assemblies"], "gc", "share of G and C in a window"),
        soft_svg=draw_histograms(corpus["assemblies"], "soft_masked", "share of repeats in a window"),
        spectrum_svg=draw_spectra(corpus["assemblies"]),
    )


def in_bp(amount: int | float) -> str:
    """Write a number of bases with three digits and a unit.

    Examples
    --------
    >>> in_bp(0), in_bp(999), in_bp(30_427_671), in_bp(1.2e9)
    ('0', '999 bp', '30.4 Mbp', '1.20 Gbp')
    """
    if amount < 1000:
        return f"{amount:.0f} bp" if amount else "0"
    for unit in ("kbp", "Mbp", "Gbp", "Tbp"):
        amount /= 1000
        if amount < 999.5 or unit == "Tbp":
            return f"{amount:.{max(0, 2 - len(str(int(amount))) + 1)}f} {unit}"
    raise AssertionError


def _percent(share: float) -> str:
    """Whole per cent, one digit below 10, and no nought for what is not nought."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"


def effective_number(amounts: list[int]) -> float:
    """Give exp(H) of the shares of ``amounts``: how many equal ones would be as diverse.

    Examples
    --------
    >>> round(effective_number([5, 5, 0]), 6)
    2.0
    """
    total = sum(amounts)
    return effective_species([amount / total for amount in amounts]) if total else 0.0


def species_tree(assemblies: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lay the species out as a tree: lineage as far as it is told, each branch once.

    Clades in a row that hold the same species are one line, of which the first and the last are named.

    Returns
    -------
    Lines from the top, each with ``name``, ``depth``, and at a species its ``row`` of the waterfall (else ``None``).

    Examples
    --------
    >>> told = [{"species": s, "family": "", "lineage": ["Plants", "Seeds", "Roses", s[0]]} for s in ("Xa", "Xb", "Ya")]
    >>> lines = species_tree(told, [{"species": each["species"]} for each in told])
    >>> [(line["depth"], line["name"]) for line in lines]
    [(0, 'Plants … Roses'), (1, 'X'), (2, 'Xa'), (2, 'Xb'), (1, 'Y'), (2, 'Ya')]
    """
    lineage_of: dict[str, tuple[str, ...]] = {}
    for told in assemblies:
        lineage = tuple(told["lineage"]) or ((told["family"],) if told["family"] else ())
        lineage_of.setdefault(told["species"], tuple(name for name in lineage if name != told["species"]))
    members: dict[tuple[str, ...], int] = {}
    for lineage in lineage_of.values():
        for depth in range(len(lineage)):
            members[lineage[: depth + 1]] = members.get(lineage[: depth + 1], 0) + 1
    row_of = {row["species"]: row for row in rows}
    lines: list[dict[str, Any]] = []
    shown: set[tuple[str, ...]] = set()
    for species, lineage in sorted(lineage_of.items(), key=lambda item: (item[1], item[0])):
        clades = [lineage[: depth + 1] for depth in range(len(lineage))]
        chains = [list(chain) for _, chain in groupby(clades, key=members.__getitem__)]
        for depth, chain in enumerate(chains):
            if chain[0] not in shown:
                shown.add(chain[0])
                names = [clade[-1] for clade in chain]
                dots = " … " if len(names) > 2 else ", "
                lines.append({"name": dots.join(dict.fromkeys((names[0], names[-1]))), "depth": depth, "row": None})
        lines.append({"name": species, "depth": len(chains), "row": row_of[species]})
    return lines
