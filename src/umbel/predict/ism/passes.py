"""What the model expects at a place: its window, and the log-probabilities of its four bases, from one masked pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from umbel.genome.reference import Reference
from umbel.genome.sequence import BASES, N
from umbel.genome.variant import Variant
from umbel.predict.predictor import Predictor
from umbel.predict.variants.windows import VariantWindow, cut_window

Floats = npt.NDArray[np.float32]


def place_window(reference: Reference, contig: str, position: int, flank_bp: int) -> VariantWindow:
    """Read the window in whose middle a base stands, as for a substitution of it.

    Parameters
    ----------
    contig, position
        The place, 0-based.
    flank_bp
        Bases on either side; fewer at the ends of a contig.
    """
    base = BASES[int(reference.fetch(contig, position, position + 1)[0])]
    return cut_window(Variant(contig, position, base, "A" if base != "A" else "C"), reference, flank_bp)


def is_scored(window: VariantWindow, min_bases: int) -> bool:
    """Whether the base is known, and so are enough bases around it for a token."""
    return window.variant.ref != BASES[N] and window.least_known >= min_bases


def base_log_probs(predictor: Predictor, windows: Sequence[VariantWindow]) -> Floats:
    """Say how likely A, C, G and T are at the middle of each window when it alone is hidden.

    Parameters
    ----------
    predictor
        The model.
    windows
        Of :func:`place_window`.

    Returns
    -------
    float32 ``(n, 4)`` natural-log probabilities, the mean of both strands; NaN where the base is N, or its window has
    fewer known bases than a token. The difference of two columns is the score ``llr`` of ``umbel variants``.
    """
    found = np.full((len(windows), 4), np.nan, np.float32)
    asked = [i for i, window in enumerate(windows) if is_scored(window, predictor.min_bases)]
    if asked:
        some = [windows[i] for i in asked]
        logs = predictor.masked_log_probs([each.ref for each in some], [each.changed for each in some], "both")
        found[asked] = np.concatenate(logs)
    return found


def substitution_scores(log_probs: Floats, ref: npt.NDArray[np.uint8]) -> Floats:
    """Log-likelihood ratio of each base against the reference, ``(n, 4)``; NaN where that is N.

    Examples
    --------
    >>> substitution_scores(np.log(np.array([[0.5, 0.25, 0.125, 0.125]], np.float32)), np.array([0])).tolist()
    [[0.0, -0.6931471824645996, -1.3862943649291992, -1.3862943649291992]]
    """
    known = ref < N
    own = np.take_along_axis(log_probs, np.where(known, ref, 0).astype(np.int64)[:, None], axis=1)
    return np.where(known[:, None], log_probs - own, np.nan).astype(np.float32)
