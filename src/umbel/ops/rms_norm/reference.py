"""The definition of root-mean-square norm with a residual added first."""

from __future__ import annotations

import torch
from torch import Tensor


def apply(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float, out_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Give the normalised sum, and the sum; see :func:`umbel.ops.rms_norm.add_rms_norm`."""
    stream = x if residual is None else residual + x
    wide = stream.to(torch.promote_types(stream.dtype, torch.float32))
    mean_square = wide.square().mean(-1, keepdim=True)
    return (wide / torch.sqrt(mean_square + eps) * weight).to(out_dtype), stream
