"""The definition of the long convolution: the sum over the past that a reader can hold against the paper."""

from __future__ import annotations

import torch
from torch import Tensor


def convolve(
    z: Tensor,
    residues: Tensor,
    poles: Tensor,
    skip: Tensor,
    initial: Tensor | None,
    spans: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """Convolve (B, L, 3D) row by row and base by base; see :func:`umbel.ops.long_conv.long_conv`.

    Gives ``y`` (B, L, D) and the last states (B, D, S, 2).
    """
    batch, length, _ = z.shape
    r = torch.complex(residues[..., 0], residues[..., 1])
    # In float32 the angle of a pole far along the sequence would be known to few digits.
    rate = torch.complex(poles[..., 0].double(), poles[..., 1].double())
    limits = [(0, length)] * batch if spans is None else spans.tolist()
    outputs, last = [], []
    for row, (start, stop) in enumerate(limits):
        stop = max(start, stop)
        state = r.new_zeros(r.shape) if initial is None else torch.complex(initial[row, ..., 0], initial[row, ..., 1])
        mine = z[row, start:stop].flip(0) if reverse else z[row, start:stop]
        x2, x1, v = mine.chunk(3, -1)
        u = x1 * v
        t = torch.arange(len(u) + 1, device=z.device, dtype=torch.float64)
        powers = torch.exp(rate[..., None] * t).to(r.dtype)  # (D, S, T + 1)
        h = (r[..., None] * powers).sum(1).real
        after = powers[..., len(u)] * state
        rows = []
        for now in range(len(u)):
            seen = (h[:, : now + 1].flip(1) * u[: now + 1].T).sum(1)  # sum over tau of h(now - tau) u(tau)
            rung = (r * powers[..., now + 1] * state).sum(1).real
            rows.append(x2[now] * (seen + rung + skip * u[now]))
            after = after + powers[..., len(u) - 1 - now] * u[now][:, None]
        y = torch.stack(rows) if rows else z.new_zeros(0, len(skip))
        y = y.flip(0) if reverse else y
        outputs.append(torch.cat([y.new_zeros(start, len(skip)), y, y.new_zeros(length - stop, len(skip))]))
        last.append(torch.view_as_real(after))
    return torch.stack(outputs), torch.stack(last)
