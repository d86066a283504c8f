"""Routing as a value: which experts each token took, with which weights, and what follows from it.

Shapes: B batch, L length, E experts, K top-k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
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
        ``(B, L, K)`` int64, in the order in which they were chosen; -1 at padding, which is never routed.
    weights
        ``(B, L, K)`` float32, what each chosen expert's output is multiplied by; 0 at padding.
    scores
        What the router makes of the logits: ``softmax`` over all experts, or a ``sigmoid`` of each.
    """

    layer: int
    logits: Tensor
    experts: Tensor
    weights: Tensor
    scores: Literal["softmax", "sigmoid"] = "softmax"

    @property
    def n_experts(self) -> int:
        """How many experts the router chooses from."""
        return self.logits.shape[-1]

    @property
    def real(self) -> Tensor:
        """``(B, L)`` bool, True at routed tokens."""
        return self.experts[..., 0] >= 0

    def part(self, rows: int | slice, tokens: slice) -> Routing:
        """Give views of some rows and tokens; one row by its number leaves ``(L, E)`` and ``(L, K)``."""
        logits, experts, weights = (x[rows, tokens] for x in (self.logits, self.experts, self.weights))
        return Routing(self.layer, logits, experts, weights, self.scores)

    def probabilities(self) -> Tensor:
        """Share of each expert in the scores of each real token, ``(T, E)`` float32; rows add up to 1.

        References
        ----------
        Sigmoid scores are divided by their sum as in DeepSeek-V3, arXiv:2412.19437, eq. 18-19.
        """
        logits = self.logits[self.real]
        return (logits if self.scores == "softmax" else F.logsigmoid(logits)).softmax(-1)

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
    entropy
        Entropy of the load over ln E: 1 when even, 0 when one expert takes all.
    """

    load: list[float]
    max_over_mean: float
    cv: float
    n_dead: int
    entropy: float


def expert_load(counts: np.ndarray) -> ExpertLoad:
    """Summarise tokens per expert, ``(E,)`` integers >= 0.

    Examples
    --------
    >>> expert_load(np.array([6, 2, 0, 0]))  # doctest: +ELLIPSIS
    ExpertLoad(load=[0.75, 0.25, 0.0, 0.0], max_over_mean=3.0, cv=1.22474..., n_dead=2, entropy=0.40563...)
    """
    total = counts.sum()
    if total == 0:
        return ExpertLoad([0.0] * len(counts), 0.0, 0.0, len(counts), 0.0)
    share = counts / total
    return ExpertLoad(
        load=share.tolist(),
        max_over_mean=float(share.max() * len(share)),
        cv=float(share.std() * len(share)),
        n_dead=int((counts == 0).sum()),
        entropy=_evenness(share),
    )


def _evenness(share: np.ndarray) -> float:
    """Give the entropy of shares over its largest value, 0 to 1."""
    some = share[share > 0]
    return max(0.0, float(-(some * np.log(some)).sum() / np.log(len(share)))) if len(share) > 1 else 0.0


def balance_loss(routings: Sequence[Routing]) -> Tensor:
    r"""Switch-style load-balance loss, mean over layers, over real tokens only.

    :math:`E \sum_e f_e P_e`, with :math:`f_e` the share of assignments and :math:`P_e` the mean probability of
    expert e (see :meth:`Routing.probabilities`). It is 1 when both are even, and E in the worst case. Gradients flow
    through P.

    References
    ----------
    Fedus et al. 2021, "Switch Transformers", arXiv:2101.03961, eq. 4-6 (there without the division by K).
    """
    losses = []
    for routing in routings:
        counts = routing.counts()
        share = counts / counts.sum().clamp(min=1)
        probability = routing.probabilities().mean(0)
        losses.append(routing.n_experts * (share * probability).sum())
    return torch.stack(losses).mean()


def z_loss(routings: Sequence[Routing]) -> Tensor:
    r"""Router z-loss, the mean of :math:`\log^2 \sum_e e^{x_e}` over real tokens, mean over layers.

    References
    ----------
    Zoph et al. 2022, "ST-MoE", arXiv:2202.08906, eq. 5.
    """
    return torch.stack([r.logits[r.real].logsumexp(-1).square().mean() for r in routings]).mean()
