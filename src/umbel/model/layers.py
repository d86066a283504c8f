"""The dense parts of a block, and the initial weights that all parts share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from umbel.model.effective_weights import weight_of
from umbel.ops.grouped_mlp import gated_mlp


class SwiGLU(nn.Module):
    """Dense gated MLP, ``down(SiLU(gate(x)) * up(x))``, without biases.

    References
    ----------
    Shazeer 2020, arXiv:2002.05202, eq. 6.
    """

    def __init__(self, d_model: int, hidden: int):
        super().__init__()
        self.gate = nn.Linear(d_model, hidden, bias=False)
        self.up = nn.Linear(d_model, hidden, bias=False)
        self.down = nn.Linear(hidden, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., D)`` to ``(..., D)``."""
        return gated_mlp(x, weight_of(self.gate, "gate"), weight_of(self.up, "up"), weight_of(self.down, "down"))


@torch.no_grad()
def scaled_kaiming_(weight: Tensor, branches: int) -> None:
    """Fill the last projection of a residual branch: Kaiming-uniform, divided by sqrt(branches).

    Parameters
    ----------
    weight
        ``(..., out, in)``; leading dimensions are experts.
    branches
        How many residual branches add up along the network; 1 leaves the plain initialisation.
    """
    for matrix in weight.reshape(-1, *weight.shape[-2:]):
        nn.init.kaiming_uniform_(matrix, a=math.sqrt(5))
    weight /= math.sqrt(branches)
