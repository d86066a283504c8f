"""The weight that a layer really has, where code reads it in place of calling the layer: base plus adapters."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from umbel.errors import AdapterError

_LORA = ("lora_A", "lora_B", "lora_dropout", "lora_bias", "lora_variant", "scaling", "get_delta_weight")


def weight_of(layer: nn.Module, name: str) -> Tensor:
    r"""Give the weight of a linear layer or a norm: its own, or with PEFT's LoRA :math:`W + \sum_a s_a B_a A_a`.

    Kernels that take weights would pass by whatever has been put around a layer: an adapter would be trained without
    a gradient, and change nothing. So each place that reads a weight asks here. Gradients reach A and B.

    Parameters
    ----------
    layer
        A plain layer (its weight is given as it is), or what PEFT has put in its place. Known by its attributes:
        PEFT need not be installed.
    name
        What the layer is called in its block, for messages.

    Returns
    -------
    In the dtype of the layer's own weight; the update is computed in its own dtype and never under autocast.

    Raises
    ------
    AdapterError
        If what stands in the layer's place is no change of its weight: another method than LoRA, a variant of it
        (DoRA ...), its dropout in training, its bias, or adapters that differ from sequence to sequence.

    References
    ----------
    Hu et al. 2021, "LoRA", arXiv:2106.09685, eq. 3.

    Examples
    --------
    >>> linear = nn.Linear(2, 3)
    >>> weight_of(linear, "x_proj") is linear.weight
    True
    """
    if type(layer) is nn.Linear or not is_wrapped(layer):
        return cast(Tensor, layer.weight)
    lora = cast(Any, layer)
    if (
        not all(hasattr(lora, attribute) for attribute in _LORA)
        or getattr(lora, "parameter_name", "weight") != "weight"
    ):
        raise _unreadable(name, f"{type(lora).__name__} does more than add to its weight")
    if lora._forward_pre_hooks or lora._forward_hooks:
        raise _unreadable(name, "a hook changes its inputs or outputs (adapter_names, one adapter per sequence)")
    if lora.disable_adapters and lora.merged:
        # As PEFT does when such a layer is called.
        lora.unmerge()
    weight = weight_of(lora.base_layer, name)
    if lora.disable_adapters or lora.merged:
        return weight
    if not weight.is_floating_point():
        raise _unreadable(name, f"its weight is quantised ({weight.dtype})")
    for adapter in lora.active_adapters:
        if adapter in lora.lora_A:
            _require_additive(lora, adapter, name)
            with torch.autocast(weight.device.type, enabled=False):
                weight = (weight + lora.get_delta_weight(adapter)).to(weight.dtype)
    return weight


def is_wrapped(module: nn.Module) -> bool:
    """Tell whether PEFT has put something around a module (``base_layer``)."""
    return "base_layer" in module._modules


def within(module: nn.Module) -> nn.Module:
    """Give the module that all adapters around it wrap, or the module itself.

    Examples
    --------
    >>> linear = nn.Linear(2, 3)
    >>> within(linear) is linear
    True
    """
    while is_wrapped(module):
        module = cast(nn.Module, module._modules["base_layer"])
    return module


def require_unwrapped(module: nn.Module, name: str) -> None:
    """See that a module whose parameters are read in place of calling it has no adapter around it.

    Raises
    ------
    AdapterError
        If it has one, which would be trained without a gradient.
    """
    if is_wrapped(module):
        raise AdapterError(
            f"{name}: its parameters ({', '.join(n for n, _ in within(module).named_parameters(recurse=False))}) are "
            "read by a kernel and cannot have an adapter: take them out of target_parameters"
        )


def _require_additive(lora: Any, adapter: str, name: str) -> None:
    if adapter in lora.lora_variant:
        raise _unreadable(name, f"{type(lora.lora_variant[adapter]).__name__} is no plain LoRA")
    if lora.lora_bias.get(adapter):
        raise _unreadable(name, "lora_bias adds to its bias too")
    dropout = lora.lora_dropout[adapter]
    if dropout.training and getattr(dropout, "p", 0):
        raise _unreadable(name, f"lora_dropout is {dropout.p:g}: set it to 0")


def _unreadable(name: str, why: str) -> AdapterError:
    return AdapterError(
        f"{name}: its adapter cannot be used here, because a kernel reads the weight of this layer, and {why}. "
        "Use plain LoRA without dropout, or leave the layer out of target_modules"
    )
