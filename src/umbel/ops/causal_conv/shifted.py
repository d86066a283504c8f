"""The short convolution in plain torch, any device: one product for each tap, over the whole length."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from umbel.ops.spans import live_positions


def _shifted(x: Tensor, taps: int, reverse: bool) -> list[Tensor]:
    """Give the ``taps`` views of x (B, L, I) that the filter's taps meet, first tap first."""
    length = x.shape[1]
    padded = F.pad(x, (0, 0, 0, taps - 1) if reverse else (0, 0, taps - 1, 0))
    return [padded[:, k : k + length] for k in (reversed(range(taps)) if reverse else range(taps))]


def _convolve(x: Tensor, weight: Tensor, y: Tensor, reverse: bool) -> Tensor:
    for k, view in enumerate(_shifted(x, weight.shape[1], reverse)):
        y = torch.addcmul(y, view, weight[:, k])
    return y


class _Depthwise(torch.autograd.Function):
    """The convolution without SiLU; its gradient is the same convolution in the other direction.

    Written out because torch's depthwise backward takes ten times as long on busy CPUs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.reverse = reverse
        return _convolve(x, weight, bias, reverse)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = grads
        x, weight = ctx.saved_tensors
        g_x = _convolve(g, weight, g.new_zeros(()), not ctx.reverse).to(x.dtype)
        g_weight = torch.stack([(g * view).sum((0, 1)) for view in _shifted(x, weight.shape[1], ctx.reverse)], -1)
        return g_x, g_weight.to(weight.dtype), g.sum((0, 1)).to(weight.dtype), None


def apply(x: Tensor, weight: Tensor, bias: Tensor, spans: Tensor | None, reverse: bool) -> Tensor:
    """Convolve (B, L, I) with filters (S, I, W) to (S, B, L, I); see :func:`umbel.ops.causal_conv.causal_conv`."""
    live = None if spans is None else live_positions(spans, x.shape[1])[:, :, None]
    if live is not None:
        x = torch.where(live, x, x.new_zeros(()))
    directions = [
        _Depthwise.apply(x, w, b, reverse != (s == 1)) for s, (w, b) in enumerate(zip(weight, bias, strict=True))
    ]
    y = F.silu(torch.stack(directions))
    return y if live is None else torch.where(live, y, y.new_zeros(()))
