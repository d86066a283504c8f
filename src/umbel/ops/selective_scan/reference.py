"""The definition of the selective scan: a loop over time that a reader can hold against the paper."""

from __future__ import annotations

import torch
from torch import Tensor


def scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, reverse: bool) -> Tensor:
    """Run the recurrence one base at a time; see :func:`umbel.ops.selective_scan.selective_scan`."""
    state = u.new_zeros(u.shape[0], *A.shape)  # (B, I, N)
    outputs: list[Tensor] = [u.new_zeros(0)] * u.shape[1]
    for t in reversed(range(u.shape[1])) if reverse else range(u.shape[1]):
        decay = torch.exp(dt[:, t, :, None] * A)
        state = decay * state + (dt[:, t] * u[:, t])[:, :, None] * B[:, t, None, :]
        outputs[t] = (state * C[:, t, None, :]).sum(-1) + D * u[:, t]
    return torch.stack(outputs, dim=1)
