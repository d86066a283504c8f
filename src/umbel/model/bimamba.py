"""Bidirectional Mamba mixer: one scan along the sequence, one against it, and a fusion of the two.

Shapes: B batch, L length, D width, I inner width, N scan state, R rank of the step-size projection.
The backward direction reverses order; it does not complement bases.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from umbel.config import ModelConfig
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

    def forward(self, x_BLI: Tensor, real_BL: Tensor | None, reverse: bool) -> Tensor:
        """Mix ``x_BLI`` along time; padding (where ``real_BL`` is False) enters neither filter nor state."""
        if real_BL is not None:
            x_BLI = x_BLI * real_BL[:, :, None]
        u = causal_conv(x_BLI, self.conv_weight, self.conv_bias, reverse=reverse)
        dt, B, C = self.x_proj(u).split(self.split, dim=-1)
        # The recurrence multiplies thousands of factors: steps and states stay in at least float32.
        with torch.autocast(u.device.type, enabled=False):
            weight, bias = self.dt_proj.weight, self.dt_proj.bias
            wide = torch.promote_types(weight.dtype, torch.float32)
            dt = F.softplus(F.linear(dt.to(wide), weight.to(wide), bias.to(wide)))
            if real_BL is not None:
                dt = dt * real_BL[:, :, None]
            A = -torch.exp(self.A_log.to(wide))
            y = selective_scan(u.to(wide), dt, A, B.to(wide), C.to(wide), self.D.to(wide), reverse=reverse)
        return y.to(u.dtype)


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

    def forward(self, x_BLD: Tensor, real_BL: Tensor | None = None) -> Tensor:
        """Map ``(B, L, D)`` to ``(B, L, D)``; ``real_BL`` is True on everything but padding."""
        x, gate = self.in_proj(x_BLD).chunk(2, dim=-1)
        x_back, gate_back = (x, gate) if self.tied else self.in_proj_backward(x_BLD).chunk(2, dim=-1)
        along = self.along(x, real_BL, reverse=False) * F.silu(gate)
        against = self.against(x_back, real_BL, reverse=True) * F.silu(gate_back)
        if self.fusion == "add" and self.tied:
            return self.out_proj(along + against)  # one product serves both directions
        along = self.out_proj(along)
        against = (self.out_proj if self.tied else self.out_proj_backward)(against)
        if self.fusion == "add":
            return along + against
        if self.fusion == "multiply":
            return along * against
        mixed = self.fuse(torch.cat([along, against], dim=-1))
        if self.fusion == "concat":
            return mixed
        g = torch.sigmoid(mixed)
        return g * along + (1 - g) * against
