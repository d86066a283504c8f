"""The loss curve of the run that a checkpoint came from, read from its ``metrics.jsonl``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from umbel.train.state import read_metrics

MAX_POINTS = 400
METRICS_FILE = "metrics.jsonl"


def read_curve(run: Path | None) -> dict[str, Any]:
    """Read train and valid loss against step.

    More than 400 train points become means over neighbouring steps.

    Parameters
    ----------
    run
        The run folder, or None where the checkpoint has none.

    Returns
    -------
    ``train`` and ``valid``, each with ``step`` and ``loss``; ``steps_per_point`` of the train curve;
    ``n_skipped`` entries whose loss is not finite; ``per``, ``base`` or ``token``: what a loss is the mean over.
    Or ``missing``: why there is no curve.

    Raises
    ------
    RunError
        If the file is damaged before its last line.
    """
    if run is None:
        return {"missing": "This checkpoint lies in no run folder, so there is no record of its training."}
    records = read_metrics(run / METRICS_FILE)
    if not records:
        return {"missing": f"The run folder has no {METRICS_FILE}, so there is no record of the training."}
    points: dict[str, dict[int, float]] = {"train": {}, "valid": {}}
    n_skipped = 0
    for record in records:
        if "loss" not in record:  # a step of span placement alone
            continue
        if math.isfinite(record["loss"]):
            points[record["kind"]][record["step"]] = record["loss"]
        else:
            n_skipped += 1
    if not points["train"] and not points["valid"]:
        return {"missing": f"The run's {METRICS_FILE} holds no finite loss."}
    train_steps = np.array(sorted(points["train"]), np.int64)
    train_loss = np.array([points["train"][step] for step in train_steps.tolist()])
    size = max(1, -(-len(train_steps) // MAX_POINTS))
    starts = np.arange(0, len(train_steps), size)
    valid_steps = sorted(points["valid"])
    return {
        "train": {
            "step": [float(train_steps[start : start + size].mean()) for start in starts],
            "loss": [float(train_loss[start : start + size].mean()) for start in starts],
        },
        "valid": {"step": valid_steps, "loss": [points["valid"][step] for step in valid_steps]},
        "steps_per_point": size,
        "n_steps": max([*train_steps.tolist(), *valid_steps]),
        "n_skipped": n_skipped,
        "per": _unit(run),
    }


def _unit(run: Path) -> str:
    """Tell whether the run's tokens are single bases; they are where ``run.json`` says nothing of tokens."""
    try:
        tokens = json.loads((run / "run.json").read_text(encoding="utf-8"))["config"]["tokens"]
        return "base" if (tokens["kind"], tokens["k"]) == ("kmer", 1) else "token"
    except (OSError, ValueError, KeyError, TypeError):
        return "base"
