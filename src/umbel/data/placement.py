"""Span placement: spans are cut out of a window and shuffled, and it is asked which gap each one belongs to."""

from __future__ import annotations

import numpy as np

from umbel.data.spans import scatter
from umbel.data.vocabulary import GAP_ID, SEP_ID, are_real

TRIES = 64
"""Layouts drawn for a window whose N break it into pieces, before it is told to have no room."""


def _find_spans(real: np.ndarray, n_spans: int, width: int, draws: np.random.Generator) -> np.ndarray | None:
    """Draw the first tokens of ``n_spans`` runs of ``width`` real tokens, with at least one token left between two."""
    where = np.flatnonzero(real)
    n_free = len(where) + 1 - n_spans * (width + 1)
    if n_free < 0:
        return None
    for _ in range(TRIES):
        # Laid on the real tokens alone; what would reach over an N is drawn anew, so every good layout is as likely.
        starts = scatter(np.full(n_spans, width + 1), n_free, draws)
        if (where[starts + width - 1] - where[starts] == width - 1).all():
            return where[starts]
    return None


def cut_spans(
    ids: np.ndarray, n_spans: int, span_tokens: int, n_covering: int, draws: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """Cut spans out of a window and append them in a shuffled order.

    A gap is marked by one ``[RESERVED]`` token. Behind the rest of the window comes each span after a ``[SEP]``, and a
    last ``[SEP]``. All layouts of spans of real tokens (no N) that leave a token between two gaps are equally
    likely, and so are all orders. Where k tokens cover a base, the k - 1 tokens on either side of a span would
    tell its bases: they are left out as well.

    Parameters
    ----------
    ids
        ``(T,)`` token ids with ``[CLS]`` and ``[SEP]``.
    n_spans, span_tokens
        How many, and tokens of each.
    n_covering
        Tokens that cover a base.

    Returns
    -------
    Token ids and where a span belongs, int64 of one length: 0 nothing, -j at the marker of gap j, j at the tokens of
    the span that was cut there; j = 1 ... n_spans from left to right. None if the window has no room.

    Examples
    --------
    >>> ids = np.array([0, 7, 8, 9, 10, 7, 8, 1])
    >>> made = cut_spans(ids, 2, 2, 1, np.random.default_rng(0))
    >>> made[0].tolist()
    [0, 7, 5, 10, 5, 1, 8, 9, 1, 7, 8, 1]
    >>> made[1].tolist()
    [0, 0, -1, 0, -2, 0, 1, 1, 0, 2, 2, 0]
    """
    n_shared = n_covering - 1
    width = span_tokens + 2 * n_shared
    starts = _find_spans(are_real(ids), n_spans, width, draws)
    if starts is None:
        return None
    numbers = np.arange(1, n_spans + 1)
    left, marks = np.ones(len(ids), bool), np.zeros(len(ids), np.int64)
    left[starts[:, None] + np.arange(1, width)] = False
    marks[starts] = -numbers
    context = np.where(marks < 0, GAP_ID, ids)[left]
    order = draws.permutation(n_spans)
    # The context's own [SEP] stands before the first span, so each span brings the one behind it.
    tail = np.full((n_spans, span_tokens + 1), SEP_ID)
    tail[:, :-1] = ids[starts[:, None] + n_shared + np.arange(span_tokens)][order]
    belongs = np.zeros_like(tail)
    belongs[:, :-1] = numbers[order, None]
    return np.concatenate((context, tail.ravel())), np.concatenate((marks[left], belongs.ravel()))
