"""What decides a measurement of causes, apart from model and source."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from umbel.config.values import Natural
from umbel.model.edited_router import Mode


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CausalSettings:
    """Sizes, seed, and how an expert is knocked out."""

    n_windows: Natural = 256
    """Stretches of the source that are read, drawn by ``seed``; 0 takes all. The time is in proportion."""
    mask_frac: Annotated[float, Field(gt=0, le=1)] = 0.15
    """Chance that a real base is hidden."""
    modes: tuple[Mode, ...] = ("reroute",)
    """How :func:`~umbel.evaluate.experts.causal.ablation.ablate_all` takes each expert away, see
    :class:`~umbel.model.edited_router.KnockOut`; where all experts are always chosen, ``reroute`` cannot be."""
    seed: Natural = 0
    """Of stretches, hidden positions, random weights, and resampling."""
    n_draws: Annotated[int, Field(ge=100)] = 1000
    """Resamples of the units for an interval."""
