"""The grouped MLP by torch's grouped matrix product: no loop, and no wait for the device to tell the counts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def why_not(x: Tensor) -> str | None:
    """Give the reason why torch's grouped product is not taken for ``x``, or None: torch documents one case."""
    if x.device.type != "cuda" or x.dtype != torch.bfloat16 or torch.cuda.get_device_capability(x.device) < (8, 0):
        given = f"{x.dtype} on {x.device}"
        return f"takes bfloat16 tensors on a CUDA device of compute capability 8.0 or more, and got {given}"
    return None


def apply(x_RD: Tensor, gate_EFD: Tensor, up_EFD: Tensor, down_EDF: Tensor, counts_E: Tensor) -> Tensor:
    """Run all experts in three grouped products; see :func:`umbel.ops.grouped_mlp.grouped_mlp`."""
    ends = counts_E.cumsum(0).to(torch.int32)
    # The products leave rows of no expert unwritten, in the output and in the gradient of the input.
    owned = (torch.arange(len(x_RD), device=x_RD.device) < ends[-1])[:, None]
    x_RD = torch.where(owned, x_RD, x_RD.new_zeros(()))
    hidden = F.silu(F.grouped_mm(x_RD, gate_EFD.mT, offs=ends)) * F.grouped_mm(x_RD, up_EFD.mT, offs=ends)
    y_RD = F.grouped_mm(hidden, down_EDF.mT, offs=ends)
    return torch.where(owned, y_RD, y_RD.new_zeros(()))
