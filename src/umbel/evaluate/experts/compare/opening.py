"""Our models from what the user named: a checkpoint, a tuned model or adapter, or the state of a run in training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch

from umbel.config import read_run_config
from umbel.data.tokenizers import describe, make_tokens
from umbel.errors import CheckpointError, RunError
from umbel.evaluate.experts.compare.checkpoints import Checkpoint, of_predictor
from umbel.files import sha256_file, sha256_json
from umbel.model import released
from umbel.model.adapters.files import CARD_FILE, WEIGHTS_FILE, load_adapter
from umbel.model.hf import MODEL_TYPE, UmbelForMaskedLM, new_model
from umbel.model.shipped import model_path
from umbel.ops.devices import resolve_device
from umbel.predict.head import Head, find_tuned
from umbel.predict.predictor import Predictor
from umbel.train.learner import untrained_model
from umbel.train.processes import World
from umbel.train.state import FACTS, read_tensors

Kind = Literal["state", "tuned", "checkpoint", "other"]

_OURS = (MODEL_TYPE, released.MODEL_TYPE, None)


def kind_of(path: str | Path) -> Kind:
    """Tell what a folder holds: the state of a run, a tuned model or adapter, a checkpoint, or a model of others."""
    folder = model_path(path)
    if (folder / FACTS).is_file():
        return "state"
    if any((folder / name).exists() for name in ("finetune.json", CARD_FILE, f"adapter/{CARD_FILE}")):
        return "tuned"
    for config in (folder / "config.json", folder / "model" / "config.json"):
        if config.is_file():
            told = _json(config)
            if told.get("model_type") not in _OURS:
                return "other"
            if told.get("task") is not None:
                return "tuned"
    return "checkpoint"


def open_checkpoint(
    name: str, path: str | Path, device: str = "auto", base: str | Path | None = None
) -> tuple[Checkpoint, Predictor | None]:
    """Open a model under a name.

    Parameters
    ----------
    path
        A checkpoint or run folder; ``mini``; ``RUN/state/step-000001000``; what ``umbel finetune`` wrote, one run of
        it, its ``model`` or ``adapter``; an adapter of the language model; or a folder of Hugging Face with routers.
    base
        Of an adapter that does not lie in the result of ``umbel finetune``, which tells it.

    Returns
    -------
    The checkpoint, and the predictor behind it, of which random twins are made; None where the model is not ours.

    Raises
    ------
    CheckpointError, RunError
        If it is not there or damaged.
    """
    path = model_path(path)
    kind = kind_of(path)
    if kind == "other":
        from umbel.evaluate.experts.hooked.model import HookedModel

        hooked = HookedModel.load(path, device)
        return Checkpoint(name, hooked, hooked.weights), None
    if kind == "state":
        predictor, step = read_state(path, device)
        return of_predictor(name, predictor, step=step), predictor
    predictor = _open_tuned(path, device, base) if kind == "tuned" else Predictor.load(path, device)
    return of_predictor(name, predictor, step=_last_step(path) if kind == "checkpoint" else None), predictor


def _last_step(folder: Path) -> int | None:
    """Tell the step of a finished run, beside whose states it may stand."""
    if (folder / "run.json").is_file() and (folder / "checkpoint" / "config.json").is_file():
        return read_run_config(folder / "run.json").train.steps
    return None


def read_state(path: str | Path, device: str = "auto") -> tuple[Predictor, int]:
    """Read the weights of a run's state, those that are trained and not their average, and the step they are of.

    Raises
    ------
    RunError
        If the folder is no state, is damaged, or has no ``run.json`` of its run above it.
    """
    folder = Path(path)
    run_file = folder.resolve().parent.parent / "run.json"
    if not run_file.is_file():
        raise RunError(f"{folder}: {run_file} is not there, which tells the network's shape; leave states in their run")
    facts = _state_facts(folder)
    run = read_run_config(run_file)
    tokens = make_tokens(run.tokens)
    model = untrained_model(run, tokens)
    weights = {f"model.{name}": value for name, value in _untied(model).items()}
    read_tensors(folder, weights, World(torch.device("cpu")))
    key = sha256_json(facts["files"])
    return Predictor(model, key, resolve_device(device), tokens, "fp32", folder), int(facts["step"])


def _untied(model: UmbelForMaskedLM) -> dict[str, torch.Tensor]:
    """Give parameters and buffers as a state has them: a tied one once."""
    seen: set[int] = set()
    found = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor.detach()
    return found


def _state_facts(folder: Path) -> dict[str, Any]:
    try:
        facts = _json(folder / FACTS)
        check = facts.pop("check")
        if check != sha256_json(facts):
            raise ValueError("it does not agree with its checksum")
        for name, file in dict(facts["files"]).items():
            if sha256_file(folder / name) != file["sha256"]:
                raise ValueError(f"{name} does not agree with its checksum")
    except (OSError, KeyError, TypeError, ValueError, CheckpointError) as error:
        raise RunError(f"{folder}: this state is damaged ({error}); take another") from error
    return facts


def _open_tuned(path: str | Path, device: str, base: str | Path | None) -> Predictor:
    """Give a tuned backbone as a language model, whose head nobody asks: routing ends before it."""
    folder = find_tuned(Path(path))
    if (folder / CARD_FILE).is_file() and base is not None:
        merged = load_adapter(base, folder)
        if isinstance(merged, UmbelForMaskedLM):
            ground = Predictor.load(base, device)
            key = sha256_json([ground.weights_hash, sha256_file(folder / WEIGHTS_FILE)])
            return ground.with_backbone(merged.backbone, key)
    own = model_path(base) if base is not None and not (Path(path) / "finetune.json").is_file() else None
    head = Head.load(path, device, base=own)
    backbone = head._backbone
    model = new_model(backbone.config, head.window_bp, 0, describe(head.tokens))
    model.backbone = backbone
    return Predictor(model, head.weights_hash, head.device, head.tokens, "fp32", Path(path))


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged ({error})") from error
