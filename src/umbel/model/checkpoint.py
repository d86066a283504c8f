"""Checkpoint folders: ours, which Hugging Face loads, and the released PlantBiMoE layout."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from umbel.errors import CheckpointError
from umbel.files import sha256_file, whole_folder
from umbel.model import released
from umbel.model.hf import MODEL_TYPE, UmbelForMaskedLM, UmbelPreTrainedModel, new_model
from umbel.model.shipped import about_shipped, model_path

RELEASED_WINDOW_BP = 32_768


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide transformers' own bars and load reports: what they would report is an error of ours."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def save_checkpoint(
    folder: str | Path, model: UmbelPreTrainedModel, tokenizer: Any, *, dtype: torch.dtype | None = None
) -> None:
    """Write ``model.safetensors``, ``config.json`` and the tokenizer; a folder already there is replaced whole.

    Parameters
    ----------
    dtype
        Round weights to it on disk, as ``torch.bfloat16`` to ship them at half the size; ``model`` stays as it is, and
        what loads them computes in float32 all the same. None writes them as they are.

    Raises
    ------
    OutputError
        If the disk is full; the folder is as it was before.
    """
    stored = model if dtype is None else copy.deepcopy(model).to(dtype)
    with whole_folder(folder) as temporary, quiet_transformers():
        stored.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


def checkpoint_folder(path: str | Path) -> Path:
    """Find the checkpoint in what the user named: the folder itself, the run folder around it, or a shipped model.

    Raises
    ------
    CheckpointError
        If there is no checkpoint.
    """
    folder = model_path(path)
    for candidate in (folder, folder / "checkpoint"):
        if (candidate / "config.json").is_file():
            return candidate
    if (folder / "run.json").is_file():
        raise CheckpointError(
            f"{folder}: this run has no checkpoint yet; run the same umbel pretrain command to the end"
        )
    raise CheckpointError(f"{folder}: no checkpoint there (no config.json){about_shipped(folder)}")


def load_checkpoint(path: str | Path) -> UmbelForMaskedLM:
    """Load a masked language model from our folder, a run folder, a released PlantBiMoE folder or by name, strictly.

    Raises
    ------
    CheckpointError
        If the folder holds another architecture, or any key is missing, unexpected or of another shape.
    """
    folder = checkpoint_folder(path)
    values = released.read_json_config(folder)
    kind = values.get("model_type")
    if kind == released.MODEL_TYPE:
        return _load_released(folder, values)
    if kind != MODEL_TYPE:
        raise CheckpointError(
            f"{folder / 'config.json'}: model_type is {kind!r}, and umbel loads {MODEL_TYPE!r} and "
            f"{released.MODEL_TYPE!r}. This checkpoint is of another architecture"
        )
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise CheckpointError(f"{weights}: not there; the checkpoint is not complete")
    with quiet_transformers():
        return UmbelForMaskedLM.from_pretrained(folder, local_files_only=True).eval()


def _load_released(folder: Path, values: dict[str, Any]) -> UmbelForMaskedLM:
    config = released.to_model_config(values, str(folder / "config.json"))
    theirs, source = released.read_released_tensors(folder)
    model = new_model(config, RELEASED_WINDOW_BP, seed=0)
    with torch.no_grad():
        released.from_released(theirs, model.state_dict(), config, str(source))
    return model.eval()


def import_released(source: str | Path, out: str | Path, tokenizer: Any) -> UmbelForMaskedLM:
    """Turn a released PlantBiMoE folder into one of ours.

    Raises
    ------
    CheckpointError
        If ``source`` is no released folder, or any key does not fit.
    """
    folder = Path(source)
    model = _load_released(folder, released.read_json_config(folder))
    save_checkpoint(out, model, tokenizer)
    return model


def export_released(source: str | Path, out: str | Path) -> None:
    """Write one of our checkpoints in the released PlantBiMoE layout, which has no place for a head of span placement.

    Raises
    ------
    CheckpointError
        If the model takes other tokens than single nucleotides, the only ones of that layout.
    """
    model = load_checkpoint(source)
    tokens = model.config.tokens
    if tokens is not None and (tokens.get("kind"), tokens.get("k")) != ("kmer", 1):
        raise CheckpointError(
            f"{source}: its tokens are {json.dumps(tokens)}, and the released layout holds single nucleotides only"
        )
    released.write_released(Path(out), model.state_dict(), model.config.model)


def weights_hash(path: str | Path) -> str:
    """Identify a checkpoint's weights: SHA-256 of its weights file."""
    folder = checkpoint_folder(path)
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return sha256_file(folder / name)
    raise CheckpointError(f"{folder}: no weights file")
