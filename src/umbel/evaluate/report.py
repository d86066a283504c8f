"""One self-contained HTML page from ``evaluation.json``: what was found, in words, tables and pictures.

Every sentence and colour is computed from the numbers, whatever they say; what is missing is said in words.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from umbel.evaluate.curve_figure import draw_curve
from umbel.evaluate.wording import judge, limits, number, signed, span, verdicts
from umbel.page import cell_colour, template

ROW_NAMES = {
    "model": "Model",
    "markov": "Markov model",
    "composition": "Base composition",
    "random": "Random weights",
    "kmer": "k-mer frequencies",
    "gc": "GC content",
}
CLASS_NAMES = {
    "cds": "CDS",
    "utr": "UTR",
    "intron": "intron",
    "intergenic": "inter­genic",
    "noncoding": "non­coding",
    "repeat": "repeat",
    "all": "all",
}
_MAX_NAMES = 6


def _percent(share: float) -> str:
    """Whole per cent, one digit below 1 %."""
    return f"{100 * share:.1f}" if 0 < share < 0.00995 else f"{100 * share:.0f}"


def _half_width(estimate: dict[str, Any]) -> str:
    if estimate["low"] is None:
        return ""
    half = 50 * (estimate["high"] - estimate["low"])
    return f"±{half:.1f}" if half < 9.95 else f"±{half:.0f}"


def heat_map(experts: dict[str, Any]) -> list[dict[str, Any]]:
    """One panel per MoE layer: for each expert a row of cells, one per class that has bases, then all bases."""
    panels = []
    for layer in experts.get("layers", []):
        columns = [name for name in (*experts["classes"], "all") if name in layer["share"]]
        rows = []
        for expert in range(experts["n_experts"]):
            cells = []
            for name in columns:
                estimate = layer["share"][name][expert]
                background, colour = (
                    ("transparent", "inherit")
                    if name == "all"
                    else cell_colour(estimate["value"], layer["load"][expert])
                )
                cells.append(
                    {
                        "share": _percent(estimate["value"]),
                        "half_width": _half_width(estimate),
                        "background": background,
                        "colour": colour,
                        "is_load": name == "all",
                        "title": f"{100 * estimate['value']:.2f} % [{span(estimate, 2, 100)}]",
                    }
                )
            rows.append({"expert": expert, "cells": cells})
        panels.append({"layer": layer["layer"], "columns": [CLASS_NAMES[name] for name in columns], "rows": rows})
    return panels


def strongest_preference(experts: dict[str, Any]) -> dict[str, Any] | None:
    """Find the share that is farthest above its expert's load, among classes with numbers."""
    best: dict[str, Any] | None = None
    for layer in experts.get("layers", []):
        for name in experts["classes"]:
            for expert, estimate in enumerate(layer["share"].get(name, [])):
                gap = estimate["value"] - layer["load"][expert]
                if best is None or gap > best["gap"]:
                    best = {
                        "gap": gap,
                        "layer": layer["layer"],
                        "expert": expert,
                        "class": CLASS_NAMES[name].replace("­", ""),
                        "share": _percent(estimate["value"]),
                        "interval": span(estimate, 0, 100),
                        "load": _percent(layer["load"][expert]),
                    }
    return best


def _some(names: list[str]) -> str:
    """List some names, and how many more there are."""
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more:,} more" if more > 0 else "")


def render_report(result: dict[str, Any]) -> str:
    """Return the page as HTML, from the content of ``evaluation.json``."""
    filters = {"number": number, "signed": signed, "span": span, "percent": _percent}
    corpus, model = result["corpus"], result["model"]
    by_species: dict[str, list[str]] = {}
    for assembly in corpus["assemblies"]:
        by_species.setdefault(assembly["species"], []).append(assembly["assembly"])
    loss_rows = [name for name in ("model", "markov", "composition", "random") if name in result["masked_loss"]["rows"]]
    probe_rows = [name for name in ("model", "kmer", "gc", "random") if name in result["probe"].get("rows", {})]
    return template(Path(__file__).parent, "report.html", filters).render(
        judge=judge,
        result=result,
        model=model,
        corpus=corpus,
        run=result["run"],
        species=by_species,
        held_out=_some(corpus["held_out_contigs"]),
        loss=result["masked_loss"],
        loss_rows=loss_rows,
        probe=result["probe"],
        probe_rows=probe_rows,
        row_names=ROW_NAMES,
        class_names={name: text.replace("­", "") for name, text in CLASS_NAMES.items()},
        experts=result["experts"],
        panels=heat_map(result["experts"]),
        preference=strongest_preference(result["experts"]),
        curve=result["curve"],
        curve_svg=draw_curve(result["curve"], result["masked_loss"], width_in=7.4),
        narrow_curve_svg=draw_curve(result["curve"], result["masked_loss"], width_in=4.3),
        verdicts=verdicts(result),
        limits=limits(result),
    )


def write_report(result: dict[str, Any], path: Path) -> None:
    """Write the page to ``path``."""
    path.write_text(render_report(result), encoding="utf-8")
