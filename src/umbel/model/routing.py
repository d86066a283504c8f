"""Routing as a value: which experts each token took, with which weights, and what follows from it.

Shapes: B batch, L length, E experts, K top-k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Routing:
    """The decisions of one router for one batch.

    Attributes
    ----------
    layer
        Index of the layer in the backbone.
    logits
        ``(B, L, E)`` float32; 0 at padding.
    experts
        ``(B, L, K)`` int64, in falling order of weight; -1 at padding, which is never routed.
    weights
        ``(B, L, K)`` float32, the raw softmax probabilities of the chosen; 0 at padding.
    """

    layer: int
    logits: Tensor
    experts: Tensor
    weights: Tensor

    @property
    def n_experts(self) -> int:
        """How many experts the router chooses from."""
        return self.logits.shape[-1]

    @property
    def real(self) -> Tensor:
        """``(B, L)`` bool, True at routed tokens."""
        return self.experts[..., 0] >= 0

    def counts(self) -> Tensor:
        """Tokens that each expert received, ``(E,)`` int64."""
        return torch.bincount(self.experts[self.real].flatten(), minlength=self.n_experts)


@dataclass(frozen=True)
class ExpertLoad:
    """How evenly a router spreads its tokens; every number is 0 when there were no tokens.

    Attributes
    ----------
    load
        Share of assignments per expert, adding up to 1.
    max_over_mean
        Busiest expert over the mean: 1 when even, at most E / K.
    cv
        Standard deviation over mean of the load: 0 when even.
    n_dead
        Experts that received nothing.
    """

    load: list[float]
    max_over_mean: float
    cv: float
    n_dead: int


def expert_load(counts: np.ndarray) -> ExpertLoad:
    """Summarise tokens per expert, ``(E,)`` integers >= 0.

    Examples
    --------
    >>> expert_load(np.array([6, 2, 0, 0]))
    ExpertLoad(load=[0.75, 0.25, 0.0, 0.0], max_over_mean=3.0, cv=1.224744871391589, n_dead=2)
    """
    total = counts.sum()
    if total == 0:
        return ExpertLoad([0.0] * len(counts), 0.0, 0.0, len(counts))
    share = counts / total
    return ExpertLoad(
        load=share.tolist(),
        max_over_mean=float(share.max() * len(share)),
        cv=float(share.std() * len(share)),
        n_dead=int((counts == 0).sum()),
    )


def balance_loss(routings: Sequence[Routing]) -> Tensor:
    r"""Switch-style load-balance loss, mean over layers, over real tokens only.

    :math:`E \sum_e f_e P_e`, with :math:`f_e` the share of assignments and :math:`P_e` the mean softmax
    probability of expert e. It is 1 when both are even, and E in the worst case. Gradients flow through P.

    References
    ----------
    Fedus et al. 2021, "Switch Transformers", arXiv:2101.03961, eq. 4-6 (there without the division by K).
    """
    losses = []
    for routing in routings:
        counts = routing.counts()
        share = counts / counts.sum().clamp(min=1)
        probability = routing.logits[routing.real].softmax(-1).mean(0)
        losses.append(routing.n_experts * (share * probability).sum())
    return torch.stack(losses).mean()


def z_loss(routings: Sequence[Routing]) -> Tensor:
    r"""Router z-loss, the mean of :math:`\log^2 \sum_e e^{x_e}` over real tokens, mean over layers.

    References
    ----------
    Zoph et al. 2022, "ST-MoE", arXiv:2202.08906, eq. 5.
    """
    return torch.stack([r.logits[r.real].logsumexp(-1).square().mean() for r in routings]).mean()
