"""Put a trained run into the package as the model ``mini``: weights in bf16, tokenizer, settings of the run.

Use: python benchmarks/mini/ship.py RUN [--from checkpoint|best|checkpoint_ema] [--into FOLDER]

The folder appears whole or is left as it was. The card that was in it told of other weights, so a card of bare facts
takes its place until card.py makes one with results. Optimiser state stays in RUN/state, outside the package.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch

import umbel
from umbel.config import read_run_config
from umbel.data.tokenizers import hf_tokenizer, load_tokens
from umbel.errors import CheckpointError
from umbel.files import sha256_file, whole_folder, write_json
from umbel.model.checkpoint import load_checkpoint, save_checkpoint
from umbel.train.state import read_metrics

INTO = Path(umbel.__file__).parent / "model" / "shipped" / "mini"
MOST_BYTES = 16_000_000


def steps_of(run: Path, kind: str) -> int:
    """Tell after which step the weights of ``kind`` were taken."""
    if kind != "best":
        return read_run_config(run / "run.json").train.steps
    losses = {record["step"]: record["loss"] for record in read_metrics(run / "metrics.jsonl") if is_valid(record)}
    if not losses:
        raise CheckpointError(f"{run / 'metrics.jsonl'}: no validation loss, so nothing tells which step is the best")
    return min(losses, key=lambda step: losses[step])


def is_valid(record: dict[str, Any]) -> bool:
    return record["kind"] == "valid" and "loss" in record


def ship(run: Path, kind: str = "checkpoint", into: Path = INTO) -> dict[str, Any]:
    """Fill ``into`` from a finished run; give what ``run.json`` there says of it."""
    source = run / kind
    if not (source / "config.json").is_file():
        raise CheckpointError(f"{source}: no checkpoint there; finish the run, or choose another with --from")
    model = load_checkpoint(source)
    tokenizer = hf_tokenizer(load_tokens(source, model.config.tokens), model.config.window_bp)
    told = json.loads((run / "run.json").read_text(encoding="utf-8"))
    # Where the corpus lay on that machine helps nobody; its hash says which it was.
    told["corpus"] = {"path": Path(told["corpus"]["path"]).name, "hash": told["corpus"]["hash"]}
    with whole_folder(into) as temporary:
        inner = temporary / "checkpoint"
        save_checkpoint(inner, model, tokenizer, dtype=torch.bfloat16)
        for file in sorted(inner.iterdir()):
            shutil.move(file, temporary / file.name)
        inner.rmdir()
        told["shipped"] = {
            "from": kind,
            "step": steps_of(run, kind),
            "dtype": "bfloat16",
            "weights_sha256": sha256_file(temporary / "model.safetensors"),
            "trained_weights_sha256": sha256_file(source / "model.safetensors"),
        }
        write_json(temporary / "run.json", told)
        (temporary / "README.md").write_text(bare_card(told), encoding="utf-8")
        size = sum(file.stat().st_size for file in temporary.iterdir())
        if size > MOST_BYTES:
            raise CheckpointError(
                f"{source}: would take {size:,} bytes in the package, and {MOST_BYTES:,} are the most"
            )
    return told


def bare_card(told: dict[str, Any]) -> str:
    """Say what can be said without any measurement."""
    config, facts = told["config"], told["shipped"]
    return f"""---
license: apache-2.0
library_name: umbel
tags: [dna, plants, mixture-of-experts, fill-mask]
---

# umbel-mini

A masked language model of plant DNA that comes with umbel, shipped before it was measured: `benchmarks/mini/card.py`
writes the card with data, licences and results.

| | |
| --- | --- |
| recipe | `{config["name"]}`, pattern `{config["model"]["pattern"]}`, {config["model"]["n_layers"]} layers |
| parameters | {told["n_parameters"]:,}, of which a base uses {told["n_active_parameters"]:,} |
| longest window | {config["corpus"]["window_bp"]:,} bp |
| weights | of step {facts["step"]:,} of {config["train"]["steps"]:,} (`{facts["from"]}`), stored in bf16 |
| SHA-256 of the weights | `{facts["weights_sha256"]}` |
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--from", dest="kind", choices=("checkpoint", "best", "checkpoint_ema"), default="checkpoint")
    parser.add_argument("--into", type=Path, default=INTO)
    options = parser.parse_args()
    told = ship(options.run, options.kind, options.into)
    for file in sorted(options.into.iterdir()):
        print(f"{file.stat().st_size:>12,}  {file.name}")
    print(json.dumps(told["shipped"], indent=2))


if __name__ == "__main__":
    main()
