"""How a router did over a step or a validation, summed over micro-batches, layers and processes.

Shapes: B batch, L length, E experts, K top-k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from umbel.config import ModelConfig
from umbel.model.routing import ExpertLoad, Routing, expert_load

_SHARES = ("max_over_mean", "cv", "entropy", "routing_entropy")


@dataclass(frozen=True)
class LayerHealth(ExpertLoad):
    """How evenly and how surely one layer's router spreads its tokens; every number is 0 when there were no tokens.

    The bounds of ``max_over_mean``, E / K, and of ``cv``, sqrt(E / K - 1), hold because no token takes an expert twice.

    Attributes
    ----------
    layer
        Index of the layer in the backbone.
    routing_entropy
        Mean over tokens of the entropy of the router's probabilities, over ln E: 1 when it cannot tell any expert from
        another, 0 when it gives every token to one.
    probability
        Mean probability of each expert over tokens, adding up to 1.
    n_tokens
        Real tokens.
    """

    layer: int
    routing_entropy: float
    probability: list[float]
    n_tokens: int

    def record(self, *, with_load: bool) -> dict[str, Any]:
        """Give what ``metrics.jsonl`` has of a layer, to six digits; the load of every expert only where asked for.

        These numbers are most of that file, and digits most of them.
        """
        shares = {name: float(f"{getattr(self, name):.6g}") for name in _SHARES}
        told = {"layer": self.layer, "n_dead": self.n_dead, **shares}
        return told | {"load": [float(f"{share:.6g}") for share in self.load]} if with_load else told


class RoutingTotals:
    """Sums over the real tokens of a step, layer by layer, kept on the device that computes.

    :meth:`add` never waits for the device. A cut of the tokens into other micro-batches or processes gives the same
    counts, and the same other sums but for the order of float64 additions.

    Parameters
    ----------
    layers
        Index in the backbone of each layer with experts, ascending.
    n_experts
        Experts per layer, E.
    device
        Where the routings are.

    Examples
    --------
    Two tokens go to expert 0 and one to expert 1; the fourth place is padding.

    >>> logits = torch.tensor([[[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, 0.0]]])
    >>> totals = RoutingTotals([3], 2, torch.device("cpu"))
    >>> totals.add([Routing(3, logits, torch.tensor([[[0], [0], [1], [-1]]]), torch.ones(1, 4, 1))])
    >>> (layer,) = totals.read(totals.flat())
    >>> layer.layer, layer.n_tokens, layer.max_over_mean, layer.n_dead
    (3, 3, 1.3333333333333333, 0)
    """

    def __init__(self, layers: Sequence[int], n_experts: int, device: torch.device):
        self._row = {layer: row for row, layer in enumerate(layers)}
        self._n_experts = n_experts
        # For each layer: E counts, E sums of probabilities, the sum of entropies, the number of tokens.
        self._sums = torch.zeros(len(layers), 2 * n_experts + 2, dtype=torch.float64, device=device)

    @classmethod
    def of(cls, config: ModelConfig, device: torch.device) -> RoutingTotals:
        """Make empty sums for the layers of a network that have experts."""
        layers = [layer for layer, kind in enumerate(config.layer_kinds) if kind[1] == "e"]
        return cls(layers, config.n_experts, device)

    @torch.no_grad()
    def add(self, routings: Sequence[Routing]) -> None:
        """Add one micro-batch, given as one routing per layer with experts."""
        for routing in routings:
            real = routing.real[..., None]
            log_probabilities = routing.log_probabilities()
            probabilities = log_probabilities.exp() * real
            entropies = -(probabilities * log_probabilities).sum(-1)
            new = torch.cat(
                [
                    routing.counts().double(),
                    probabilities.flatten(0, -2).sum(0, dtype=torch.float64),
                    entropies.sum(dtype=torch.float64)[None],
                    real.sum(dtype=torch.float64)[None],
                ]
            )
            self._sums[self._row[routing.layer]] += new

    def flat(self) -> Tensor:
        """Give a copy of all sums, ``(n_layers * (2 E + 2),)`` float64; to be added up over processes."""
        return self._sums.flatten().clone()

    def shares(self, flat: Tensor) -> Tensor:
        """Give each expert's share of all assignments, ``(n_layers, E)`` float32, where ``flat`` is; 1 / E of nothing.

        What :func:`umbel.model.routing.balance_loss` of the next step takes; it never waits for the device.
        """
        counts = flat.view_as(self._sums)[:, : self._n_experts]
        n_assigned = counts.sum(1, keepdim=True)
        return torch.where(n_assigned > 0, counts / n_assigned.clamp(min=1), 1 / self._n_experts).float()

    def counts(self, flat: Tensor) -> Tensor:
        """Give the tokens that each expert received, ``(n_layers, E)`` int64, where ``flat`` is."""
        return flat.view_as(self._sums)[:, : self._n_experts].long()

    def read(self, flat: Tensor) -> list[LayerHealth]:
        """Summarise ``flat``, from :meth:`flat` and summed over processes, layer by layer; waits for the device."""
        found = []
        for layer, sums in zip(self._row, flat.view_as(self._sums).cpu().numpy(), strict=True):
            n_tokens = int(sums[-1])
            mean = sums[self._n_experts : -1] / max(1, n_tokens)
            found.append(
                LayerHealth(
                    **asdict(expert_load(sums[: self._n_experts].astype("int64"))),
                    layer=layer,
                    routing_entropy=float(mean[-1] / math.log(self._n_experts)) if self._n_experts > 1 else 0.0,
                    probability=mean[:-1].tolist(),
                    n_tokens=n_tokens,
                )
            )
        return found
