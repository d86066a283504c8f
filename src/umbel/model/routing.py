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

    def log_probabilities(self) -> Tensor:
        """Logarithm of each expert's share in the scores, ``(B, L, E)`` float32; of no meaning at padding.

        References
        ----------
        Sigmoid scores are divided by their sum as in DeepSeek-V3, arXiv:2412.19437, eq. 18-19.
        """
        return (self.logits if self.scores == "softmax" else F.logsigmoid(self.logits)).log_softmax(-1)

    def counts(self) -> Tensor:
        """Tokens that each expert received, ``(E,)`` int64."""
        # Neither masks nor bincount: on a GPU both wait for it to tell a size.
        chosen = self.experts.flatten()
        return (chosen[:, None] == torch.arange(self.n_experts, device=chosen.device)).sum(0)


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


def balance_loss(routings: Sequence[Routing], shares: Tensor, n_tokens: int) -> Tensor:
    r"""One micro-batch's part of the load-balance loss of a whole optimiser step, mean over layers.

    :math:`E \sum_e f_e P_e`, with :math:`P_e` the mean probability of expert e over the step's real tokens (see
    :meth:`Routing.log_probabilities`), of which the micro-batch brings its sum over its own tokens, divided by the
    number of all. The parts of a step add up to the loss, in value and gradient, however it is cut into micro-batches
    and processes.

    Switch takes :math:`f_e`, the share of assignments, from the batch at hand, which is here a piece of the step: the
    product of two means over pieces depends on the cut, and asks each piece for a balance of its own, where Qiu et al.
    ask for that of the whole batch, so that experts may specialise on what pieces differ in. Over the whole step f is
    known only when its last piece has passed: so f is that of the step before. It carries no gradient in any of the
    three, and moves slowly.
    With f of the same tokens the loss is 1 when both are even, and E / K in the worst case.

    Parameters
    ----------
    routings
        Of one micro-batch, one per layer with experts.
    shares
        ``(n_layers, E)`` float, a row per routing: each expert's share of all assignments of the step before, over all
        micro-batches and processes; 1 / E before the first (:meth:`umbel.train.health.RoutingTotals.shares`).
    n_tokens
        Real tokens of the whole step, over all micro-batches and processes; at least 1.

    References
    ----------
    Fedus et al. 2021, "Switch Transformers", arXiv:2101.03961, eq. 4-6 (there without the division by K). Qiu et al.
    2025, "Demons in the Detail", arXiv:2501.11873: balance over the global batch.

    Examples
    --------
    >>> logits = torch.tensor([[[0.0, 0.0], [3.0, 0.0]]])
    >>> routing = Routing(0, logits, logits.argmax(-1, keepdim=True), torch.ones(1, 2, 1))
    >>> round(float(balance_loss([routing], torch.tensor([[0.5, 0.5]]), n_tokens=2)), 6)
    1.0
    """
    losses = []
    for routing, share_E in zip(routings, shares, strict=True):
        probability_BLE = routing.log_probabilities().exp() * routing.real[..., None]
        sums_E = probability_BLE.flatten(0, -2).sum(0)
        losses.append(routing.n_experts / n_tokens * (share_E * sums_E).sum())
    return torch.stack(losses).mean()


def z_loss(routings: Sequence[Routing], n_tokens: int) -> Tensor:
    r"""One micro-batch's part of the router z-loss of a whole optimiser step, mean over layers.

    The mean of :math:`\log^2 \sum_e e^{x_e}` over the step's real tokens: here the sum over the micro-batch's own,
    divided by the number of all. The parts of a step add up to the loss, in value and gradient.

    Parameters
    ----------
    routings
        Of one micro-batch, one per layer with experts.
    n_tokens
        Real tokens of the whole step, over all micro-batches and processes; at least 1.

    References
    ----------
    Zoph et al. 2022, "ST-MoE", arXiv:2202.08906, eq. 5.

    Examples
    --------
    >>> logits = torch.zeros(1, 3, 4)
    >>> routing = Routing(0, logits, torch.tensor([[[0], [1], [-1]]]), torch.ones(1, 3, 1))
    >>> round(float(z_loss([routing], n_tokens=2)), 5) == round(float(np.log(4) ** 2), 5)
    True
    """
    squares = [(routing.logits.logsumexp(-1).square() * routing.real).sum() for routing in routings]
    return torch.stack(squares).mean() / n_tokens
