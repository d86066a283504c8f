"""An adapter added to the weights it adapts: a plain model, as fast as the base."""

from __future__ import annotations

import copy
from typing import Any, cast

from torch import nn

from umbel.errors import AdapterError
from umbel.model.adapters.attach import NAME, Adapter
from umbel.model.effective_weights import is_wrapped
from umbel.model.hf import UmbelPreTrainedModel


def merge(adapter: Adapter) -> UmbelPreTrainedModel:
    """Add the update to the weights, in a copy: the adapter can be trained on.

    The result has the base's layers and names, takes every fast path, and computes what the adapter's model does but
    for rounding: sums are taken in another order. A layer that two directions share is changed once, for both. (PEFT's
    own ``merge_and_unload`` leaves the adapters of a router and of shared experts in place where the routed experts
    around them are adapted too.)

    Raises
    ------
    AdapterError
        If merged weights would not be finite.

    Examples
    --------
    >>> from umbel.config import ModelConfig
    >>> from umbel.config.finetuning import AdapterConfig
    >>> from umbel.model.hf import new_model
    >>> from umbel.model.adapters.attach import attach
    >>> model = new_model(ModelConfig(n_layers=2, d_model=32, ffn_hidden=64, n_experts=2), 256, seed=0)
    >>> names = list(model.state_dict())
    >>> list(merge(attach(model, AdapterConfig(), seed=0)).state_dict()) == names
    True
    """
    model = copy.deepcopy(cast(UmbelPreTrainedModel, adapter.model.get_base_model()))
    # Inside first: what stands around a layer of experts also stands around its router.
    for path, module in reversed(list(model.named_modules())):
        parent, _, name = path.rpartition(".")
        if is_wrapped(module):
            setattr(model.get_submodule(parent), name, _merged(cast(Any, module), path))
        elif hasattr(module, "original_module"):
            setattr(model.get_submodule(parent), name, cast(Any, module).modules_to_save[NAME])
    cast(Any, model).__dict__.pop("peft_config", None)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
        parameter.grad = None
    return model.eval()


def _merged(lora: Any, path: str) -> nn.Module:
    try:
        lora.merge(safe_merge=True, adapter_names=[NAME])
    except ValueError as error:
        raise AdapterError(f"{path}: the adapter cannot be merged ({error})") from error
    return lora.base_layer
