"""Zero-shot tracks: how well the model knows each base from what stands around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from umbel.genome.sequence import Codes, N
from umbel.predict.choices import Strand, require_strand
from umbel.predict.phases import N_PASSES, strided
from umbel.predict.predictor import Predictor
from umbel.predict.scan.readouts import Reading
from umbel.predict.tracks.track import PRECISION, Track


class ZeroShot:
    r"""Probability of the reference base, entropy, and constraint of every base.

    With :math:`P_b` the probability of base b where the base at this place, r, is hidden,

    - ``log_prob`` :math:`= \ln P_r`;
    - ``entropy`` :math:`= -\sum_b P_b \log_2 P_b`, 0 to 2 bits;
    - ``constraint`` :math:`= \ln P_r - \frac13 \sum_{b \ne r} \ln P_b`: what a change costs, on average.

    N has no value.

    Parameters
    ----------
    predictor
        The model.
    strand
        ``both`` averages the logarithms of both readings.
    n_passes
        Passes over each window, in each of which every ``n_passes``-th base is hidden.
    """

    tracks = (
        Track("log_prob", "ln P(reference base)", "nat", -3.0, 0.0, PRECISION),
        Track("entropy", "entropy of the four probabilities", "bit", 0.0, 2.0, PRECISION),
        Track("constraint", "mean ln P(reference) - ln P(alternative)", "nat", -1.0, 3.0, PRECISION),
    )
    step_bp = 1
    label_names: tuple[str, ...] = ()

    def __init__(self, predictor: Predictor, strand: Strand = "both", n_passes: int = N_PASSES):
        require_strand(strand)
        predictor.require_base_probabilities()
        self._predictor, self._strand, self._n_passes = predictor, strand, n_passes
        self.min_bases = predictor.min_bases

    @property
    def facts(self) -> dict[str, Any]:
        """Weights, strand and passes."""
        return {"weights": self._predictor.weights_hash, "strand": self._strand, "n_passes": self._n_passes}

    def read(self, codes: Sequence[Codes]) -> list[Reading]:
        """Read windows; see :class:`umbel.predict.scan.readouts.Readout`."""
        phases = [strided(len(sequence), self._n_passes) for sequence in codes]
        logs = self._predictor.pseudo_log_probs(codes, phases, self._strand)
        return [Reading(base_scores(table, sequence)) for table, sequence in zip(logs, codes, strict=True)]


def base_scores(logs: np.ndarray, codes: Codes) -> np.ndarray:
    """Give ``log_prob``, ``entropy`` and ``constraint``, float32 ``(3, L)``, from ``(L, 4)`` natural logarithms.

    Examples
    --------
    >>> base_scores(np.log(np.array([[0.25] * 4, [0.7, 0.1, 0.1, 0.1]])), np.array([2, 0])).round(3)
    array([[-1.386, -0.357],
           [ 2.   ,  1.357],
           [ 0.   ,  1.946]], dtype=float32)
    """
    scores = np.full((3, len(codes)), np.nan, np.float32)
    # What is not finite stays without value here, and is an error where the base is known.
    there = (codes != N) & np.isfinite(logs).all(1)
    table = logs[there].astype(np.float64)
    own = np.take_along_axis(table, codes[there].astype(np.int64)[:, None], 1)[:, 0]
    # The mean of two strands' logarithms does not add up to 1.
    scaled = table - np.logaddexp.reduce(table, axis=1, keepdims=True)
    entropy = -(np.exp(scaled) * scaled).sum(1) / np.log(2)
    scores[:, there] = np.stack([own, entropy, own - (table.sum(1) - own) / 3])
    return scores
