"""Masked-language corruption as a pure function of (seed, step, sample): no state, so nothing to restore.

Randomness is counter-based (Philox): the key is the seed and a purpose, the counter is the step and the
sample. The same triple gives the same bases on any worker, in any order, after any interruption.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from umbel.config import MaskingConfig
from umbel.data.tokenizers import codes_to_ids
from umbel.data.vocabulary import BASE_ID, MASK_ID

_CORRUPT, _STRAND, _EVALUATE = 1, 2, 3
N_CODE = 4
IGNORED = -100


def stream(seed: int, purpose: int, step: int, sample: int) -> np.random.Generator:
    """Open the random stream that belongs to one purpose, step and sample."""
    return np.random.Generator(np.random.Philox(key=[seed, purpose], counter=[0, 0, sample, step]))


@dataclass(frozen=True)
class Example:
    """One window as the network sees it, all ``(L + 2,)`` with ``[CLS]`` and ``[SEP]``.

    Attributes
    ----------
    input_ids
        int64 token ids after corruption.
    labels
        int64, the true token where it is to be predicted, -100 elsewhere.
    weights
        float32 loss weights, 1 or the soft-mask weight.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


def is_reversed(config: MaskingConfig, seed: int, step: int, sample: int) -> bool:
    """Decide whether this sample is shown as its reverse complement."""
    return bool(stream(seed, _STRAND, step, sample).random() < config.revcomp_frac)


def corrupt(
    codes: np.ndarray, soft_mask: np.ndarray, config: MaskingConfig, seed: int, step: int, sample: int
) -> Example:
    """Choose bases to predict, and show most of them as ``[MASK]``.

    Of the real bases (A, C, G, T) each is chosen with chance ``mask_frac``; of the chosen,
    ``as_mask_frac`` become ``[MASK]``, ``as_random_frac`` a base drawn evenly from A, C, G, T (the true
    one included), and the rest stay. N and special tokens are never chosen.

    Parameters
    ----------
    codes, soft_mask
        ``(L,)`` base codes 0..4 and repeat mask of the window.
    seed, step, sample
        What the draw depends on, and all it depends on; each >= 0.

    References
    ----------
    Devlin et al. 2018, "BERT", arXiv:1810.04805, section 3.1.

    Examples
    --------
    >>> codes = np.zeros(100, np.uint8)
    >>> example = corrupt(codes, codes > 0, MaskingConfig(), seed=0, step=3, sample=1)
    >>> bool((example.labels >= 0).any()), example.labels[0]
    (True, np.int64(-100))
    """
    draws = stream(seed, _CORRUPT, step, sample)
    chance, fate = draws.random((2, len(codes)), dtype=np.float32)
    replacement = draws.integers(0, 4, len(codes))
    real = codes < N_CODE
    chosen = real & (chance < config.mask_frac)
    true_ids = codes_to_ids(codes)
    input_ids, labels = true_ids.copy(), np.full_like(true_ids, IGNORED)
    inner = input_ids[1:-1]
    as_mask = chosen & (fate < config.as_mask_frac)
    as_random = chosen & ~as_mask & (fate < config.as_mask_frac + config.as_random_frac)
    inner[as_mask] = MASK_ID
    inner[as_random] = BASE_ID + replacement[as_random]
    weights = np.ones(len(true_ids), np.float32)
    weights[1:-1][soft_mask] = config.softmask_weight
    counted = real if config.loss_on == "real" else chosen
    labels[1:-1][counted] = true_ids[1:-1][counted]
    return Example(input_ids, labels, weights)


def hidden_positions(codes: np.ndarray, seed: int, window_id: int, mask_frac: float) -> np.ndarray:
    """Choose the bases that an evaluation hides in one window, ``(L,)`` bool; only A, C, G, T are chosen.

    Every model and every baseline is asked about the same positions.

    Examples
    --------
    >>> hidden_positions(np.array([4, 4, 0, 1]), seed=0, window_id=5, mask_frac=1.0).tolist()
    [False, False, True, True]
    """
    chance = stream(seed, _EVALUATE, 0, window_id).random(len(codes), dtype=np.float32)
    return (codes < N_CODE) & (chance < mask_frac)


def hide(codes: np.ndarray, hidden: np.ndarray) -> Example:
    """Make an evaluation example: every hidden base is shown as ``[MASK]`` and is a label of weight 1.

    Examples
    --------
    >>> example = hide(np.array([0, 3]), np.array([False, True]))
    >>> example.input_ids.tolist(), example.labels.tolist()
    ([0, 7, 3, 1], [-100, -100, 10, -100])
    """
    input_ids = codes_to_ids(codes)
    labels = np.full_like(input_ids, IGNORED)
    labels[1:-1][hidden] = input_ids[1:-1][hidden]
    input_ids[1:-1][hidden] = MASK_ID
    return Example(input_ids, labels, np.ones(len(input_ids), np.float32))
