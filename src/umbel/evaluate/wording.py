"""Numbers, intervals and verdicts as words; every sentence is computed from the numbers, whatever they say."""

from __future__ import annotations

from typing import Any

_IN_A_SENTENCE = {
    "markov": "the Markov model",
    "composition": "base composition",
    "random": "the same network with random weights",
    "kmer": "k-mer frequencies",
    "gc": "GC content alone",
}


def minus(text: str) -> str:
    """Replace the hyphen of a negative number by a minus sign."""
    return text.replace("-", "−")


def number(value: float, digits: int) -> str:
    """Write fixed digits, with a real minus sign and never a negative zero.

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


def _also(verdict: str, unmasked: dict[str, Any]) -> str:
    """Say how it is without soft-masked bases, if that is another verdict."""
    if "missing" in unmasked or judge(unmasked["loss"], better_below=True) == verdict:
        return ""
    difference = unmasked["loss"]
    line = _sentence(difference, "markov", "nats", _difference_digits(difference), True)
    lead = {"better": "it is ahead ", "worse": "it is behind ", "even": "the two cannot be told apart, "}[
        line["verdict"]
    ]
    return f"; without soft-masked repeats {lead}{line['size']} {line['interval']}"


def verdicts(result: dict[str, Any]) -> list[dict[str, str]]:
    """Say in words how the model stands to each baseline: ``verdict``, ``lead``, ``size``, ``interval`` and ``also``.

    ``also`` says how it is without soft-masked bases, where that is another verdict, and is empty elsewhere.

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
            line = _sentence(difference, name, "nats per base", digits, True)
            found.append({"about": "Masked bases", "also": _also(line["verdict"], loss[name]["unmasked"])} | line)
    for name in ("kmer", "random"):
        if name in result["probe"].get("differences", {}):
            difference = result["probe"]["differences"][name]["mcc"]
            found.append({"about": "Linear probe", "also": ""} | _sentence(difference, name, "MCC", 3, False))
    return found


def verdict_lines(result: dict[str, Any]) -> list[str]:
    """Give the verdicts as lines of plain text, for a terminal."""
    lines = []
    for line in verdicts(result):
        joint = ", " if line["verdict"] == "even" else " "
        lines.append(f"{line['about']}: the model {line['lead']}{joint}{line['size']} {line['interval']}{line['also']}")
    if "missing" in result["probe"]:
        lines.append(f"Linear probe: none. {result['probe']['missing']}")
    return lines


def limits(result: dict[str, Any]) -> list[str]:
    """List what a reader must know before quoting the numbers, as sentences."""
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
