"""Blocks of a network compiled: passes with gradients alone, and neither a block's parameters nor their names."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from umbel.errors import BackendError, ConfigError
from umbel.model.backbone import Block
from umbel.model.recomputation import blocks_of
from umbel.ops.backends import INSTALLED

_RECOMPILE_LIMIT = 64


def why_not_compile(device: torch.device) -> str | None:
    """Give the reason why ``torch.compile`` cannot make code for a device here, or None if it can.

    Examples
    --------
    >>> why_not_compile(torch.device("meta"))
    'makes code for cpu and cuda, and got meta'
    """
    if device.type not in ("cpu", "cuda"):
        return f"makes code for cpu and cuda, and got {device.type}"
    if device.type == "cuda" and not INSTALLED["triton"]:
        return "needs triton on a GPU, which comes with torch for CUDA on Linux"
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        return f"needs a C++ compiler, and there is no {compiler} (install it, or name another one in CXX)"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        return f"needs Python's headers, and there is no {header} (on Debian and Ubuntu: apt install python3-dev)"
    return None


def compile_blocks(model: nn.Module, device: torch.device, *, backend: str | Callable[..., Any] = "inductor") -> None:
    """Run every :class:`~umbel.model.backbone.Block` through ``torch.compile``.

    All blocks of one kind share their code, whatever their layer and the length and number of their rows. It is made at
    the first step, and once more for each new kind of input: the first block (which gets no stream), batches with and
    without padding, packed rows, and one row as against several. So that a layer's number does not count as a kind, and
    all of these have room, two settings of ``torch._dynamo.config`` are changed for the whole process.

    Call it before :func:`~umbel.model.recomputation.checkpoint_blocks`, and before or after DDP, FSDP
    (``fully_shard(block)``: its hooks stay outside of the code) and
    :func:`~umbel.model.expert_exchange.spread_experts` (the code is then in two parts, with the exchange between them).

    Parameters
    ----------
    device
        Where the model will run.
    backend
        Of ``torch.compile``.

    Raises
    ------
    BackendError
        If ``torch.compile`` cannot make code here.
    ConfigError
        If the blocks are checkpointed or compiled already.
    """
    if backend == "inductor" and (reason := why_not_compile(device)):
        raise BackendError(f"parallel.compile=true {reason}. Or set parallel.compile=false")
    blocks = blocks_of(model)
    if any(block.training_way is not None for block in blocks):
        raise ConfigError("the blocks are checkpointed or compiled already: compile them once, before checkpointing")
    dynamo: Any = torch._dynamo.config
    dynamo.allow_unspec_int_on_nn_module = True
    dynamo.recompile_limit = max(_RECOMPILE_LIMIT, dynamo.recompile_limit)
    compiled = torch.compile(Block.compute, backend=backend, dynamic=True)
    for block in blocks:
        block.training_way = compiled
