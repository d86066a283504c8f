"""What the routers of any model decided, item by item: the one form that ours and other people's are brought to.

An item is what is counted: a base (A, C, G, T) of DNA, or a token of other text. Shapes: T items, E experts, K top-k.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from umbel.genome.sequence import Codes


@dataclass(frozen=True)
class Site:
    """One router of a model.

    Attributes
    ----------
    name
        Its module, such as ``model.layers.3.mlp.gate``.
    layer
        Its place in depth, as the model numbers its layers.
    n_experts, top_k
        Experts that it chooses from, and how many it chooses for a token.
    scores
        What it makes of its logits: ``softmax``, ``sigmoid``, or ``unknown`` where only the choice is told.
    stream
        Which of several stacks it is in, such as ``encoder``; empty where there is one.
    n_shared
        Experts beside them that every token takes.
    """

    name: str
    layer: int
    n_experts: int
    top_k: int
    scores: str = "softmax"
    stream: str = ""
    n_shared: int = 0


@dataclass(frozen=True)
class SiteRoutes:
    """The decisions of one router for T items.

    Attributes
    ----------
    experts
        int16 ``(T, K)``, in order of choice; no expert twice in a row; -1 where a full expert dropped the token.
    weights
        float32 ``(T, K)``: what each chosen expert's output is multiplied by.
    entropy
        float32 ``(T,)``: entropy of the probabilities over all experts, in nats, 0 to ln E; NaN where no scores are
        known. Sigmoid scores are divided by their sum.
    margin
        float32 ``(T,)``: the least probability of a chosen expert minus the largest of one that was not; negative
        where a bias or a limit on groups overruled the scores; NaN where unknown, or where all experts are chosen.
    """

    experts: npt.NDArray[np.int16]
    weights: npt.NDArray[np.float32]
    entropy: npt.NDArray[np.float32]
    margin: npt.NDArray[np.float32]

    def part(self, items: slice | npt.NDArray[Any]) -> SiteRoutes:
        """Give some of the items."""
        return SiteRoutes(self.experts[items], self.weights[items], self.entropy[items], self.margin[items])


@dataclass(frozen=True)
class RoutedSequence:
    """One sequence as it was routed.

    Attributes
    ----------
    index
        Its place in what was asked for.
    tokens
        int32 ``(T,)``: for DNA the code of each base (0 to 3, 4 for N), for text the token ids of the vocabulary.
    counted
        bool ``(T,)``: items that stand for something: neither N nor special tokens. Padding is never an item.
    sites
        One a router, in the order of :attr:`RoutedModel.sites`, all of the same T items. A base has the routing of
        the token that stands for it; where several do (overlapping k-mers), of the last to begin.
    """

    index: int
    tokens: npt.NDArray[np.int32]
    counted: npt.NDArray[np.bool_]
    sites: tuple[SiteRoutes, ...]


class RoutedModel(Protocol):
    """A model whose routing can be recorded.

    Attributes
    ----------
    sites
        Its routers, in order of depth.
    window
        Most items that it reads at once.
    facts
        What identifies it: hash of the weights, precision, quantisation, adapter; plain JSON.
    """

    sites: tuple[Site, ...]
    window: int
    facts: dict[str, Any]

    def route(self, sequences: Sequence[Codes] | Sequence[str]) -> Iterator[RoutedSequence]:
        """Route sequences, in any order; what one is told does not depend on the others, nor on padding.

        Raises
        ------
        ConfigError
            If one is longer than the model reads.
        """
