"""The ids that every vocabulary has in common: special tokens, then A, C, G, T and N."""

from __future__ import annotations

import numpy as np

SPECIAL_TOKENS = ("[CLS]", "[SEP]", "[BOS]", "[MASK]", "[PAD]", "[RESERVED]", "[UNK]")
CLS_ID, SEP_ID, MASK_ID, PAD_ID, UNK_ID = 0, 1, 3, 4, 6
GAP_ID = 5
"""``[RESERVED]``, which marks the gap that a span was cut out of; see :mod:`umbel.data.placement`."""
BASE_ID = 7
"""Id of A; the code of a base (A 0, C 1, G 2, T 3, N 4) plus this is its id as a token of its own."""
N_ID = 11
WORD_ID = 12
"""First id of the tokens that stand for two bases and more; none of them holds an N."""


def are_real(ids: np.ndarray) -> np.ndarray:
    """Mark tokens of A, C, G and T alone: no N, no padding, no special token.

    Examples
    --------
    >>> are_real(np.array([CLS_ID, BASE_ID, N_ID, WORD_ID])).tolist()
    [False, True, False, True]
    """
    return (ids >= BASE_ID) & (ids != N_ID)
