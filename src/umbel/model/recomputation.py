"""Activation checkpointing: blocks that forget in the forward pass, and compute again in the backward pass.

It touches passes with gradients alone, and neither a block's parameters nor their names.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from umbel.errors import ConfigError
from umbel.model.backbone import Block

Recompute = Callable[..., Any]
"""Called with a function and its inputs, as :func:`torch.utils.checkpoint.checkpoint` is."""
_ONCE_MORE: Recompute = functools.partial(checkpoint, use_reentrant=False)


def blocks_of(model: nn.Module) -> list[Block]:
    """Give a network's blocks, in order of depth."""
    return [module for module in model.modules() if isinstance(module, Block)]


class _Checkpointed:
    """Keeps a block's inputs alone, and runs it again when the backward pass asks for what it forgot."""

    def __init__(self, way: Callable[..., Any], recompute: Recompute):
        self.way, self.recompute = way, recompute

    def __call__(self, block: Block, *inputs: Any) -> Any:
        return self.recompute(self.way, block, *inputs)


def checkpoint_blocks(model: nn.Module, recompute: Recompute = _ONCE_MORE, every: int = 1) -> None:
    """Let every :class:`~umbel.model.backbone.Block` keep its inputs alone, and run again in the backward pass.

    The second run gives what the first gave, so loss and gradients are the same to the last bit where the forward
    kernels are deterministic, as ours are. Its routings are thrown away: a step has one
    :class:`~umbel.model.routing.Routing` per layer. It costs one more forward pass.

    Call it after :func:`~umbel.train.blocks.compile_blocks`, and before or after DDP, FSDP and
    :func:`~umbel.model.expert_exchange.spread_experts`. Blocks that are checkpointed already are set anew.

    Parameters
    ----------
    recompute
        Another way to compute again.
    every
        Checkpoint the first of every so many blocks, and no other.

    Raises
    ------
    ConfigError
        If ``recompute`` is torch's reentrant kind, which would cut the routers off the loss of their balance.

    References
    ----------
    Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174, section 4.

    Examples
    --------
    >>> import torch
    >>> from umbel.config import ModelConfig
    >>> from umbel.model.backbone import Backbone
    >>> backbone = Backbone(ModelConfig(n_layers=2, d_model=8, ffn_hidden=16))
    >>> checkpoint_blocks(backbone)
    >>> backbone(torch.tensor([[0, 7, 8, 1]])).hidden.sum().backward()
    """
    if isinstance(recompute, functools.partial) and recompute.keywords.get("use_reentrant"):
        raise ConfigError(
            "activation checkpointing with use_reentrant=True gives experts' routings no gradient: leave "
            "use_reentrant out, or set it to False"
        )
    keep_all(model)
    for block in blocks_of(model)[::every]:
        block.training_way = _Checkpointed(block.training_way or Block.compute, recompute)


def keep_all(model: nn.Module) -> None:
    """Undo :func:`checkpoint_blocks`."""
    for block in blocks_of(model):
        if isinstance(block.training_way, _Checkpointed):
            block.training_way = None if block.training_way.way is Block.compute else block.training_way.way
