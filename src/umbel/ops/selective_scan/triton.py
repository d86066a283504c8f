"""The selective scan on a CUDA device by Triton, forward and backward; ``triton_kernels`` has the kernels."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
from torch import Tensor

from umbel.ops.selective_scan import triton_kernels as kernels
from umbel.ops.selective_scan.op import CHUNK

BLOCK = 32  # channels a program
PIECE = 256  # fewest bases that are worth a program of their own; a multiple of CHUNK
PROGRAMS = 4096  # more of them than this at a time gain nothing


def _bases(length: int, rows: int, inner: int) -> int:
    """Choose the length of the pieces: short enough that the device is full, and no shorter."""
    pieces = max(1, PROGRAMS // max(1, rows * triton.cdiv(inner, BLOCK)))
    return max(PIECE, triton.cdiv(triton.cdiv(length, pieces), CHUNK) * CHUNK)


def _unit(x: Tensor) -> Tensor:
    """Make the last dimension dense; the others may have any strides."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _turned(x: Tensor) -> Tensor:
    """Turn (..., I, N) to (..., N, I) in float32, as the kernels read it."""
    return x.detach().float().mT.contiguous()


def _strided(*tensors: Tensor) -> list[Any]:
    """List each tensor with its strides but the last."""
    return [part for x in tensors for part in (x, *x.stride()[:-1])]


def _entry(
    x: Tensor, dt: Tensor, maps: Tensor, z: Tensor | None, A2: Tensor, bias: Tensor, spans: Tensor | None,
    first: Tensor, bases: int, flipped: bool, adjoint: bool,
) -> Tensor:  # fmt: skip
    """Give the state (S, B, pieces, N, I) with which each piece starts, from those (S, B, N, I) of the first."""
    n_directions, batch, length, inner = dt.shape
    states = A2.shape[1]
    pieces = max(1, triton.cdiv(length, bases))
    if pieces == 1:
        return first[:, :, None]
    carry = dt.new_empty(n_directions, batch, pieces, states, inner, dtype=torch.float32)
    total = dt.new_empty(n_directions, batch, pieces, inner, dtype=torch.float32)
    entry = torch.empty_like(carry)
    blocks = triton.cdiv(inner, BLOCK)
    tile = {"N": triton.next_power_of_2(states), "BLOCK": BLOCK, "num_warps": 1}
    kernels.carry_kernel[(blocks * pieces * n_directions * batch,)](
        *_strided(x, dt, maps), *(_strided(z) if z is not None else (dt, 0, 0)), A2, bias,
        dt if spans is None else spans, carry, total, batch, length, inner, states, pieces, bases,
        FLIPPED=int(flipped), ADJOINT=adjoint, HAS_Z=z is not None, HAS_SPANS=spans is not None, **tile,
    )  # fmt: skip
    kernels.combine_kernel[(blocks * n_directions * batch,)](
        carry, total, first, A2, entry, batch, inner, states, pieces, FLIPPED=int(flipped), **tile
    )
    return entry


def forward(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, dt_bias: Tensor, z: Tensor | None,
    initial: Tensor | None, spans: Tensor | None, reverse: bool, keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Scan; see :func:`umbel.ops.selective_scan.op.scan` for what comes in and out."""
    n_directions, batch, length, inner = u.shape
    states = A.shape[2]
    u, dt, B, C = (_unit(x) for x in (u, dt, B, C))
    z = None if z is None else _unit(z)
    spans = None if spans is None else spans.contiguous()
    A2 = _turned(A) * math.log2(math.e)
    D, dt_bias = (x.float().contiguous() for x in (D, dt_bias))
    bases = _bases(length, batch, inner)
    pieces = max(1, triton.cdiv(length, bases))
    # The kernels write nothing outside the spans.
    fresh = torch.empty if spans is None else torch.zeros
    y = fresh(batch, length, inner, dtype=u.dtype, device=u.device)
    ungated = fresh(y.shape, dtype=u.dtype, device=u.device) if keep and z is not None else u.new_empty(0)
    partial = y if n_directions == 1 or u.dtype == torch.float32 else torch.empty_like(y, dtype=torch.float32)
    last = u.new_empty(n_directions, batch, inner, states, dtype=torch.float32)
    chunks = triton.cdiv(length, CHUNK) if keep else 0
    kept = u.new_empty(n_directions, batch, chunks, states, inner, dtype=torch.float32)
    first = torch.zeros_like(last.mT) if initial is None else _turned(initial)
    with torch.cuda.device_of(u):
        entry = _entry(u, dt, B, None, A2, dt_bias, spans, first, bases, reverse, False)
        kernels.output_kernel[(triton.cdiv(inner, BLOCK) * pieces * batch,)](
            *_strided(u, dt, B, C), *(_strided(z) if z is not None else (u, 0, 0)), A2, D, dt_bias,
            u if spans is None else spans, entry, y, partial, ungated, last, kept,
            batch, length, inner, states, pieces, bases,
            S=n_directions, FLIPPED=int(reverse), KEEP=keep, HAS_Z=z is not None, HAS_SPANS=spans is not None,
            CHUNK=CHUNK, N=triton.next_power_of_2(states), BLOCK=BLOCK, num_warps=1,
        )  # fmt: skip
    return y, last, ungated, kept


def backward(
    g_y: Tensor, g_last: Tensor | None, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor,
    dt_bias: Tensor, z: Tensor | None, spans: Tensor | None, reverse: bool, ungated: Tensor, kept: Tensor,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Give the gradients of u, dt, A, B, C, D, dt_bias, z (empty without a gate) and of the initial states."""
    n_directions, batch, length, inner = u.shape
    states = A.shape[2]
    dtypes = [x.dtype for x in (A, B, C, D, dt_bias)]
    g_y, u, dt, B, C = (_unit(x) for x in (g_y, u, dt, B, C))
    z = None if z is None else _unit(z)
    spans = None if spans is None else spans.contiguous()
    A2 = _turned(A) * math.log2(math.e)
    D, dt_bias = (x.float().contiguous() for x in (D, dt_bias))
    bases = _bases(length, n_directions * batch, inner)
    pieces = max(1, triton.cdiv(length, bases))
    blocks = triton.cdiv(inner, BLOCK)
    programs = blocks * pieces * n_directions * batch
    N = triton.next_power_of_2(states)
    # The kernels write nothing outside the spans.
    fresh = torch.empty if spans is None else torch.zeros
    g_u, g_dt = (fresh(u.shape, dtype=x.dtype, device=u.device) for x in (u, dt))
    g_z = u.new_empty(0) if z is None else fresh(z.shape, dtype=z.dtype, device=u.device)
    g_B = fresh(n_directions, batch, blocks, length, states, dtype=torch.float32, device=u.device)
    g_C = fresh(g_B.shape, dtype=torch.float32, device=u.device)
    g_A = u.new_empty(n_directions, batch * pieces, states, inner, dtype=torch.float32)
    g_D = u.new_empty(n_directions, batch * pieces, inner, dtype=torch.float32)
    g_bias = torch.empty_like(g_D)
    g_initial = u.new_empty(n_directions, batch, inner, states, dtype=torch.float32)
    scratch = u.new_empty(programs, CHUNK // 4, N, BLOCK, dtype=torch.float32)
    first = torch.zeros_like(g_initial.mT) if g_last is None else _turned(g_last)
    # The upstream gradient is one for all directions: along their dimension it has a stride of 0.
    expanded = g_y.expand(n_directions, *g_y.shape)
    with torch.cuda.device_of(u):
        entry = _entry(expanded, dt, C, z, A2, dt_bias, spans, first, bases, not reverse, True)
        kernels.gradient_kernel[(programs,)](
            *_strided(g_y, u, dt, B, C), *(_strided(z) if z is not None else (u, 0, 0)), A2, D, dt_bias,
            u if spans is None else spans, ungated, kept, entry, scratch,
            g_u, g_dt, g_A, g_B, g_C, g_D, g_bias, g_z, g_initial, batch, length, inner, states, pieces, bases,
            FLIPPED=int(reverse), HAS_Z=z is not None, HAS_SPANS=spans is not None,
            CHUNK=CHUNK, N=N, BLOCK=BLOCK, num_warps=1,
        )  # fmt: skip
    sums = (g_A.sum(1).mT.contiguous(), g_B.sum(2), g_C.sum(2), g_D.sum(1), g_bias.sum(1))
    return g_u, g_dt, *(x.to(dtype) for x, dtype in zip(sums, dtypes, strict=True)), g_z, g_initial
