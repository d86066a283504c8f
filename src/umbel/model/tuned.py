"""Models tuned to a task: a head on a trained backbone, and folders that know what they were tuned for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from umbel.errors import CheckpointError, ConfigError
from umbel.model import released
from umbel.model.checkpoint import checkpoint_folder, quiet_transformers, save_checkpoint
from umbel.model.heads import NumberHead
from umbel.model.hf import (
    MODEL_TYPE,
    UmbelConfig,
    UmbelForMaskedLM,
    UmbelForSequenceClassification,
    UmbelForTokenClassification,
    UmbelForTracks,
)

Tuned = UmbelForSequenceClassification | UmbelForTokenClassification | UmbelForTracks

_CLASS_OF: dict[str, type[Tuned]] = {
    "binary": UmbelForSequenceClassification,
    "multiclass": UmbelForSequenceClassification,
    "multilabel": UmbelForSequenceClassification,
    "regression": UmbelForSequenceClassification,
    "bases": UmbelForTokenClassification,
    "bins": UmbelForTracks,
}
_PROBLEM_OF = {
    "binary": "single_label_classification",
    "multiclass": "single_label_classification",
    "multilabel": "multi_label_classification",
    "regression": "regression",
}
_CLASSES = ("binary", "multiclass", "bases")
_NUMBERS = ("regression", "bins")
# What transformers works out for itself, or what belongs to the masked language model alone.
_NOT_KEPT = ("architectures", "id2label", "label2id", "num_labels", "placement", "transformers_version", "dtype")


def _read_task(task: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Give kind, names and bin_bp of a task as plain JSON values.

    Raises
    ------
    ConfigError
        If these are not what a task is made of.
    """
    told = dict(task)
    kind, names, bin_bp = told.pop("kind", None), told.pop("names", ()), told.pop("bin_bp", 1)
    if kind not in _CLASS_OF:
        raise ConfigError(f"{where}: kind is {kind!r}, and there are {', '.join(_CLASS_OF)}")
    if told:
        raise ConfigError(f"{where}: {', '.join(sorted(told))} is no part of a task")
    names = list(names) if isinstance(names, list | tuple) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{where}: names must be texts, one for each class, label or output")
    return {"kind": kind, "names": names, "bin_bp": bin_bp}


def with_head(
    model: UmbelForMaskedLM,
    task: Mapping[str, Any],
    *,
    pooling: str = "mean",
    seed: int = 0,
    class_weights: Sequence[float] | None = None,
    output_mean: Sequence[float] | None = None,
    output_scale: Sequence[float] | None = None,
) -> Tuned:
    """Put a new head on the backbone of ``model``, which the two then share: nothing is copied.

    Parameters
    ----------
    task
        The fields of :class:`umbel.data.labelled.task.Task`.
    pooling
        How whole sequences become one vector, see :class:`~umbel.model.pooling.Pool`.
    seed
        Decides the head's weights, whatever the state of the global generator.
    class_weights
        What an example of each class counts in the loss, for tasks with one class out of several.
    output_mean, output_scale
        Mean and standard deviation of each output over the training targets, for tasks of numbers: the head begins
        there, and learns standardised numbers; see :class:`~umbel.model.heads.NumberHead`.

    Raises
    ------
    ConfigError
        If the task does not fit the model's tokens, or an argument does not fit the task.

    Examples
    --------
    >>> from umbel.config import ModelConfig
    >>> from umbel.model.hf import new_model
    >>> model = new_model(ModelConfig(n_layers=2, d_model=8, ffn_hidden=16), 512, seed=0)
    >>> tuned = with_head(model, {"kind": "bins", "names": ["leaf", "root"], "bin_bp": 2}, output_mean=[5.0, 9.0])
    >>> tuned(torch.tensor([[0, 7, 8, 9, 1]])).logits.shape
    torch.Size([1, 2, 2])
    """
    told = _read_task(task, "task")
    kind, names = told["kind"], told["names"]
    if class_weights is not None and kind not in _CLASSES:
        raise ConfigError(f"class weights are for one class out of several, and this is a {kind} task")
    if (output_mean is not None or output_scale is not None) and kind not in _NUMBERS:
        raise ConfigError(f"output_mean and output_scale are for numbers, and this is a {kind} task")
    base = {key: value for key, value in model.config.to_dict().items() if key not in _NOT_KEPT}
    base |= {
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
        "problem_type": _PROBLEM_OF.get(kind),
        "pooling": pooling,
        "task": told,
        "bin_bp": told["bin_bp"],
        "class_weights": None if class_weights is None else [float(weight) for weight in class_weights],
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tuned = _CLASS_OF[kind](UmbelConfig.from_dict(base), model.backbone)
    for part in tuned.modules():
        if isinstance(part, NumberHead):
            part.set_units(output_mean, output_scale)
    weight = model.backbone.embedding.weight
    for name, part in tuned.named_children():
        if name != "backbone":
            part.to(device=weight.device, dtype=torch.float64 if weight.dtype == torch.float64 else torch.float32)
    return tuned.train(model.training)


def save_tuned(folder: str | Path, model: Tuned, tokenizer: Any) -> None:
    """Write ``model.safetensors``, ``config.json`` and the tokenizer; a folder already there is replaced whole.

    Raises
    ------
    ConfigError
        If the model's config does not tell its task.
    OutputError
        If the disk is full; the folder is as it was before.
    """
    if model.config.task is None:
        raise ConfigError("config.task is None: make the model with umbel.model.tuned.with_head, or set it")
    save_checkpoint(folder, model, tokenizer)


def load_tuned(path: str | Path) -> Tuned:
    """Load a model that :func:`save_tuned` or its own ``save_pretrained`` wrote, ready for use, every weight of it.

    Raises
    ------
    CheckpointError
        If the folder holds no tuned model, another architecture, or any key is missing, unexpected or of another shape.
    """
    folder = checkpoint_folder(path)
    where = folder / "config.json"
    values = released.read_json_config(folder)
    kind = values.get("model_type")
    if kind == released.MODEL_TYPE:
        raise CheckpointError(f"{where}: a released PlantBiMoE, which has no head for a task: fine-tune it first")
    if kind != MODEL_TYPE:
        raise CheckpointError(f"{where}: model_type is {kind!r}, and umbel loads tuned models of {MODEL_TYPE!r}")
    if values.get("task") is None:
        raise CheckpointError(f"{where}: tells no task, so this is not a tuned model: fine-tune it first")
    try:
        task = _read_task(values["task"], f"{where}, task")
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: the task is damaged ({error})") from error
    tuned_class = _CLASS_OF[task["kind"]]
    saved_as = values.get("architectures") or []
    if saved_as != [tuned_class.__name__]:
        raise CheckpointError(
            f"{where}: architectures is {saved_as}, and a {task['kind']} task belongs to {tuned_class.__name__}"
        )
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise CheckpointError(f"{weights}: not there; the checkpoint is not complete")
    with quiet_transformers():
        model, info = tuned_class.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    if info["missing_keys"]:
        lacking = sorted(info["missing_keys"])
        raise CheckpointError(f"{folder}: {len(lacking)} keys do not fit: missing {'; missing '.join(lacking)}")
    named = [model.config.id2label.get(i) for i in range(model.config.num_labels)]
    if named != task["names"]:
        raise CheckpointError(f"{where}: id2label names {named}, and the task {task['names']}")
    return model.eval()
