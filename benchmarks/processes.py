"""Time training steps on one and on several processes, and what writing states costs.

Use: python benchmarks/processes.py --processes 2 -o OUT.json [--device cuda] [--case plantbimoe:32768:8]

A case is ``RECIPE:WINDOW_BP:BATCH_WINDOWS``, or ``block`` in the recipe's place: one dense and one expert layer of the
116M model. The batch of a step is the same for any number of processes (strong scaling), and each process computes with
one thread (or one GPU), so that the ideal ratio of rates is the number of processes. Rounds of all ways are taken in
turns; the efficiency of a round is that of its own single process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import measure
import numpy as np
import torch

from umbel.config import MaskingConfig, ModelConfig, ParallelConfig, RunConfig
from umbel.data.batches import Batch, collate
from umbel.data.masking import corrupt
from umbel.data.tokenizers import make_tokens
from umbel.ops.devices import autocast_dtype
from umbel.train.learner import Learner, untrained_model
from umbel.train.processes import World, join_world
from umbel.train.recipes import load_recipe
from umbel.train.state import StateWriter
from umbel.train.step import train_step

CASES = ("tiny:512:8", "block:2048:4")
WAYS = {
    "ddp": ParallelConfig("ddp"),
    "fsdp": ParallelConfig("fsdp"),
    "experts": ParallelConfig("ddp", expert_processes=2),
    "recomputing": ParallelConfig("ddp", activation_checkpointing=True),
}


def run_of(case: str, parallel: ParallelConfig) -> RunConfig:
    recipe, window, batch = case.split(":")
    run = load_recipe("plantbimoe" if recipe == "block" else recipe)
    if recipe == "block":
        run = replace(run, name="block", model=ModelConfig(n_layers=2))
    corpus = replace(run.corpus, window_bp=int(window), overlap_bp=0)
    train = replace(run.train, batch_windows=int(batch), micro_batch_windows=1 if recipe != "tiny" else int(batch))
    return replace(run, corpus=corpus, train=train, parallel=parallel)


def batches_of(run: RunConfig, world: World) -> list[Batch]:
    """Make up the windows of a step, and cut this process' share into micro-batches."""
    rng, tokens = np.random.default_rng(0), make_tokens(run.tokens)
    rows = rng.integers(0, 4, (run.train.batch_windows, run.corpus.window_bp)).astype(np.uint8)
    nothing = np.zeros(run.corpus.window_bp, bool)
    examples = [corrupt(row, nothing, MaskingConfig(), 0, 0, i, tokens) for i, row in enumerate(rows)]
    own, size = examples[world.rank :: world.size], run.train.micro_batch_windows
    return [collate(own[start : start + size]) for start in range(0, len(own), size)]


def worker(case: str, way: str, device: str, n_steps: int, out: Path) -> None:
    torch.set_num_threads(1)
    with join_world(device) as world:
        run = run_of(case, WAYS[way] if world.size > 1 else replace(WAYS[way], expert_processes=1))
        learner = Learner(
            untrained_model(run, make_tokens(run.tokens)), run, world, autocast_dtype(world.device, run.train.autocast)
        )
        batches, seconds = batches_of(run, world), []
        for number in range(n_steps + 2):
            took = measure.seconds(lambda: train_step(learner, batches), world.device)
            if number >= 2:
                seconds.append(took)
        if world.is_first:
            tokens = run.train.batch_windows * (run.corpus.window_bp + 2)
            out.write_text(json.dumps({"seconds": statistics.median(seconds), "tokens": tokens}))


def launch(case: str, way: str, size: int, device: str, n_steps: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        here = [__file__, "--worker", case, way, "--device", device, "--steps", str(n_steps), "-o", str(out)]
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
        subprocess.run([*start, *here], check=True, capture_output=True)
        return json.loads(out.read_text())


def scaling(case: str, ways: list[str], size: int, device: str, n_steps: int, rounds: int) -> list[dict[str, object]]:
    arms = [("ddp", 1), *((way, size) for way in ways)]
    rates: dict[tuple[str, int], list[float]] = {arm: [] for arm in arms}
    for _ in range(rounds):
        for arm in arms:
            found = launch(case, *arm, device, n_steps)
            rates[arm].append(found["tokens"] / found["seconds"])
    alone = rates["ddp", 1]
    rows = []
    for (way, n), found in rates.items():
        shares = sorted(rate / one / n for rate, one in zip(found, alone, strict=True))
        rows.append(
            {
                "case": case,
                "way": way if n > 1 else "alone",
                "processes": n,
                "tokens_per_s": statistics.median(found),
                "efficiency": {"median": statistics.median(shares), "min": shares[0], "max": shares[-1]},
            }
        )
    return rows


def state_cost(case: str, device: str, n_steps: int, rounds: int) -> dict[str, object]:
    """Time steps with a state written beside them against steps without, in turns."""
    torch.set_num_threads(1)
    with join_world(device) as world, tempfile.TemporaryDirectory() as folder:
        run = run_of(case, ParallelConfig())
        learner = Learner(
            untrained_model(run, make_tokens(run.tokens)), run, world, autocast_dtype(world.device, run.train.autocast)
        )
        batches = batches_of(run, world)
        train_step(learner, batches)
        states = StateWriter(Path(folder) / "state", 1, world)
        plain, saving, copying, writing = [], [], [], []
        for number in range(rounds):
            for is_saving in (False, True):
                began = time.perf_counter()
                if is_saving:
                    states.save(number, learner.tensors(), learner.numbers())
                    copied = time.perf_counter()
                for _ in range(n_steps):
                    train_step(learner, batches)
                ended = time.perf_counter()
                (saving if is_saving else plain).append(ended - began)
                if is_saving:
                    states.wait()
                    copying.append(copied - began)
                    writing.append(time.perf_counter() - ended)
        states.close()
        path = next((Path(folder) / "state").glob("step-*"))
        size = sum(file.stat().st_size for file in path.iterdir())
    extra = statistics.median(b - a for a, b in zip(plain, saving, strict=True))
    step = statistics.median(plain) / n_steps
    return {
        "case": case,
        "state_mb": size / 1e6,
        "step_s": step,
        "copy_s": statistics.median(copying),
        "left_to_write_s": statistics.median(writing),
        "extra_s_per_state": extra,
        "share_at_every_50_steps": extra / (50 * step),
        "share_at_every_500_steps": extra / (500 * step),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", default=[])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", nargs=2, metavar=("CASE", "WAY"), help=argparse.SUPPRESS)
    parser.add_argument("--commit")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    if options.worker:
        worker(*options.worker, options.device, options.steps, options.out)
        return
    cases = options.case or list(CASES)
    torch.set_num_threads(1)
    results = measure.facts(torch.device(options.device), options.commit)
    shared = options.device, options.steps, options.rounds
    results["scaling"] = [row for case in cases for row in scaling(case, options.ways, options.processes, *shared)]
    results["states"] = [state_cost(case, *shared) for case in cases]
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
