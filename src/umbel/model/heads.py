"""What stands on a backbone: pooling over real bases and the masked-language loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

FIRST_BASE_ID, LAST_BASE_ID = 7, 10
IGNORED = -100


def real_bases(input_ids: Tensor) -> Tensor:
    """Mark A, C, G and T, ``(B, L)`` bool: no N, no padding, no special token."""
    return (input_ids >= FIRST_BASE_ID) & (input_ids <= LAST_BASE_ID)


def mean_over_bases(hidden: Tensor, input_ids: Tensor) -> Tensor:
    """Average hidden states ``(B, L, D)`` over the real bases only, ``(B, D)``; zeros where there are none."""
    weights = real_bases(input_ids).to(hidden.dtype)
    return (hidden * weights[:, :, None]).sum(1) / weights.sum(1, keepdim=True).clamp(min=1)


def masked_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Weighted mean of cross-entropy over the positions that have a label.

    Parameters
    ----------
    logits
        ``(B, L, V)``; computed in float32 whatever their dtype.
    labels
        ``(B, L)``, token ids, or -100 where there is nothing to predict.
    weights
        ``(B, L)`` >= 0, or None for 1 everywhere.

    Returns
    -------
    A scalar in nats; 0 (with zero gradient) where no position has weight.
    """
    losses = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none")
    counted = (labels.flatten() != IGNORED).float()
    if weights is not None:
        counted = counted * weights.flatten()
    total = counted.sum()
    return (losses * counted).sum() / total.clamp(min=1e-12)
