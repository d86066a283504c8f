"""The short convolution on a CUDA device by Triton, forward and backward, in tiles of bases and channels."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from umbel.ops.triton_parts import sigmoid, span

TIME, BLOCK = 8, 64  # bases and channels of a tile
TILES = 16  # tiles of bases that share one sum of the backward

# What changes from batch to batch; kernels are not compiled anew for values that are 1 or divide by 16.
_SIZES = ["batch", "length", "x_b", "g_y_s", "g_y_b"]


@triton.jit
def _place(length, inner, BASES: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Give a program's row, its first base, and its channels."""
    blocks, stretches = tl.cdiv(inner, BLOCK), tl.cdiv(length, BASES)
    pid = tl.program_id(0).to(tl.int64)
    i = (pid % blocks).to(tl.int32) * BLOCK + tl.arange(0, BLOCK)
    return pid // blocks // stretches, (pid // blocks) % stretches * BASES, i[None, :]


@triton.jit
def _load(row, t0, stride, t, i, low, high, live):  # type: ignore[no-untyped-def]
    """Load the bases ``t`` counted from ``t0``, zeros from outside [low, high)."""
    # Only the address of t0 needs 64 bits.
    return tl.load(row + t0 * stride + (t * stride + i), mask=(t >= low) & (t < high) & live, other=0.0).to(tl.float32)


@triton.jit
def _before_silu(  # type: ignore[no-untyped-def]
    x, t0, x_t, weight, bias, t, i, low, high, inner, sign, TAPS: tl.constexpr, TIME: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Convolve at the bases ``t``; sign is -1 where the filter sees the past."""
    live = i < inner
    total = tl.zeros((TIME, BLOCK), tl.float32) + tl.load(bias + i, mask=live, other=0.0)
    for k in tl.static_range(TAPS):
        tap = tl.load(weight + k * inner + i, mask=live, other=0.0)
        total += tap * _load(x, t0, x_t, t + sign * (TAPS - 1 - k), i, low, high, live)
    return total


@triton.jit(do_not_specialize=_SIZES)
def _forward_kernel(  # type: ignore[no-untyped-def]
    x, x_b, x_t, weight, bias, spans, y, batch, length, inner, S: tl.constexpr, SIGN: tl.constexpr,
    HAS_SPANS: tl.constexpr, TAPS: tl.constexpr, TIME: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    b, t0, i = _place(length, inner, TIME, BLOCK)
    start, end = span(spans, b, length, HAS_SPANS)
    low, high, beyond = (start - t0).to(tl.int32), (end - t0).to(tl.int32), (length - t0).to(tl.int32)
    t = tl.arange(0, TIME)[:, None]
    for s in tl.static_range(S):
        total = _before_silu(
            x + b * x_b, t0, x_t, weight + s * TAPS * inner, bias + s * inner, t, i, low, high, inner,
            SIGN * (1 - 2 * s), TAPS, TIME, BLOCK,
        )  # fmt: skip
        out = tl.where((t >= low) & (t < high), total * sigmoid(total), 0.0)
        tl.store(y + ((s * batch + b) * length + t0) * inner + (t * inner + i), out, mask=(t < beyond) & (i < inner))


@triton.jit(do_not_specialize=_SIZES)
def _filter_kernel(  # type: ignore[no-untyped-def]
    g_y, g_y_s, g_y_b, g_y_t, x, x_b, x_t, weight, bias, spans, g_total, g_filter, batch, length, inner,
    S: tl.constexpr, SIGN: tl.constexpr, HAS_SPANS: tl.constexpr, TAPS: tl.constexpr,
    TIME: tl.constexpr, BLOCK: tl.constexpr, TILES: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    """Take the gradient of a direction's TILES tiles back through SiLU, and give their share of its filters'.

    The share has a row for each tap, and then that of the bias.
    """
    row, first, i = _place(length, inner, TIME * TILES, BLOCK)
    s, b = row % S, row // S
    sign = SIGN * (1 - 2 * s.to(tl.int32))
    start, end = span(spans, b, length, HAS_SPANS)
    live = i < inner
    t = tl.arange(0, TIME)[:, None]
    tap = tl.arange(0, PADDED)[:, None]
    sums = tl.zeros((PADDED, BLOCK), tl.float32)
    x += b * x_b
    g_y += s * g_y_s + b * g_y_b
    for tile in range(tl.minimum(TILES, tl.cdiv(length - first, TIME)).to(tl.int32)):
        t0 = first + tile * TIME
        low, high, beyond = (start - t0).to(tl.int32), (end - t0).to(tl.int32), (length - t0).to(tl.int32)
        value = _before_silu(
            x, t0, x_t, weight + s * TAPS * inner, bias + s * inner, t, i, low, high, inner, sign, TAPS, TIME, BLOCK
        )
        opened = sigmoid(value)
        g = _load(g_y, t0, g_y_t, t, i, low, high, live)
        g *= opened * (1.0 + value * (1.0 - opened))
        tl.store(g_total + ((s * batch + b) * length + t0) * inner + (t * inner + i), g, mask=(t < beyond) & live)
        for k in tl.static_range(TAPS):
            met = g * _load(x, t0, x_t, t + sign * (TAPS - 1 - k), i, low, high, live)
            sums += tl.where(tap == k, tl.sum(met, axis=0)[None, :], 0.0)
        sums += tl.where(tap == TAPS, tl.sum(g, axis=0)[None, :], 0.0)
    share = (b * tl.cdiv(length, TIME * TILES) + first // (TIME * TILES)) * S + s
    tl.store(g_filter + share * (TAPS + 1) * inner + (tap * inner + i), sums, mask=(tap <= TAPS) & live)


@triton.jit(do_not_specialize=_SIZES)
def _input_kernel(  # type: ignore[no-untyped-def]
    g_total, weight, spans, g_x, batch, length, inner, S: tl.constexpr, SIGN: tl.constexpr,
    HAS_SPANS: tl.constexpr, TAPS: tl.constexpr, TIME: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Give every base its gradient, from all outputs that saw it."""
    b, t0, i = _place(length, inner, TIME, BLOCK)
    start, end = span(spans, b, length, HAS_SPANS)
    low, high, beyond = (start - t0).to(tl.int32), (end - t0).to(tl.int32), (length - t0).to(tl.int32)
    live = i < inner
    t = tl.arange(0, TIME)[:, None]
    total = tl.zeros((TIME, BLOCK), tl.float32)
    for s in tl.static_range(S):
        row = g_total + (s * batch + b) * length * inner
        for k in tl.static_range(TAPS):
            # The outputs that met these bases with tap k; the last tap is the one of its own base.
            seen_from = t - SIGN * (1 - 2 * s) * (TAPS - 1 - k)
            g = _load(row, t0, inner, seen_from, i, low, high, live)
            total += tl.load(weight + (s * TAPS + k) * inner + i, mask=live, other=0.0) * g
    total = tl.where((t >= low) & (t < high), total, 0.0)
    tl.store(g_x + (b * length + t0) * inner + (t * inner + i), total, mask=(t < beyond) & live)


def _unit(x: Tensor) -> Tensor:
    """Make the last dimension dense; the others may have any strides."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _prepare(
    x: Tensor, weight: Tensor, bias: Tensor, spans: Tensor | None, reverse: bool
) -> tuple[list[Any], dict[str, int]]:
    """Give the arguments that both kernels take."""
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
    return [*inputs, x if spans is None else spans.contiguous()], settings


def forward(x: Tensor, weight: Tensor, bias: Tensor, spans: Tensor | None, reverse: bool) -> Tensor:
    """Convolve; shapes as in :func:`umbel.ops.causal_conv.reference.apply`."""
    inputs, settings = _prepare(x, weight, bias, spans, reverse)
    batch, length, inner = x.shape
    y = x.new_empty(weight.shape[0], *x.shape)
    programs = triton.cdiv(inner, BLOCK) * triton.cdiv(length, TIME) * batch
    with torch.cuda.device_of(x):
        _forward_kernel[(programs,)](*inputs, y, batch, length, inner, **settings)
    return y


def backward(
    g_y: Tensor, x: Tensor, weight: Tensor, bias: Tensor, spans: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the gradients of x (of all directions together), weight and bias."""
    inputs, settings = _prepare(x, weight, bias, spans, reverse)
    n_directions, _, taps = weight.shape
    batch, length, inner = x.shape
    g_y = _unit(g_y)
    g_x = x.new_empty(x.shape)
    g_total = g_y.new_empty(g_y.shape)
    blocks, stretches = triton.cdiv(inner, BLOCK), triton.cdiv(length, TIME * TILES)
    g_filter = x.new_empty(batch * stretches, n_directions, taps + 1, inner, dtype=torch.float32)
    with torch.cuda.device_of(x):
        _filter_kernel[(blocks * stretches * batch * n_directions,)](
            g_y, *g_y.stride()[:3], *inputs, g_total, g_filter, batch, length, inner,
            TILES=TILES, PADDED=triton.next_power_of_2(taps + 1), **settings,
        )  # fmt: skip
        weights, row_spans = inputs[3], inputs[5]
        _input_kernel[(blocks * triton.cdiv(length, TIME) * batch,)](
            g_total, weights, row_spans, g_x, batch, length, inner, **settings
        )
    summed = g_filter.sum(0)
    # Copies in any case: what an operator returns may not share memory.
    g_weight = weight.new_empty(weight.shape).copy_(summed[:, :taps].mT)
    return g_x, g_weight, bias.new_empty(bias.shape).copy_(summed[:, taps])
