"""Sparse experts: router, dispatch, experts, combine, each a part of its own.

Shapes: B batch, L length, D width, F expert hidden, E experts, K top-k, T real tokens, R = T K routed rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from umbel.config import ModelConfig
from umbel.model.effective_weights import weight_of, within
from umbel.model.layers import SwiGLU, scaled_kaiming_
from umbel.model.routing import Routing
from umbel.ops.grouped_mlp import grouped_mlp


def choose_experts(logits: Tensor, top_k: int) -> Tensor:
    """Pick the ``top_k`` largest of ``(..., E)`` logits; on a tie the lower index wins, on any device.

    Examples
    --------
    >>> choose_experts(torch.tensor([[1.0, 3.0, 3.0]]), 2).tolist()
    [[1, 2]]
    """
    # torch promises the first of equal maxima; topk and sort promise nothing of the kind, or cost more.
    left = logits.detach()
    chosen = [left.argmax(-1, keepdim=True)]
    for _ in range(top_k - 1):
        left = left.scatter(-1, chosen[-1], -torch.inf)
        chosen.append(left.argmax(-1, keepdim=True))
    return torch.cat(chosen, -1)


class Router(nn.Linear):
    """A learned key per expert, a choice by the scores of a token against them, and weights for the chosen.

    ``gating`` says how scores become weights: see :class:`~umbel.config.ModelConfig`. ``softmax`` and ``plain`` do
    not renormalise: over a top-1 choice that would make the weight the constant 1 and starve the router of gradient.

    Attributes
    ----------
    load_bias
        With ``gating="bias"``, ``(E,)`` float32: what is added to the scores for the choice alone. A buffer, saved
        with the weights; :func:`follow_load` moves it.

    References
    ----------
    HyenaMoE, eq. 5-7 (sigmoid, top-k, normalised); Wang et al. 2024, arXiv:2408.15664 (bias).
    """

    load_bias: Tensor

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config.d_model, config.n_experts, bias=False)
        self.layer, self.top_k, self.gating = layer, config.top_k, config.gating
        if self.gating == "bias":
            self.register_buffer("load_bias", torch.zeros(config.n_experts))

    def forward(self, x_BLD: Tensor, real_BL: Tensor | None) -> Routing:  # type: ignore[override]
        """Route ``(B, L, D)`` states; padding gets expert -1 and weight 0."""
        return self.route(self.weight, x_BLD, real_BL)

    def route(self, weight_ED: Tensor, x_BLD: Tensor, real_BL: Tensor | None) -> Routing:
        """Do what :meth:`forward` does with these keys: an adapter's, in the place of the router's own."""
        # The router decides by differences that half precision would round away.
        with torch.autocast(x_BLD.device.type, enabled=False):
            wide = torch.promote_types(weight_ED.dtype, torch.float32)
            logits = F.linear(x_BLD.to(wide), weight_ED.to(wide))
            experts = choose_experts(self.ranked(logits), self.top_k)
            weights = self.weights_of(logits, experts)
        if real_BL is not None:
            padding = ~real_BL[:, :, None]
            logits, weights = logits.masked_fill(padding, 0), weights.masked_fill(padding, 0)
            experts = experts.masked_fill(padding, -1)
        return Routing(self.layer, logits, experts, weights, self.scores)

    def ranked(self, logits: Tensor) -> Tensor:
        """Give what the choice goes by, ``(..., E)``: the largest are taken."""
        return logits.sigmoid() + self.load_bias if self.gating == "bias" else logits

    def weights_of(self, logits: Tensor, experts: Tensor) -> Tensor:
        """Give what the outputs of these experts ``(..., K)`` are multiplied by."""
        if self.gating == "softmax":
            return logits.softmax(-1).gather(-1, experts)
        if self.gating == "plain":
            return logits.gather(-1, experts).sigmoid()
        # s / sum s in logarithms, where no sum can be 0.
        return F.logsigmoid(logits.gather(-1, experts)).softmax(-1)

    @property
    def scores(self) -> Literal["softmax", "sigmoid"]:
        """What the logits become; see :class:`~umbel.model.routing.Routing`."""
        return "softmax" if self.gating == "softmax" else "sigmoid"


@torch.no_grad()
def follow_load(router: Router, counts_E: Tensor, rate: float) -> None:
    """Move the selection bias of each expert by ``rate`` towards an even load.

    Parameters
    ----------
    counts_E
        Tokens that each expert received in the step, over all micro-batches.

    References
    ----------
    Wang et al. 2024, "Auxiliary-Loss-Free Load Balancing", arXiv:2408.15664, algorithm 1.

    Examples
    --------
    >>> router = Router(ModelConfig(d_model=8, n_experts=3, gating="bias"), layer=0)
    >>> follow_load(router, torch.tensor([6, 2, 1]), rate=0.5)
    >>> router.load_bias.tolist()
    [-0.5, 0.5, 0.5]
    """
    counts = counts_E.to(router.load_bias)
    router.load_bias += rate * torch.sign(counts.mean() - counts)


def dispatch(x_TD: Tensor, experts_TK: Tensor, n_experts: int) -> tuple[Tensor, Tensor, Tensor]:
    """Copy each token to the rows of its experts, sorted by expert and then by token.

    Choices of -1 (padding) go after the last expert's rows. No shape depends on the routing, so nothing waits
    for a GPU to tell it.

    Returns
    -------
    rows_RD, order_R, counts_E
        The routed states; for each row the index ``t * K + k`` of the choice it serves; rows per expert.
    """
    choices_R = experts_TK.flatten()
    choices_R = torch.where(choices_R < 0, n_experts, choices_R)
    order_R = choices_R.argsort(stable=True)
    counts_E = (choices_R[:, None] == torch.arange(n_experts, device=choices_R.device)).sum(0)
    return x_TD.index_select(0, order_R // experts_TK.shape[1]), order_R, counts_E


def combine(rows_RD: Tensor, order_R: Tensor, weights_TK: Tensor) -> Tensor:
    """Undo :func:`dispatch`: each token gets the weighted sum of its experts' rows, ``(T, D)``."""
    back_R = torch.empty_like(order_R).scatter_(0, order_R, torch.arange(len(order_R), device=order_R.device))
    rows_TKD = rows_RD.index_select(0, back_R).unflatten(0, weights_TK.shape) * weights_TK[:, :, None].to(rows_RD.dtype)
    return rows_TKD[:, 0] if weights_TK.shape[1] == 1 else rows_TKD.sum(1)


class MoE(nn.Module):
    """Token-choice top-k experts without a capacity limit (no token is ever dropped), and experts that all tokens take.

    The shared experts of HyenaMoE add up without weights, so they are one MLP of their joint width.

    Attributes
    ----------
    exchange
        None, or what runs experts that are spread over processes, in the place of
        :func:`~umbel.ops.grouped_mlp.grouped_mlp`; see :func:`umbel.model.expert_exchange.spread_experts`.

    References
    ----------
    PlantBiMoE, arXiv:2512.07113: 4 experts, top-1, no shared expert, no balance loss. HyenaMoE, eq. 5-8.
    """

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        experts, hidden, width = config.n_experts, config.expert_width, config.d_model
        self.router = Router(config, layer)
        self.gate = nn.Parameter(torch.empty(experts, hidden, width))
        self.up = nn.Parameter(torch.empty(experts, hidden, width))
        self.down = nn.Parameter(torch.empty(experts, width, hidden))
        for weight in (self.gate, self.up, self.down):
            scaled_kaiming_(weight, branches=1)
        self.shared = SwiGLU(width, config.n_shared_experts * hidden) if config.n_shared_experts else None
        self.exchange: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor] | None = None

    def forward(self, x_BLD: Tensor, real_BL: Tensor | None = None) -> tuple[Tensor, Routing]:
        """Map ``(B, L, D)`` to ``(B, L, D)`` and tell the routing; the routed part is 0 at padding."""
        routing = self._route(x_BLD, real_BL)
        experts_TK, weights_TK = routing.experts.flatten(0, 1), routing.weights.flatten(0, 1)
        rows_RD, order_R, counts_E = dispatch(x_BLD.flatten(0, 1), experts_TK, routing.n_experts)
        routed = combine(self.run_experts(rows_RD, counts_E), order_R, weights_TK).view(x_BLD.shape)
        return routed if self.shared is None else routed + self.shared(x_BLD), routing

    def run_experts(self, rows_RD: Tensor, counts_E: Tensor) -> Tensor:
        """Give each row what its expert makes of it; rows are sorted by expert, as :func:`dispatch` leaves them."""
        run = grouped_mlp if self.exchange is None else self.exchange
        return run(rows_RD, self.gate, self.up, self.down, counts_E)

    def _route(self, x_BLD: Tensor, real_BL: Tensor | None) -> Routing:
        if isinstance(self.router, Router):
            return self.router(x_BLD, real_BL)
        # An adapter stands around it: called, it would add its product to a Routing.
        router = cast(Router, within(self.router))
        return router.route(weight_of(self.router, "router"), x_BLD, real_BL)
