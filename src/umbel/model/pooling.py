"""One vector of a sequence from the states of its real bases: the tokens of A, C, G and T, and no others."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from umbel.errors import ConfigError

FIRST_BASE_ID, N_ID = 7, 11
POOLINGS = ("mean", "max", "first", "last", "attention")


def real_bases(input_ids: Tensor) -> Tensor:
    """Mark tokens of A, C, G and T alone, ``(B, L)`` bool: no N, no padding, no special token."""
    return (input_ids >= FIRST_BASE_ID) & (input_ids != N_ID)


def mean_over_bases(hidden: Tensor, input_ids: Tensor) -> Tensor:
    """Average hidden states ``(B, L, D)`` over :func:`real_bases` only, ``(B, D)``; zeros where there are none."""
    # Not a product with 0 and 1: what stands at padding may be anything.
    real = real_bases(input_ids)[:, :, None]
    return hidden.masked_fill(~real, 0).sum(1) / real.sum(1).clamp(min=1)


def _max_over_bases(hidden: Tensor, input_ids: Tensor) -> Tensor:
    real = real_bases(input_ids)[:, :, None]
    return hidden.masked_fill(~real, -torch.inf).amax(1).masked_fill(~real.any(1), 0)


def _one_base(hidden: Tensor, input_ids: Tensor, *, last: bool) -> Tensor:
    real = real_bases(input_ids)
    place = real.shape[1] - 1 - real.flip(1).int().argmax(1) if last else real.int().argmax(1)
    state = hidden.gather(1, place[:, None, None].expand(-1, 1, hidden.shape[2]))[:, 0]
    return state.masked_fill(~real.any(1)[:, None], 0)


class Pool(nn.Module):
    """Pooling over real bases; a sequence without any gives zeros.

    Nothing depends on padding or on what stands at tokens that are no real bases, gradients included.

    Parameters
    ----------
    kind
        ``mean`` and ``max`` of the states, number by number; the state of the ``first`` or of the ``last`` real base;
        ``attention``: a mean weighted by the softmax of the states' products with a learned query, over the square
        root of the width. The query starts at zero, where attention is the mean.
    d_model
        Width D.

    Raises
    ------
    ConfigError
        If there is no such pooling.

    Examples
    --------
    >>> hidden, ids = torch.tensor([[[9.0], [1.0], [2.0], [9.0]]]), torch.tensor([[0, 7, 8, 1]])
    >>> [Pool(kind, 1)(hidden, ids).item() for kind in POOLINGS]
    [1.5, 2.0, 1.0, 2.0, 1.5]
    """

    def __init__(self, kind: str, d_model: int):
        super().__init__()
        require_pooling(kind)
        self.kind = kind
        self.query = nn.Parameter(torch.zeros(d_model)) if kind == "attention" else None

    def forward(self, hidden: Tensor, input_ids: Tensor) -> Tensor:
        """Pool hidden states ``(B, L, D)``, at least in float32, also under autocast; ``(B, D)``."""
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden if hidden.dtype == torch.float64 else hidden.float()
            match self.kind:
                case "mean":
                    return mean_over_bases(hidden, input_ids)
                case "max":
                    return _max_over_bases(hidden, input_ids)
                case "attention":
                    return self._attended(hidden, input_ids)
                case _:
                    return _one_base(hidden, input_ids, last=self.kind == "last")

    def _attended(self, hidden: Tensor, input_ids: Tensor) -> Tensor:
        assert self.query is not None
        real = real_bases(input_ids)
        hidden = hidden.masked_fill(~real[:, :, None], 0)
        scores = hidden @ self.query.to(hidden.dtype) / math.sqrt(hidden.shape[2])
        # A row without real bases has no softmax: any number does, because all its states are zeros.
        weights = scores.masked_fill(~real & real.any(1, keepdim=True), -torch.inf).softmax(1)
        return (weights[:, None] @ hidden)[:, 0]


def require_pooling(kind: str) -> None:
    """See that there is such a pooling.

    Raises
    ------
    ConfigError
        Listing what there is.
    """
    if kind not in POOLINGS:
        raise ConfigError(f"pooling is {kind!r}, and there are {', '.join(POOLINGS)}")
