"""The selective scan in plain torch, for any device and dtype: chunks in turn, each by doubling."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

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


def scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, reverse: bool) -> Tensor:
    """Scan chunk by chunk; a chunk's inner values are made again in backward, not kept.

    Memory is O(B L I) plus one chunk of O(B T I N), with T = 64.
    """
    if reverse:
        u, dt, B, C = u.flip(1), dt.flip(1), B.flip(1), C.flip(1)
    state = u.new_zeros(u.shape[0], *A.shape)
    outputs = []
    for start in range(0, u.shape[1], CHUNK):
        stop = start + CHUNK
        part = (u[:, start:stop], dt[:, start:stop], A, B[:, start:stop], C[:, start:stop], D, state)
        y, state = checkpoint(_chunk, *part, use_reentrant=False) if torch.is_grad_enabled() else _chunk(*part)
        outputs.append(y)
    y = torch.cat(outputs, 1)
    return y.flip(1) if reverse else y
