"""Depthwise causal convolution with SiLU, along either direction of time; plain torch, any device."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


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


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor, *, reverse: bool = False) -> Tensor:
    r"""Convolve every channel with its own short filter that sees only the past, then apply SiLU.

    :math:`y_t = \mathrm{SiLU}(b + \sum_{k=0}^{W-1} w_k\, x_{t-(W-1-k)})`; with ``reverse`` the filter sees only
    the future, :math:`x_{t+(W-1-k)}`. Bases outside the sequence count as zero.

    Parameters
    ----------
    x
        Input, ``(B, L, I)``, channels last.
    weight
        Filters, ``(I, W)``; the last tap meets the present base.
    bias
        ``(I,)``.
    reverse
        Look at the future in place of the past.

    Returns
    -------
    ``(B, L, I)``.

    References
    ----------
    Gu and Dao 2023, "Mamba", arXiv:2312.00752, figure 3.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([0.0, 1.0, 0.0]).reshape(1, 3, 1)
    >>> causal_conv(x, torch.tensor([[2.0, 0.0]]), torch.zeros(1)).argmax().item()
    2
    >>> causal_conv(x, torch.tensor([[2.0, 0.0]]), torch.zeros(1), reverse=True).argmax().item()
    0
    """
    return F.silu(_Depthwise.apply(x, weight, bias, reverse))
