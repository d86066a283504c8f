"""Loss of mini against the bases it has seen, from the run's own record, with a power law and a figure.

    python benchmarks/mini/scaling.py RUN -o benchmarks/results/mini_scaling.json

RUN is the folder of ``umbel pretrain``, with ``run.json`` and ``metrics.jsonl``. Fitted is the validation loss after
the warm-up; where there are too few of those, the training loss, averaged over neighbouring steps.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from held_out import HERE, facts, write
from matplotlib.figure import Figure

from umbel.config import read_run_config
from umbel.errors import CheckpointError
from umbel.evaluate.power_law import MIN_POINTS, fit_power_law
from umbel.evaluate.training_curve import METRICS_FILE, read_curve
from umbel.files import whole_file
from umbel.train.state import read_metrics

MAX_POINTS = 60


def read_points(run: Path) -> dict[str, Any]:
    """Give bases seen and loss of the training and validation records."""
    config = read_run_config(run / "run.json")
    if config.train.length_stages:
        raise CheckpointError(
            f"{run}: windows of several lengths were trained on, and bases per step are not one number"
        )
    per_step = config.train.batch_windows * config.corpus.window_bp
    curve = read_curve(run)
    if "missing" in curve:
        raise CheckpointError(f"{run}: {curve['missing']}")
    found = {
        kind: {"bases": [step * per_step for step in curve[kind]["step"]], "loss": curve[kind]["loss"]}
        for kind in ("train", "valid")
    }
    records = [one for one in read_metrics(run / METRICS_FILE) if one["kind"] == "train"]
    return found | {
        "bases_per_step": per_step,
        "bases_seen": curve["n_steps"] * per_step,
        "warmup_bases": config.optim.warmup_steps * per_step,
        "tokens_per_s": float(np.median([one["tokens_per_s"] for one in records])) if records else None,
        "hours": max((one["seconds"] for one in records), default=0.0) / 3600,
    }


HIGHEST_LOSS = 1.36
"""Top of the picture."""


def draw(path: Path, points: dict[str, Any], law: dict[str, Any] | None) -> None:
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for kind, colour in (("train", "#9aa5b1"), ("valid", "#0072B2")):
        axes.plot(
            points[kind]["bases"], points[kind]["loss"], "o" if kind == "valid" else "-", ms=4, c=colour, label=kind
        )
    if law is not None:
        x = np.geomspace(law["from_bases"], points["bases_seen"], 200)
        y = law["floor"]["value"] + law["scale"]["value"] * (x / law["x_unit"]) ** -law["exponent"]["value"]
        axes.plot(x, y, "--", c="#D55E00", label=f"power law fitted to {law['of']} loss")
    # The first steps fall from 2.5 nats to what base frequencies give, and would flatten all that follows.
    axes.set(xscale="log", xlabel="bases seen", ylabel="masked loss, nats per base", ylim=(None, HIGHEST_LOSS))
    axes.legend(frameon=False)
    with whole_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], metadata={"Date": None} if path.suffix == ".svg" else None)


def fit(points: dict[str, Any], seed: int) -> dict[str, Any]:
    """Fit the law; ``missing`` says why there is none."""
    for of in ("valid", "train"):
        x, loss = np.array(points[of]["bases"]), np.array(points[of]["loss"])
        kept = x > points["warmup_bases"]
        x, loss = x[kept], loss[kept]
        if of == "train" and len(x) > MAX_POINTS:
            parts = np.array_split(np.arange(len(x)), MAX_POINTS)
            x, loss = (np.array([one[part].mean() for part in parts]) for one in (x, loss))
        if len(x) >= MIN_POINTS:
            return fit_power_law(x, loss, seed=seed).to_dict() | {"of": of, "from_bases": float(x[0])}
    return {"missing": f"fewer than {MIN_POINTS} records after the warm-up"}


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("run", type=Path)
    words.add_argument("-o", "--out", type=Path, default=HERE.parent / "results" / "mini_scaling.json")
    words.add_argument("--figure", type=Path, help="SVG or PNG; beside the JSON unless given")
    words.add_argument("--seed", type=int, default=0)
    words = words.parse_args()
    points = read_points(words.run)
    law = fit(points, words.seed)
    told = json.loads((words.run / "run.json").read_text(encoding="utf-8"))
    draw(words.figure or words.out.with_suffix(".svg"), points, None if "missing" in law else law)
    run = {key: told.get(key) for key in ("device", "device_name", "threads", "torch", "commit")}
    write(words.out, {"facts": facts(torch.device("cpu")), "run": run, "power_law": law, "points": points})
    print(f"{words.out}: {law}")


if __name__ == "__main__":
    main()
