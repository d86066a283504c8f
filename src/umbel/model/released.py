"""The released PlantBiMoE layout: its config and its tensor names, to ours and back, strictly.

Source of the layout: the published modelling code, github.com/HUST-Keep-Lin/PlantBiMoE, commit e3b6d53.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from umbel.config import ModelConfig
from umbel.errors import CheckpointError
from umbel.files import whole_folder, write_json

MODEL_TYPE = "plantbimoe"
_FUSIONS = {"add": "add", "ew_multiply": "multiply"}
_ROOT = "plantbimoe.backbone"
_DIRECTION = {
    "A_log": "A_log",
    "D": "D",
    "conv1d.weight": "conv_weight",
    "conv1d.bias": "conv_bias",
    "x_proj.weight": "x_proj.weight",
    "dt_proj.weight": "dt_proj.weight",
    "dt_proj.bias": "dt_proj.bias",
}


def read_json_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json`` of a checkpoint folder.

    Raises
    ------
    CheckpointError
        If the folder or the file is missing, or the file is not a JSON object.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder}: no config.json there, so this is not a checkpoint folder")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: holds no JSON object")
    return values


def to_model_config(values: dict[str, Any], where: str) -> ModelConfig:
    """Turn a released ``config.json`` into ours; what this code cannot compute is refused by key.

    Raises
    ------
    CheckpointError
        Naming ``where`` and each key whose value is not supported, or is missing.
    """
    ssm = values.get("ssm_cfg") or {}
    required = {
        "model_type": (values.get("model_type"), MODEL_TYPE),
        "bidirectional": (values.get("bidirectional", True), True),
        "rms_norm": (values.get("rms_norm", True), True),
        "ssm_cfg.conv_bias": (ssm.get("conv_bias", True), True),
        "ssm_cfg.bias": (ssm.get("bias", False), False),
    }
    wrong = [f"{key} is {found!r}, must be {wanted!r}" for key, (found, wanted) in required.items() if found != wanted]
    strategy = values.get("bidirectional_strategy") or "add"
    if strategy not in _FUSIONS:
        wrong.append(f"bidirectional_strategy is {strategy!r}, must be one of {', '.join(_FUSIONS)}")
    needed = ("d_model", "n_layer", "vocab_size", "intermediate_size", "num_experts", "num_experts_per_tok")
    wrong += [f"{key} is missing" for key in needed if key not in values]
    if wrong:
        raise CheckpointError(f"{where}: not a PlantBiMoE that umbel can load: " + "; ".join(wrong))
    multiple = values.get("pad_vocab_size_multiple") or 1
    rank = ssm.get("dt_rank", "auto")
    return ModelConfig(
        pattern="Md Me",
        n_layers=values["n_layer"],
        d_model=values["d_model"],
        expand=ssm.get("expand", 2),
        d_state=ssm.get("d_state", 16),
        d_conv=ssm.get("d_conv", 4),
        dt_rank=0 if rank == "auto" else rank,
        ffn_hidden=values["intermediate_size"],
        n_experts=values["num_experts"],
        top_k=values["num_experts_per_tok"],
        fusion=_FUSIONS[strategy],  # type: ignore[arg-type]
        tie_projections=values.get("bidirectional_weight_tie", True),
        residual_fp32=values.get("residual_in_fp32", False),
        norm_eps=values.get("norm_epsilon", 1e-5),
        vocab_size=-(-values["vocab_size"] // multiple) * multiple,
        tie_head=values.get("tie_word_embeddings", True),
        rescale="out_proj" if (values.get("initializer_cfg") or {}).get("rescale_prenorm_residual", True) else "none",
    )


def to_released_config(config: ModelConfig) -> dict[str, Any]:
    """Write ours as a released ``config.json``.

    Raises
    ------
    CheckpointError
        If the model has parts that the released code does not know.
    """
    back = {ours: theirs for theirs, ours in _FUSIONS.items()}
    wrong = []
    if config.fusion not in back:
        wrong.append(f"fusion {config.fusion!r}")
    if config.layer_kinds != tuple("Me" if i % 2 else "Md" for i in range(config.n_layers)):
        wrong.append(f"pattern {config.pattern!r} (the released layout is 'Md Me')")
    if config.gating != "softmax":
        wrong.append(f"gating {config.gating!r}")
    if config.n_shared_experts:
        wrong.append("shared experts")
    if config.expert_width != config.ffn_hidden:
        wrong.append(f"expert_hidden {config.expert_hidden} other than ffn_hidden")
    if wrong:
        raise CheckpointError(f"the released PlantBiMoE layout has no {' and no '.join(wrong)}: not exported")
    return {
        "architectures": ["PlantbimoeForMaskedLM"],
        "auto_map": {
            "AutoConfig": "configuration_plantbimoe.PlantbimoeConfig",
            "AutoModel": "modeling_plantbimoe.Plantbimoe",
            "AutoModelForMaskedLM": "modeling_plantbimoe.PlantbimoeForMaskedLM",
            "AutoModelForSequenceClassification": "modeling_plantbimoe.PlantbimoeForSequenceClassification",
        },
        "bidirectional": True,
        "bidirectional_strategy": back[config.fusion],
        "bidirectional_weight_tie": config.tie_projections,
        "d_model": config.d_model,
        "fused_add_norm": True,
        "initializer_cfg": {
            "initializer_range": 0.02,
            "n_residuals_per_layer": 1,
            "rescale_prenorm_residual": config.rescale != "none",
        },
        "intermediate_size": config.ffn_hidden,
        "model_type": MODEL_TYPE,
        "n_layer": config.n_layers,
        "norm_epsilon": config.norm_eps,
        "num_experts": config.n_experts,
        "num_experts_per_tok": config.top_k,
        "pad_token_id": 4,
        "pad_vocab_size_multiple": 1,
        "residual_in_fp32": config.residual_fp32,
        "rms_norm": True,
        "ssm_cfg": {
            "bias": False,
            "conv_bias": True,
            "d_conv": config.d_conv,
            "d_state": config.d_state,
            "dt_init": "random",
            "dt_init_floor": 1e-4,
            "dt_max": 0.1,
            "dt_min": 0.001,
            "dt_rank": config.dt_width,
            "dt_scale": 1.0,
            "expand": config.expand,
            "use_fast_path": True,
        },
        "tie_word_embeddings": config.tie_head,
        "torch_dtype": "float32",
        "vocab_size": config.vocab_size,
    }


def _pairs(config: ModelConfig) -> Iterator[tuple[str, str, int | None]]:
    """List (their key, our key, expert): expert e is slice e of our stacked tensor; tied tensors appear twice."""
    yield f"{_ROOT}.embeddings.word_embeddings.weight", "backbone.embedding.weight", None
    yield f"{_ROOT}.norm_f.weight", "backbone.norm.weight", None
    yield "lm_head.weight", "backbone.embedding.weight" if config.tie_head else "lm_head.weight", None
    for i, kind in enumerate(config.layer_kinds):
        theirs, ours = f"{_ROOT}.layers.{i}", f"backbone.layers.{i}"
        yield f"{theirs}.mixer.norm.weight", f"{ours}.mixer_norm.weight", None
        yield f"{theirs}.norm.weight", f"{ours}.ffn_norm.weight", None
        for side, name in (("mamba_fwd", "along"), ("mamba_rev", "against")):
            for their_name, our_name in _DIRECTION.items():
                yield f"{theirs}.mixer.mixer.{side}.{their_name}", f"{ours}.mixer.{name}.{our_name}", None
            suffix = "_backward" if side == "mamba_rev" and not config.tie_projections else ""
            for projection in ("in_proj", "out_proj"):
                their_name = f"{theirs}.mixer.mixer.{side}.{projection}.weight"
                yield their_name, f"{ours}.mixer.{projection}{suffix}.weight", None
        if kind[1] == "e":
            yield f"{theirs}.feed_forward.router.weight", f"{ours}.ffn.router.weight", None
            for e in range(config.n_experts):
                for part in ("gate", "up", "down"):
                    yield f"{theirs}.feed_forward.experts.{e}.{part}_proj.weight", f"{ours}.ffn.{part}", e
        else:
            for part in ("gate", "up", "down"):
                yield f"{theirs}.feed_forward.{part}_proj.weight", f"{ours}.ffn.{part}.weight", None


def _our_slice(state: dict[str, Tensor], key: str, expert: int | None) -> Tensor:
    return state[key] if expert is None else state[key][expert]


def _their_shape(key: str, ours: Tensor) -> tuple[int, ...]:
    shape = tuple(ours.shape)
    return (shape[0], 1, shape[1]) if key.endswith("conv1d.weight") else shape


def from_released(theirs: dict[str, Tensor], template: dict[str, Tensor], config: ModelConfig, where: str) -> None:
    """Copy released tensors into ``template`` (our state dict, of the right shapes), every one accounted for.

    Raises
    ------
    CheckpointError
        Listing every missing, unexpected and mis-shaped key, and every pair of tied tensors that differ.
    """
    pairs = list(_pairs(config))
    problems = [f"missing {key}" for key, _, _ in pairs if key not in theirs]
    problems += [f"unexpected {key}" for key in sorted(theirs.keys() - {key for key, _, _ in pairs})]
    filled: dict[tuple[str, int | None], str] = {}
    for key, our_key, expert in pairs:
        if key not in theirs:
            continue
        place = _our_slice(template, our_key, expert)
        wanted = _their_shape(key, place)
        if tuple(theirs[key].shape) != wanted:
            problems.append(f"{key} has shape {tuple(theirs[key].shape)}, must be {wanted}")
            continue
        value = theirs[key].reshape(place.shape).to(place.dtype)
        twin = filled.setdefault((our_key, expert), key)
        if twin == key:
            place.copy_(value)
        elif not torch.equal(place, value):
            problems.append(f"{key} differs from {twin}, though the config ties them")
    if problems:
        raise CheckpointError(f"{where}: {len(problems)} keys do not fit: " + "; ".join(problems))


def to_released(state: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Name and shape our tensors as the released checkpoint does; tied tensors appear twice, as there."""
    released = {}
    for key, our_key, expert in _pairs(config):
        ours = _our_slice(state, our_key, expert)
        released[key] = ours.detach().cpu().reshape(_their_shape(key, ours)).clone().contiguous()
    return released


def read_released_tensors(folder: Path) -> tuple[dict[str, Tensor], Path]:
    """Read ``model.safetensors``, or else ``pytorch_model.bin`` without running any code from it.

    Raises
    ------
    CheckpointError
        If neither is there, or the file is damaged.
    """
    for name in ("model.safetensors", "pytorch_model.bin"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            if path.suffix == ".safetensors":
                return safetensors.torch.load_file(path), path
            return torch.load(path, map_location="cpu", weights_only=True), path
        except Exception as error:
            raise CheckpointError(f"{path}: damaged or not a weights file ({error}); fetch it again") from error
    raise CheckpointError(f"{folder}: neither model.safetensors nor pytorch_model.bin is there")


def write_released(folder: Path, state: dict[str, Tensor], config: ModelConfig) -> None:
    """Write a folder in the released layout, whole or not at all."""
    values = to_released_config(config)
    with whole_folder(folder) as temporary:
        write_json(temporary / "config.json", values)
        safetensors.torch.save_file(
            to_released(state, config), temporary / "model.safetensors", metadata={"format": "pt"}
        )
