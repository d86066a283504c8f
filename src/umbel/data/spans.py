"""Spans on a line of places: how many, how long, and where, so that a wanted share of tokens is hidden."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=64)
def length_chances(mean: float, longest: int) -> np.ndarray:
    """Give the chances of the lengths 1 to ``longest``, ``(longest,)``.

    The geometric distribution with ``mean`` (chance ``1 / mean`` to stop after each place) is truncated: longer
    lengths are never drawn, and their chance is shared among the others in proportion. It is not piled up on
    ``longest``.

    References
    ----------
    Joshi et al. 2020, "SpanBERT", arXiv:1907.10529, section 3.1. The text says "clip", and its mean length of 3.8
    with p = 0.2 and 10 at most is that of truncation; piling up would give 4.5.

    Examples
    --------
    >>> chances = length_chances(5.0, 10)
    >>> round(float(chances @ np.arange(1, 11)), 1)
    3.8
    """
    # Products, and no power function: those differ in the last bit from machine to machine.
    raw = np.cumprod(np.concatenate(([1.0], np.full(longest - 1, 1 - 1 / mean))))
    chances: np.ndarray = raw / raw.sum()
    chances.flags.writeable = False
    return chances


@lru_cache(maxsize=1024)
def spans_per_place(hidden_frac: float, mean: float, n_covering: int = 1) -> float:
    """Give the number of spans for each place of a long line at which ``hidden_frac`` of the tokens are hidden.

    Parameters
    ----------
    mean
        Mean length of a span.
    n_covering
        Tokens that cover a place; a token that covers a hidden place is hidden. With n spans for each place, a
        share 1 - n mean of the places is visible, and behind a visible place stands another with chance
        (1 - n mean) / (1 - n mean + n): a token is visible where n_covering such places follow each other.

    Examples
    --------
    >>> spans_per_place(0.15, 3.0), round(spans_per_place(0.15, 1.0, 3), 4)
    (0.049999999999999996, 0.0527)
    """
    if n_covering == 1:
        return hidden_frac / mean
    low, high = 0.0, 1 / mean
    for _ in range(60):
        middle = (low + high) / 2
        visible = 1 - middle * mean
        if visible * (visible / (visible + middle)) ** (n_covering - 1) > 1 - hidden_frac:
            low = middle
        else:
            high = middle
    return low


def scatter(lengths: np.ndarray, n_free: int, draws: np.random.Generator) -> np.ndarray:
    """Lay spans on a line in their order without overlap, every way being equally likely.

    Parameters
    ----------
    lengths
        ``(n,)`` places of each span; spans may touch.
    n_free
        Places of the line that no span takes.

    Returns
    -------
    ``(n,)`` int64, the first place of each, ascending.

    Examples
    --------
    >>> scatter(np.array([2, 3]), 0, np.random.default_rng(0)).tolist()
    [0, 2]
    """
    n_spans = len(lengths)
    if not n_spans:
        return np.zeros(0, np.int64)
    slots = np.argpartition(draws.random(n_spans + n_free), n_spans - 1)[:n_spans]
    before = np.concatenate(([0], np.cumsum(lengths - 1)[:-1]))
    return np.sort(slots) + before


def draw_spans(
    n_places: int, hidden_frac: float, mean: float, longest: int, n_covering: int, draws: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw spans that hide ``hidden_frac`` of the tokens on a line.

    Their number is what that share needs on average, rounded up or down by chance; their lengths are independent
    draws from :func:`length_chances`. So neither the share nor the lengths are biased, as they would be if spans were
    drawn until enough is hidden, or if long ones found no room more often than short ones.

    Parameters
    ----------
    n_places
        Length of the line.
    mean, longest
        Of the geometric distribution before it is cut, and the longest span; no span is longer than the line.
    n_covering
        Tokens that cover a place.

    Returns
    -------
    First places and lengths, ``(n,)`` int64 each. Only if the line cannot hold them all are the last ones cut.
    """
    longest = min(longest, n_places)
    if not longest:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    chances = length_chances(mean, longest)
    per_place = spans_per_place(hidden_frac, float(chances @ np.arange(1, longest + 1)), n_covering)
    n_spans = int(n_places * per_place + draws.random())
    lengths = 1 + np.searchsorted(np.cumsum(chances)[:-1], draws.random(n_spans), side="right")
    ends = np.minimum(np.cumsum(lengths), n_places)
    lengths = np.diff(ends, prepend=0)
    lengths = lengths[lengths > 0]
    return scatter(lengths, n_places - int(lengths.sum()), draws), lengths


def members(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """List the places of all spans, span by span.

    Examples
    --------
    >>> members(np.array([2, 7]), np.array([3, 1])).tolist()
    [2, 3, 4, 7]
    """
    first = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - first, lengths)
