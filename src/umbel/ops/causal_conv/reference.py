"""The definition of the short convolution: a loop over time and taps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from umbel.ops.spans import live_positions


def apply(x: Tensor, weight: Tensor, bias: Tensor, spans: Tensor | None, reverse: bool) -> Tensor:
    """Convolve (B, L, I) with filters (S, I, W) to (S, B, L, I); see :func:`umbel.ops.causal_conv.causal_conv`."""
    n_directions, _, taps = weight.shape
    length = x.shape[1]
    live = None if spans is None else live_positions(spans, length)[:, :, None]
    if live is not None:
        x = torch.where(live, x, x.new_zeros(()))
    directions = []
    for s in range(n_directions):
        sign = 1 if reverse != (s == 1) else -1
        rows = []
        for t in range(length):
            total = bias[s].expand_as(x[:, t])
            for k in range(taps):
                source = t + sign * (taps - 1 - k)
                if 0 <= source < length:
                    total = total + weight[s, :, k] * x[:, source]
            rows.append(F.silu(total))
        directions.append(torch.stack(rows, 1))
    y = torch.stack(directions)
    return y if live is None else torch.where(live, y, y.new_zeros(()))
