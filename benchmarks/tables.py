"""Write the tables of docs/performance.md from the results that the benchmarks left.

Use: python benchmarks/tables.py. Only what stands between a line "<!-- NAME -->" and "<!-- end -->" is replaced.
A section whose results do not exist yet is empty: its heading and words stand here, and come and go with its tables.
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


def networks_at(r: dict[str, Any]) -> str:
    """Put everything that is known of a network at the common length into a row."""
    row = next(x for x in r["batches"] if x["batch"] == 1)
    place = r["flops_lengths"].index(row["length"])
    memory = {m["network"]: m for m in r["memory"] if m["length"] == row["length"]}
    rows = []
    for name, network in r["networks"].items():
        measured, counted, total = row["networks"][name], r["flops"][name], network["parameters"]
        rows.append(
            [
                f"{name} (`{network['pattern']}`)",
                f"{total[0] / 1e6:.0f} M ({total[1] / 1e6:.0f} M)",
                f"{counted['total'][place] / 1e6:.0f} M ({counted['dense_over'][place]:.2f})",
                f"{measured['latency_s']:.2f}",
                f"{measured['tokens_per_s']:,}",
                span(measured["times_as_fast"]),
                f"{memory[name]['peak_gb']:.2f}",
                f"{memory[name]['pass_gb']:.2f}",
            ]
        )
    head = ["network", "parameters (active)", "operations a token (dense over it)", "s", "tokens/s"]
    return table([*head, "times as fast (range)", "peak GB", "of it the pass"], rows)


def operations_along(r: dict[str, Any]) -> str:
    shown = [i for i, length in enumerate(r["flops_lengths"]) if i % 2 == 0 or length == 2048]
    rows = [
        [name, *(f"{found['total'][i] / 1e6:,.0f} ({found['dense_over'][i]:.2f})" for i in shown)]
        for name, found in r["flops"].items()
    ]
    return table(["million operations a token at", *(f"{r['flops_lengths'][i]:,}" for i in shown)], rows)


def along(r: dict[str, Any], part: str, key: str, unit: str) -> str:
    """Tell throughput along one axis, one network a row; what took too long says how long it would have."""

    def cell(found: dict[str, Any]) -> str:
        if "not_run" in found:
            return "not run, " + found["not_run"].removeprefix("would take ")
        faster = f" ({found['times_as_fast']['median']:.2f})" if "times_as_fast" in found else ""
        return f"{found['tokens_per_s']:,}{faster}"

    rows = [[name, *(cell(x["networks"][name]) for x in r[part])] for name in r["networks"]]
    return table([f"tokens/s at {unit}", *(f"{x[key]:,}" for x in r[part])], rows)


def architectures(r: dict[str, Any]) -> str:
    few = f"; {r['layers_timed']} of the layers are timed and scaled" if r["layers_timed"] < r["layers"] else ""
    text = (
        f"Six networks, {r['width']} wide and {r['layers']} layers deep, random weights, inference{few}. Operations "
        "are counted (`umbel.model.flops`), HyenaLite as a recurrence. In brackets: operations of dense attention over "
        "the network's own, or how many times as fast as dense attention in the same round."
    )
    parts = [text, networks_at(r), operations_along(r)]
    parts += [along(r, "lengths", "length", "batch 1, length"), along(r, "batches", "batch", "2,048 tokens, batch")]
    return "\n\n".join(parts)


def give(found: dict[str, Any], digits: int) -> str:
    """Write a mean over seeds with its standard deviation."""
    return f"{found['mean']:.{digits}f}" + (f" ± {found['sd']:.{digits}f}" if "sd" in found else "")


def setting(r: dict[str, Any]) -> str:
    seeds = max((len(arm.get("seeds", ())) for arm in r["arms"].values()), default=0)
    measured = r["baseline"]
    return (
        f"`{r['recipe']}`, {r['steps']:,} steps, {seeds} seeds (mean ± standard deviation), {r['finished']} runs, "
        f"measured on {measured['hidden_tokens']:,} hidden of {measured['routed_tokens']:,} tokens of validation "
        "windows. The baseline predicts each by how common tokens are in train windows."
    )


def quality(arm: dict[str, Any]) -> list[str]:
    return [
        give(arm["loss"], 4),
        give({k: 100 * arm["accuracy"][k] for k in ("mean", "sd") if k in arm["accuracy"]}, 2),
    ]


def arms_of(r: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: arm for name, arm in r["arms"].items() if "loss" in arm}


def ablation_moe(r: dict[str, Any]) -> str:
    head = ["arm", "loss", "accuracy, %", "Max/Avg", "CV", "dead", "entropy of load"]
    rows = [["baseline", *quality(r["baseline"]), "-", "-", "-", "-"]]
    course = []
    for name, arm in arms_of(r).items():
        dead = f"{give(arm['dead'], 1)} of {arm['experts'] * arm['expert_layers']}"
        rows.append(
            [name, *quality(arm), give(arm["max_over_mean"], 2), give(arm["cv"], 2), dead, give(arm["entropy"], 3)]
        )
        curve = arm["curve"]
        pairs = zip(curve["max_over_mean"], curve["dead"], strict=True)
        course.append([name, *(f"{load:.2f}, {dead:.1f}" for load, dead in pairs)])
    steps = next(iter(arms_of(r).values()))["curve"]["step"]
    text = (
        "Ratios are means over expert layers, dead experts are added up over them. Max/Avg is 1 where the load is "
        "even, and at most experts over top-k. Below, Max/Avg and dead experts in the course of training; step 0 is "
        "untrained."
    )
    return "\n\n".join([setting(r), table(head, rows), text, table(["at step", *map(str, steps)], course)])


def ablation_components(r: dict[str, Any]) -> str:
    rows = [["baseline", "-", "-", *quality(r["baseline"]), "-"]]
    for name, arm in arms_of(r).items():
        sizes = [f"{arm['parameters']:,}", f"{arm['active_parameters']:,}"]
        rows.append([f"{name} (`{arm['pattern']}`)", *sizes, *quality(arm), give(arm["seconds"], 0)])
    head = ["arm", "parameters", "active", "loss", "accuracy, %", "s of training"]
    return "\n\n".join([setting(r), table(head, rows)])


def convolutions(r: dict[str, Any]) -> str:
    ratios = ["recurrent_over_cpu", "fft_over_cpu", "fft_over_recurrent"]
    ratios = [name for name in ratios if name in r["cases"][0]]
    rows = []
    for case in r["cases"]:
        first, *_ = times = case["us_per_token"]
        row = [case["pass"], f"{case['length']:,}", f"{first} {times[first]['median']:.2f}"]
        rows.append(row + [span(case[name]) for name in ratios])
    text = f"HyenaLite's operator alone, {r['width']} channels of {r['poles']} poles, batch 1."
    text += f" Note of the run: {r['note']}." if r.get("note") else ""
    head = ["pass", "tokens", "backend, us per token", *(f"{name.replace('_', ' ')} (range)" for name in ratios)]
    return f"{text}\n\n{table(head, rows)}"


def streaming(r: dict[str, Any]) -> str:
    costs, differences = [], []
    for name, model in r["models"].items():
        title = f"{name} (`{model['pattern']}`)"
        for x in model["memory"]:
            sizes = [f"{x['bases']:,}", f"{x['overlap']:,}", f"{x['us_per_base']:,.0f}"]
            costs.append([title, *sizes, f"{x['peak_gb']:.2f}", f"{x['before_gb']:.2f}"])
        for x in model["differences"]:
            differences.append([title, f"{x['bases']:,}", f"{x['overlap']:,}", f"{x['max_difference']:.2g}"])
    text = (
        f"Published shapes, random weights, 3-mers, windows of {r['chunk']:,} tokens. Peaks are of a process of its "
        "own, libraries and weights included. With random weights a difference shows the arithmetic, and not what a "
        "trained model would lose."
    )
    head = ["network", "bases", "overlap, tokens", "us per base", "peak GB", "of it before"]
    other = ["network", "bases", "overlap, tokens", "largest relative difference of a token from one pass"]
    return "\n\n".join([text, table(head, costs), table(other, differences)])


def kmer_stages(r: dict[str, Any]) -> str:
    rows = [
        [each["stage"], each["what"], f"{each['mbp_per_s']['median']:,.1f}", f"{each['mbp_per_s']['best']:,.1f}"]
        for each in r["rows"]
    ]
    text = (
        f"Stages of the corpus compiler on one core; sketches of {r['settings']['k']}-mers, one in "
        f"{r['settings']['scaled']}, of a made genome of which 60 % are repeats."
    )
    if "sourmash_over_sketch" in r:
        text += f" sourmash takes {span(r['sourmash_over_sketch'])} times as long to sketch the same bases."
    text += f" Note of the run: {r['note']}." if r.get("note") else ""
    return f"{text}\n\n{table(['stage', 'what', 'Mbp/s, median', 'best'], rows)}"


PARTS = {
    "inference": ("model_cpu", inference),
    "training": ("model_cpu", training),
    "mixer": ("model_cpu", mixer),
    "experts": ("model_cpu", experts),
    "peers": ("model_cpu", peers),
    "operators": ("ops_cpu", operators),
}


def processes(r: dict[str, Any]) -> str:
    rows = [
        [x["case"], x["way"], str(x["processes"]), f"{x['tokens_per_s']:,.0f}", span(x["efficiency"])]
        for x in r["scaling"]
    ]
    states = [
        [
            x["case"],
            f"{x['state_mb']:,.1f}",
            f"{x['step_s']:.2f}",
            f"{x['copy_s'] * 1e3:,.1f}",
            f"{x['extra_s_per_state'] * 1e3:,.0f}",
            f"{x['share_at_every_50_steps']:.2%}",
            f"{x['share_at_every_500_steps']:.2%}",
        ]
        for x in r["states"]
    ]
    scaling = table(["case", "way", "processes", "tokens/s", "share of ideal (range)"], rows)
    head = [
        "case",
        "state, MB",
        "step, s",
        "copying, ms",
        "time a state costs, ms",
        "every 50 steps",
        "every 500 steps",
    ]
    words = (
        "Training with one thread a process, the same batch whatever their number; the ideal is as many times the rate "
        "of one process as there are. A case is recipe, window and windows a step; `block` is one dense and one expert "
        "layer of the 116M model. *Experts* are spread over both, *recomputing* is ddp with activation checkpointing."
    )
    return f"{words}\n\n{scaling}\n\nWriting states beside training:\n\n{table(head, states)}"


def optimisers(r: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{arm['lr']:g}",
            f"{arm['loss']['mean']:.4f} ({arm['loss']['sd']:.4f})",
            f"{arm['minus_the_first_arm']['mean']:+.4f} ({arm['minus_the_first_arm']['sd']:.4f})",
            f"{arm['cpu_seconds']['mean']:.0f}",
        ]
        for name, arm in r["arms"].items()
    ]
    base = r["baseline"]["loss"]["mean"]
    head = ["arm", "best rate", "nats a hidden base (sd)", "minus the first arm, same seed (sd)", "CPU s"]
    words = (
        f"`{r['recipe']}` for {r['steps']} steps, {len(r['baseline']['loss']['seeds'])} seeds, each arm at the rate "
        f"that was best with another seed; base frequencies give {base:.4f}."
    )
    return f"{words}\n\n{table(head, rows)}"


SECTIONS = {
    "architectures": ("architectures_cpu", "Six networks beside dense attention", architectures),
    "long_conv": ("long_conv_cpu", "The long convolution", convolutions),
    "streaming": ("streaming_cpu", "Streaming", streaming),
    "corpus": ("corpus_cpu", "The corpus compiler", kmer_stages),
    "processes": ("processes_cpu", "Several processes", processes),
    "optimisers": ("optimisers_cpu", "Optimisers, schedules and lengths", optimisers),
    "ablation_moe": ("ablation_moe_cpu", "Gating and balance of experts", ablation_moe),
    "ablation_components": ("ablation_components_cpu", "Parts of the hybrid", ablation_components),
}


def replace_part(page: str, part: str, text: str) -> str:
    text = f"<!-- {part} -->\n{text}<!-- end -->"
    page, count = re.subn(rf"<!-- {part} -->.*?<!-- end -->", lambda _: text, page, flags=re.S)
    if count != 1:
        raise ValueError(f"{PAGE}: found {count} places for the table {part!r}; there must be one")
    return page


def render(page: str) -> str:
    """Give the page with every table made anew."""
    for part, (name, make) in PARTS.items():
        results = json.loads((RESULTS / f"{name}.json").read_text())
        page = replace_part(page, part, f"{make(results)}\n\n{source(results, name)}\n")
    for part, (name, title, tell) in SECTIONS.items():
        path, text = RESULTS / f"{name}.json", ""
        if path.exists():
            results = json.loads(path.read_text())
            text = f"## {title}\n\n{tell(results)}\n\n{source(results, name)}\n"
        page = replace_part(page, part, text)
    return page


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text()))
