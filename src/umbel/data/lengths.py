"""Sequence-length warm-up: which length a step has, and how a window is cut into pieces of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from umbel.config import LengthStage


def stage_bp(stages: Sequence[LengthStage], step: int, window_bp: int) -> int:
    """Give the longest piece of a step, steps counting from 0: that of its stage, or a window after all of them.

    Examples
    --------
    >>> stages = LengthStage(128, steps=10), LengthStage(256, steps=5)
    >>> [stage_bp(stages, step, 512) for step in (0, 9, 10, 14, 15)]
    [128, 128, 256, 256, 512]
    """
    first = 0
    for stage in stages:
        first += stage.steps
        if step < first:
            return stage.window_bp
    return window_bp


def pieces(n_bp: int, most_bp: int) -> list[tuple[int, int]]:
    """Cut ``n_bp`` bases into as few pieces of at most ``most_bp`` as there can be: start and end of each.

    They stand side by side, and no two differ by more than a base.

    Examples
    --------
    >>> pieces(10, 4)
    [(0, 3), (3, 6), (6, 10)]
    """
    n = -(-n_bp // most_bp)
    edges = [i * n_bp // n for i in range(n + 1)]
    return list(pairwise(edges))


def shortest_piece_bp(most_bp: int) -> int:
    """Give the fewest bases of a piece, over windows of every length that is cut at all.

    Examples
    --------
    >>> shortest_piece_bp(5), pieces(6, 5)
    (3, [(0, 3), (3, 6)])
    """
    # One base more than a piece may have makes two halves of it.
    return (most_bp + 1) // 2
