"""What stands on a backbone: pooling over real bases and the masked-language loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

FIRST_BASE_ID, N_ID = 7, 11
IGNORED = -100


def real_bases(input_ids: Tensor) -> Tensor:
    """Mark tokens of A, C, G and T alone, ``(B, L)`` bool: no N, no padding, no special token."""
    return (input_ids >= FIRST_BASE_ID) & (input_ids != N_ID)


def mean_over_bases(hidden: Tensor, input_ids: Tensor) -> Tensor:
    """Average hidden states ``(B, L, D)`` over :func:`real_bases` only, ``(B, D)``; zeros where there are none."""
    # Not a product with 0 and 1: what stands at padding may be anything.
    real = real_bases(input_ids)[:, :, None]
    return hidden.masked_fill(~real, 0).sum(1) / real.sum(1).clamp(min=1)


def label_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in nats at every position that has a label, ``(B, L)`` float32; 0 elsewhere.

    Parameters
    ----------
    logits
        ``(B, L, V)``; computed in float32 whatever their dtype.
    labels
        ``(B, L)`` token ids, or -100 where there is nothing to predict.
    """
    flat = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return flat.view(labels.shape)


def masked_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of :func:`label_losses` over the positions that have a label; 0 where none has."""
    return label_losses(logits, labels).sum() / (labels != IGNORED).sum().clamp(min=1)
