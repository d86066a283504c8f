"""A model folder of Hugging Face from disk, and what identifies it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoTokenizer
from transformers.utils import logging as hf_logging

from umbel.errors import CheckpointError, ConfigError
from umbel.extras import require_packages
from umbel.files import sha256_file, sha256_json

_CLASSES = ("AutoModel", "AutoModelForMaskedLM", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM")
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt")


def load_folder(
    path: str | Path, *, dtype: str = "auto", trust_remote_code: bool = False, adapter: str | Path | None = None
) -> tuple[nn.Module, Any, dict[str, Any]]:
    """Load model and tokenizer of a folder, without the network.

    Returns
    -------
    The model, the tokenizer, and hashes of the weights and of the adapter.

    Raises
    ------
    CheckpointError
        If there is no such model or tokenizer, or it cannot be loaded.
    ConfigError
        If it brings code of its own and that is not trusted, or the precision has no such name.
    """
    folder = Path(path)
    config_file = folder / "config.json"
    if not config_file.is_file():
        if (folder / "adapter_config.json").is_file():
            raise CheckpointError(f"{folder}: this is an adapter. Name its base model, and give this as the adapter")
        raise CheckpointError(f"{folder}: no config.json. Name a folder with a model of Hugging Face; none is fetched")
    told = json.loads(config_file.read_text(encoding="utf-8"))
    own_code = told.get("auto_map") or {}
    if own_code and not trust_remote_code:
        raise ConfigError(
            f"{folder}: this model brings code of its own ({', '.join(sorted({str(v) for v in own_code.values()}))}), "
            "which would run here. Read it, and if you trust it say so with trust_remote_code"
        )
    kind = next((name for name in _CLASSES if name in own_code), "AutoModel")
    options = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    try:
        with _in_silence():
            model, info = getattr(transformers, kind).from_pretrained(
                folder, dtype=_dtype(dtype), output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder}: transformers cannot load it: {error}") from error
    # A pooler is a head, which routing does not pass.
    missing = sorted(name for name in {*info["missing_keys"], *_names(info)} if "pooler" not in name)
    if missing:
        raise CheckpointError(
            f"{folder}: {len(missing)} weights are not in the files, or have another shape, and would be random: "
            f"{', '.join(missing[:3])}. Is the folder whole, and config.json its own?"
        )
    facts: dict[str, Any] = {"name": folder.name, "source": str(path), "weights_hash": folder_hash(folder)}
    if adapter is not None:
        require_packages("a model with an adapter", "train", ("peft",))
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter), local_files_only=True)
        facts["adapter"] = {"source": str(adapter), "weights_hash": folder_hash(Path(adapter))}
    return model, tokenizer, facts


def _names(info: dict[str, Any]) -> list[str]:
    """Give the weights that had another shape; transformers tells them with the shapes."""
    return [each if isinstance(each, str) else str(each[0]) for each in info["mismatched_keys"]]


@contextmanager
def _in_silence() -> Iterator[None]:
    """Keep transformers from drawing bars, and from telling of heads that a network without head does not have."""
    bars, level = hf_logging.is_progress_bar_enabled(), hf_logging.get_verbosity()
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


def _dtype(name: str) -> str | torch.dtype:
    if name == "auto":
        return name
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ConfigError(f"dtype {name}: no such precision; use auto, float32, bfloat16 or float16")
    return dtype


def folder_hash(folder: Path) -> str:
    """Identify the weights of a folder: SHA-256 of the file, or of the names and hashes of all files.

    Raises
    ------
    CheckpointError
        If there are none.
    """
    for pattern in _WEIGHTS:
        files = sorted(folder.glob(pattern))
        if len(files) == 1:
            return sha256_file(files[0])
        if files:
            return sha256_json({file.name: sha256_file(file) for file in files})
    raise CheckpointError(f"{folder}: no weights file")


def model_facts(model: nn.Module, network: nn.Module) -> dict[str, Any]:
    """Tell what a model is, beyond its weights: class, precision, quantisation, adapter, versions; plain JSON.

    Parameters
    ----------
    model
        As it was given, with any adapter around it.
    network
        What is run.
    """
    config = getattr(network, "config", None)
    quantisation = getattr(config, "quantization_config", None)
    if quantisation is not None and not isinstance(quantisation, dict):
        quantisation = quantisation.to_dict()
    dtypes = sorted({str(p.dtype).removeprefix("torch.") for p in network.parameters()})
    adapters = {
        str(name): str(getattr(one, "peft_type", "")).rpartition(".")[2]
        for name, one in (getattr(model, "peft_config", None) or {}).items()
    }
    return {
        "class": type(network).__name__,
        "model_type": getattr(config, "model_type", ""),
        "dtype": "+".join(dtypes),
        "quantisation": None if quantisation is None else str(quantisation.get("quant_method", "unknown")),
        "adapters": adapters,
        "versions": {"transformers": transformers.__version__, "torch": torch.__version__},
    }
