"""The definition of the grouped MLP: one expert after the other, each on its own rows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def apply(x_RD: Tensor, gate_EFD: Tensor, up_EFD: Tensor, down_EDF: Tensor, counts_E: Tensor) -> Tensor:
    """Run each expert's SwiGLU; see :func:`umbel.ops.grouped_mlp.grouped_mlp`."""
    counts = counts_E.tolist()
    # unbind, not indexing: the backward of W[e] writes a full-size gradient for every expert.
    experts = zip(x_RD[: sum(counts)].split(counts), gate_EFD.unbind(), up_EFD.unbind(), down_EDF.unbind(), strict=True)
    rows = [F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down) for x, gate, up, down in experts]
    return torch.cat([*rows, x_RD.new_zeros(len(x_RD) - sum(counts), x_RD.shape[1])])
