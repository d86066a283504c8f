"""The norm on a CPU in float32, by numba kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from umbel.ops.threads import address, float_argument, launch, load_kernels


def forward(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, out_dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Add and normalise; shapes and meaning as in :mod:`umbel.ops.rms_norm.op`. All is float32."""
    kernels = load_kernels("umbel.ops.rms_norm.cpu_kernels")
    x, weight = x.contiguous(), weight.contiguous()
    residual = None if residual is None else residual.contiguous()
    width = x.shape[-1]
    n_rows = x.numel() // width
    y = torch.empty_like(x)
    stream = x.new_empty(0) if residual is None else torch.empty_like(x)
    inverse = x.new_empty(x.shape[:-1])
    launch(
        kernels.forward,
        -(-n_rows // kernels.ROWS),
        0,
        *(n_rows, width, float_argument(eps), x.data_ptr(), address(residual)),
        *(v.data_ptr() for v in (weight, y, stream, inverse)),
    )
    return y, stream, inverse


def normalise_into(x: Tensor, stream: Tensor, weight: Tensor, eps: float, y: Tensor, inverse: Tensor) -> None:
    """Add x to ``stream`` in place and write the normalised sum to ``y``, ``(T, D)`` each; ``inverse`` is ``(T,)``."""
    kernels = load_kernels("umbel.ops.rms_norm.cpu_kernels")
    n_rows, width = x.shape
    addresses = (v.data_ptr() for v in (x, stream, weight, y, stream, inverse))
    launch(kernels.forward, -(-n_rows // kernels.ROWS), 0, n_rows, width, float_argument(eps), *addresses)


def backward(
    g_y: Tensor, g_stream: Tensor | None, stream: Tensor, weight: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor]:
    """Differentiate; shapes and meaning as in :mod:`umbel.ops.rms_norm.op`."""
    kernels = load_kernels("umbel.ops.rms_norm.cpu_kernels")
    g_y, stream, weight = g_y.contiguous(), stream.contiguous(), weight.contiguous()
    g_stream = None if g_stream is None else g_stream.contiguous()
    width = stream.shape[-1]
    n_rows = stream.numel() // width
    n_tasks = -(-n_rows // kernels.ROWS)
    g_x, g_weight = torch.empty_like(stream), stream.new_empty(n_tasks, width)
    launch(
        kernels.backward,
        n_tasks,
        width + kernels.LANES,
        *(n_rows, width, g_y.data_ptr(), address(g_stream)),
        *(v.data_ptr() for v in (stream, weight, inverse, g_x, g_weight)),
    )
    return g_x, g_weight.sum(0)
