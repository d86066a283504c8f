"""Routers that are made to choose otherwise, for as long as a question about the experts is asked.

Shapes: B batch, L length, E experts, K top-k.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor, nn

from umbel.config import ModelConfig
from umbel.errors import ConfigError
from umbel.model.backbone import Backbone, Block
from umbel.model.effective_weights import weight_of, within
from umbel.model.moe import MoE, Router
from umbel.model.routing import Routing

Mode = Literal["reroute", "silence", "mean"]
MODES: tuple[Mode, ...] = ("reroute", "silence", "mean")


@dataclass(frozen=True)
class KnockOut:
    """Take an expert away from the tokens that would go to it; the others' routing in its layer stays as it is.

    Attributes
    ----------
    layer
        Index in the backbone.
    expert
        0 to E - 1.
    mode
        ``reroute``: it cannot be chosen, and the next best is. Weights are those of the unmasked logits, so that
        taking away an expert that nobody chose changes no bit. What can the others not do for it?
        ``silence``: its tokens get nothing in its place, and their other experts keep their weights. What does it
        contribute at all?
        ``mean``: it is replaced by the mean of what all E experts of the layer make of the token, with its weight.
        What does it matter that it was this one?
    """

    layer: int
    expert: int
    mode: Mode = "reroute"

    def __str__(self) -> str:
        how = {"reroute": "knocked out", "silence": "silenced", "mean": "replaced by the mean"}[self.mode]
        return f"layer {self.layer}, expert {self.expert} {how}"


@dataclass(frozen=True)
class Swap:
    """Send tokens of expert ``a`` to ``b`` and the reverse, with the weights that they had.

    It asks whether the two do different things: between two that are alike, the loss stays.
    """

    layer: int
    a: int
    b: int

    def __str__(self) -> str:
        return f"layer {self.layer}, experts {self.a} and {self.b} swapped"


@dataclass(frozen=True)
class Given:
    """Route one batch as it is told, such as another checkpoint routed it.

    Attributes
    ----------
    routing
        Of a batch of the same tokens; its ``layer`` tells where.
    with_weights
        Take its weights too; otherwise the router weighs the experts that it was given by its own scores.
    """

    routing: Routing
    with_weights: bool = False

    @property
    def layer(self) -> int:
        """Index in the backbone."""
        return self.routing.layer


Edit = KnockOut | Swap | Given


class EditedRouter(Router):
    """A router in another's place, with its weights (shared, not copied; an adapter's included), and with edits.

    Those that knock out by rerouting hold for the choice; then come the others, in the order given.
    """

    def __init__(self, router: nn.Module, edits: Sequence[Edit]):
        nn.Module.__init__(self)
        plain = cast(Router, within(router))
        weight = weight_of(router, "router")
        self.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight.detach(), requires_grad=False)
        self.register_parameter("bias", None)
        self.out_features, self.in_features = weight.shape
        self.layer, self.top_k, self.gating = plain.layer, plain.top_k, plain.gating
        if self.gating == "bias":
            self.register_buffer("load_bias", plain.load_bias)
        self.barred = [edit.expert for edit in edits if isinstance(edit, KnockOut) and edit.mode == "reroute"]
        self.edits = [edit for edit in edits if not (isinstance(edit, KnockOut) and edit.mode == "reroute")]

    def ranked(self, logits: Tensor) -> Tensor:
        """Give what the choice goes by; those that cannot be chosen have minus infinity."""
        ranked = super().ranked(logits)
        return (
            ranked.index_fill(-1, torch.tensor(self.barred, device=ranked.device), -torch.inf)
            if self.barred
            else ranked
        )

    def route(self, weight_ED: Tensor, x_BLD: Tensor, real_BL: Tensor | None) -> Routing:
        """Route, and edit what came of it."""
        routing = super().route(weight_ED, x_BLD, real_BL)
        for edit in self.edits:
            if isinstance(edit, Swap):
                routing = _swapped(routing, edit.a, edit.b)
            elif isinstance(edit, Given):
                routing = self._given(routing, edit)
            elif edit.mode == "silence":
                routing = replace(routing, weights=routing.weights.masked_fill(routing.experts == edit.expert, 0))
            else:
                routing = _averaged(routing, edit.expert)
        return routing

    def _given(self, own: Routing, edit: Given) -> Routing:
        experts = edit.routing.experts.to(own.experts.device)
        if experts.shape != own.experts.shape:
            raise ConfigError(
                f"layer {self.layer}: routes of {tuple(experts.shape)} were given (rows, tokens, experts of a token), "
                f"and this batch has {tuple(own.experts.shape)}"
            )
        if edit.with_weights:
            return replace(own, experts=experts, weights=edit.routing.weights.to(own.weights))
        weights = self.weights_of(own.logits, experts.clamp(min=0)).masked_fill(experts < 0, 0)
        return replace(own, experts=experts, weights=weights)


def _swapped(routing: Routing, a: int, b: int) -> Routing:
    experts = routing.experts
    return replace(routing, experts=torch.where(experts == a, b, torch.where(experts == b, a, experts)))


def _averaged(routing: Routing, expert: int) -> Routing:
    """Put all E experts with an Eth of the weight in the place of one: K + E choices, unused ones are padding."""
    n = routing.n_experts
    is_taken = routing.experts == expert
    weight = (routing.weights * is_taken).sum(-1, keepdim=True) / n
    everyone = torch.arange(n, device=weight.device).where(is_taken.any(-1, keepdim=True), -1)
    return replace(
        routing,
        experts=torch.cat([routing.experts, everyone], -1),
        weights=torch.cat([routing.weights.masked_fill(is_taken, 0), weight.expand(everyone.shape)], -1),
    )


def require_edits(config: ModelConfig, edits: Sequence[Edit]) -> None:
    """See that edits, all to be made at once, fit a model.

    Raises
    ------
    ConfigError
        If a layer has no experts, an expert is not there, too few would be left to choose from, or edits of a layer
        exclude each other.

    Examples
    --------
    >>> require_edits(ModelConfig(n_layers=2, n_experts=2), [KnockOut(1, 0)])
    """
    with_experts = [i for i, kind in enumerate(config.layer_kinds) if kind[1] == "e"]
    for edit in edits:
        if edit.layer not in with_experts:
            known = ", ".join(map(str, with_experts)) or "none"
            raise ConfigError(f"layer {edit.layer} has no experts; those that have: {known}")
        named = () if isinstance(edit, Given) else (edit.expert,) if isinstance(edit, KnockOut) else (edit.a, edit.b)
        if isinstance(edit, KnockOut) and edit.mode not in MODES:
            raise ConfigError(
                f"{edit.mode} is no way to knock an expert out: use {', '.join(MODES[:-1])} or {MODES[-1]}"
            )
        for expert in named:
            if not 0 <= expert < config.n_experts:
                raise ConfigError(f"{edit}: there are experts 0 to {config.n_experts - 1}")
        if isinstance(edit, Swap) and edit.a == edit.b:
            raise ConfigError(f"{edit}: name two experts")
    for layer in with_experts:
        _require_layer(config, [edit for edit in edits if edit.layer == layer])


def _require_layer(config: ModelConfig, edits: Sequence[Edit]) -> None:
    barred = {edit.expert for edit in edits if isinstance(edit, KnockOut) and edit.mode == "reroute"}
    if barred and config.n_experts - len(barred) < config.top_k:
        raise ConfigError(
            f"layer {edits[0].layer}: with {len(barred)} of {config.n_experts} experts knocked out a token cannot have "
            f"the {config.top_k} that it takes, so there is no next best: use mode silence or mean"
        )
    alone = [edit for edit in edits if isinstance(edit, Given) or (isinstance(edit, KnockOut) and edit.mode == "mean")]
    if alone and len(edits) > 1:
        what = "given routes" if isinstance(alone[0], Given) else str(alone[0])
        raise ConfigError(f"layer {alone[0].layer}: {what} cannot be combined with other edits of the layer")


@contextmanager
def edited(backbone: Backbone, *edits: Edit) -> Iterator[None]:
    """Edit a backbone's routers inside this; afterwards they are as they were, whatever happened.

    All its routers are exchanged, those without edits for ones that choose the same, so that every pass inside goes
    layer by layer (:mod:`umbel.model.inference` declines): two of them differ by their edits and by nothing else.

    Parameters
    ----------
    edits
        Made at once; none of them lets the model compute what it computes, the ordinary way.

    Raises
    ------
    ConfigError
        If the edits do not fit the model, see :func:`require_edits`, or it is edited already.
    AdapterError
        If what stands around a router is no change of its weight.

    Examples
    --------
    >>> backbone = Backbone(ModelConfig(n_layers=2, d_model=8, ffn_hidden=16)).eval()
    >>> ids = torch.tensor([[0, 7, 8, 9, 10, 1]])
    >>> with torch.no_grad(), edited(backbone, *(KnockOut(1, expert) for expert in (0, 1, 3))):
    ...     backbone(ids).routings[0].experts.unique().tolist()
    [2]
    """
    require_edits(backbone.config, edits)
    with torch.no_grad():
        made = [
            (moe, moe.router, EditedRouter(moe.router, [edit for edit in edits if edit.layer == layer]))
            for layer, moe in _expert_layers(backbone)
        ]
    try:
        for moe, _, router in made:
            moe.router = router
        yield
    finally:
        for moe, before, _ in made:
            moe.router = before


def _expert_layers(backbone: Backbone) -> Iterator[tuple[int, MoE]]:
    for layer, block in enumerate(cast("list[Block]", list(backbone.layers))):
        if not block.has_experts:
            continue
        moe = within(cast(nn.Module, block.ffn))
        if not isinstance(moe, MoE) or not isinstance(within(moe.router), Router):
            raise ConfigError(f"layer {layer}: its experts are a {type(moe).__name__}, whose router cannot be edited")
        if isinstance(moe.router, EditedRouter):
            raise ConfigError("the routers of this model are edited already: give all edits at once")
        yield layer, moe
