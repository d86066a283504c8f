"""The norm on a CUDA device by Triton, forward and backward: a program has a few whole rows."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 2048  # numbers that a program has at a time
SHARES = 1024  # programs of the backward at most; each leaves one share of the weight's gradient


@triton.jit(do_not_specialize=["rows", "tiles"])
def _forward_kernel(  # type: ignore[no-untyped-def]
    x, x_r, residual, residual_r, weight, y, total, inverse, rows, width, eps,
    HAS_RESIDUAL: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    r = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    d = tl.arange(0, WIDTH)[None, :]
    live = (r < rows) & (d < width)
    stream = tl.load(x + r * x_r + d, mask=live, other=0.0).to(tl.float32)
    if HAS_RESIDUAL:
        stream += tl.load(residual + r * residual_r + d, mask=live, other=0.0).to(tl.float32)
        # The norm is that of the sum as it is kept, rounded to its dtype.
        stream = stream.to(total.dtype.element_ty)
        tl.store(total + r * width + d, stream, mask=live)
        stream = stream.to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(stream * stream, axis=1) / width + eps)
    tl.store(inverse + r, scale[:, None], mask=r < rows)
    w = tl.load(weight + d, mask=d < width, other=0.0).to(tl.float32)
    tl.store(y + r * width + d, stream * scale[:, None] * w, mask=live)


@triton.jit(do_not_specialize=["rows", "tiles"])
def _backward_kernel(  # type: ignore[no-untyped-def]
    g_y, g_y_r, g_stream, g_stream_r, stream, stream_r, weight, inverse, g_total, g_weight, rows, width, tiles,
    HAS_STREAM: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Give ``tiles`` tiles of rows their gradients, and add up their share of the weight's."""
    pid = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, WIDTH)[None, :]
    w = tl.load(weight + d, mask=d < width, other=0.0).to(tl.float32)
    share = tl.zeros((ROWS, WIDTH), tl.float32)
    for tile in range(tiles):
        r = ((pid * tiles + tile) * ROWS + tl.arange(0, ROWS))[:, None]
        live = (r < rows) & (d < width)
        g = tl.load(g_y + r * g_y_r + d, mask=live, other=0.0).to(tl.float32)
        scale = tl.load(inverse + r, mask=r < rows, other=0.0)
        normal = tl.load(stream + r * stream_r + d, mask=live, other=0.0).to(tl.float32) * scale
        share += g * normal
        g *= w
        g = (g - normal * (tl.sum(g * normal, axis=1) / width)[:, None]) * scale
        if HAS_STREAM:
            g += tl.load(g_stream + r * g_stream_r + d, mask=live, other=0.0).to(tl.float32)
        tl.store(g_total + r * width + d, g, mask=live)
    tl.store(g_weight + pid * width + d, tl.sum(share, axis=0)[None, :], mask=d < width)


def _rows(x: Tensor) -> Tensor:
    """View or copy (..., D) as rows (R, D) with a dense last dimension."""
    x = x.reshape(-1, x.shape[-1])
    return x if x.stride(-1) == 1 else x.contiguous()


def _settings(width: int) -> dict[str, int]:
    """Size the tiles."""
    padded = triton.next_power_of_2(width)
    return {"ROWS": max(1, TILE // padded), "WIDTH": padded, "num_warps": min(16, max(4, padded // 512))}


def forward(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, out_dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the normalised sum, the sum (empty without a residual) and 1 / RMS in float32."""
    flat = _rows(x)
    other = flat if residual is None else _rows(residual)
    y = x.new_empty(x.shape, dtype=out_dtype)
    if residual is None:
        total = x.new_empty(0)
    else:
        total = x.new_empty(x.shape, dtype=torch.promote_types(x.dtype, residual.dtype))
    inverse = x.new_empty(x.shape[:-1], dtype=torch.float32)
    settings = _settings(x.shape[-1])
    with torch.cuda.device_of(x):
        _forward_kernel[(triton.cdiv(len(flat), settings["ROWS"]),)](
            flat, flat.stride(0), other, other.stride(0), weight.contiguous(), y, total, inverse,
            *flat.shape, eps, HAS_RESIDUAL=residual is not None, **settings,
        )  # fmt: skip
    return y, total, inverse


def backward(
    g_y: Tensor, g_stream: Tensor | None, stream: Tensor, weight: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor]:
    """Give the gradients of the sum (in its dtype) and of the weight."""
    flat, g_flat = _rows(stream), _rows(g_y)
    other = g_flat if g_stream is None else _rows(g_stream)
    settings = _settings(stream.shape[-1])
    tiles_in_all = triton.cdiv(len(flat), settings["ROWS"])
    tiles = max(1, triton.cdiv(tiles_in_all, SHARES))
    shares = triton.cdiv(tiles_in_all, tiles)
    g_total = stream.new_empty(stream.shape)
    g_weight = stream.new_empty(shares, stream.shape[-1], dtype=torch.float32)
    with torch.cuda.device_of(stream):
        _backward_kernel[(shares,)](
            g_flat, g_flat.stride(0), other, other.stride(0), flat, flat.stride(0), weight.contiguous(),
            inverse.contiguous(), g_total, g_weight, *flat.shape, tiles,
            HAS_STREAM=g_stream is not None, **settings,
        )  # fmt: skip
    return g_total, g_weight.sum(0).to(weight.dtype)
