"""Train the tiny recipe by different optimisers, schedules and lengths, and time what Muon costs.

Use: python benchmarks/optimisers.py --corpus DIR -o OUT.json [--steps 120] [--seeds 3] [--ema 0.95]

DIR is ``umbel corpus build examples/data/manifest.toml --recipe tiny``. Every arm takes the learning rate that was best
with a seed of its own, out of a grid that grows by one step where the best lies at its edge; then it is trained with
``--seeds`` other seeds. The loss is that of whole validation windows, in nats a masked base. Averaged weights cost no
run of their own: each run is measured with both. Finished runs are kept in OUT.json, and the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ablation
import measure
import torch
from train_step import made_up_batch

from umbel.config import RunConfig, to_dict
from umbel.data.batches import TrainingBatches
from umbel.data.corpus.store import Corpus
from umbel.data.tokenizers import make_tokens
from umbel.model.hf import new_model
from umbel.train.learner import Learner, untrained_model
from umbel.train.optim import make_optimizers
from umbel.train.processes import World
from umbel.train.recipes import plantbimoe, tiny, tiny_lengths
from umbel.train.step import train_step, validate
from umbel.train.validation import validation_batches

CPU = torch.device("cpu")
GRID = (5e-3, 1e-2, 2e-2)
CHOOSING_SEED = 100
EVAL_WINDOWS = 128


@dataclass(frozen=True)
class Arm:
    """A run, and which of its weights count: the trained ones or their average."""

    run: RunConfig
    weights: str = "loss"


def arms(steps: int) -> dict[str, Arm]:
    """Name the arms; all have the same bases, steps and network."""
    run = tiny()
    optim = replace(run.optim, warmup_steps=steps // 6)
    run = replace(run, optim=optim, train=replace(run.train, steps=steps, eval_windows=EVAL_WINDOWS))
    lengths = tiny_lengths().train.length_stages
    lengths = tuple(replace(stage, steps=stage.steps * steps // tiny().train.steps) for stage in lengths)
    return {
        "AdamW, cosine": Arm(run),
        "AdamW, cosine, averaged": Arm(run, "ema_loss"),
        "Muon, cosine": Arm(replace(run, optim=replace(optim, kind="muon"))),
        "AdamW, WSD": Arm(replace(run, optim=replace(optim, schedule="wsd", decay_frac=0.2))),
        "AdamW, cosine, lengths": Arm(replace(run, train=replace(run.train, length_stages=lengths))),
    }


def train(run: RunConfig, corpus: Corpus, ema_decay: float) -> dict[str, Any]:
    """Train once; give the losses of the trained and the averaged weights, and the CPU seconds of training."""
    run, tokens = replace(run, train=replace(run.train, ema_decay=ema_decay)), make_tokens(run.tokens)
    model = untrained_model(run, tokens)
    learner, batches = Learner(model, run, World(CPU)), TrainingBatches(corpus, run, tokens)
    began = time.process_time()
    for step in range(run.train.steps):
        train_step(learner, batches.micro_batches(step, 8))
        learner.step += 1
    seconds = time.process_time() - began
    valid = validation_batches(corpus, run, tokens)
    loss = validate(model, valid, CPU, None)["loss"]
    with learner.ema.in_place_of_weights():
        averaged = validate(model, valid, CPU, None)["loss"]
    return {"loss": loss, "ema_loss": averaged, "cpu_seconds": round(seconds, 1)}


class Runs:
    """Finished runs, each under the settings that make it; kept on disk."""

    def __init__(self, path: Path, corpus: Corpus, ema_decay: float):
        self._path, self._corpus, self._ema_decay = path, corpus, ema_decay
        self.found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def __call__(self, run: RunConfig, lr: float, seed: int) -> dict[str, Any]:
        """Give what a run with this rate and seed comes to, training it where nobody has."""
        run = replace(run, optim=replace(run.optim, lr=lr), train=replace(run.train, seed=seed))
        settings = {part: to_dict(getattr(run, part)) for part in ("optim", "train")}
        key = json.dumps([settings, self._corpus.hash, self._ema_decay])
        if key not in self.found:
            self.found[key] = train(run, self._corpus, self._ema_decay)
            measure.write(self._path, self.found)
            print(f"{run.optim.kind} {run.optim.schedule} lr {lr:g} seed {seed}: {self.found[key]}", flush=True)
        return self.found[key]


def choose_lr(arm: Arm, runs: Runs) -> dict[float, float]:
    """Measure the grid with the seed for choosing, grown where the best lies at its edge; loss by learning rate."""
    found = {lr: runs(arm.run, lr, CHOOSING_SEED)[arm.weights] for lr in GRID}
    best = min(found, key=found.__getitem__)
    for edge, factor in ((min(GRID), 0.5), (max(GRID), 2.0)):
        if best == edge:
            found[edge * factor] = runs(arm.run, edge * factor, CHOOSING_SEED)[arm.weights]
    return dict(sorted(found.items()))


def step_cost(name: str, run: RunConfig, tokens_of_a_step: int) -> dict[str, Any]:
    """Time forward and backward passes and the steps of both optimisers, in turns; tell Muon's share of a step."""
    model, batch = new_model(run.model, run.corpus.window_bp, 0), made_up_batch(run)
    learner = Learner(model, run, World(CPU))
    adamw, muon = (make_optimizers(model, replace(run.optim, kind=kind)) for kind in ("adamw", "muon"))
    cases = {
        "passes": lambda: train_step(learner, [batch]),
        "AdamW": lambda: [optimizer.step() for optimizer in adamw],
        "Muon": lambda: [optimizer.step() for optimizer in muon],
    }
    # What is left of a step without an optimiser.
    learner.optimizers.clear()
    cases["passes"]()
    found = {case: min(seconds) for case, seconds in measure.in_turns(cases, 7, CPU).items()}
    tokens = int(batch.attention_mask.sum())
    whole = found["passes"] / tokens * tokens_of_a_step
    shares = {case: round(found[case] / (whole + found[case]), 7) for case in ("AdamW", "Muon")}
    best = {case: round(seconds * 1e3, 2) for case, seconds in found.items()}
    return {
        "case": name,
        "tokens": tokens,
        "best_ms": best,
        "tokens_of_a_step": tokens_of_a_step,
        "share_of_a_step": shares,
    }


def costs() -> list[dict[str, Any]]:
    """Time a tiny step, and a block with experts of the published network on 2,048 bases."""
    run, block = tiny(), plantbimoe()
    tokens = block.train.batch_windows * block.corpus.window_bp
    short = replace(block.train, batch_windows=1, micro_batch_windows=1)
    block = replace(block, model=replace(block.model, pattern="Me", n_layers=1), train=short)
    block = replace(block, corpus=replace(block.corpus, window_bp=2_048))
    return [
        step_cost("tiny", run, run.train.batch_windows * run.corpus.window_bp),
        step_cost("a block of plantbimoe", block, 2_048),
        step_cost("a block of plantbimoe", block, tokens),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ema", type=float, default=0.95)
    parser.add_argument("--commit", help="where git is not at hand")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    corpus, seeds = Corpus.open(chosen.corpus), range(chosen.seeds)
    runs = Runs(chosen.out.with_suffix(".runs"), corpus, chosen.ema)
    results: dict[str, Any] = measure.facts(CPU, chosen.commit)
    results |= {"recipe": "tiny", "steps": chosen.steps, "steps_of_the_recipe": tiny().train.steps}
    results |= {"ema_decay": chosen.ema, "eval_windows": EVAL_WINDOWS, "choosing_seed": CHOOSING_SEED}
    results |= {"corpus": corpus.hash, "costs": costs()}
    results["baseline"] = ablation.baseline(next(iter(arms(chosen.steps).values())).run, corpus, chosen.seeds)
    results["arms"], first = {}, []
    for name, arm in arms(chosen.steps).items():
        grid = choose_lr(arm, runs)
        lr = min(grid, key=grid.__getitem__)
        found = [runs(arm.run, lr, seed) for seed in seeds]
        losses = [one[arm.weights] for one in found]
        # Seeds hide different bases, arms of one seed the same: only differences within a seed can be compared.
        first = first or losses
        told = {"lr": lr, "loss": ablation.spread(losses)}
        told["minus_the_first_arm"] = ablation.spread([a - b for a, b in zip(losses, first, strict=True)])
        told |= {"cpu_seconds": ablation.spread([one["cpu_seconds"] for one in found])}
        results["arms"][name] = told | {"grid": {f"{rate:g}": round(loss, 5) for rate, loss in grid.items()}}
        measure.write_rows(chosen.out, results)
        print(f"{name}: {told}", flush=True)


if __name__ == "__main__":
    main()
