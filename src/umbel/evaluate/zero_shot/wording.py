"""What rows and matchings of the zero-shot benchmark are called, and its numbers as lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from umbel.evaluate.wording import judge, number, span

MODEL = "model"
ROW_NAMES = {
    MODEL: "model",
    "random": "same network, random weights",
    "markov": "Markov model of both flanks",
    "gc": "loss of G or C",
    "cpg": "outside CpG",
    "substitution": "fitted: which base becomes which",
    "context": "fitted: the same between its neighbours",
    "frame": "fitted: the same at its place in the codon",
}
"""In the order of every table."""
MATCHINGS = {
    "all": "all pairs",
    "substitution": "same substitution",
    "context": "same substitution and neighbours",
    "frame": "same substitution and place in codon",
}
"""Within what pairs are formed."""
CONSTANT = {
    "all": frozenset[str](),
    "substitution": frozenset({"gc", "substitution"}),
    "context": frozenset({"gc", "cpg", "substitution", "context"}),
    "frame": frozenset({"gc", "substitution", "frame"}),
}
"""Rows that are the same for all that is matched, and have nothing to say there."""
CLUSTERS = {"genes": "genes", "alleles": "stretches of the genome"}
SIGNS = {"better": "▲", "worse": "▼", "even": "≈"}


def estimate_text(estimate: Mapping[str, Any]) -> str:
    """Write an area with its interval.

    Examples
    --------
    >>> estimate_text({"value": 0.5123, "low": 0.49, "high": 0.534})
    '0.512 (0.490 to 0.534)'
    """
    return f"{number(estimate['value'], 3)} ({span(dict(estimate), 3)})"


def shown_rows(found: Mapping[str, Any], matching: str) -> list[str]:
    """Name the rows that say something within a matching, in the order of the table."""
    return [name for name in ROW_NAMES if name in found["scores"] and name not in CONSTANT[matching]]


def lines(result: Mapping[str, Any]) -> list[str]:
    """Give the results as lines of plain text: the model never without its baselines."""
    told = []
    unit = CLUSTERS[result["data"]["from"]]
    for comparison in result["comparisons"]:
        for matching, found in comparison["matchings"].items():
            title = f"AUROC of {comparison['positive']} against {comparison['negative']}, {MATCHINGS[matching]}"
            if "missing" in found:
                told.append(f"{title}: none. {found['missing']}")
                continue
            told.append(
                f"{title} ({found['n_positive']:,} and {found['n_negative']:,} in {found['n_clusters']:,} {unit})"
            )
            for name in shown_rows(found, matching):
                verdict = "" if name == MODEL else f"  model {SIGNS[judge(found['differences'][name], False)]}"
                told.append(f"  {ROW_NAMES[name]:<44} {estimate_text(found['scores'][name])}{verdict}")
    return told


def markdown(result: Mapping[str, Any]) -> str:
    """Write the results as one table of Markdown for each comparison."""
    told = []
    for comparison in result["comparisons"]:
        matchings = [name for name, found in comparison["matchings"].items() if "missing" not in found]
        told += [f"**{comparison['positive']} against {comparison['negative']}**, AUROC with 95 % interval", ""]
        heads = [
            f"{MATCHINGS[name]} (n = {comparison['matchings'][name]['n_positive']:,} + "
            f"{comparison['matchings'][name]['n_negative']:,})"
            for name in matchings
        ]
        told += ["| " + " | ".join(["", *heads]) + " |", "| --- |" + " --- |" * len(heads)]
        for row, name in ROW_NAMES.items():
            cells = []
            for matching in matchings:
                found = comparison["matchings"][matching]
                cells.append(estimate_text(found["scores"][row]) if row in shown_rows(found, matching) else "–")
            if any(cell != "–" for cell in cells):
                told.append("| " + " | ".join([name, *cells]) + " |")
        told.append("")
    return "\n".join(told)
