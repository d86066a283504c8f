"""The selective scan in plain torch, for any device and dtype: chunks in turn, each by doubling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from umbel.ops.selective_scan.reference import blank_outside, steps

CHUNK = 64


def _chunk(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Scan one chunk from ``state`` (B, I, N); give its outputs (B, T, I) and its last state."""
    decay = torch.exp(dt[..., None] * A)  # (B, T, I, N)
    value = (dt * u)[..., None] * B[:, :, None, :]
    # After the pass with step s, (decay, value) at t stand for the composition of the last 2s maps.
    step = 1
    while step < u.shape[1]:
        value = torch.cat([value[:, :step], value[:, step:] + decay[:, step:] * value[:, :-step]], 1)
        decay = torch.cat([decay[:, :step], decay[:, step:] * decay[:, :-step]], 1)
        step *= 2
    states = value + decay * state[:, None]
    y = torch.einsum("btin,btn->bti", states, C) + D * u
    return y, states[:, -1]


def _direction(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor, reverse: bool
) -> tuple[Tensor, Tensor]:
    """Scan chunk by chunk; a chunk's inner values are made again in backward, not kept."""
    if reverse:
        u, dt, B, C = u.flip(1), dt.flip(1), B.flip(1), C.flip(1)
    outputs = []
    for start in range(0, u.shape[1], CHUNK):
        stop = start + CHUNK
        part = (u[:, start:stop], dt[:, start:stop], A, B[:, start:stop], C[:, start:stop], D, state)
        y, state = checkpoint(_chunk, *part, use_reentrant=False) if torch.is_grad_enabled() else _chunk(*part)
        outputs.append(y)
    y = torch.cat(outputs, 1)
    return (y.flip(1) if reverse else y), state


def scan(
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
) -> tuple[Tensor, Tensor]:
    """Scan as :func:`umbel.ops.selective_scan.reference.scan` does, with the same shapes.

    Memory is O(S B L I) plus one chunk of O(B T I N), with T = 64.
    """
    u, dt, B, C = blank_outside(spans, u, dt, B, C)
    step = steps(dt, dt_bias, spans)
    if initial is None:
        initial = u.new_zeros(u.shape[0], u.shape[1], *A.shape[1:])
    y, last = _direction(u[0], step[0], A[0], B[0], C[0], D[0], initial[0], reverse)
    states = [last]
    if u.shape[0] == 2:
        y_against, last = _direction(u[1], step[1], A[1], B[1], C[1], D[1], initial[1], not reverse)
        y = y + y_against
        states.append(last)
    if z is not None:
        y = y * F.silu(blank_outside(spans, z[None])[0][0])
    return y, torch.stack(states)
