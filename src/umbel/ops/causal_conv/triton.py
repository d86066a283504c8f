"""The short convolution on a CUDA device by Triton, forward and backward: a program has a tile of bases and channels."""

from __future__ import annotations

import torch
from torch import Tensor

import triton
import triton.language as tl

TIME, BLOCK = 32, 64  # bases and channels of a program


@triton.jit
def _tile(
    spans, length, inner, HAS_SPANS: tl.constexpr, TIME: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip  # type: ignore[no-untyped-def]
    """Give a program's row, its tile of bases, its bases and channels, and the row's span."""
    blocks, tiles = tl.cdiv(inner, BLOCK), tl.cdiv(length, TIME)
    pid = tl.program_id(0).to(tl.int64)
    block, place, b = pid % blocks, (pid // blocks) % tiles, pid // blocks // tiles
    start = b * 0
    end = start + length
    if HAS_SPANS:
        start = tl.maximum(tl.load(spans + b * 2).to(tl.int64), start)
        end = tl.minimum(tl.load(spans + b * 2 + 1).to(tl.int64), end)
    t = place * TIME + tl.arange(0, TIME)
    return b, place, t[:, None], (block * BLOCK + tl.arange(0, BLOCK))[None, :], start, end


@triton.jit
def _load(pointers, t, start, end, live):  # type: ignore[no-untyped-def]
    return tl.load(pointers, mask=(t >= start) & (t < end) & live, other=0.0).to(tl.float32)


@triton.jit
def _before_silu(
    x, x_t, weight, bias, t, i, start, end, inner, SIGN: tl.constexpr, TAPS: tl.constexpr
):  # fmt: skip  # type: ignore[no-untyped-def]
    """Convolve at the bases ``t``; SIGN is -1 where the filter sees the past."""
    live = i < inner
    total = tl.zeros_like(t * i).to(tl.float32) + tl.load(bias + i, mask=live, other=0.0)
    for k in tl.static_range(TAPS):
        source = t + SIGN * (TAPS - 1 - k)
        total += tl.load(weight + k * inner + i, mask=live, other=0.0) * _load(
            x + source * x_t + i, source, start, end, live
        )
    return total


@triton.jit
def _sigmoid(x):  # type: ignore[no-untyped-def]
    """1 / (1 + e**-x) without overflow."""
    e = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, e) / (1.0 + e)


@triton.jit
def _forward_kernel(
    x, x_b, x_t, weight, bias, spans, y, batch, length, inner, S: tl.constexpr, SIGN: tl.constexpr,
    HAS_SPANS: tl.constexpr, TAPS: tl.constexpr, TIME: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip  # type: ignore[no-untyped-def]
    b, _, t, i, start, end = _tile(spans, length, inner, HAS_SPANS, TIME, BLOCK)
    for s in tl.static_range(S):
        total = _before_silu(
            x + b * x_b, x_t, weight + s * TAPS * inner, bias + s * inner, t, i, start, end, inner,
            SIGN * (1 - 2 * s), TAPS,
        )  # fmt: skip
        out = tl.where((t >= start) & (t < end), total * _sigmoid(total), 0.0)
        tl.store(y + ((s * batch + b) * length + t) * inner + i, out, mask=(t < length) & (i < inner))


@triton.jit
def _backward_kernel(
    g_y, g_y_s, g_y_b, g_y_t, x, x_b, x_t, weight, bias, spans, g_x, g_weight, g_bias, batch, length, inner,
    S: tl.constexpr, SIGN: tl.constexpr, HAS_SPANS: tl.constexpr, TAPS: tl.constexpr,
    TIME: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip  # type: ignore[no-untyped-def]
    """Give a tile its gradient, from the outputs that saw it, and its share of the filters' gradients."""
    b, place, t, i, start, end = _tile(spans, length, inner, HAS_SPANS, TIME, BLOCK)
    live = i < inner
    shares = batch * tl.cdiv(length, TIME)
    share = b * tl.cdiv(length, TIME) + place
    x += b * x_b
    total = tl.zeros_like(t * i).to(tl.float32)
    for s in tl.static_range(S):
        for k in tl.static_range(TAPS):
            # The output that met these bases with its tap k; the last tap is the one of its own base.
            seen_from = t - SIGN * (1 - 2 * s) * (TAPS - 1 - k)
            value = _before_silu(
                x, x_t, weight + s * TAPS * inner, bias + s * inner, seen_from, i, start, end, inner,
                SIGN * (1 - 2 * s), TAPS,
            )  # fmt: skip
            opened = _sigmoid(value)
            g = _load(g_y + s * g_y_s + b * g_y_b + seen_from * g_y_t + i, seen_from, start, end, live)
            g *= opened * (1.0 + value * (1.0 - opened))
            here = _load(x + t * x_t + i, t, start, end, live)
            row = (s * shares + share) * TAPS + k
            tl.store(g_weight + row * inner + i, tl.sum(g * here, axis=0)[None, :], mask=live)
            total += tl.load(weight + (s * TAPS + k) * inner + i, mask=live, other=0.0) * g
            if k == TAPS - 1:
                tl.store(g_bias + (s * shares + share) * inner + i, tl.sum(g, axis=0)[None, :], mask=live)
    total = tl.where((t >= start) & (t < end), total, 0.0)
    tl.store(g_x + (b * length + t) * inner + i, total, mask=(t < length) & live)


def _unit(x: Tensor) -> Tensor:
    """Make the last dimension dense; the others may have any strides."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _prepare(
    x: Tensor, weight: Tensor, bias: Tensor, spans: Tensor | None, reverse: bool
) -> tuple[int, list[Tensor | int], dict[str, int]]:
    """Give the number of tiles of bases of a row, and the arguments that both kernels take."""
    x = _unit(x)
    inputs = [x, *x.stride()[:2], weight.float().mT.contiguous(), bias.float().contiguous()]
    settings = {
        "S": weight.shape[0],
        "SIGN": 1 if reverse else -1,
        "HAS_SPANS": spans is not None,
        "TAPS": weight.shape[2],
        "TIME": TIME,
        "BLOCK": BLOCK,
        "num_warps": 4,
    }
    return triton.cdiv(x.shape[1], TIME), [*inputs, x if spans is None else spans.contiguous()], settings


def forward(x: Tensor, weight: Tensor, bias: Tensor, spans: Tensor | None, reverse: bool) -> Tensor:
    """Convolve; shapes as in :func:`umbel.ops.causal_conv.reference.apply`."""
    tiles, inputs, settings = _prepare(x, weight, bias, spans, reverse)
    y = x.new_empty(weight.shape[0], *x.shape)
    with torch.cuda.device_of(x):
        _forward_kernel[(triton.cdiv(x.shape[2], BLOCK) * tiles * x.shape[0],)](*inputs, y, *x.shape, **settings)
    return y


def backward(
    g_y: Tensor, x: Tensor, weight: Tensor, bias: Tensor, spans: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the gradients of x (of all directions together), weight and bias."""
    tiles, inputs, settings = _prepare(x, weight, bias, spans, reverse)
    n_directions, inner, taps = weight.shape
    g_y = _unit(g_y)
    g_x = x.new_empty(x.shape)
    g_weight = x.new_empty(n_directions, x.shape[0] * tiles, taps, inner, dtype=torch.float32)
    g_bias = x.new_empty(n_directions, x.shape[0] * tiles, inner, dtype=torch.float32)
    with torch.cuda.device_of(x):
        _backward_kernel[(triton.cdiv(inner, BLOCK) * tiles * x.shape[0],)](
            g_y, *g_y.stride()[:3], *inputs, g_x, g_weight, g_bias, *x.shape, **settings
        )
    return g_x, g_weight.sum(1).mT.contiguous().to(weight.dtype), g_bias.sum(1).to(bias.dtype)
