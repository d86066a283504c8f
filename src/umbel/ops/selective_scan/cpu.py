"""The selective scan on a CPU in float32, by numba kernels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from umbel.ops.selective_scan.op import CHUNK
from umbel.ops.threads import address, launch, load_kernels


def _rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _located(x: Tensor) -> tuple[int, ...]:
    """Give the address and all strides but the last, which is 1."""
    return x.data_ptr(), *x.stride()[:-1]


def scan_rates(A: Tensor) -> Tensor:
    """Turn A, ``(..., I, N)``, into exponents of two, ``(..., N, I)``."""
    return (A * math.log2(math.e)).transpose(-1, -2).contiguous()


def _tasks(u: Tensor, group: int) -> int:
    return u.shape[1] * -(-u.shape[3] // group)


def forward(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    z: Tensor | None,
    initial: Tensor | None,
    spans: Tensor | None,
    reverse: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scan; shapes and meaning as in :mod:`umbel.ops.selective_scan.op`."""
    kernels = load_kernels("umbel.ops.selective_scan.cpu_kernels")
    n_directions, batch, length, inner = u.shape
    n_state = A.shape[2]
    u, dt, B, C = (_rows(x) for x in (u, dt, B, C))
    z = None if z is None else _rows(z)
    rates, D, dt_bias = scan_rates(A), D.contiguous(), dt_bias.contiguous()
    initial = None if initial is None else initial.transpose(2, 3).contiguous()
    spans = None if spans is None else spans.to(torch.int64).contiguous()
    y = u.new_empty(batch, length, inner)
    ungated = torch.empty_like(y) if keep and z is not None else u.new_empty(0)
    last = u.new_empty(n_directions, batch, n_state, inner)
    kept = u.new_empty(n_directions, batch, -(-length // CHUNK) if keep else 0, n_state, inner)
    launch(
        kernels.forward,
        _tasks(u, kernels.GROUP * kernels.LANES),
        kernels.forward_scratch(n_state),
        *(n_directions, batch, length, inner, n_state, int(reverse)),
        *(place for x in (u, dt, B, C) for place in _located(x)),
        *((0, 0, 0) if z is None else _located(z)),
        *(address(x) for x in (rates, D, dt_bias, initial, y, ungated, last, kept, spans)),
        *(0, 0, 0),
    )
    return y, last.transpose(2, 3).contiguous(), ungated, kept


def scan_into(
    u: Tensor,
    low_rank_dt: Tensor,
    dt_weight: Tensor,
    rates: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    z: Tensor | None,
    state: Tensor,
    y: Tensor,
    *,
    reverse: bool,
    add: bool,
) -> None:
    """Scan one piece of one sequence in place, for inference piece by piece; the step projection is done on the way.

    Parameters
    ----------
    u, low_rank_dt, B, C, z
        ``(T, I)``, ``(T, R)``, ``(T, N)``, ``(T, N)`` and ``(T, I)``, with stride 1 along the last dimension.
    dt_weight
        ``(R, I)``, contiguous: the raw steps are ``low_rank_dt @ dt_weight``.
    rates, D, dt_bias
        From :func:`scan_rates`, ``(N, I)``; ``(I,)``, ``(I,)``; contiguous.
    state
        ``(N, I)``, taken as the state before the piece, and left as the state after it.
    y
        ``(T, I)``, contiguous; with ``add`` it holds what is added before the gate.
    """
    kernels = load_kernels("umbel.ops.selective_scan.cpu_kernels")
    length, inner = u.shape
    launch(
        kernels.forward,
        -(-inner // (kernels.GROUP * kernels.LANES)),
        kernels.forward_scratch(len(rates)),
        *(1, 1, length, inner, len(rates), int(reverse)),
        *(place for x in (u, low_rank_dt, B, C) for place in (x.data_ptr(), 0, 0, x.stride(0))),
        *((0, 0, 0) if z is None else (z.data_ptr(), 0, z.stride(0))),
        *(address(x) for x in (rates, D, dt_bias, state, y, None, state, None, None)),
        *(int(add), dt_weight.data_ptr(), len(dt_weight)),
    )


def backward(
    g_y: Tensor,
    g_last: Tensor | None,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    z: Tensor | None,
    spans: Tensor | None,
    reverse: bool,
    ungated: Tensor,
    kept: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Differentiate; shapes and meaning as in :mod:`umbel.ops.selective_scan.op`."""
    kernels = load_kernels("umbel.ops.selective_scan.cpu_gradient")
    n_directions, batch, length, inner = u.shape
    n_state, wide = A.shape[2], kernels.backward_group(inner)
    group = wide * kernels.LANES
    u, dt, B, C, g_y = (_rows(x) for x in (u, dt, B, C, g_y.contiguous()))
    rates, D, dt_bias = scan_rates(A), D.contiguous(), dt_bias.contiguous()
    g_last = None if g_last is None else g_last.transpose(2, 3).contiguous()
    spans = None if spans is None else spans.to(torch.int64).contiguous()
    g_z = u.new_empty(0)
    if z is not None:
        z, ungated_gradient, g_z = _rows(z), torch.empty_like(g_y), torch.empty_like(g_y)
        launch(
            kernels.gate_backward,
            batch * -(-length // CHUNK),
            0,
            *(length, inner, address(g_y), address(ungated), *_located(z)),
            *(address(x) for x in (ungated_gradient, g_z, spans)),
        )
        g_y = ungated_gradient
    g_u, g_dt = (u.new_empty(u.shape) for _ in range(2))
    g_initial, g_rates = (u.new_empty(n_directions, batch, n_state, inner) for _ in range(2))
    g_B, g_C = (u.new_empty(-(-inner // group), n_directions, batch, length, n_state) for _ in range(2))
    g_D, g_bias = (u.new_empty(n_directions, batch, inner) for _ in range(2))
    launch(
        kernels.backward,
        _tasks(u, group),
        kernels.backward_scratch(n_state, wide),
        *(n_directions, batch, length, inner, n_state, int(reverse)),
        *(place for x in (u, dt, B, C) for place in _located(x)),
        *(address(x) for x in (rates, D, dt_bias, kept, spans, g_y, g_last, g_u, g_dt, g_initial)),
        *(address(x) for x in (g_rates, g_B, g_C, g_D, g_bias)),
        wide,
    )
    g_A = g_rates.sum(1).transpose(1, 2).contiguous()
    g_initial = g_initial.transpose(2, 3).contiguous()
    return g_u, g_dt, g_A, g_B.sum(0), g_C.sum(0), g_D.sum(1), g_bias.sum(1), g_z, g_initial
