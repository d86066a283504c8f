"""Our own models, as the atlas reads them: their routing is a value that the backbone returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch

from umbel.errors import ConfigError
from umbel.evaluate.experts.routes import RoutedSequence, Site, SiteRoutes
from umbel.genome.sequence import Codes, N
from umbel.model.routing import Routing
from umbel.predict.predictor import Predictor

NO_EXPERTS = "this model has no expert layers, and so no routing to record"


class OurModel:
    """A model of ours as a :class:`~umbel.evaluate.experts.routes.RoutedModel`; its items are bases.

    Parameters
    ----------
    predictor
        A model with experts.

    Raises
    ------
    ConfigError
        If it has none.
    """

    def __init__(self, predictor: Predictor):
        if not predictor.moe_layers:
            raise ConfigError(NO_EXPERTS)
        config = predictor.config
        scores = "softmax" if config.gating == "softmax" else "sigmoid"
        self.predictor = predictor
        self.sites = tuple(
            Site(
                f"layers.{layer}.ffn.router", layer, config.n_experts, config.top_k, scores, "", config.n_shared_experts
            )
            for layer in predictor.moe_layers
        )
        self.window = predictor.window_bp
        self.facts: dict[str, Any] = {
            "name": "a network in memory" if predictor.source is None else predictor.source.name,
            "weights_hash": predictor.weights_hash,
            "precision": predictor.precision,
            "quantisation": "int8" if predictor.precision == "int8" else None,
            "pattern": config.pattern,
            "n_parameters": predictor.n_parameters,
            "n_active_parameters": predictor.n_active_parameters,
            "gating": config.gating,
            "n_layers": config.n_layers,
            "window": predictor.window_bp,
        }

    def route(self, sequences: Sequence[Codes] | Sequence[str]) -> Iterator[RoutedSequence]:
        """Route sequences of base codes.

        Raises
        ------
        ConfigError
            If one is text: these models read bases.
        ValueError
            If one is shorter than a token.
        """
        text = next((sequence for sequence in sequences if isinstance(sequence, str)), None)
        if text is not None:
            raise ConfigError(f"this model reads bases, and was given the text {text[:40]!r}")
        codes = cast(Sequence[Codes], sequences)
        found: list[RoutedSequence] = []

        def visit(routings: tuple[Routing, ...], rows: list[tuple[int, np.ndarray]]) -> None:
            sites = [read_routing(routing) for routing in routings]
            for row, (i, token) in enumerate(rows):
                of_base = _as_slice(token)
                routes = tuple(SiteRoutes(*(array[row][of_base] for array in arrays)) for arrays in sites)
                found.append(RoutedSequence(i, codes[i].astype(np.int32), codes[i] < N, routes))

        self.predictor.visit_routings(codes, visit)
        yield from found


def _as_slice(token: np.ndarray) -> slice | np.ndarray:
    """Tell tokens that follow one another without gap as a slice, of which numpy makes no copy."""
    if len(token) and token[-1] - token[0] + 1 == len(token):
        return slice(int(token[0]), int(token[-1]) + 1)
    return token


def read_routing(routing: Routing) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bring a batch's routing to arrays.

    Returns
    -------
    experts, weights, entropy, margin
        int16 ``(B, L, K)``; float32 ``(B, L, K)``, ``(B, L)`` and ``(B, L)``; what they are is said in
        :class:`~umbel.evaluate.experts.routes.SiteRoutes`.

    Examples
    --------
    >>> logits = torch.tensor([[[0.0, float(np.log(3.0))]]])
    >>> _, _, entropy, margin = read_routing(Routing(0, logits, torch.tensor([[[1]]]), torch.tensor([[[0.75]]])))
    >>> round(float(entropy[0, 0]), 4), round(float(margin[0, 0]), 4)
    (0.5623, 0.5)
    """
    logs = routing.log_probabilities()
    probabilities = logs.exp()
    entropy = -(probabilities * logs).sum(-1)
    chosen = routing.experts.clamp(min=0)
    if chosen.shape[-1] < routing.n_experts:
        best_left = probabilities.scatter(-1, chosen, -torch.inf).amax(-1)
        margin = probabilities.gather(-1, chosen).amin(-1) - best_left
    else:
        margin = torch.full_like(entropy, torch.nan)
    values = (routing.experts.to(torch.int16), routing.weights.float(), entropy, margin)
    experts, weights, entropies, margins = (value.cpu().numpy() for value in values)
    return experts, weights, entropies, margins
