"""The head of span placement: it says which of a window's gaps a cut span belongs to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Placed:
    """What the head made of the cut spans of a batch, window by window and gap by gap; ``(S,)`` each.

    Attributes
    ----------
    losses
        float32, cross-entropy in nats over the gaps of the span's own window.
    is_right
        bool: the span's own gap has the highest score.
    """

    losses: Tensor
    is_right: Tensor


class SpanPlacement(nn.Module):
    """Scores of spans for gaps: mean hidden state of a span, projected, times the projected one at a gap's marker.

    The score is divided by the square root of the width, as in attention. Spans are scored against the gaps of
    their own window only, so nothing depends on padding or on batch-mates.

    Examples
    --------
    >>> head = SpanPlacement(4)
    >>> hidden, placement = torch.randn(1, 6, 4), torch.tensor([[0, -1, -2, 2, 2, 1]])
    >>> head(hidden, placement).losses.shape
    torch.Size([2])
    """

    def __init__(self, d_model: int):
        super().__init__()
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, d_model, bias=False)

    def forward(self, hidden: Tensor, placement: Tensor) -> Placed:
        """Score every cut span, in float32 also under autocast.

        Parameters
        ----------
        hidden
            ``(B, L, D)`` after the final norm.
        placement
            ``(B, L)`` int64: 0 nothing, -j at the marker of gap j, j at the tokens of the span that belongs there;
            j = 1 ... n in each row, where n may differ from row to row and may be 0.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.to(self.query.weight.dtype)
            n_rows, n_gaps = len(placement), max(1, int(placement.max()))
            # Row by row and gap by gap, whatever the order in which the spans stand.
            row, place = (placement < 0).nonzero(as_tuple=True)
            gap = -placement[row, place] - 1
            exists = torch.zeros(n_rows, n_gaps, dtype=torch.bool, device=hidden.device)
            exists[row, gap] = True
            keys = hidden.new_zeros(n_rows, n_gaps, hidden.shape[-1]).index_put((row, gap), hidden[row, place])
            row, place = (placement > 0).nonzero(as_tuple=True)
            slot = row * n_gaps + placement[row, place] - 1
            sums = hidden.new_zeros(n_rows * n_gaps, hidden.shape[-1]).index_add(0, slot, hidden[row, place])
            counts = torch.bincount(slot, minlength=n_rows * n_gaps).clamp(min=1)
            queries = (sums / counts[:, None]).view(n_rows, n_gaps, -1)
            scores = self.query(queries) @ self.key(keys).mT / math.sqrt(hidden.shape[-1])
            scores = scores.masked_fill(~exists[:, None], -torch.inf)[exists]
            own = torch.arange(n_gaps, device=hidden.device).expand(n_rows, -1)[exists]
            return Placed(F.cross_entropy(scores, own, reduction="none"), scores.argmax(-1) == own)
