"""What is kept of a recording: sums whose size does not grow with the number of tokens.

Shapes: U units, E experts, K top-k, C classes, X contexts, S shifts, W offsets around a base.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MAX_UNITS = 400
"""Clusters of sequences beyond this many are put together, neighbours first; it bounds the memory."""
AROUND = 10
"""Bases on either side of a base of which the logo of an expert is made."""


@dataclass(frozen=True)
class SiteTotals:
    """Sums over one router's decisions.

    Attributes
    ----------
    counts
        ``(U, E)``: how often each expert was among the chosen; a row adds up to K times the unit's items.
    weights
        ``(U, E)`` float64: sums of the gate weights.
    entropy, margin
        ``(U,)`` float64: sums, in nats and in probability.
    n_scored, n_margins
        ``(U,)``: the items that have them.
    pairs
        ``(E, E)`` symmetric: items that took both; the diagonal is how often each was taken.
    paths
        ``(E_before, E)``: first choices at the router before this one and at this; empty at the first.
    joint
        For each labelling ``(U, C, E)``: choices at items of each class.
    contexts
        For each kind of context (``base``, ``3-mer``, ``6-mer`` of DNA, ``token`` of text) ``(X, E)``.
    shifted
        For each labelling of bases ``(S, C, E)``: choices when the labels of each stretch are turned by a random
        distance.
    around
        ``(E, 2 AROUND + 1, 4)``: bases around items whose first choice is the expert; empty for text.
    """

    counts: Ints
    weights: Floats
    entropy: Floats
    margin: Floats
    n_scored: Ints
    n_margins: Ints
    pairs: Ints
    paths: Ints
    joint: dict[str, Ints]
    contexts: dict[str, Ints]
    shifted: dict[str, Ints]
    around: Ints


@dataclass(frozen=True)
class Totals:
    """Sums over all routers' decisions.

    Attributes
    ----------
    sites
        One a router.
    items
        ``(U,)``: items counted.
    class_items
        For each labelling ``(U, C)``: items of each class.
    class_contexts
        For each labelling and kind of context ``(C, X)``: items of each class in each context.
    """

    sites: list[SiteTotals]
    items: Ints
    class_items: dict[str, Ints]
    class_contexts: dict[tuple[str, str], Ints]
