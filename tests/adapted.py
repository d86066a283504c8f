"""Small models with adapters, and what an adapter does to them written out as plain loops over PEFT's saved tensors."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch

from umbel.config import ModelConfig
from umbel.config.finetuning import AdapterConfig
from umbel.model.adapters.attach import Adapter, attach
from umbel.model.hf import UmbelConfig, UmbelForSequenceClassification, new_model

SMALL: dict[str, Any] = {"d_model": 16, "n_layers": 2, "ffn_hidden": 24, "n_experts": 4, "n_heads": 2, "d_state": 4}
EVERYTHING = ("mixers", "ffn", "experts", "router", "dt_proj")


def small_config(pattern: str = "Md Me", **changes: Any) -> ModelConfig:
    return ModelConfig(**{**SMALL, "pattern": pattern, **changes})


def classifier(config: ModelConfig, n_classes: int = 3, seed: int = 0) -> UmbelForSequenceClassification:
    torch.manual_seed(seed)
    return UmbelForSequenceClassification(UmbelConfig(shape=dataclasses.asdict(config), num_labels=n_classes)).eval()


def language_model(config: ModelConfig, seed: int = 0) -> Any:
    return new_model(config, 64, seed).eval()


def some_ids(rows: int = 3, tokens: int = 21) -> torch.Tensor:
    """Sequences of three lengths, padded on the right."""
    ids = torch.randint(7, 11, (rows, tokens), generator=torch.Generator().manual_seed(7))
    for row in range(rows):
        ids[row, tokens - 4 * row :] = 4
    return ids


def adapted(model: Any, targets: tuple[str, ...] = EVERYTHING, rank: int = 2, seed: int = 0) -> Adapter:
    """An adapter that changes things: B is drawn as well."""
    adapter = attach(model, AdapterConfig(targets=targets, rank=rank), seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for part in adapter.parts():
            part.b.copy_(0.3 * torch.randn(part.b.shape, generator=generator))
    return adapter


def factors(adapter: Adapter) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """PEFT's A and B by the names of the weights in the model without adapters."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    nested: dict[str, list[str]] = {}
    for name, tensor in adapter.model.state_dict(keep_vars=True).items():
        if ".lora_" in name:
            path, _, rest = name.removeprefix("base_model.model.").partition(".lora_")
            found.setdefault(path, {})[rest[0]] = tensor
    for path in found:
        nested.setdefault(path.replace(".base_layer", ""), []).append(path)
    named = {}
    for plain, paths in nested.items():
        if plain.endswith(".ffn"):
            # PEFT puts one wrapper around another for gate, then up, then down: the last is outermost.
            of_experts = [target.name for target in adapter.targets if target.experts is not None]
            parts = [name.rpartition(".")[2] for name in of_experts if name.startswith(f"{plain}.")]
            for part, path in zip(parts, sorted(paths, key=len, reverse=True), strict=True):
                named[f"{plain}.{part}"] = (found[path]["A"], found[path]["B"])
        else:
            named[f"{plain}.weight"] = (found[paths[0]]["A"], found[paths[0]]["B"])
    return named


def dense_twin(base: Any, adapter: Adapter) -> Any:
    """The base with W + scale B A written into every adapted weight, one expert and one rank at a time."""
    twin = copy.deepcopy(base)
    weights = dict(twin.named_parameters())
    with torch.no_grad():
        for name, (A, B) in factors(adapter).items():
            weight = weights[name]
            if weight.ndim == 2:
                for r in range(adapter.rank):
                    weight += adapter.config.scale * torch.outer(B[:, r], A[r])
                continue
            for e in range(len(weight)):
                for r in range(adapter.rank):
                    weight[e] += adapter.config.scale * torch.outer(B[:, r * len(weight) + e], A[e * adapter.rank + r])
    return twin
