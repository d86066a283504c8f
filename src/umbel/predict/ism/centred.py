"""One masked pass a place: the window around it, and what the model expects at its middle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from umbel.errors import ConfigError, FastaError
from umbel.genome.reference import Reference
from umbel.genome.sequence import Codes, N
from umbel.predict.predictor import Predictor, Strand


class Window(NamedTuple):
    """Bases around a place: where they begin on the contig, and the place's index among them."""

    start: int
    centre: int
    codes: Codes


def window_around(position: int, contig_bp: int, window_bp: int) -> tuple[int, int]:
    """Give start and end of the window with ``position`` in its middle, cut off where the contig ends.

    Examples
    --------
    >>> window_around(50, 100, 9), window_around(2, 100, 10), window_around(99, 100, 10)
    ((46, 55), (0, 7), (94, 100))
    """
    start = position - window_bp // 2
    return max(0, start), min(contig_bp, start + window_bp)


def fetch_window(reference: Reference, contig: str, position: int, window_bp: int) -> Window:
    """Read the window around a place."""
    start, end = window_around(position, reference.lengths[contig], window_bp)
    return Window(start, position - start, reference.fetch(contig, start, end))


def base_log_probs(predictor: Predictor, windows: Sequence[Window], strand: Strand = "both") -> np.ndarray:
    """Say how likely A, C, G and T are at the centre of each window when it alone is hidden.

    Parameters
    ----------
    predictor
        The model.
    windows
        Around the places that are asked about.
    strand
        See :meth:`~umbel.predict.predictor.Predictor.masked_log_probs`; both strands take two passes.

    Returns
    -------
    float32 ``(n, 4)`` natural-log probabilities; NaN where the centre is N.
    """
    found = np.full((len(windows), 4), np.nan, np.float32)
    known = [i for i, window in enumerate(windows) if window.codes[window.centre] < N]
    hidden = []
    for i in known:
        mask = np.zeros(len(windows[i].codes), bool)
        mask[windows[i].centre] = True
        hidden.append(mask)
    if known:
        found[known] = np.concatenate(predictor.masked_log_probs([windows[i].codes for i in known], hidden, strand))
    return found


def require_window(predictor: Predictor, reference: Reference, contigs: Sequence[str], window_bp: int) -> None:
    """See that the windows on these contigs have a token at all.

    Raises
    ------
    ConfigError
        If ``window_bp`` is below what the model's tokens need.
    FastaError
        If a contig is shorter than that.
    """
    # Half a window may be cut off at the end of a contig.
    if (window_bp + 1) // 2 < predictor.min_bases:
        raise ConfigError(
            f"--window-bp {window_bp}: half a window is what stays at the end of a contig, and this model's tokens "
            f"have {predictor.min_bases} bases. Give at least {2 * predictor.min_bases}."
        )
    for contig in contigs:
        if reference.lengths[contig] < predictor.min_bases:
            raise FastaError(
                f"contig {contig!r} has {reference.lengths[contig]} bases, and this model's tokens have "
                f"{predictor.min_bases}: nothing on it can be scored. Leave it out.",
                reference.path,
            )
