"""The definition of the selective scan: a loop over time that a reader can hold against the paper."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from umbel.ops.spans import live_positions


def blank_outside(spans: Tensor | None, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Put zeros where a row (second dimension from the left of three, ``(S, B, L, ...)``) has no sequence.

    A choice, not a product: whatever stands there, NaN included, is gone.
    """
    if spans is None:
        return tensors
    live = live_positions(spans, tensors[0].shape[2])[:, :, None]
    return tuple(torch.where(live, x, x.new_zeros(())) for x in tensors)


def steps(dt: Tensor, dt_bias: Tensor, spans: Tensor | None) -> Tensor:
    """Turn raw steps (S, B, L, I) into positive ones; 0 outside the spans, where a state stays as it is."""
    (step,) = blank_outside(spans, F.softplus(dt + dt_bias[:, None, None]))
    return step


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
    """Run the recurrence one base at a time; see :func:`umbel.ops.selective_scan.selective_scan`.

    All but ``z`` and ``spans`` have a leading dimension S of directions. Gives ``y`` (B, L, I) and the last
    states (S, B, I, N).
    """
    u, dt, B, C = blank_outside(spans, u, dt, B, C)
    step = steps(dt, dt_bias, spans)
    outputs, last = [], []
    for s in range(u.shape[0]):
        state = u.new_zeros(*u.shape[1:2], *A.shape[1:]) if initial is None else initial[s]  # (B, I, N)
        direction: list[Tensor] = [u.new_zeros(0)] * u.shape[2]
        times = range(u.shape[2])
        for t in reversed(times) if reverse != (s == 1) else times:
            decay = torch.exp(step[s, :, t, :, None] * A[s])
            state = decay * state + (step[s, :, t] * u[s, :, t])[:, :, None] * B[s, :, t, None, :]
            direction[t] = (state * C[s, :, t, None, :]).sum(-1) + D[s] * u[s, :, t]
        outputs.append(torch.stack(direction, dim=1))
        last.append(state)
    y = outputs[0] if len(outputs) == 1 else outputs[0] + outputs[1]
    if z is not None:
        y = y * F.silu(blank_outside(spans, z[None])[0][0])
    return y, torch.stack(last)
