"""The one-sided Markov baseline: a base predicted from the k bases before it, as a language model of words would."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from umbel.evaluate.markov import count_words, on_both_strands

Codes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MAX_ORDER = 8


@dataclass(frozen=True)
class OneSidedModel:
    r"""Markov model of order k with interpolated back-off, read from the left, on both strands.

    :math:`p_j(x \mid l_j) = (c_j(l_j, x) + a\,p_{j-1}(x)) / (n_j(l_j) + a)`, and :math:`p_0` is the base composition;
    c counts words and their reverse complements. A hidden base is predicted with the largest :math:`j \le k` whose j
    bases on the left are all known: inside the window, not N, and not hidden themselves.

    Attributes
    ----------
    tables
        Entry j is float64 ``(4**j, 4)``: probabilities of the base behind each context of j bases.

    Examples
    --------
    >>> model = OneSidedModel.fit([np.array([0, 1] * 50, np.uint8)], order=1)
    >>> logs = model.masked_log_probs([np.array([0, 1, 0], np.uint8)], [np.array([False, True, False])])
    >>> int(logs[0].argmax())
    1
    """

    tables: tuple[Floats, ...]

    @classmethod
    def fit(cls, pieces: Iterable[Codes], order: int = MAX_ORDER, strength: float = 16.0) -> OneSidedModel:
        """Count sequences, uint8 ``(L_i,)`` each; what touches an N is not counted.

        Parameters
        ----------
        pieces
            What lies between two of them is no word.
        order
            k, 0 to 8. Memory is 32 bytes x 4**k, 2 MB for k = 8.
        strength
            a, how many observations the shorter context is worth.

        Raises
        ------
        ValueError
            If the order is none of these.
        """
        if not 0 <= order <= MAX_ORDER:
            raise ValueError(f"order is {order}: give 0 to {MAX_ORDER}")
        words = [np.zeros(4 ** (j + 1), np.int64) for j in range(order + 1)]
        for codes in pieces:
            for j, counts in enumerate(words):
                count_words(codes, 0, counts, j + 1)
        p = np.full((1, 4), 0.25)
        tables = []
        for j, counts in enumerate(words):
            seen = on_both_strands(counts).reshape(4**j, 4).astype(np.float64)
            shorter = p if j == 0 else np.tile(p, (4, 1))
            p = (seen + strength * shorter) / (seen.sum(1, keepdims=True) + strength)
            tables.append(p)
        return cls(tuple(tables))

    def log_probs(self, codes: Codes, hidden: Mask) -> Floats:
        """Natural-log probabilities of A, C, G, T at the hidden bases of one window, ``(n_hidden, 4)``."""
        positions = np.flatnonzero(hidden)
        found = np.broadcast_to(self.tables[0], (len(positions), 4)).copy()
        context = np.zeros(len(positions), np.int64)
        known = np.ones(len(positions), bool)
        for j in range(1, len(self.tables)):
            at = positions - j
            inside = np.maximum(at, 0)
            known &= (at >= 0) & ~hidden[inside] & (codes[inside] <= 3)
            context += np.where(known, codes[inside].astype(np.int64) << (2 * (j - 1)), 0)
            found[known] = self.tables[j][context[known]]
        return np.log(found)

    def masked_log_probs(self, codes: Sequence[Codes], hidden: Sequence[Mask]) -> list[Floats]:
        """Like ``Predictor.masked_log_probs``."""
        return [self.log_probs(*window) for window in zip(codes, hidden, strict=True)]


class MotifModel:
    r"""Chance of a whole motif of m hidden bases from the k bases on either side of it, with interpolated back-off.

    A model of single bases has no neighbours left to look at when a motif is hidden as a whole; this one counts words
    of k + m + k bases, on both strands: the sum of :math:`p_j = (c_j(l_j, w, r_j) + a\,p_{j-1}) / (n_j(l_j, r_j) + a)`.

    Examples
    --------
    >>> codes = np.array([0, 2, 3, 0, 1] * 40, np.uint8)
    >>> model = MotifModel.fit([codes], motif_bp=2, order=1)
    >>> model.log_prob(codes[:4], 1) > model.log_prob(np.array([1, 2, 3, 1], np.uint8), 1)
    True
    """

    def __init__(self, tables: Sequence[Counts], motif_bp: int, strength: float):
        self.tables, self.motif_bp, self.strength = tuple(tables), motif_bp, strength

    @classmethod
    def fit(cls, pieces: Iterable[Codes], motif_bp: int, order: int = 4, strength: float = 16.0) -> MotifModel:
        """Count sequences; memory is 8 bytes x 4**(2 k + m), 34 MB for k = 4 and m = 3.

        Raises
        ------
        ValueError
            If 2 k + m is above 11.
        """
        if not 1 <= motif_bp <= 2 * order + motif_bp <= 11:
            raise ValueError(f"order {order} and motif_bp {motif_bp}: 2 order + motif_bp may be 11 at most")
        words = [np.zeros(4 ** (2 * j + motif_bp), np.int64) for j in range(order + 1)]
        for codes in pieces:
            for j, counts in enumerate(words):
                count_words(codes, 0, counts, 2 * j + motif_bp)
        shaped = [on_both_strands(counts).reshape(4**j, 4**motif_bp, 4**j) for j, counts in enumerate(words)]
        return cls(shaped, motif_bp, strength)

    def log_prob(self, codes: Codes, start: int) -> float:
        """Natural-log probability of the motif at ``start``, given its flanks in ``codes``; all bases but N count."""
        end = start + self.motif_bp
        motif = _number(codes[start:end])
        p = 4.0**-self.motif_bp
        for j, table in enumerate(self.tables):
            left, right = codes[start - j : start], codes[end : end + j]
            if start < j or len(right) < j or (left > 3).any() or (right > 3).any():
                break
            seen = table[_number(left), :, _number(right)]
            p = (seen[motif] + self.strength * p) / (seen.sum() + self.strength)
        return float(np.log(p))


def _number(codes: Codes) -> int:
    value = 0
    for base in codes.tolist():
        value = value * 4 + base
    return value
