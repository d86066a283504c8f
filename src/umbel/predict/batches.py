"""Sequences of similar length together: which go into one pass, and the padded batch that they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from umbel.data.vocabulary import PAD_ID

FULL_ENOUGH = 0.8
"""Share of the longest below which a sequence opens a new batch, where the batch has enough tokens already."""
WORTH_A_PASS = 2048
"""Tokens that make a pass worth its fixed costs."""


def similar_lengths(lengths: Sequence[int], rows_of: Callable[[int], int]) -> list[list[int]]:
    """Group sequences of similar length, longest first.

    Parameters
    ----------
    lengths
        Tokens of each.
    rows_of
        Rows of so many tokens that may go into one pass, at least 1.

    Returns
    -------
    Lists of indices: every one once, those of one list as close in length as can be.

    Examples
    --------
    >>> similar_lengths([5, 900, 1000, 5, 600], lambda width: 3000 // width)
    [[2, 1, 4], [0, 3]]
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    groups: list[list[int]] = []
    longest = most = 0
    for i in order:
        size = len(groups[-1]) if groups else 0
        is_filling = lengths[i] >= FULL_ENOUGH * longest or longest * size < WORTH_A_PASS
        if size < most and is_filling:
            groups[-1].append(i)
            continue
        longest, most = lengths[i], rows_of(lengths[i])
        groups.append([i])
    return groups


def padding_share(lengths: Sequence[int], groups: Sequence[Sequence[int]]) -> float:
    """Give the share of padding among all that the passes of these groups compute on.

    Examples
    --------
    >>> round(padding_share([10, 6, 4], [[0, 1], [2]]), 3)
    0.167
    """
    padded = sum(len(group) * max(lengths[i] for i in group) for group in groups)
    return 1 - sum(lengths) / max(1, padded)


def padded(ids: Sequence[np.ndarray]) -> Tensor:
    """Put token ids one sequence a row, ``[PAD]`` on the right, int64 ``(B, longest)``.

    Examples
    --------
    >>> padded([np.array([0, 7, 1]), np.array([0, 1])]).tolist()
    [[0, 7, 1], [0, 1, 4]]
    """
    batch = np.full((len(ids), max(map(len, ids))), PAD_ID, np.int64)
    for row, sequence in enumerate(ids):
        batch[row, : len(sequence)] = sequence
    return torch.from_numpy(batch)
