"""Short runs that chose the recipe of umbel-mini: one setting changed at a time, equal bases, loss at the end.

python benchmarks/mini_ablations.py CORPUS RUNS -o benchmarks/results/mini_ablations_cpu.json [--jobs 2]

Runs that are there already are not repeated, so a killed call continues.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import measure
import torch

BATCH, WINDOW_BP, STEPS = 16, 1_024, 110
BASE = {
    "corpus.window_bp": WINDOW_BP,
    "corpus.overlap_bp": 64,
    "train.steps": STEPS,
    "train.batch_windows": BATCH,
    "train.micro_batch_windows": BATCH,
    "train.eval_every_steps": STEPS,
    "train.eval_windows": 256,
    "train.save_every_steps": STEPS,
    "optim.warmup_steps": 20,
}
VARIANTS: dict[str, dict[str, object]] = {
    "base": {},
    "again": {"optim.lr": 5.0001e-3},
    "width 96": {"model.d_model": 96, "model.ffn_hidden": 192},
    "8 layers": {"model.n_layers": 8},
    "1 expert": {"model.n_experts": 1},
    "8 experts": {"model.n_experts": 8},
    "spans": {"masking.uniform_weight": 0, "masking.span_weight": 1},
    "repeats weigh 1": {"masking.softmask_weight": 1.0},
    "half revcomp": {"masking.revcomp_frac": 0.5},
    "Muon": {"optim.kind": "muon"},
    "pieces of 512": {"train.length_stages": f'[{{"window_bp": 512, "steps": {STEPS - 1}}}]'},
    "species evened": {"balance.alpha": 0.5},
    "learning rate 0.01": {"optim.lr": 1e-2},
    "learning rate 0.0025": {"optim.lr": 2.5e-3},
}


def train(name: str, corpus: str, folder: Path, threads: int) -> dict[str, object]:
    """Train one variant, and give its last validation and what it cost."""
    out = folder / name.replace(" ", "_").replace(",", "")
    settings = {**BASE, **VARIANTS[name]}
    words = [x for key, value in settings.items() for x in ("--set", f"{key}={value}")]
    command = ["pretrain", "tiny", "--corpus", corpus, "-o", str(out), "--threads", str(threads), "-q", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "umbel", *command, *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr.strip()}")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    valid = [x for x in lines if x["kind"] != "train" and "loss" in x][-1]
    trained = [x for x in lines if x["kind"] == "train"]
    speed = sorted(x["tokens_per_s"] for x in trained)[len(trained) // 2]
    row = {
        "name": name,
        "settings": VARIANTS[name],
        "valid_loss": valid["loss"],
        "valid_accuracy": valid.get("accuracy"),
        "median_tokens_per_s": round(speed),
        "routing_entropy": [each["routing_entropy"] for each in trained[-1]["experts"]],
    }
    print(f"{name:28} {row['valid_loss']:.4f}  {speed:,.0f} tokens/s", file=sys.stderr, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("runs", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS))
    args = parser.parse_args()
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = list(pool.map(lambda name: train(name, args.corpus, args.runs, 1), args.only))
    facts = {"bases_seen": STEPS * BATCH * WINDOW_BP, "base": BASE, "recipe": "tiny", "jobs_beside": args.jobs}
    measure.write_rows(args.out, {**measure.facts(torch.device("cpu")), **facts, "rows": rows})


if __name__ == "__main__":
    main()
