"""The data card of a corpus as one self-contained page: what came in, what was left out and why, what it looks like."""

from __future__ import annotations

from importlib.util import find_spec
from math import exp, log
from pathlib import Path
from typing import Any

from umbel.data.corpus.windows import FATES
from umbel.errors import BackendError
from umbel.files import whole_file

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
    import jinja2

    from umbel.data.corpus.card_figures import draw_histograms, draw_spectra

    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([here, here.parents[1]]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"bp": in_bp, "percent": _percent}
    rows = corpus["waterfall"]
    return environment.get_template("card.html").render(
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
    return exp(-sum(a / total * log(a / total) for a in amounts if a)) if total else 0.0


def species_tree(assemblies: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lay the species out as a tree: lineage as far as it is told, each branch once.

    Returns
    -------
    Lines from the top, each with ``name``, ``depth``, and at a species its ``row`` of the waterfall (else ``None``).
    """
    lineage_of: dict[str, tuple[str, ...]] = {}
    for told in assemblies:
        lineage = tuple(told["lineage"]) or ((told["family"],) if told["family"] else ())
        lineage_of.setdefault(told["species"], tuple(name for name in lineage if name != told["species"]))
    row_of = {row["species"]: row for row in rows}
    lines: list[dict[str, Any]] = []
    before: tuple[str, ...] = ()
    for species, lineage in sorted(lineage_of.items(), key=lambda item: (item[1], item[0])):
        shared = 0
        while shared < min(len(before), len(lineage)) and before[shared] == lineage[shared]:
            shared += 1
        for depth in range(shared, len(lineage)):
            lines.append({"name": lineage[depth], "depth": depth, "row": None})
        lines.append({"name": species, "depth": len(lineage), "row": row_of[species]})
        before = lineage
    return lines
