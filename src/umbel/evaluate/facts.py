"""What a report says about model, run and corpus, apart from results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from umbel.model.checkpoint import checkpoint_folder
from umbel.model.shipped import model_path

if TYPE_CHECKING:
    from umbel.data.corpus.store import Corpus


def find_run(checkpoint: str | Path) -> tuple[Path, Path | None]:
    """Tell the checkpoint folder and the run folder (None: it has none) from either of the two.

    Raises
    ------
    CheckpointError
        If there is no checkpoint, or the run has not reached one yet.
    """
    named = model_path(checkpoint)
    folder = checkpoint_folder(named)
    if (folder / "run.json").is_file():  # a model of the package has its run's settings beside it
        return folder, folder
    is_run = folder != named or (folder.name == "checkpoint" and (folder.parent / "run.json").is_file())
    return folder, folder.parent if is_run else None


def model_facts(predictor: Any, name: str) -> dict[str, Any]:
    """Tell the sizes of a model, and what identifies it."""
    return {
        "name": name,
        "weights_hash": predictor.weights_hash,
        "n_parameters": int(predictor.n_parameters),
        "n_active_parameters": int(predictor.n_active_parameters),
        "window_bp": int(predictor.window_bp),
        "moe_layers": [int(layer) for layer in predictor.moe_layers],
        "n_experts": int(predictor.n_experts),
    }


def run_facts(run: Path | None) -> dict[str, Any]:
    """Tell what ``run.json`` says of recipe, architecture and corpus, as far as it can be read."""
    if run is None:
        return {"missing": "no run folder"}
    try:
        told = json.loads((run / "run.json").read_text(encoding="utf-8"))
        config = told["config"]
        return {
            "recipe": str(config["name"]),
            "pattern": str(config["model"]["pattern"]),
            "n_layers": int(config["model"]["n_layers"]),
            "d_model": int(config["model"]["d_model"]),
            "corpus_hash": str(told["corpus"]["hash"]),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {"missing": f"run.json could not be read ({type(error).__name__})"}


def corpus_facts(corpus: Corpus, ids: npt.NDArray[np.int64], held_out: str) -> dict[str, Any]:
    """Tell what a corpus is made of, and how many of its held-out windows were used."""
    assemblies = [
        {"species": str(facts["species"]), "assembly": str(facts["assembly"])} for facts in corpus.facts["assemblies"]
    ]
    return {
        "hash": corpus.hash,
        "window_bp": corpus.config.window_bp,
        "overlap_bp": corpus.config.overlap_bp,
        "assemblies": assemblies,
        "n_windows": {role: len(corpus.window_ids(role)) for role in ("train", "valid", held_out)},
        "contig_bp": {
            role: sum(contig.length for contig in corpus.contigs(role)) for role in ("train", "valid", held_out)
        },
        "held_out_contigs": [f"{contig.contig} ({contig.assembly})" for contig in corpus.contigs(held_out)],
        "n_windows_used": len(ids),
    }
