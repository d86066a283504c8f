"""Measure what streaming costs networks of the published HyenaMoE widths: memory, time, difference from one pass.

Use: python benchmarks/streaming.py -o OUT.json [--layers 12] [--models hyenamoe_fast] [--quick]

Random weights, 3-mers of random bases. A group of four layers, as published, stands for the twelve: the memory of a
window does not depend on the depth, the weights' does. Memory and time are of a process of its own that streams a
sequence with the defaults of ``umbel scan``'s embeddings. Before anything is measured, streaming HyenaLite layers alone
must equal one pass within 1e-4 at several chunk sizes; else nothing is written. The differences of random weights
show the arithmetic, and not what a trained model loses: ``umbel scan --track embeddings`` tells that.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import measure
import torch
from torch import Tensor

from umbel.config import ModelConfig
from umbel.model.backbone import Backbone
from umbel.model.streaming import needs_overlap, stream, streaming_cost
from umbel.train import recipes

CPU = torch.device("cpu")
BASES_A_TOKEN, FIRST_WORD = 3, 28
CHUNK, OVERLAP = 2_048, 1_024
LIMIT = 1e-4
LENGTHS = (15_000, 150_000)


def shapes(layers: int, quick: bool) -> dict[str, ModelConfig]:
    """Give two published variants, and one without attention; small ones where it is about the script alone."""
    found = {name: recipes.load_recipe(name).model for name in ("hyenamoe_standard", "hyenamoe_fast")}
    found["hyena_only"] = replace(found["hyenamoe_fast"], pattern="Hd")
    found = {name: replace(config, n_layers=layers) for name, config in found.items()}
    if quick:
        small = {"d_model": 48, "n_heads": 4, "ffn_hidden": 64, "expert_hidden": 16, "n_experts": 8}
        found = {name: replace(config, **small) for name, config in found.items()}
    return found


def network(config: ModelConfig) -> Backbone:
    torch.manual_seed(0)
    return Backbone(config).eval()


def tokens(bases: int) -> Tensor:
    drawn = torch.randint(FIRST_WORD, FIRST_WORD + 64, (bases // BASES_A_TOKEN,), generator=torch.Generator())
    return torch.cat([torch.tensor([0]), drawn, torch.tensor([1])])


def gate(config: ModelConfig, chunks: list[int], bases: int) -> dict[str, float]:
    """Give the largest relative difference of a token, by chunk size, of a model without attention."""
    backbone, ids = network(config), tokens(bases)
    return {str(n): streaming_cost(backbone, ids, chunk=n, overlap=0).max_difference for n in chunks}


def streamed(config: dict[str, Any], bases: int, threads: int) -> dict[str, Any]:
    """Stream ``bases`` in this process; give its peak memory and the time."""
    torch.set_num_threads(threads)
    backbone = network(ModelConfig(**config))
    overlap = OVERLAP if needs_overlap(backbone) else 0

    def resident() -> float:
        # Not getrusage: its maximum is inherited from the process that started this one.
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e9

    def run(ids: Tensor) -> None:
        for window in stream(backbone, ids, chunk=CHUNK, overlap=overlap):
            window.hidden.mean()

    run(tokens(192))
    before, ids = resident(), tokens(bases)
    took = measure.seconds(lambda: run(ids), CPU)
    found = {"bases": bases, "tokens": len(ids), "overlap": overlap, "seconds": round(took, 2)}
    return {
        **found,
        "us_per_base": round(took / bases * 1e6, 1),
        "peak_gb": round(resident(), 3),
        "before_gb": round(before, 3),
    }


def alone(config: ModelConfig, bases: int) -> dict[str, Any]:
    """Do :func:`streamed` in a process of its own."""
    code = (
        "import sys, json; sys.path.insert(0, 'benchmarks'); import streaming; "
        f"print(json.dumps(streaming.streamed({asdict(config)!r}, {bases}, {torch.get_num_threads()})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@torch.inference_mode()
def differences(backbone: Backbone, bases: int, overlaps: list[int]) -> list[dict[str, Any]]:
    """Compare streaming with one pass; nothing where the model's attention does not take so many tokens."""
    ids, most = tokens(bases), backbone.config.max_tokens
    if most and len(ids) > most and needs_overlap(backbone):
        return []
    whole, rows = backbone(ids[None]).hidden[0], []
    for overlap in overlaps:
        parts = torch.cat([part.hidden for part in stream(backbone, ids, chunk=CHUNK, overlap=overlap)])
        apart = (parts - whole).norm(dim=-1) / whole.norm(dim=-1)
        row = {"bases": bases, "tokens": len(ids), "overlap": overlap}
        rows.append({**row, "mean_difference": float(apart.mean()), "max_difference": float(apart.max())})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="small models and few overlaps, to try the script")
    parser.add_argument("--layers", type=int, default=4, help="of twelve")
    parser.add_argument("--models", default="hyenamoe_standard,hyenamoe_fast,hyena_only")
    arguments = parser.parse_args()
    models = shapes(arguments.layers, arguments.quick)
    overlaps = [128, OVERLAP] if arguments.quick else [128, 512, 1_024, 2_048]
    passed = gate(models["hyena_only"], [100, 1_000, CHUNK], 9_000)
    wrong = {chunk: error for chunk, error in passed.items() if not error <= LIMIT}
    if wrong:
        sys.exit(f"streaming differs from one pass without attention, so nothing is measured: {wrong}")
    facts = {**measure.facts(CPU), "layers": arguments.layers, "chunk": CHUNK, "gate": passed}
    results: dict[str, Any] = {**facts, "models": {}}
    for name in arguments.models.split(","):
        config = models[name]
        short, long = (alone(config, bases) for bases in LENGTHS)
        ratio = round(long["peak_gb"] / short["peak_gb"], 3)
        row: dict[str, Any] = {"pattern": config.pattern, "memory": [short, long], "peak_ratio": ratio}
        backbone = network(config)
        row["differences"] = differences(backbone, LENGTHS[0], overlaps if needs_overlap(backbone) else [0])
        if name != "hyenamoe_fast":
            # How the difference moves with the length.
            row["differences"] += differences(backbone, 48_000, [OVERLAP] if needs_overlap(backbone) else [0])
        results["models"][name] = row
        print(name, json.dumps(row), flush=True)
        measure.write(arguments.out, results)


if __name__ == "__main__":
    main()
