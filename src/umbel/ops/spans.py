"""Where each row of a padded batch has its sequence."""

from __future__ import annotations

import torch
from torch import Tensor


def live_positions(spans: Tensor, length: int) -> Tensor:
    """Mark what lies in each row's span.

    Parameters
    ----------
    spans
        ``(B, 2)`` integers: the first position of the row's sequence and the one past its last.
    length
        L, padding included.

    Returns
    -------
    ``(B, L)`` bool.

    Examples
    --------
    >>> live_positions(torch.tensor([[1, 3]]), 4).tolist()
    [[False, True, True, False]]
    """
    t = torch.arange(length, device=spans.device)
    return (t >= spans[:, :1]) & (t < spans[:, 1:])
