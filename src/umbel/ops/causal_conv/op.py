"""The convolution's kernels as a torch operator, so that compile, export and checkpointing work through them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from umbel.ops import backends


@torch.library.custom_op("umbel::causal_conv", mutates_args=())
def _forward(x: Tensor, weight: Tensor, bias: Tensor, spans: Tensor | None, reverse: bool, backend: str) -> Tensor:
    return backends.kernels(__package__, backend).forward(x, weight, bias, spans, reverse)


@_forward.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, spans: Tensor | None, reverse: bool, backend: str) -> Tensor:
    return x.new_empty(weight.shape[0], *x.shape)


@torch.library.custom_op("umbel::causal_conv_backward", mutates_args=())
def _backward(
    g_y: Tensor, x: Tensor, weight: Tensor, bias: Tensor, spans: Tensor | None, reverse: bool, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    return backends.kernels(__package__, backend).backward(g_y, x, weight, bias, spans, reverse)


@_backward.register_fake
def _(
    g_y: Tensor, x: Tensor, weight: Tensor, bias: Tensor, spans: Tensor | None, reverse: bool, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), torch.empty_like(weight), torch.empty_like(bias)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, spans, reverse, backend = inputs
    ctx.save_for_backward(x, weight, bias, spans)
    ctx.reverse, ctx.backend = reverse, backend


def _differentiate(ctx: Any, g_y: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias, spans = ctx.saved_tensors
    return *_backward(g_y, x, weight, bias, spans, ctx.reverse, ctx.backend), None, None, None


_forward.register_autograd(_differentiate, setup_context=_remember)


def convolve(x: Tensor, weight: Tensor, bias: Tensor, spans: Tensor | None, reverse: bool, backend: str) -> Tensor:
    """Convolve by the kernels named; shapes as in :func:`umbel.ops.causal_conv.reference.apply`."""
    return _forward(x, weight, bias, spans, reverse, backend)
