"""The short convolution on a CPU in float32, by numba kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from umbel.ops.threads import address, launch, load_kernels


def _prepared(
    x: Tensor, weight: Tensor, bias: Tensor, spans: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Give x with stride 1 along channels, the filters as (S, W, I), and the rest contiguous."""
    x = x if x.stride(-1) == 1 else x.contiguous()
    spans = None if spans is None else spans.to(torch.int64).contiguous()
    return x, weight.transpose(1, 2).contiguous(), bias.contiguous(), spans


def forward(x: Tensor, weight: Tensor, bias: Tensor, spans: Tensor | None, reverse: bool) -> Tensor:
    """Convolve; shapes and meaning as in :mod:`umbel.ops.causal_conv.op`."""
    kernels = load_kernels("umbel.ops.causal_conv.cpu_kernels")
    n_directions, width, taps = weight.shape
    batch, length, _ = x.shape
    x, filters, bias, spans = _prepared(x, weight, bias, spans)
    y = x.new_empty(n_directions, batch, length, width)
    launch(
        kernels.forward,
        batch * -(-length // kernels.ROWS),
        0,
        *(n_directions, batch, length, width, taps, int(reverse), x.data_ptr(), *x.stride()[:2]),
        *(filters.data_ptr(), bias.data_ptr(), address(spans), y.data_ptr()),
    )
    return y


def convolve_into(x: Tensor, first: int, filters: Tensor, bias: Tensor, y: Tensor, *, reverse: bool) -> None:
    """Convolve rows ``first`` to ``first + T`` of one sequence, for inference piece by piece.

    Parameters
    ----------
    x
        The whole sequence, ``(L, I)``, with stride 1 along channels; the neighbours of the rows must be there.
    filters, bias
        ``(W, I)`` and ``(I,)``, contiguous.
    y
        Output, ``(T, I)``, contiguous.
    """
    kernels = load_kernels("umbel.ops.causal_conv.cpu_kernels")
    length, width = y.shape
    # Rows are counted from the piece's first one, so that the sequence begins before 0.
    reach = torch.tensor([-first, len(x) - first])
    launch(
        kernels.forward,
        -(-length // kernels.ROWS),
        0,
        *(1, 1, length, width, len(filters), int(reverse), x[first].data_ptr(), 0, x.stride(0)),
        *(filters.data_ptr(), bias.data_ptr(), reach.data_ptr(), y.data_ptr()),
    )


def backward(
    g_y: Tensor, x: Tensor, weight: Tensor, bias: Tensor, spans: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate; shapes and meaning as in :mod:`umbel.ops.causal_conv.op`."""
    kernels = load_kernels("umbel.ops.causal_conv.cpu_kernels")
    n_directions, width, taps = weight.shape
    batch, length, _ = x.shape
    g_y, shape = g_y.contiguous(), x.shape
    x, filters, bias, spans = _prepared(x, weight, bias, spans)
    n_tasks = batch * -(-length // kernels.ROWS)
    g_x = x.new_empty(shape)
    g_weight, g_bias = x.new_empty(n_tasks, n_directions, taps, width), x.new_empty(n_tasks, n_directions, width)
    launch(
        kernels.backward,
        n_tasks,
        (kernels.ROWS + taps) * kernels.LANES,
        *(n_directions, batch, length, width, taps, int(reverse), x.data_ptr(), *x.stride()[:2]),
        *(filters.data_ptr(), bias.data_ptr(), address(spans)),
        *(v.data_ptr() for v in (g_y, g_x, g_weight, g_bias)),
    )
    return g_x, g_weight.sum(0).transpose(1, 2).contiguous(), g_bias.sum(0)
