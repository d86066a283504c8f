"""The norm's kernels as a torch operator, so that compile, export and checkpointing work through them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from umbel.ops import backends


@torch.library.custom_op("umbel::add_rms_norm", mutates_args=())
def _forward(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, out_dtype: torch.dtype, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the normalised sum, the sum (empty without a residual: an operator may not return its input), 1 / RMS."""
    return backends.kernels(__package__, backend).forward(x, residual, weight, eps, out_dtype)


@_forward.register_fake
def _(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, out_dtype: torch.dtype, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    y = x.new_empty(x.shape, dtype=out_dtype)
    if residual is None:
        total = x.new_empty(0)
    else:
        total = x.new_empty(x.shape, dtype=torch.promote_types(x.dtype, residual.dtype))
    return y, total, x.new_empty(x.shape[:-1], dtype=torch.float32)


@torch.library.custom_op("umbel::add_rms_norm_backward", mutates_args=())
def _backward(
    g_y: Tensor, g_stream: Tensor | None, stream: Tensor, weight: Tensor, inverse: Tensor, backend: str
) -> tuple[Tensor, Tensor]:
    """Give the gradients of the sum (in its dtype) and of the weight."""
    return backends.kernels(__package__, backend).backward(g_y, g_stream, stream, weight, inverse)


@_backward.register_fake
def _(
    g_y: Tensor, g_stream: Tensor | None, stream: Tensor, weight: Tensor, inverse: Tensor, backend: str
) -> tuple[Tensor, Tensor]:
    return stream.new_empty(stream.shape), torch.empty_like(weight)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, residual, weight, _, _, backend = inputs
    _, total, inverse = output
    ctx.save_for_backward(x if residual is None else total, weight, inverse)
    ctx.backend, ctx.dtypes = backend, (x.dtype, None if residual is None else residual.dtype)
    ctx.mark_non_differentiable(inverse)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, g_y: Tensor | None, g_total: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    stream, weight, inverse = ctx.saved_tensors
    x_dtype, residual_dtype = ctx.dtypes
    g_total = None if residual_dtype is None else g_total
    if g_y is None:
        g, g_weight = g_total, None
    else:
        g, g_weight = _backward(g_y, g_total, stream, weight, inverse, ctx.backend)
    g_x = None if g is None else g.to(x_dtype)
    g_residual = None if g is None or residual_dtype is None else g.to(residual_dtype)
    return g_x, g_residual, g_weight, None, None, None


_forward.register_autograd(_differentiate, setup_context=_remember)


def apply(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, out_dtype: torch.dtype, backend: str
) -> tuple[Tensor, Tensor]:
    """Normalise by the kernels named; as :func:`umbel.ops.rms_norm.reference.apply`."""
    y, total, _ = _forward(x, residual, weight, eps, out_dtype, backend)
    return y, x if residual is None else total
