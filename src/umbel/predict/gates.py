"""What one layer's router says of every base: the share of each expert, and how undecided it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from umbel.errors import ConfigError
from umbel.genome.sequence import Codes, revcomp
from umbel.model.routing import Routing
from umbel.predict.choices import Strand, require_strand
from umbel.predict.predictor import Predictor


@dataclass(frozen=True)
class Gates:
    """One layer's routing of one sequence of L bases, among E experts.

    Attributes
    ----------
    shares
        float32 ``(L, E)``: the gate weight of each expert over the sum of the weights of those chosen; rows add up to
        1, and experts that were not chosen have 0.
    chosen
        float32 ``(L, E)``: 1 / K for each of the K experts chosen, 0 for the others.
    entropy
        float32 ``(L,)``: entropy, in bits, of the router's probabilities over all experts; 0 to log2 E.
    """

    shares: npt.NDArray[np.float32]
    chosen: npt.NDArray[np.float32]
    entropy: npt.NDArray[np.float32]

    @property
    def dominant(self) -> npt.NDArray[np.uint8]:
        """The expert with the largest share, ``(L,)``; of equal ones the first."""
        return self.shares.argmax(1).astype(np.uint8)


def require_expert_layer(predictor: Predictor, layer: int | None) -> int:
    """Give the layer whose routers are meant: the last with experts where ``layer`` is None.

    Raises
    ------
    ConfigError
        If the model has no experts, or none in that layer.
    """
    if not predictor.moe_layers:
        raise ConfigError("this model has no expert layers, and so no routing to show")
    if layer is None:
        return predictor.moe_layers[-1]
    if layer not in predictor.moe_layers:
        raise ConfigError(f"layer {layer} has no experts; those that have: {', '.join(map(str, predictor.moe_layers))}")
    return layer


def read_gates(
    predictor: Predictor, codes: Sequence[Codes], layer: int | None = None, strand: Strand = "forward"
) -> list[Gates]:
    """Read one layer's routing of every base: that of the token which stands for it.

    Where several tokens do (overlapping k-mers), it is the last to begin. Padding is never routed and never read.

    Parameters
    ----------
    predictor
        A model with experts.
    codes
        Sequences, ``(L_i,)`` each.
    layer
        Index of the layer in the backbone; the last with experts by default.
    strand
        ``both`` is the mean of the two readings of each base.

    Raises
    ------
    ConfigError
        If the layer has no experts.
    ValueError
        If a sequence is shorter than one token, or the strand is none of the three.
    """
    require_strand(strand)
    layer = require_expert_layer(predictor, layer)
    if strand == "both":
        readings = (read_gates(predictor, codes, layer, one) for one in ("forward", "revcomp"))
        return [_mean(a, b) for a, b in zip(*readings, strict=True)]
    if strand == "revcomp":
        return [_turned(gates) for gates in read_gates(predictor, [revcomp(sequence) for sequence in codes], layer)]
    place = predictor.moe_layers.index(layer)
    found: list[Gates | None] = [None] * len(codes)

    def visit(routings: tuple[Routing, ...], rows: list[tuple[int, np.ndarray]]) -> None:
        routing = routings[place]
        logs = routing.log_probabilities()
        entropy = -(logs.exp() * logs).sum(-1) / np.log(2)
        # A gate of exactly 0 could leave a token without any share.
        weights = routing.weights.float().clamp(min=torch.finfo(torch.float32).tiny)
        weights = weights / weights.sum(-1, keepdim=True)
        real = routing.experts.clamp(min=0)
        shares = torch.zeros_like(routing.logits).scatter_add(-1, real, weights)
        chosen = torch.zeros_like(shares).scatter_add(-1, real, torch.full_like(weights, 1 / weights.shape[-1]))
        arrays = [x.float().cpu().numpy() for x in (shares, chosen, entropy)]
        for row, (i, token) in enumerate(rows):
            found[i] = Gates(*(array[row, token] for array in arrays))

    predictor.visit_routings(codes, visit, layer)
    return [gates for gates in found if gates is not None]


def _turned(gates: Gates) -> Gates:
    return Gates(gates.shares[::-1], gates.chosen[::-1], gates.entropy[::-1])


def _mean(a: Gates, b: Gates) -> Gates:
    half = np.float32(0.5)
    return Gates(half * (a.shares + b.shares), half * (a.chosen + b.chosen), half * (a.entropy + b.entropy))
