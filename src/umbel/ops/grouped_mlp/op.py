"""The experts' kernels as a torch operator, so that compile, export and checkpointing work through them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from umbel.ops import backends


@torch.library.custom_op("umbel::grouped_mlp", mutates_args=())
def _forward(
    x_RD: Tensor, gate_EFD: Tensor, up_EFD: Tensor, down_EDF: Tensor, counts_E: Tensor, keep: bool, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the outputs, and for the backward the products with gate and up, (R, F) each; empty unless ``keep``."""
    return backends.kernels(__package__, backend).forward(x_RD, gate_EFD, up_EFD, down_EDF, counts_E, keep)


@_forward.register_fake
def _(
    x_RD: Tensor, gate_EFD: Tensor, up_EFD: Tensor, down_EDF: Tensor, counts_E: Tensor, keep: bool, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    rows = x_RD.shape[0] if keep else 0
    inner = [x_RD.new_empty(rows, gate_EFD.shape[1]) for _ in range(2)]
    return x_RD.new_empty(x_RD.shape), inner[0], inner[1]


@torch.library.custom_op("umbel::grouped_mlp_backward", mutates_args=())
def _backward(
    g_RD: Tensor,
    x_RD: Tensor,
    gate_EFD: Tensor,
    up_EFD: Tensor,
    down_EDF: Tensor,
    counts_E: Tensor,
    gated_RF: Tensor,
    upped_RF: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Give the gradients of x, gate, up and down."""
    return backends.kernels(__package__, backend).backward(
        g_RD, x_RD, gate_EFD, up_EFD, down_EDF, counts_E, gated_RF, upped_RF
    )


@_backward.register_fake
def _(g_RD: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return tuple(w.new_empty(w.shape) for w in inputs[:4])


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *saved, _, ctx.backend = inputs
    ctx.save_for_backward(*saved, *output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, g_RD: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    grads = (None,) * 4 if g_RD is None else _backward(g_RD, *ctx.saved_tensors, ctx.backend)
    return *grads, None, None, None


_forward.register_autograd(_differentiate, setup_context=_remember)


def apply(x_RD: Tensor, gate_EFD: Tensor, up_EFD: Tensor, down_EDF: Tensor, counts_E: Tensor, backend: str) -> Tensor:
    """Run the experts by the kernels named; as :func:`umbel.ops.grouped_mlp.reference.apply`."""
    tensors = (x_RD, gate_EFD, up_EFD, down_EDF)
    return _forward(*tensors, counts_E, backends.will_differentiate(*tensors), backend)[0]
