"""What one can ask for: a strand, a layer, a pooling; and refusals of anything else."""

from __future__ import annotations

from typing import Literal

from umbel.errors import ConfigError

Strand = Literal["forward", "revcomp", "both"]
Pooling = Literal["mean", "max", "first", "last"]
EMBEDDING_POOLINGS: tuple[Pooling, ...] = ("mean", "max", "first", "last")
ONE_STRAND: tuple[Strand, Strand] = ("forward", "revcomp")


def require_strand(strand: str) -> None:
    """See that a strand is one of the three.

    Raises
    ------
    ValueError
        Naming them.
    """
    if strand not in (*ONE_STRAND, "both"):
        raise ValueError(f"strand is {strand!r}: use forward, revcomp or both")


def require_layer(layer: int, n_layers: int) -> None:
    """See that a model has a layer whose states can be taken.

    Raises
    ------
    ConfigError
        Saying which there are.
    """
    if not -1 <= layer < n_layers:
        raise ConfigError(
            f"layer {layer}: this model has layers 0 to {n_layers - 1}, and -1 is the last one after the final norm"
        )


def require_embedding_pooling(pooling: str) -> None:
    """See that a pooling needs nothing learnt and gives one vector.

    Raises
    ------
    ConfigError
        Saying which there are.
    """
    if pooling == "none":
        raise ConfigError(
            "pooling none: a row for every base takes 4 x D bytes a base, hundreds of times the genome. Use mean, max, "
            "first or last; Predictor.backbone gives the states of single tokens of a sequence in Python"
        )
    if pooling not in EMBEDDING_POOLINGS:
        raise ConfigError(f"pooling {pooling}: use {', '.join(EMBEDDING_POOLINGS[:-1])} or {EMBEDDING_POOLINGS[-1]}")
