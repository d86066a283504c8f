"""Write the tables of docs/performance.md from the results that the benchmarks left.

Use: python benchmarks/tables.py. Only what stands between a line "<!-- NAME -->" and "<!-- end -->" is replaced.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def span(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})"


def source(results: dict[str, Any], name: str) -> str:
    where = f"{results['machine']}, {results['threads']} threads, torch {results['torch']}"
    return f"`benchmarks/results/{name}.json`: {where}, commit {results['commit']}, {results['date']}."


def inference(r: dict[str, Any]) -> str:
    memory = {m["length"]: m for m in r["memory"]}
    rows = [
        [
            f"{x['length']:,}",
            f"{x['us_per_token']['median']:,.0f}",
            f"{x['floor_us_per_token']['median']:,.0f}",
            span(x["floor_share"]),
            f"{x['bases_per_s']:,}",
            f"{memory[x['length']]['peak_gb']:.2f}",
        ]
        for x in r["inference"]
    ]
    head = ["bases", "us per base", "its matrix products alone", "share of the floor (range)", "bases/s", "peak GB"]
    return table(head, rows)


def training(r: dict[str, Any]) -> str:
    rows = [[f"{x['length']:,}", f"{x['us_per_token']['median']:,.0f}", span(x["floor_share"])] for x in r["training"]]
    return table(["bases", "us per base", "share of three times the products of a forward pass (range)"], rows)


def mixer(r: dict[str, Any]) -> str:
    rows = [
        [
            f"{x['length']:,}",
            f"{x['us_per_token']['ours']['median']:.1f}",
            f"{x['us_per_token']['transformers']['median']:.0f}",
            span(x["transformers_over_ours"]),
        ]
        for x in r["mixer"]
    ]
    return table(["bases", "umbel, us per base", "transformers, us per base", "times as fast (range)"], rows)


def experts(r: dict[str, Any]) -> str:
    rows = [
        [
            f"{x['experts']} experts of {x['expert_hidden']}, top-{x['top_k']}",
            f"{x['tokens']:,}",
            span(x["forward_over_dense"]),
            span(x["training_over_dense"]),
        ]
        for x in r["experts"]
    ]
    return table(["layer", "tokens", "forward over dense (range)", "forward and backward over dense (range)"], rows)


def peers(r: dict[str, Any]) -> str:
    ours = {x["length"]: x["us_per_token"]["median"] for x in r["inference"]}
    rows = [
        [f"AgroNT's shape (953 M), {x['tokens']} tokens of 6 bases", f"{x['us_per_base']['median']:,.0f}"]
        for x in r["agro_nt"]
    ]
    rows += [[f"umbel, published shape (116 M), {n:,} bases", f"{us:,.0f}"] for n, us in ours.items()]
    return table(["model", "us per base"], rows)


def operators(r: dict[str, Any]) -> str:
    rows = []
    for case in r["cases"]:
        times = case["us_per_token"]
        first, *others = times
        told = [f"{name} {case['over_fastest'][name]['median']:.1f}" for name in others]
        row = [case["operator"], case["pass"], f"{case['length']:,}", f"{first} {times[first]['median']:.2f}"]
        rows.append([*row, ", ".join(told) or "-"])
    return table(["operator", "pass", "bases", "backend, us per base", "times as long"], rows)


PARTS = {
    "inference": ("model_cpu", inference),
    "training": ("model_cpu", training),
    "mixer": ("model_cpu", mixer),
    "experts": ("model_cpu", experts),
    "peers": ("model_cpu", peers),
    "operators": ("ops_cpu", operators),
}


def render(page: str) -> str:
    """Give the page with every table made anew."""
    for part, (name, make) in PARTS.items():
        results = json.loads((RESULTS / f"{name}.json").read_text())
        text = f"<!-- {part} -->\n{make(results)}\n\n{source(results, name)}\n<!-- end -->"
        page, count = re.subn(rf"<!-- {part} -->.*?<!-- end -->", lambda _, text=text: text, page, flags=re.S)
        if count != 1:
            raise ValueError(f"{PAGE}: found {count} places for the table {part!r}; there must be one")
    return page


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text()))
