"""What is compared: anything that routes, under a name, with its weights where they are to be compared too."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from umbel.errors import ConfigError
from umbel.evaluate.experts.routes import RoutedModel, Site

if TYPE_CHECKING:
    from umbel.predict.predictor import Predictor

RANDOM_SEED = 7_000_000
"""Seed of the first random twin. A small number could be the seed of a run: its twin would be where that run began."""


@dataclass(frozen=True)
class Checkpoint:
    """One model of a comparison.

    Attributes
    ----------
    name
        What it is called in tables and figures.
    model
        What routes.
    weights
        Effective weights by name, adapters added; empty where they are not compared.
    is_control
        Random weights: what agreement is worth is read off beside it.
    step
        Of training, where it is the state of a run.
    facts
        What identifies it; plain JSON.
    """

    name: str
    model: RoutedModel
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    is_control: bool = False
    step: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sites(self) -> tuple[Site, ...]:
        """Its routers, in order of depth."""
        return self.model.sites

    def describe(self) -> dict[str, Any]:
        """Say what it is as plain JSON."""
        return {
            "name": self.name,
            "is_control": self.is_control,
            "step": self.step,
            "sites": [dataclasses.asdict(site) for site in self.sites],
            "model": dict(self.model.facts),
            "facts": dict(self.facts),
        }


def require_distinct(checkpoints: list[Checkpoint]) -> None:
    """See that there is something to compare, and that each has a name of its own.

    Raises
    ------
    ConfigError
        If there are fewer than two, two of one name, or one without a router.
    """
    names = [checkpoint.name for checkpoint in checkpoints]
    if len(names) < 2:
        raise ConfigError(f"one checkpoint ({', '.join(names) or 'none'}), and a comparison needs two or more")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"two checkpoints are called {twice[0]!r}: name them, as in base=DIR tuned=DIR")
    for checkpoint in checkpoints:
        if not checkpoint.sites:
            raise ConfigError(f"{checkpoint.name}: this model has no expert layers, and so no routing to compare")


def are_alike(a: Checkpoint, b: Checkpoint) -> str:
    """Say why the choices of two models cannot be compared router by router; empty where they can.

    Agreement asks whether expert 3 of one is expert 3 of the other, so both must have as many, in as many routers.
    """
    if len(a.sites) != len(b.sites):
        return f"{a.name} has {len(a.sites)} routers and {b.name} {len(b.sites)}"
    for one, other in zip(a.sites, b.sites, strict=True):
        if one.n_experts != other.n_experts:
            return (
                f"{a.name} has {one.n_experts} experts in layer {one.layer} and {b.name} {other.n_experts} "
                f"in layer {other.layer}"
            )
    return ""


def of_predictor(name: str, predictor: Predictor, *, is_control: bool = False, step: int | None = None) -> Checkpoint:
    """Make one of our models ready to be compared.

    The weights are those of the backbone: a head for a task has no counterpart in the model before it.
    """
    from umbel.evaluate.experts.ours import OurModel

    weights = {key: tensor.detach() for key, tensor in predictor.backbone.state_dict().items()}
    facts = {"source": "" if predictor.source is None else predictor.source.name, "weights": predictor.weights_hash}
    return Checkpoint(name, OurModel(predictor), weights, is_control, step, facts)


def random_twins(predictor: Predictor, n: int) -> list[Checkpoint]:
    """Make networks of the same shape that nobody has trained: what they share is worth nothing."""
    return [
        of_predictor(f"random {i + 1}", predictor.with_random_weights(RANDOM_SEED + i), is_control=True)
        for i in range(n)
    ]
