"""Masked-language corruption as a pure function of (seed, step, sample): no state, so nothing to restore.

Randomness is counter-based (Philox): the key is the seed and a purpose, the counter is the step and the
sample. The same triple gives the same tokens on any worker, in any order, after any interruption.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from umbel.config import MaskingConfig
from umbel.data.kmers import Encoding
from umbel.data.spans import draw_spans, members
from umbel.data.vocabulary import MASK_ID, are_real
from umbel.genome.sequence import N

if TYPE_CHECKING:
    from umbel.data.tokenizers import Tokens

_CORRUPT, _STRAND, _EVALUATE, _ORDER, _STRANDS = 1, 2, 3, 4, 5
_SPANS = 11
IGNORED = -100


def stream(seed: int, purpose: int, step: int, sample: int) -> np.random.Generator:
    """Open the random stream that belongs to one purpose, step and sample."""
    return np.random.Generator(np.random.Philox(key=[seed, purpose], counter=[0, 0, sample, step]))


@dataclass(frozen=True)
class Example:
    """One window as the network sees it, or a part of one; all ``(T,)``, a window's with ``[CLS]`` and ``[SEP]``.

    Attributes
    ----------
    input_ids
        int64 token ids after corruption.
    labels
        int64, the true token where it is to be predicted, -100 elsewhere.
    weights
        float32 loss weights: the mean over a token's bases of 1 or, where soft-masked, the soft-mask weight.
    placement
        int64, where spans were cut out (see :func:`umbel.data.placement.cut_spans`); None where none were. Such an
        example has no labels.
    is_unplaced
        Spans were to be cut out, and the window has no room for them.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    placement: np.ndarray | None = None
    is_unplaced: bool = False

    def part(self, where: slice) -> Example:
        """Give a stretch of tokens as an example of its own.

        Raises
        ------
        ValueError
            If spans were cut out: a part would hold spans without their gaps.
        """
        if self.placement is not None:
            raise ValueError("an example of span placement cannot be cut: give every window a row of its own")
        return Example(self.input_ids[where], self.labels[where], self.weights[where])


def is_reversed(config: MaskingConfig, seed: int, step: int, sample: int) -> bool:
    """Decide whether this sample is shown as its reverse complement."""
    return bool(stream(seed, _STRAND, step, sample).random() < config.revcomp_frac)


def epoch_order(n_windows: int, seed: int, epoch: int, species: int = 0) -> np.ndarray:
    """Draw the order in which an epoch shows a species' windows: a permutation, ``(n_windows,)`` int64."""
    return stream(seed, _ORDER, epoch, species).permutation(n_windows)


def reversed_in_epoch(config: MaskingConfig, seed: int, epoch: int, n_windows: int, species: int = 0) -> np.ndarray:
    """Decide which windows of a species an epoch of packed rows shows as reverse complements, ``(n_windows,)``."""
    return stream(seed, _STRANDS, epoch, species).random(n_windows, dtype=np.float32) < config.revcomp_frac


def covering(encoding: Encoding, bases: np.ndarray) -> np.ndarray:
    """Mark the tokens that stand for at least one of the marked bases.

    Parameters
    ----------
    bases
        ``(L,)`` bool.

    Returns
    -------
    ``(T,)`` bool, False at ``[CLS]`` and ``[SEP]``.

    Examples
    --------
    >>> from umbel.data.kmers import KmerTokens
    >>> encoding = KmerTokens(2, overlapping=True).encode(np.array([0, 1, 2, 3]))
    >>> covering(encoding, np.array([False, False, True, False])).tolist()
    [False, False, True, True, False]
    """
    before = np.concatenate(([0], np.cumsum(bases)))
    return before[encoding.ends] > before[encoding.starts]


def anchor_frac(mask_frac: float, tokens: Tokens) -> float:
    """Give the chance for a base that hides ``mask_frac`` of the tokens, where each hidden base hides all over it.

    Examples
    --------
    >>> from umbel.data.kmers import KmerTokens
    >>> round(anchor_frac(0.15, KmerTokens(3, overlapping=True)), 4)
    0.0527
    """
    return 1 - (1 - mask_frac) ** (1 / tokens.n_covering)


def _loss_weights(encoding: Encoding, soft_mask: np.ndarray, softmask_weight: float) -> np.ndarray:
    """Average the weights of each token's bases, ``(T,)`` float32; 1 at ``[CLS]`` and ``[SEP]``."""
    if len(encoding.ids) == len(soft_mask) + 2:  # one base a token
        weights = np.ones(len(encoding.ids), np.float32)
        weights[1:-1][soft_mask] = softmask_weight
        return weights
    before = np.concatenate(([0], np.cumsum(soft_mask)))
    n_soft = before[encoding.ends] - before[encoding.starts]
    n_bases = np.maximum(encoding.ends - encoding.starts, 1)
    return (1 + n_soft * (softmask_weight - 1) / n_bases).astype(np.float32)


def corrupt(
    codes: np.ndarray,
    soft_mask: np.ndarray,
    config: MaskingConfig,
    seed: int,
    step: int,
    sample: int,
    tokens: Tokens,
    *,
    in_spans: bool = False,
) -> Example:
    """Choose tokens to predict, and show most of them as ``[MASK]``.

    Of the real tokens (bases A, C, G, T only) each is chosen with chance ``mask_frac``; of the chosen,
    ``as_mask_frac`` become ``[MASK]``, ``as_random_frac`` a word of the full length drawn evenly (the true
    one included; with one base a token, any of A, C, G, T), and the rest stay. N and special tokens are
    never chosen.

    Overlapping k-mers tell each other's bases, so there the draw is over bases: real bases become anchors
    with chance ``1 - (1 - mask_frac) ** (1 / k)``, each with a fate of the same shares, and every token that
    covers an anchor is chosen and shares its fate. Where a token covers several, to be masked goes before
    to be drawn, and that before to stay. So about ``mask_frac`` of the tokens are chosen, and no visible
    token covers the base that a ``[MASK]`` was drawn for.

    Parameters
    ----------
    codes, soft_mask
        ``(L,)`` base codes 0..4 and repeat mask of the window.
    seed, step, sample
        What the draw depends on, and all it depends on; each >= 0.
    tokens
        How bases become tokens.
    in_spans
        Choose runs of tokens (with overlapping k-mers: of anchors), each with one fate, in place of single ones; the
        expected share stays. See :func:`umbel.data.spans.draw_spans`. The real tokens are put end to end for it:
        a run that meets an N goes on behind it.

    Raises
    ------
    ValueError
        If the window is shorter than one token.

    References
    ----------
    Devlin et al. 2018, "BERT", arXiv:1810.04805, section 3.1. Overlapping k-mers are hidden in runs as in
    Ji et al. 2021, "DNABERT"; runs share a fate as in Joshi et al. 2020, "SpanBERT", arXiv:1907.10529, section 3.1.

    Examples
    --------
    >>> from umbel.data.kmers import KmerTokens
    >>> codes = np.zeros(100, np.uint8)
    >>> example = corrupt(codes, codes > 0, MaskingConfig(), seed=0, step=3, sample=1, tokens=KmerTokens(3))
    >>> len(example.labels), bool((example.labels >= 0).any()), example.labels[0]
    (36, True, np.int64(-100))
    """
    encoding = tokens.encode(codes)
    true_ids = encoding.ids
    inner_ids = true_ids[1:-1]
    overlap = tokens.n_covering > 1
    real = are_real(inner_ids)
    choosable = codes < N if overlap else real
    draws = stream(seed, _SPANS if in_spans else _CORRUPT, step, sample)
    if in_spans:
        where = np.flatnonzero(choosable)
        starts, lengths = draw_spans(
            len(where), config.mask_frac, config.span_mean_tokens, config.span_max_tokens, tokens.n_covering, draws
        )
        chosen = where[members(starts, lengths)]
        drawn, fate = np.zeros(len(choosable), bool), np.ones(len(choosable), np.float32)
        drawn[chosen] = True
        fate[chosen] = np.repeat(draws.random(len(lengths), dtype=np.float32), lengths)
    else:
        chance, fate = draws.random((2, len(choosable)), dtype=np.float32)
        drawn = choosable & (chance < (anchor_frac(config.mask_frac, tokens) if overlap else config.mask_frac))
    replacement = draws.integers(0, tokens.n_words, len(inner_ids))
    to_mask = drawn & (fate < config.as_mask_frac)
    to_draw = drawn & (fate < config.as_mask_frac + config.as_random_frac)
    if overlap:
        drawn, to_mask, to_draw = (covering(encoding, bases)[1:-1] for bases in (drawn, to_mask, to_draw))
    input_ids, labels = true_ids.copy(), np.full_like(true_ids, IGNORED)
    shown = input_ids[1:-1]
    shown[to_draw] = tokens.first_word + replacement[to_draw]
    shown[to_mask] = MASK_ID
    counted = real if config.loss_on == "real" else drawn
    labels[1:-1][counted] = inner_ids[counted]
    return Example(input_ids, labels, _loss_weights(encoding, soft_mask, config.softmask_weight))


def hidden_positions(codes: np.ndarray, seed: int, window_id: int, mask_frac: float) -> np.ndarray:
    """Choose the bases that an evaluation hides in one window, ``(L,)`` bool; only A, C, G, T are chosen.

    Every model and every baseline is asked about the same positions.

    Examples
    --------
    >>> hidden_positions(np.array([4, 4, 0, 1]), seed=0, window_id=5, mask_frac=1.0).tolist()
    [False, False, True, True]
    """
    chance = stream(seed, _EVALUATE, 0, window_id).random(len(codes), dtype=np.float32)
    return (codes < N) & (chance < mask_frac)


def hide(encoding: Encoding, hidden: np.ndarray) -> Example:
    """Make an evaluation example: every token that covers a hidden base is ``[MASK]`` and a label of weight 1.

    Examples
    --------
    >>> from umbel.data.kmers import KmerTokens
    >>> example = hide(KmerTokens(1).encode(np.array([0, 3])), np.array([False, True]))
    >>> example.input_ids.tolist(), example.labels.tolist()
    ([0, 7, 3, 1], [-100, -100, 10, -100])
    """
    covered = covering(encoding, hidden)
    input_ids = np.where(covered, MASK_ID, encoding.ids)
    return Example(input_ids, np.where(covered, encoding.ids, IGNORED), np.ones(len(input_ids), np.float32))
