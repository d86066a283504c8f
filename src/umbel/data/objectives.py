"""What each window asks of the network: single hidden tokens, hidden runs, or spans to put back, drawn by weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from umbel.config import MaskingConfig
from umbel.data.masking import IGNORED, Example, corrupt, stream
from umbel.data.placement import cut_spans

if TYPE_CHECKING:
    from umbel.data.tokenizers import Tokens

Objective = Literal["uniform", "spans", "placement"]

# Purposes of random streams, beside those of umbel.data.masking.
_OBJECTIVE, _PLACEMENT = 12, 13


def draw_objective(config: MaskingConfig, seed: int, step: int, sample: int, *, has_room: bool = True) -> Objective:
    """Choose what this sample asks, by the three weights; with one weight above 0 nothing is drawn.

    Parameters
    ----------
    has_room
        False for a window that spans cannot be cut out of: it asks for hidden tokens, single ones or runs by their
        two weights, and single ones if both are 0.

    Examples
    --------
    >>> draw_objective(MaskingConfig(), seed=0, step=0, sample=0)
    'uniform'
    """
    weights: dict[Objective, float] = {"uniform": config.uniform_weight, "spans": config.span_weight}
    if has_room:
        weights["placement"] = config.placement_weight
    asked = [name for name, weight in weights.items() if weight]
    if len(asked) < 2:
        return asked[0] if asked else "uniform"
    draw = stream(seed, _OBJECTIVE, step, sample).random(2)[0 if has_room else 1]
    edges = np.cumsum([weights[name] for name in asked])
    return asked[int(np.searchsorted(edges[:-1], draw * edges[-1], side="right"))]


def make_example(
    codes: np.ndarray,
    soft_mask: np.ndarray,
    config: MaskingConfig,
    seed: int,
    step: int,
    sample: int,
    tokens: Tokens,
) -> Example:
    """Make the example of one window: with hidden tokens to predict, or with cut spans to put back.

    :func:`draw_objective` says which of the two; :func:`umbel.data.masking.corrupt` and
    :func:`umbel.data.placement.cut_spans` do it. A window without room for the spans asks for hidden tokens, and says
    so (``is_unplaced``).

    Parameters
    ----------
    codes, soft_mask
        ``(L,)`` base codes 0..4 and repeat mask of the window.
    seed, step, sample
        What the draw depends on, and all it depends on; each >= 0.
    tokens
        How bases become tokens.

    Raises
    ------
    ValueError
        If the window is shorter than one token.

    Examples
    --------
    >>> from umbel.data.kmers import KmerTokens
    >>> config = MaskingConfig(uniform_weight=0, placement_weight=1, placement_spans=2, placement_span_tokens=8)
    >>> codes = np.zeros(40, np.uint8)
    >>> example = make_example(codes, codes > 0, config, seed=0, step=3, sample=1, tokens=KmerTokens(1))
    >>> np.unique(example.placement).tolist(), bool((example.labels >= 0).any())
    ([-2, -1, 0, 1, 2], False)
    """
    objective = draw_objective(config, seed, step, sample)
    if objective != "placement":
        return corrupt(codes, soft_mask, config, seed, step, sample, tokens, in_spans=objective == "spans")
    draws = stream(seed, _PLACEMENT, step, sample)
    ids = tokens.encode(codes).ids
    made = cut_spans(ids, config.placement_spans, config.placement_span_tokens, tokens.n_covering, draws)
    if made is None:
        in_spans = draw_objective(config, seed, step, sample, has_room=False) == "spans"
        hidden = corrupt(codes, soft_mask, config, seed, step, sample, tokens, in_spans=in_spans)
        return replace(hidden, is_unplaced=True)
    input_ids, placement = made
    return Example(input_ids, np.full_like(input_ids, IGNORED), np.zeros(len(input_ids), np.float32), placement)
