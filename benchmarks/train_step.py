"""Time training steps of recipes on made-up sequence.

Use: python benchmarks/train_step.py tiny plantbimoe:8192 -o OUT.json

A case is ``RECIPE`` or ``RECIPE:WINDOW_BP``. Each gives the median over timed steps, after warm-up, of one micro-batch
forward, backward and optimiser step, as tokens per second, with the peak memory on a GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path

import measure
import numpy as np
import torch

from umbel.config import MaskingConfig, RunConfig
from umbel.data.batches import Batch, collate
from umbel.data.masking import corrupt
from umbel.data.tokenizers import make_tokens
from umbel.model.backbone import count_parameters
from umbel.model.flops import count_flops
from umbel.model.hf import new_model
from umbel.ops.devices import autocast_dtype, resolve_device
from umbel.train.learner import Learner
from umbel.train.processes import World
from umbel.train.recipes import load_recipe
from umbel.train.step import train_step


def made_up_batch(run: RunConfig) -> Batch:
    rng = np.random.default_rng(0)
    shape = run.train.micro_batch_windows, run.corpus.window_bp
    codes = rng.integers(0, 4, shape).astype(np.uint8)
    nothing, tokens = np.zeros(shape[1], bool), make_tokens(run.tokens)
    return collate([corrupt(row, nothing, MaskingConfig(), 0, 0, i, tokens) for i, row in enumerate(codes)])


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measure operations a second of one large square product."""
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    took = measure.in_turns({"mm": lambda: torch.mm(a, b)}, 10, device)["mm"]
    return 2 * n**3 / min(took)


def time_recipe(case: str, device: torch.device, steps: int) -> dict[str, object]:
    recipe, _, window = case.partition(":")
    run = load_recipe(recipe)
    if window:
        run = replace(run, corpus=replace(run.corpus, window_bp=int(window)))
        run = replace(run, train=replace(run.train, micro_batch_windows=1, batch_windows=1))
    model = new_model(run.model, run.corpus.window_bp, 0).to(device)
    batch, dtype = made_up_batch(run), autocast_dtype(device, run.train.autocast)
    learner = Learner(model, run, World(device), dtype)
    seconds = []
    for step in range(steps + 2):
        took = measure.seconds(lambda: train_step(learner, [batch]), device)
        if step >= 2:
            seconds.append(took)
    tokens = int(batch.attention_mask.sum())
    median = statistics.median(seconds)
    return {
        "case": case,
        "parameters": count_parameters(run.model)[0],
        "window_bp": run.corpus.window_bp,
        "micro_batch_windows": run.train.micro_batch_windows,
        "dtype": str(dtype or torch.float32),
        "seconds_per_step": median,
        "seconds_min_max": [min(seconds), max(seconds)],
        "tokens_per_s": tokens / median,
        # Forward and backward are three times the products of a forward pass.
        "share_of_matmul_rate": 3
        * count_flops(run.model, 1).matrices
        * tokens
        / median
        / matmul_rate(device, dtype or torch.float32),
        "peak_memory_gb": torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--commit", default=None, help="where git is not at hand")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    results = {**measure.facts(device, arguments.commit), "cases": []}
    for case in arguments.cases:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        try:
            found = time_recipe(case, device, arguments.steps)
        except torch.OutOfMemoryError as error:
            found = {"case": case, "failed": str(error).split(".")[0]}
        print(json.dumps(found), flush=True)
        results["cases"].append(found)
        measure.write(arguments.out, results)


if __name__ == "__main__":
    main()
