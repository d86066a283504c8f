"""One self-contained HTML page from ``evaluation.json``: what was found, in words, tables and pictures.

Every sentence and colour is computed from the numbers, whatever they say; what is missing is said in words.
"""

from __future__ import annotations

from math import log2
from pathlib import Path
from typing import Any

import jinja2

from umbel.evaluate.curve_figure import draw_curve

ROW_NAMES = {
    "model": "Model",
    "markov": "Markov model",
    "composition": "Base composition",
    "random": "Random weights",
    "kmer": "k-mer frequencies",
    "gc": "GC content",
}
_IN_A_SENTENCE = {
    "markov": "the Markov model",
    "composition": "base composition",
    "random": "the same network with random weights",
    "kmer": "k-mer frequencies",
    "gc": "GC content alone",
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

# Ends and middle of a brown-white-violet scale: told apart with any colour vision, and in grey by the numbers.
_LESS, _EVEN, _MORE = (179, 88, 6), (250, 250, 248), (84, 39, 136)
_FULL_COLOUR_LOG2 = 2.0


def minus(text: str) -> str:
    """Replace the hyphen of a negative number by a minus sign."""
    return text.replace("-", "−")


def number(value: float, digits: int) -> str:
    """Fixed digits, with a real minus sign and never a negative zero.

    Examples
    --------
    >>> number(-0.0001, 3), number(-1.5, 2)
    ('0.000', '−1.50')
    """
    text = f"{value:.{digits}f}"
    return minus(text) if float(text) else text.lstrip("-")


def signed(value: float, digits: int) -> str:
    """Like :func:`number`, with a plus sign above zero."""
    text = number(value, digits)
    return f"+{text}" if value > 0 and float(f"{value:.{digits}f}") else text


def span(estimate: dict[str, Any], digits: int, scale: float = 1.0) -> str:
    """Write an interval as ``low to high``; says so where there is none.

    Examples
    --------
    >>> span({"value": 1.0, "low": 0.5, "high": 1.25}, 2)
    '0.50 to 1.25'
    """
    if estimate["low"] is None:
        return "no interval: one unit only"
    return f"{number(scale * estimate['low'], digits)} to {number(scale * estimate['high'], digits)}"


def _difference_digits(estimate: dict[str, Any]) -> int:
    return 4 if abs(estimate["value"]) < 0.01 else 3


def judge(difference: dict[str, Any], better_below: bool) -> str:
    """Whether the model is ``better``, ``worse`` or cannot be told apart (``even``), by its interval.

    Examples
    --------
    >>> judge({"value": -0.1, "low": -0.2, "high": -0.05}, better_below=True)
    'better'
    """
    if difference["low"] is None or difference["low"] <= 0 <= difference["high"]:
        return "even"
    return "better" if (difference["value"] < 0) == better_below else "worse"


def _size(difference: dict[str, Any], digits: int) -> str:
    """Absolute size of a difference that has a sign, with its interval turned the same way."""
    value, low, high = difference["value"], difference["low"], difference["high"]
    ends = sorted((abs(low), abs(high)))
    return f"{number(abs(value), digits)}|[{number(ends[0], digits)} to {number(ends[1], digits)}]"


def _sentence(difference: dict[str, Any], name: str, unit: str, digits: int, better_below: bool) -> dict[str, str]:
    verdict = judge(difference, better_below)
    if verdict == "even":
        size = signed(difference["value"], digits)
        return {
            "verdict": verdict,
            "lead": f"cannot be told apart from {_IN_A_SENTENCE[name]}",
            "size": f"difference {size} {unit}",
            "interval": f"[{span(difference, digits)}]",
        }
    size, interval = _size(difference, digits).split("|")
    lead = "beats" if verdict == "better" else "is behind"
    return {
        "verdict": verdict,
        "lead": f"{lead} {_IN_A_SENTENCE[name]}",
        "size": f"by {size} {unit}",
        "interval": interval,
    }


def verdicts(result: dict[str, Any]) -> list[dict[str, str]]:
    """Say in words how the model stands to each baseline: ``verdict``, ``lead``, ``size`` and ``interval``.

    Parameters
    ----------
    result
        The content of ``evaluation.json``.
    """
    found = []
    loss = result["masked_loss"]["differences"]
    for name in ("composition", "random", "markov"):
        if name in loss:
            difference = loss[name]["all"]["loss"]
            digits = _difference_digits(difference)
            found.append({"about": "Masked bases"} | _sentence(difference, name, "nats per base", digits, True))
    for name in ("kmer", "random"):
        if name in result["probe"].get("differences", {}):
            difference = result["probe"]["differences"][name]["mcc"]
            found.append({"about": "Linear probe"} | _sentence(difference, name, "MCC", 3, False))
    return found


def verdict_lines(result: dict[str, Any]) -> list[str]:
    """Give the verdicts as lines of plain text, for a terminal."""
    lines = []
    for line in verdicts(result):
        joint = ", " if line["verdict"] == "even" else " "
        lines.append(f"{line['about']}: the model {line['lead']}{joint}{line['size']} {line['interval']}")
    if "missing" in result["probe"]:
        lines.append(f"Linear probe: none. {result['probe']['missing']}")
    return lines


def limits(result: dict[str, Any]) -> list[str]:
    """What a reader must know before quoting the numbers, as sentences."""
    corpus, run, loss = result["corpus"], result["run"], result["masked_loss"]
    found = []
    trained_on = run.get("corpus_hash")
    if trained_on is None:
        found.append(
            "Nothing tells on which corpus this checkpoint was trained. If these held-out contigs were in its "
            "training data, its loss is too low."
        )
    elif trained_on != corpus["hash"]:
        found.append(
            f"The checkpoint was trained on another corpus ({trained_on[:12]}) than it is evaluated on "
            f"({corpus['hash'][:12]}). If these held-out contigs were in its training data, its loss is too low."
        )
    if result["model"]["window_bp"] != corpus["window_bp"]:
        found.append(
            f"The model was trained on windows of {result['model']['window_bp']:,} bp and is evaluated on windows of "
            f"{corpus['window_bp']:,} bp."
        )
    if corpus["n_windows_used"] < corpus["n_windows"]["test"]:
        found.append(
            f"{corpus['n_windows_used']:,} of {corpus['n_windows']['test']:,} held-out windows were drawn at random."
        )
    found += [
        f"Intervals are 95 % bootstrap intervals over windows ({corpus['window_bp']:,} bp, neighbours share "
        f"{corpus['overlap_bp']} bp) or, for the probe, over blocks of 10 kb. They hold for these contigs, not for "
        "other species, other training seeds, or other choices of held-out contigs. Neighbouring windows resemble "
        "each other, which makes the intervals of the loss somewhat too narrow.",
        "All rows predict the same hidden bases. The Markov model needs k known bases on both sides and falls back to "
        "fewer where a neighbour is hidden, N or beyond the window; a model that also used one-sided contexts would "
        "be stronger.",
        "Random weights are one draw, not an average over draws.",
    ]
    if "missing" in loss["markov"]:
        found.append(f"There is no Markov row. {loss['markov']['missing']}")
    if "missing" not in result["probe"]:
        found.append(
            "The probe sees windows that are at least 90 % of one class; windows across borders, which are the harder "
            "ones, are left out."
        )
    if result["experts"].get("layers"):
        found.append(
            "Classes differ in base composition, so a share that differs between classes need not mean that an "
            "expert knows the class."
        )
    return found


def cell_colour(share: float, load: float) -> tuple[str, str]:
    """Background and text colour of a share: violet above the expert's load, brown below, grey for a dead expert.

    Examples
    --------
    >>> cell_colour(0.25, 0.25)
    ('rgb(250, 250, 248)', '#1c1c1a')
    """
    if load <= 0:
        return "#e4e4e0", "#6b6b66"
    position = max(-1.0, min(1.0, log2(max(share, 1e-9) / load) / _FULL_COLOUR_LOG2))
    end = _MORE if position > 0 else _LESS
    mixed = [round(even + abs(position) * (full - even)) for even, full in zip(_EVEN, end, strict=True)]
    luminance = 0.299 * mixed[0] + 0.587 * mixed[1] + 0.114 * mixed[2]
    return f"rgb({mixed[0]}, {mixed[1]}, {mixed[2]})", "#1c1c1a" if luminance > 140 else "#ffffff"


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
    """Some names, and how many more there are."""
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more:,} more" if more > 0 else "")


def render_report(result: dict[str, Any]) -> str:
    """Return the page as HTML, from the content of ``evaluation.json``."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "signed": signed, "span": span, "percent": _percent}
    environment.globals |= {"judge": judge, "difference_digits": _difference_digits}
    corpus, model = result["corpus"], result["model"]
    by_species: dict[str, list[str]] = {}
    for assembly in corpus["assemblies"]:
        by_species.setdefault(assembly["species"], []).append(assembly["assembly"])
    loss_rows = [name for name in ("model", "markov", "composition", "random") if name in result["masked_loss"]["rows"]]
    probe_rows = [name for name in ("model", "kmer", "gc", "random") if name in result["probe"].get("rows", {})]
    return environment.get_template("report.html").render(
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
