"""Which bases of a window are hidden together, pass by pass."""

from __future__ import annotations

import numpy as np

from umbel.genome.sequence import Codes

N_PASSES = 8
"""Passes over a window: an eighth of its bases are hidden at a time, near the 15 % of training."""


def strided(length: int, n_passes: int = N_PASSES) -> Codes:
    """Hide every ``n_passes``-th base together.

    Parameters
    ----------
    length
        Bases L.
    n_passes
        From 1 (all at once) to 255.

    Returns
    -------
    uint8 ``(L,)``: the pass in which each base is hidden, from 0.

    Examples
    --------
    >>> strided(5, 2).tolist()
    [0, 1, 0, 1, 0]
    """
    if not 1 <= n_passes <= 255:
        raise ValueError(f"n_passes is {n_passes}: give 1 to 255")
    return (np.arange(length) % n_passes).astype(np.uint8)
