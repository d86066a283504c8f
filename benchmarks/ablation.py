"""Train every arm of an ablation with several seeds, and tell what came of it beside baselines.

Use: python benchmarks/ablation.py moe|components|objectives --corpus DIR -o OUT.json [--recipe NAME]
     [--set KEY=VALUE ...] [--seeds 3] [--runs FOLDER] [--workers 2] [--threads 1] [--device cpu]

Without --recipe the runs are ``cpu_hour(hyenamoe_tiny())``; with it, the recipe as it is. Killed in any way, the same
command goes on: finished runs are kept, the others continue from their last state. A finished run keeps its settings,
measurements and checkpoint, and loses its training state. Arms of one seed see the same windows in the same order, and
are asked about the same hidden bases.
"""

from __future__ import annotations

import argparse
import fcntl
import itertools
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch

from umbel.config import BalanceConfig, RunConfig, apply_settings, from_dict
from umbel.data.batches import IGNORED, TrainingBatches
from umbel.data.corpus.store import Corpus
from umbel.data.tokenizers import make_tokens
from umbel.errors import RunError
from umbel.files import write_json
from umbel.model.backbone import count_parameters
from umbel.model.moe import Router
from umbel.ops.devices import autocast_dtype, resolve_device
from umbel.progress import Reporter
from umbel.train.ablations import FAMILIES, cpu_hour, family
from umbel.train.learner import Learner, untrained_model
from umbel.train.pretrain import pretrain
from umbel.train.processes import World
from umbel.train.recipes import hyenamoe_tiny, load_recipe
from umbel.train.state import read_metrics
from umbel.train.step import train_step, validate
from umbel.train.validation import placement_batches, validation_batches

STARVING = 0.05
"""An expert with less than this share of an even load is starving; one with nothing is dead."""
PLACING = ("placement_loss", "placement_accuracy")
MEASURES = ("loss", "accuracy", *PLACING, "max_over_mean", "cv", "entropy", "dead", "starving")
BASELINE_WINDOWS = 20_000
"""Train windows, evenly spaced, whose tokens are counted for the baseline."""


@dataclass(frozen=True)
class Job:
    """One arm with one seed, and its run folder."""

    arm: str
    seed: int
    run: RunConfig
    folder: Path

    @property
    def told(self) -> Path:
        """What is known of a finished run beside its own files: untrained measurements, and which code ran."""
        return self.folder.with_suffix(".json")

    @property
    def failure(self) -> Path:
        """Why the run cannot go on; absent where it can."""
        return self.folder.with_suffix(".failed")

    def steps(self) -> int:
        """Tell how many steps are done, by the last line of the measurements."""
        try:
            lines = (self.folder / "metrics.jsonl").read_bytes()[-20_000:].splitlines()
        except FileNotFoundError:
            return 0
        steps = re.findall(rb'"step": (\d+)', b"".join(lines[-2:]))
        return int(steps[-1]) if steps else 0

    def is_over(self) -> bool:
        """Tell whether there is nothing left to do."""
        return self.told.exists() or self.failure.exists()


def plan(arms: dict[str, RunConfig], seeds: int, runs: Path) -> list[Job]:
    """List all runs, one seed of every arm before the next seed."""
    return [
        Job(arm, seed, replace(run, train=replace(run.train, seed=seed)), runs / f"{slug(arm)}-seed-{seed}")
        for seed in range(seeds)
        for arm, run in arms.items()
    ]


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def summary(valid: dict[str, Any]) -> dict[str, float]:
    """Bring a validation record to one number each: ratios averaged over expert layers, experts added up."""
    found = {name: valid[name] for name in ("loss", "accuracy", *PLACING) if name in valid}
    layers = valid["experts"]
    if layers:
        for name in ("max_over_mean", "cv", "entropy"):
            found[name] = statistics.fmean(layer[name] for layer in layers)
        found["dead"] = sum(layer["n_dead"] for layer in layers)
        found["starving"] = sum(sum(x * len(layer["load"]) < STARVING for x in layer["load"]) for layer in layers)
    return found


def untrained(run: RunConfig, corpus: Corpus, device: torch.device) -> dict[str, Any]:
    """Measure the network as it is before the first step: what chance alone gives."""
    tokens = make_tokens(run.tokens)
    model = untrained_model(run, tokens).to(device)
    batches = [*validation_batches(corpus, run, tokens), *placement_batches(corpus, run, tokens)]
    return validate(model, batches, device, autocast_dtype(device, run.train.autocast))


def work(jobs: Sequence[Job], corpus: str, device: str, threads: int, parent: int, log: Path, commit: str) -> None:
    """Do whatever nobody else does, until nothing is left; a lock that dies with its process marks it."""
    torch.set_num_threads(threads)
    with log.open("a", encoding="utf-8") as stream:
        reporter = Reporter(stream, every_s=60)
        # The second time around waits for what another process, perhaps one left by a killed parent, is doing.
        for flags in (fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_EX):
            for job in jobs:
                if os.getppid() != parent:
                    return
                with job.folder.with_suffix(".lock").open("w") as lock:
                    try:
                        fcntl.flock(lock, flags)
                    except BlockingIOError:
                        continue
                    if not job.is_over():
                        one(job, corpus, device, reporter, commit)


def one(job: Job, corpus: str, device: str, reporter: Reporter, commit: str) -> None:
    try:
        pretrain(job.run, corpus, job.folder, device=device, reporter=reporter)
    except KeyboardInterrupt:
        sys.exit(130)
    except RunError as error:
        # The loss is not finite: a finding about the arm, and no reason to stop the others.
        job.failure.write_text(str(error))
        return
    before = untrained(job.run, Corpus.open(corpus), resolve_device(device))
    write_json(job.told, {"before": before, "commit": commit})
    shutil.rmtree(job.folder / "state")


def train_all(
    jobs: Sequence[Job], corpus: str, device: str, workers: int, threads: int, runs: Path, commit: str
) -> None:
    """Run the jobs in processes of their own, and show how far they are."""
    spawn = multiprocessing.get_context("spawn")
    crew = [
        spawn.Process(target=work, args=(jobs, corpus, device, threads, os.getpid(), runs / f"worker-{i}.log", commit))
        for i in range(workers)
    ]
    for job in jobs:
        job.failure.unlink(missing_ok=True)
        path = job.folder / "run.json"
        # Through RunConfig, because JSON turns what was a tuple into a list.
        if path.exists() and from_dict(RunConfig, json.loads(path.read_text())["config"], str(path)) != job.run:
            sys.exit(f"{job.folder}: holds a run of other settings; choose another --runs, or delete it")
    first = done = sum(job.steps() for job in jobs)
    total, began = sum(job.run.train.steps for job in jobs), time.monotonic()
    task = Reporter(every_s=30).start("all runs", total, "steps", done)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        for process in crew:
            process.start()
        while any(process.is_alive() for process in crew):
            time.sleep(1)
            now = sum(job.steps() for job in jobs)
            ended = sum(job.is_over() for job in jobs)
            left = (total - now) * (time.monotonic() - began) / max(1, now - first) / 60
            note = f"run {min(ended + 1, len(jobs))} of {len(jobs)}, {left:,.0f} min left"
            task.advance(max(0, now - done), note)
            done = max(now, done)
    finally:
        task.close()
        for process in crew:
            if process.is_alive():
                # They finish their step, and save it.
                process.terminate()
        for process in crew:
            process.join()
    if any(process.exitcode for process in crew):
        sys.exit(f"a worker failed, see above; the logs are {runs}/worker-*.log. The same command goes on")


def gate(arms: dict[str, RunConfig], corpus: Corpus) -> dict[str, float]:
    """See that a bias follows the load within a step, else its arms would be another arm under a wrong name."""
    for run in arms.values():
        if run.model.gating != "bias":
            continue
        tokens = make_tokens(run.tokens)
        single = replace(run.train, batch_windows=1, micro_batch_windows=1, seed=0)
        model, cpu = untrained_model(replace(run, train=single), tokens), torch.device("cpu")
        batches = TrainingBatches(corpus, replace(run, train=single, balance=BalanceConfig()), tokens)
        train_step(Learner(model, replace(run, train=single), World(cpu)), batches.micro_batches(0, 1))
        moved = min(float(m.load_bias.abs().max()) for m in model.modules() if isinstance(m, Router))
        if not math.isclose(moved, run.train.bias_rate, rel_tol=1e-5):
            sys.exit(f"the bias of a router moved by {moved} in a step, not {run.train.bias_rate}: nothing is trained")
        return {"bias after one step": moved}
    return {}


def baseline(run: RunConfig, corpus: Corpus, seeds: int) -> dict[str, Any]:
    """Predict every hidden token by how common each token is in the train windows."""
    tokens = make_tokens(run.tokens)
    ids = corpus.window_ids("train")
    ids = ids[np.linspace(0, len(ids) - 1, min(len(ids), BASELINE_WINDOWS)).astype(int)]
    # One more than was seen, so that no token is impossible.
    counts = np.ones(tokens.size)
    for i in ids:
        counts += np.bincount(tokens.encode(corpus.read_window(int(i))[0]).ids[1:-1], minlength=tokens.size)
    share = counts / counts.sum()
    rows, routed = [], 0
    for seed in range(seeds):
        batches = validation_batches(corpus, replace(run, train=replace(run.train, seed=seed)), tokens)
        labels = np.concatenate([batch.labels[batch.labels != IGNORED] for batch in batches])
        rows.append((float(-np.log(share[labels]).mean()), float((labels == share.argmax()).mean())))
        routed = sum(int(batch.attention_mask.sum()) for batch in batches)
    return {
        "what": "every hidden token predicted by the frequencies of tokens in train windows",
        "loss": spread([loss for loss, _ in rows]),
        "accuracy": spread([accuracy for _, accuracy in rows]),
        "train_windows": len(ids),
        "hidden_tokens": len(labels),
        "routed_tokens": routed,
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Give mean and standard deviation over seeds (n - 1 in the divisor), and each seed's value."""
    told: dict[str, Any] = {"mean": round(statistics.fmean(values), 5)}
    if len(values) > 1:
        told["sd"] = round(statistics.stdev(values), 5)
    return told | {"seeds": [round(value, 5) for value in values]}


def seconds_of(records: Sequence[dict[str, Any]]) -> float:
    """Add up the seconds of a run that may have been continued, where the clock began at 0 again."""
    clock = [0.0, *(r["seconds"] for r in records if r["kind"] == "train")]
    return sum(b - a if b >= a else b for a, b in itertools.pairwise(clock))


def collect(jobs: Sequence[Job]) -> dict[str, Any]:
    """Gather the finished runs of each arm."""
    arms: dict[str, Any] = {}
    for arm in dict.fromkeys(job.arm for job in jobs):
        ours = [job for job in jobs if job.arm == arm]
        failed = [job.failure.read_text() for job in ours if job.failure.exists()]
        ours = [job for job in ours if job.told.exists()]
        told: dict[str, Any] = {"failed": failed} if failed else {}
        if not ours:
            arms[arm] = told
            continue
        model, train = ours[0].run.model, ours[0].run.train
        total, active = count_parameters(model)
        masking = ours[0].run.masking
        told["objectives"] = {name: getattr(masking, f"{name}_weight") for name in ("uniform", "span", "placement")}
        told |= {"pattern": model.pattern, "gating": model.gating, "balance_coef": train.balance_coef}
        told |= {"top_k": model.top_k, "experts": model.n_experts, "parameters": total, "active_parameters": active}
        told["expert_layers"] = sum(kind[1] == "e" for kind in model.layer_kinds)
        metrics = [read_metrics(job.folder / "metrics.jsonl") for job in ours]
        curves = [[r for r in records if r["kind"] == "valid"] for records in metrics]
        for curve, job in zip(curves, ours, strict=True):
            curve.insert(0, {"step": 0, **json.loads(job.told.read_text())["before"]})
        ends = [summary(curve[-1]) for curve in curves]
        told |= {name: spread([end[name] for end in ends]) for name in MEASURES if name in ends[0]}
        told["by_layer"] = {
            name: [[round(layer[name], 3) for layer in curve[-1]["experts"]] for curve in curves]
            for name in ("max_over_mean", "n_dead")
            if "dead" in ends[0]
        }
        told["seconds"] = spread([seconds_of(records) for records in metrics])
        told["seeds"] = [job.seed for job in ours]
        told["curve"] = {"step": [record["step"] for record in curves[0]]}
        points = [[summary(record) for record in curve] for curve in curves]
        for name in ends[0]:
            told["curve"][name] = [round(statistics.fmean(p[name] for p in at), 4) for at in zip(*points, strict=True)]
        arms[arm] = told
    return arms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=sorted(FAMILIES))
    parser.add_argument("--corpus", required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--recipe", help="as it is; left out: hyenamoe_tiny, shortened to a CPU hour")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", default="", help="only arms whose name has this in it")
    parser.add_argument("--runs", type=Path, help="run folders; left out: runs/ablation_FAMILY")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of each; 0 shares the cores out")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--commit", help="where git is not at hand")
    chosen = parser.parse_args()
    base = load_recipe(chosen.recipe) if chosen.recipe else cpu_hour(hyenamoe_tiny())
    base = apply_settings(base, chosen.settings)
    arms = {name: run for name, run in family(chosen.family, base).items() if chosen.arms in name}
    if not arms:
        sys.exit(f"--arms {chosen.arms}: no arm has this in its name")
    runs = chosen.runs or Path("runs") / f"ablation_{chosen.family}"
    runs.mkdir(parents=True, exist_ok=True)
    jobs, corpus = plan(arms, chosen.seeds, runs), Corpus.open(chosen.corpus)
    threads = chosen.threads or max(1, torch.get_num_threads() // chosen.workers)
    results: dict[str, Any] = measure.facts(resolve_device(chosen.device), chosen.commit)
    results |= {"threads": threads, "workers": chosen.workers, "family": chosen.family, "settings": chosen.settings}
    results |= {"recipe": chosen.recipe or "cpu_hour(hyenamoe_tiny)", "steps": base.train.steps}
    results |= {"corpus": {"hash": corpus.hash, "windows": {k: len(corpus.window_ids(k)) for k in ("train", "valid")}}}
    results |= {"gate": gate(arms, corpus), "baseline": baseline(base, corpus, chosen.seeds)}
    try:
        train_all(jobs, chosen.corpus, chosen.device, chosen.workers, threads, runs, results["commit"])
    finally:
        told = [json.loads(job.told.read_text()) for job in jobs if job.told.exists()]
        results["commits_of_runs"] = sorted({one["commit"] for one in told})
        results |= {"finished": f"{len(told)} of {len(jobs)}", "arms": collect(jobs)}
        measure.write_rows(chosen.out, results)
    print(f"{chosen.out}: {results['finished']} runs")


if __name__ == "__main__":
    main()
