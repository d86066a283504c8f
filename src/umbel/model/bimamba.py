"""Bidirectional Mamba mixer: one scan along the sequence, one against it, and a fusion of the two.

Shapes: B batch, L length, D width, I inner width, N scan state, R rank of the step-size projection.
The backward direction reverses order; it does not complement bases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from umbel.config import ModelConfig
from umbel.model.effective_weights import require_unwrapped, weight_of
from umbel.ops.causal_conv import causal_conv
from umbel.ops.selective_scan import selective_scan

DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 1e-1, 1e-4


class Direction(nn.Module):
    """What each direction has of its own: convolution, input-dependent steps, decay rates, skip.

    References
    ----------
    Gu and Dao 2023, "Mamba", arXiv:2312.00752, section 3.6 and the authors' initialisation.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        inner, state, rank = config.d_inner, config.d_state, config.dt_width
        self.split = [rank, state, state]
        self.conv_weight = nn.Parameter(torch.empty(inner, config.d_conv))
        self.conv_bias = nn.Parameter(torch.empty(inner))
        self.x_proj = nn.Linear(inner, sum(self.split), bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, state + 1).repeat(inner, 1)))
        self.D = nn.Parameter(torch.ones(inner))
        self.reset_parameters(config)

    @torch.no_grad()
    def reset_parameters(self, config: ModelConfig) -> None:
        """Draw the convolution, and step sizes that are log-uniform in [0.001, 0.1] at zero input."""
        bound = 1 / math.sqrt(config.d_conv)
        nn.init.uniform_(self.conv_weight, -bound, bound)
        nn.init.uniform_(self.conv_bias, -bound, bound)
        spread = config.dt_width**-0.5
        nn.init.uniform_(self.dt_proj.weight, -spread, spread)
        dt = torch.exp(torch.rand_like(self.D) * math.log(DT_MAX / DT_MIN) + math.log(DT_MIN)).clamp_(min=DT_FLOOR)
        self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus


def mix(
    directions: Sequence[Direction],
    x_BLI: Tensor,
    z_BLI: Tensor,
    spans_B2: Tensor | None,
    *,
    reverse: bool = False,
) -> Tensor:
    """Filter, project and scan ``x_BLI``, and gate with ``z_BLI``, ``(B, L, I)``.

    Two directions go through every step together and are added before the gate, which they share; one goes
    along time, or against it with ``reverse``. Each direction's projections are one matrix product each.
    What lies outside ``spans_B2`` is padding and enters neither filter nor state.
    """

    def both(get: Callable[[Direction], Tensor]) -> Tensor:
        return torch.stack([get(d) for d in directions]) if len(directions) == 2 else get(directions[0])

    for direction in directions:
        require_unwrapped(direction, "a Mamba direction")
    weight, bias = both(lambda d: d.conv_weight), both(lambda d: d.conv_bias)
    u = causal_conv(x_BLI, weight, bias, reverse=reverse, spans=spans_B2)
    projected = torch.matmul(u.flatten(-3, -2), both(lambda d: weight_of(d.x_proj, "x_proj")).mT)
    rank, state, _ = directions[0].split
    dt = torch.matmul(projected[..., :rank], both(lambda d: weight_of(d.dt_proj, "dt_proj")).mT).view(u.shape)
    projected = projected.view(*u.shape[:-1], -1)
    # Decay rates and biases stay in at least float32, as the scan's steps and states do.
    A_log, D, dt_bias = both(lambda d: d.A_log), both(lambda d: d.D), both(lambda d: d.dt_proj.bias)
    wide = torch.promote_types(A_log.dtype, torch.float32)
    y, _ = selective_scan(
        u,
        dt,
        -torch.exp(A_log.to(wide)),
        projected[..., rank : rank + state],
        projected[..., rank + state :],
        D.to(wide),
        dt_bias.to(wide),
        z_BLI,
        reverse=reverse,
        spans=spans_B2,
    )
    return y


class BiMamba(nn.Module):
    """Two Mamba-1 scans in opposite directions, fused.

    ``fusion``: ``add`` and ``multiply`` combine the two outputs element by element (as published);
    ``gate`` takes g * forward + (1 - g) * backward with g = sigmoid(W [forward, backward]);
    ``concat`` takes W [forward, backward]. The last two are ours, for the ablation the paper leaves open.

    References
    ----------
    PlantBiMoE, arXiv:2512.07113; Schiff et al. 2024, "Caduceus", arXiv:2403.03234, section 4.1.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        width, inner = config.d_model, config.d_inner
        self.fusion, self.tied = config.fusion, config.tie_projections
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.out_proj = nn.Linear(inner, width, bias=False)
        if not self.tied:
            self.in_proj_backward = nn.Linear(width, 2 * inner, bias=False)
            self.out_proj_backward = nn.Linear(inner, width, bias=False)
        self.along = Direction(config)
        self.against = Direction(config)
        if self.fusion in ("gate", "concat"):
            self.fuse = nn.Linear(2 * width, width, bias=False)

    def forward(self, x_BLD: Tensor, spans_B2: Tensor | None = None) -> Tensor:
        """Map ``(B, L, D)`` to ``(B, L, D)``; ``spans_B2`` tells where each row's sequence stands, None: everywhere.

        A projection acts on each base alone, so it commutes with the reversal of order: with tied projections
        ``in_proj`` runs once for both directions. With additive fusion the outputs are added before ``out_proj``,
        which is linear, and it too runs once.
        """
        x, z = self.in_proj(x_BLD).chunk(2, dim=-1)
        if self.fusion == "add" and self.tied:
            return self.out_proj(mix((self.along, self.against), x, z, spans_B2))
        x_back, z_back = (x, z) if self.tied else self.in_proj_backward(x_BLD).chunk(2, dim=-1)
        along = self.out_proj(mix((self.along,), x, z, spans_B2))
        out_proj = self.out_proj if self.tied else self.out_proj_backward
        return self.fused(along, out_proj(mix((self.against,), x_back, z_back, spans_B2, reverse=True)))

    def fused(self, along: Tensor, against: Tensor) -> Tensor:
        """Combine the two directions' outputs, ``(..., D)`` each, as ``fusion`` says."""
        if self.fusion == "add":
            return along + against
        if self.fusion == "multiply":
            return along * against
        mixed = self.fuse(torch.cat([along, against], dim=-1))
        if self.fusion == "concat":
            return mixed
        g = torch.sigmoid(mixed)
        return g * along + (1 - g) * against
