"""What rows, metrics and methods are called on a leaderboard, and what differences between rows say in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from umbel.evaluate.bench.table import MODEL
from umbel.evaluate.wording import number, signed

Verdict = Literal["better", "worse", "even", "unknown"]

ROW_NAMES = {
    MODEL: "model",
    "random": "same network, random weights",
    "cnn": "small CNN",
    "kmer": "k-mer frequencies",
    "majority": "majority or mean",
}
BASELINES = ("random", "cnn", "kmer", "majority")
SHORT_NAMES = {MODEL: "model", "random": "random", "cnn": "CNN", "kmer": "k-mer", "majority": "majority"}
IN_A_SENTENCE = {
    "random": "the same network with random weights",
    "cnn": "a small CNN",
    "kmer": "k-mer frequencies",
    "majority": "the majority class (of numbers: the mean)",
}
ALPHA = 0.05
_METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "f1": "F1",
    "mcc": "MCC",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "spearman": "Spearman ρ",
    "pearson": "Pearson r",
    "pearson2": "squared Pearson r",
    "r2": "R² (1 − SSE/SST)",
    "mse": "mean squared error",
    "r2_undefined": "R² of a kind not said",
    "mean": "mean of several metrics",
    "not stated": "metric not stated",
}


def metric_name(metric: str) -> str:
    """Write a metric as people do; ``auroc:NAME`` is that of a single label or output.

    Examples
    --------
    >>> metric_name("mcc"), metric_name("auroc:root")
    ('MCC', 'AUROC of root')
    """
    name, _, part = metric.partition(":")
    return _METRICS.get(name, name) + (f" of {part}" if part else "")


def method_name(config: Mapping[str, Any]) -> str:
    """Say in a few words how a model was fitted, from the ``config`` of ``bench.json``."""
    method, finetune = config["method"], config["finetune"]
    if method == "probe":
        return "linear probe on frozen embeddings"
    rates = ", ".join(f"{lr:g}" for lr in finetune["lr"])
    rate = f"learning rate {rates}" + (" (chosen on dev)" if len(finetune["lr"]) > 1 else "")
    epochs = f"at most {finetune['epochs']} {'epoch' if finetune['epochs'] == 1 else 'epochs'}"
    if method == "full":
        return f"all weights tuned, {rate}, {epochs}"
    adapter = finetune["adapter"]
    size = f"rank {adapter['rank']}" if adapter["rank"] else f"{100 * adapter['share']:g} % of the parameters"
    return f"adapter (LoRA) of {size}, {rate}, {epochs}"


def score_text(value: float | None, digits: int = 3) -> str:
    """Write a score, or that it is not defined."""
    return "not defined" if value is None else number(value, digits)


def interval_text(estimate: Mapping[str, Any], digits: int = 3) -> str:
    """Write an interval as ``low to high``, or that there is none.

    Examples
    --------
    >>> interval_text({"low": -0.01, "high": 0.25}), interval_text({"low": None, "high": None})
    ('−0.010 to 0.250', 'no interval')
    """
    if estimate["low"] is None:
        return "no interval"
    return f"{number(estimate['low'], digits)} to {number(estimate['high'], digits)}"


def seeds_text(estimate: Mapping[str, Any]) -> str:
    """Write the number of seeds, and the standard deviation over them.

    Examples
    --------
    >>> seeds_text({"sd": 0.0123, "by_seed": [0.5, 0.6, 0.7]}), seeds_text({"sd": None, "by_seed": [0.5]})
    ('sd 0.012, 3 seeds', 'one fit')
    """
    n = len(estimate["by_seed"])
    if n < 2:
        return "one fit" if n else ""
    return f"{n} seeds" if estimate["sd"] is None else f"sd {number(estimate['sd'], 3)}, {n} seeds"


def p_text(p: float | None) -> str:
    """Write an adjusted p.

    Examples
    --------
    >>> p_text(0.0084), p_text(1e-5), p_text(None)
    ('p = 0.008', 'p < 0.001', 'no test')
    """
    if p is None:
        return "no test"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def digits_of(difference: Mapping[str, Any]) -> int:
    """Digits that a difference is written with: 4 below 0.01, where it has an interval as narrow."""
    return 4 if difference["value"] is not None and abs(difference["value"]) < 0.01 else 3


def judge(difference: Mapping[str, Any]) -> Verdict:
    """Whether the model is better or worse than a row, cannot be told apart from it, or was not tested.

    By the adjusted p where there is one (``p_holm``), else by whether the interval includes 0.

    Examples
    --------
    >>> judge({"value": 0.1, "low": 0.02, "high": 0.2, "p_holm": 0.01})
    'better'
    >>> judge({"value": 0.1, "low": 0.02, "high": 0.2, "p_holm": 0.06})
    'even'
    """
    if difference["value"] is None or difference["low"] is None:
        return "unknown"
    p = difference.get("p_holm")
    includes_zero = difference["low"] <= 0 <= difference["high"]
    if includes_zero or (p is not None and p >= ALPHA):
        return "even"
    return "better" if difference["value"] > 0 else "worse"


VERDICT_WORDS = {
    "better": "model better",
    "worse": "model worse",
    "even": "not told apart",
    "unknown": "not tested",
}
PAIR_WORDS = {"better": "first better", "worse": "second better", "even": "not told apart", "unknown": "not tested"}
VERDICT_SIGNS = {"better": "▲", "worse": "▼", "even": "≈", "unknown": "–"}


def difference_text(difference: Mapping[str, Any]) -> str:
    """Write a difference with sign, interval and adjusted p (of a mean over datasets there is none)."""
    if difference["value"] is None:
        return "not defined"
    digits = digits_of(difference)
    text = f"{signed(difference['value'], digits)} [{interval_text(difference, digits)}]"
    return f"{text}, {p_text(difference['p_holm'])}" if "p_holm" in difference else text


def sentence(name: str, differences: Mapping[str, Mapping[str, Any]], metric: str) -> str:
    """Say in words how a model stands to its baselines on one dataset.

    Parameters
    ----------
    name
        What the model is called.
    differences
        Baseline to the difference of model and it.
    metric
        Of the differences.
    """
    verdicts = {row: judge(differences[row]) for row in BASELINES}
    parts = []
    for verdict, lead in (
        ("better", "is better than"),
        ("even", "cannot be told apart from"),
        ("worse", "is worse than"),
        ("unknown", "could not be tested against"),
    ):
        rows = [row for row in BASELINES if verdicts[row] == verdict]
        if rows:
            told = [f"{IN_A_SENTENCE[row]} ({difference_text(differences[row])})" for row in rows]
            parts.append(f"{lead} {_listed(told)}")
    text = f"In {metric_name(metric)}, {name} {_listed(parts, '; it ')}."
    if verdicts["random"] in ("even", "worse"):
        text += " Nothing here shows that its pretraining helped."
    elif verdicts["random"] == "better" and verdicts["kmer"] != "better" and verdicts["kmer"] != "unknown":
        text += " Its pretraining helped, but nothing here shows that it sees more than k-mer counts do."
    return text


def _listed(parts: Sequence[str], glue: str = "") -> str:
    if glue:
        return glue.join(parts)
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def tally(verdicts: Sequence[Verdict]) -> str:
    """Count verdicts in words.

    Examples
    --------
    >>> tally(["better", "better", "even"])
    'better on 2 datasets, not told apart on 1'
    """
    words = {"better": "better", "even": "not told apart", "worse": "worse", "unknown": "not tested"}
    counted = [(word, sum(each == verdict for each in verdicts)) for verdict, word in words.items()]
    shown = [f"{word} on {n}" for word, n in counted if n]
    n_first = next(n for _, n in counted if n)
    shown[0] += " dataset" if n_first == 1 else " datasets"
    return ", ".join(shown)
