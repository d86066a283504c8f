"""Tables of mini's model card, each from one JSON file of results; a key that is missing is an error that names it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class CardError(Exception):
    """A result that cannot be told: with the file and what is missing or wrong in it."""


class Result(Mapping[str, Any]):
    """A part of a JSON file that knows where it stands, so that a missing key is told by its place.

    Examples
    --------
    >>> Result({"a": {"b": 1}}, "x.json")["a"]["b"]
    1
    """

    def __init__(self, values: Mapping[str, Any], place: str):
        self.values_, self.place = values, place

    def __getitem__(self, key: str) -> Any:
        if key not in self.values_:
            raise CardError(f"{self.place}: no key {key!r}. Measure it again, or leave the whole file out.")
        found = self.values_[key]
        return Result(found, f"{self.place}, {key}") if isinstance(found, Mapping) else found

    def __iter__(self) -> Any:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)

    def __contains__(self, key: object) -> bool:
        return key in self.values_


ROWS = {
    "model": "mini",
    "float32": "mini before rounding to bf16",
    "bf16": "weights rounded to bf16",
    "random": "random weights",
    "composition": "base composition",
    "markov_left": "Markov, left flank",
    "markov_both_flanks": "Markov, both flanks",
    "markov": "Markov, both flanks",
    "kmer": "k-mers",
    "pwm": "position weights",
    "cnn": "small CNN",
    "majority": "mean of training",
    "gc": "GC change",
    "cpg": "CpG",
    "substitution": "fitted: kind of substitution",
    "context": "fitted: substitution and neighbours",
    "frame": "fitted: substitution and codon position",
}


def told(estimate: Any, digits: int = 3) -> str:
    """Value with its interval.

    Examples
    --------
    >>> told({"value": 0.5, "low": 0.4, "high": 0.6}), told({"value": None})
    ('0.500 (0.400 to 0.600)', 'not defined')
    >>> told({"value": 0.5, "low": 0.5, "high": 0.5})
    '–'
    """
    value = estimate["value"]
    if value is None:
        return "not defined"
    if estimate.get("low") is None:
        return f"{value:.{digits}f}"
    if value == estimate["low"] == estimate["high"]:
        return "–"  # the same for everyone: nothing was compared
    return f"{value:.{digits}f} ({estimate['low']:.{digits}f} to {estimate['high']:.{digits}f})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def name_of(row: str) -> str:
    return ROWS.get(row, row)


def regions(found: Result) -> str:
    """Loss and accuracy by class, on each held-out set."""
    parts = []
    for key, title in (
        ("napus", "*Brassica napus*, held-out scaffolds"),
        ("chr5", "*Arabidopsis thaliana*, chromosome 5"),
    ):
        one = found["sets"][key]
        for metric, unit in (
            ("loss", "Masked loss, nats per base (less is better; log 4 = 1.386)"),
            ("accuracy", "Accuracy"),
        ):
            names = list(one["classes"])
            rows = [row for row in ROWS if row in one["classes"]["all"]["rows"]]
            lines = []
            for name in names:
                own = one["classes"][name]
                if "missing" in own:
                    lines.append([name, f"{own['n_bases']:,}", own["missing"], *[""] * (len(rows) - 1)])
                    continue
                cells = [told(own["rows"][row][metric]) for row in rows]
                lines.append([name, f"{own['n_bases']:,}", *cells])
            head = ["class of base", "hidden bases", *(name_of(row) for row in rows)]
            parts.append(f"**{title}. {unit}.**\n\n{table(head, lines)}")
        best = one["classes"]["all"]["differences"]["markov_both_flanks"]["loss"]
        parts.append(f"mini minus the Markov model of both flanks, all bases: {told(best, 4)} nats.")
    rounding = [row for row in ("bf16", "float32") if row in found["sets"]["napus"]["classes"]["all"]["differences"]]
    for row in rounding:
        change = found["sets"]["napus"]["classes"]["all"]["differences"][row]["loss"]
        parts.append(f"mini minus {name_of(row)}, *B. napus*: {told(change, 5)} nats.")
    share = found["mask_frac"]
    note = (
        f"{share:.0%} of the bases are hidden behind `[MASK]` (training also shows some as they are, or as "
        "another letter), evenly drawn, the same for every row; 95 % intervals from resampling windows. *all* of "
        "*B. napus* is of windows drawn evenly; rarer classes also have windows around genes."
    )
    return "\n\n".join([note, *parts])


def sites(found: Result) -> str:
    """Recognition of sites, untrained and by a probe."""
    parts = []
    for key, title in (
        ("zero_shot", "Without training: log-probability of the letters, all hidden"),
        ("probe", "Linear probe, fitted on *A. thaliana* chromosome 1"),
    ):
        by_set = found[key]
        first = next(iter(by_set[next(iter(by_set))].values_.values()))
        rows = list(first["rows"])
        lines = []
        for name in by_set:
            for kind in by_set[name]:
                own = by_set[name][kind]
                for metric, label in (("auroc", "AUROC"), ("auprc", "average precision")):
                    cells = [told(own["rows"][row][metric]) for row in rows]
                    lines.append([SETS.get(name, name), kind, label, f"{own['n_sites']:,}", *cells])
        parts.append(
            f"**{title}.**\n\n"
            + table(["tested on", "site", "measure", "sites", *(name_of(row) for row in rows)], lines)
        )
    note = (
        "Each site has one decoy: the same letters in the same gene on the same strand (chance is 0.5 in both "
        "measures). Below 0.5 the letters are more expected at the decoys than at the sites. 95 % intervals from "
        "resampling genes."
    )
    return "\n\n".join([note, *parts])


SETS = {"napus": "*B. napus*", "chr5": "*A. thaliana* chr5"}
METRICS = {"spearman": "Spearman", "pearson2": "r² (squared correlation)", "r2": "R² (1 − SSE/SST)"}


def strength(found: Result) -> str:
    """Strength of promoters and terminators."""
    lines = []
    for method in found["tables"]:
        one = found["tables"][method]
        for dataset in found["n"]:
            for row in one[dataset]["rows"]:
                if row in ("cnn", "kmer", "majority") and method != "probe":
                    continue
                own = one[dataset]["rows"][row]
                how = method if row in ("model", "random") else ""
                lines.append([dataset, name_of(row), how, *(told(own[metric]) for metric in METRICS)])
    sizes = "; ".join(f"{name}: {own['train']:,} train, {own['test']:,} test" for name, own in found["n"].items())
    note = (
        f"Plant STARR-seq in tobacco leaf, 170 bp ({sizes}; {found['seeds']} seeds, {found['epochs']} epochs of "
        f"tuning in batches of {found['batch_size']}). All sequences of a gene are on one side, and genes of "
        "*A. thaliana* chromosome 1 are never tested "
        "on. Learning rates are fixed, not chosen on dev. "
        "A small part of the data, on one core: what tuning on all of it would give is not told here."
    )
    return (
        note + "\n\n" + table(["dataset", "row", "method", *METRICS.values()], sorted(lines, key=lambda line: line[0]))
    )


MATCHINGS = {
    "all": "all pairs",
    "substitution": "same substitution",
    "context": "same substitution and neighbours",
    "frame": "same substitution and codon position",
}


def effects(found: Result) -> str:
    """Substitutions by what they do to the protein."""
    parts = []
    for comparison in found["comparisons"]:
        pair = Result(comparison, f"{found.place}, comparisons")
        lines, rows = [], []
        for matching in pair["matchings"]:
            own = pair["matchings"][matching]
            if "missing" in own:
                continue
            rows = list(own["scores"])
            lines.append(
                [
                    MATCHINGS.get(matching, matching),
                    f"{own['n_positive']:,}",
                    *(told(own["scores"][row]) for row in rows),
                ]
            )
        if not lines:
            parts.append(f"{pair['positive']} against {pair['negative']}: too few that match.")
            continue
        head = ["compared within", pair["positive"], *(name_of(row) for row in rows)]
        parts.append(f"**{pair['positive'].capitalize()} against {pair['negative']}, AUROC.**\n\n{table(head, lines)}")
    note = (
        "`umbel zeroshot` on held-out *B. napus*: harm is the log-likelihood ratio of reference and substitution, no "
        "training. *Compared within* the same kind of substitution, its neighbours or its place in the codon, what "
        "those alone tell cannot help. The Markov row is counted on the genome that is scored, the "
        "held-out scaffolds included but for the genes that are asked about: it has seen more of it than mini. 95 % "
        "intervals from resampling genes."
    )
    return "\n\n".join([note, *parts])


def atlas(found: Result) -> str:
    """Tell what the experts took."""
    layers = [
        [str(row["layer"]), str(row["n_experts"]), str(row["n_dead"]), f"{row['max_over_mean']:.2f}",
         "" if row["router_entropy_share"] is None else f"{row['router_entropy_share']:.3f}"]
        for row in found["layers"]
    ]  # fmt: skip
    enriched = [
        [str(row["layer"]), f"E{row['expert']}", f"{row['class']} ({row['labelling']})", f"{row['share_in_class']:.1%}",
         f"{row['share_overall']:.1%}", f"{row['log2_odds']:.2f}"]
        for row in found["enriched"]
    ]  # fmt: skip
    effect = [abs(row["ablation"]) for row in found["experts"] if row["ablation"] is not None]
    parts = [
        f"`umbel experts` on held-out *B. napus*, {found['sample']['n_items']:,} bases.",
        table(["layer", "experts", "dead", "largest load over mean", "router entropy, share of the most"], layers),
    ]
    if enriched:
        head = ["layer", "expert", "most enriched class", "share in class", "share overall", "log2 odds"]
        parts.append(table(head, enriched))
    if effect:
        parts.append(f"Barring one expert changes the masked loss by at most {max(effect):.1g} nats.")
    return "\n\n".join(parts)


def scaling(found: Result) -> str:
    """Loss against bases seen."""
    law, points = found["power_law"], found["points"]
    seen = f"The run saw {points['bases_seen'] / 1e6:,.1f} Mbp."
    if "missing" in law:
        return f"{seen} No power law: {law['missing']}."
    bound = (
        " These points do not determine floor and exponent: a straight line in log bases fits as well, or one of them "
        "is at an end of what was tried."
        if law["at_bound"]
        else ""
    )
    return (
        f"{seen} Loss of {'validation' if law['of'] == 'valid' else 'training'} = floor + scale · (bases / "
        f"{law['x_unit'] / 1e6:.3g} Mbp)^−exponent, {law['n_points']} points: floor {told(law['floor'])}, scale "
        f"{told(law['scale'])}, exponent {told(law['exponent'])}; R² {law['r2']:.3f}, residuals {law['rmse']:.4f} nats "
        f"(a straight line in log bases: {law['log_rmse']:.4f}).{bound} The learning rate falls along the run, so that "
        "the curve says little of longer ones."
    )
