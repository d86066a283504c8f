"""Scores of variants: every one a difference between the alternative allele and the reference, in the same window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from umbel.genome.sequence import Codes, Mask, N
from umbel.genome.variant import Kind
from umbel.predict.predictor import Predictor
from umbel.predict.variants.settings import Score, VariantSettings
from umbel.predict.variants.windows import VariantWindow

Values = npt.NDArray[np.float64]

SEQUENCES_AT_ONCE = 64
"""Different windows that are held with all their passes; it changes memory, not results."""


_NOTHING = np.zeros(0, np.uint8)


class HeadScore(Protocol):
    """A tuned head as a score; see :class:`~umbel.predict.variants.head_score.HeadDifference`."""

    names: tuple[str, ...]

    def differences(self, windows: Sequence[VariantWindow]) -> Values:
        """Give one column per name, ``(n, names)``."""
        ...


class DistinctSequences:
    """Sequences to compute, each of them once."""

    def __init__(self) -> None:
        self._index: dict[tuple[bytes, bytes], int] = {}
        self.sequences: list[Codes] = []
        self.beside: list[npt.NDArray[np.generic]] = []

    def add(self, codes: Codes, beside: npt.NDArray[np.generic] = _NOTHING) -> int:
        """Give the number of this sequence and what goes with it, a new one if neither was there together."""
        key = (codes.tobytes(), beside.tobytes())
        if key not in self._index:
            self._index[key] = len(self.sequences)
            self.sequences.append(codes)
            self.beside.append(beside)
        return self._index[key]

    def each(
        self, compute: Callable[[list[Codes], list[npt.NDArray[np.generic]]], Sequence[np.ndarray]]
    ) -> list[np.ndarray]:
        """Compute all, some at a time."""
        results: list[np.ndarray] = []
        for start in range(0, len(self.sequences), SEQUENCES_AT_ONCE):
            part = slice(start, start + SEQUENCES_AT_ONCE)
            results += list(compute(self.sequences[part], self.beside[part]))
        return results


def log_likelihood_ratios(predictor: Predictor, windows: Sequence[VariantWindow]) -> Values:
    r"""Compare the two alleles of substitutions by the probabilities of their bases, all of them hidden at once.

    .. math:: \sum_{i: r_i \ne a_i} \log P(a_i \mid \text{rest}) - \log P(r_i \mid \text{rest}),

    natural logarithms, the mean of both strands. One pass and strand serves all alleles that differ from the reference
    at the same positions.

    Returns
    -------
    ``(n,)``; below 0 the model expects the reference rather than the allele.
    """
    todo = DistinctSequences()
    place = [todo.add(window.ref, window.changed) for window in windows]

    def compute(codes: list[Codes], hidden: list[npt.NDArray[np.generic]]) -> list[np.ndarray]:
        return predictor.masked_log_probs(codes, [np.asarray(mask, bool) for mask in hidden], "both")

    logs = todo.each(compute)
    result = np.empty(len(windows))
    for i, window in enumerate(windows):
        hidden: Mask = window.changed
        rows = np.arange(int(hidden.sum()))
        found = logs[place[i]].astype(np.float64)
        result[i] = float((found[rows, window.alt[hidden]] - found[rows, window.ref[hidden]]).sum())
    return result


def pseudo_likelihood_differences(predictor: Predictor, windows: Sequence[VariantWindow], n_passes: int) -> Values:
    r"""Compare the windows of the two alleles by the pseudo-likelihood of all their bases.

    .. math:: \sum_i \log P(x^a_i \mid \text{visible}) - \sum_i \log P(x^r_i \mid \text{visible}),

    over the known bases of each window, natural logarithms, the mean of both strands. Bases are hidden in passes, so
    that a base of the flanks is hidden together with the same others in both windows; see
    :meth:`~umbel.predict.variants.windows.VariantWindow.phases`.

    Returns
    -------
    ``(n,)``. Longer windows have lower likelihoods: it falls with the length of an insertion, and rises with that of
    a deletion.

    References
    ----------
    Salazar et al. 2020, "Masked Language Model Scoring", doi:10.18653/v1/2020.acl-main.240.
    """
    todo = DistinctSequences()
    places = [
        tuple(
            todo.add(window.sequence(letters), window.phases(len(letters), n_passes))
            for letters in (window.variant.ref, window.variant.alt)
        )
        for window in windows
    ]

    def compute(codes: list[Codes], phases: list[npt.NDArray[np.generic]]) -> list[np.ndarray]:
        logs = predictor.pseudo_log_probs(codes, [np.asarray(phase, np.uint8) for phase in phases], "both")
        totals = []
        for sequence, found in zip(codes, logs, strict=True):
            known = np.flatnonzero(sequence < N)
            totals.append(found[known, sequence[known]].astype(np.float64).sum())
        return totals

    total = np.array(todo.each(compute))
    return np.array([total[alt] - total[ref] for ref, alt in places], np.float64)


def embedding_distances(predictor: Predictor, windows: Sequence[VariantWindow]) -> Values:
    """Take the Euclidean distance between the mean embeddings of the two windows, both strands averaged, ``(n,)``."""
    todo = DistinctSequences()
    places = [(todo.add(window.ref), todo.add(window.alt)) for window in windows]
    vectors = todo.each(lambda codes, _: list(predictor.embed(codes, "both")))
    differences = [vectors[alt].astype(np.float64) - vectors[ref] for ref, alt in places]
    return np.array([np.sqrt((difference**2).sum()) for difference in differences])


def columns_of(settings: VariantSettings, head: HeadScore | None) -> dict[str, Score]:
    """Name the columns of all scores, in the order in which they are written, with the score that each belongs to."""
    columns: dict[str, Score] = {}
    for score in settings.all_scores:
        if score != "head":
            columns[score] = score
        elif head is not None:
            columns |= {f"head_{name}": score for name in head.names}
    return columns


def score_windows(
    predictor: Predictor,
    windows: Sequence[VariantWindow],
    settings: VariantSettings,
    head: HeadScore | None = None,
    kind: Kind | None = None,
) -> dict[str, Values]:
    """Compute the scores that each window's kind of variant gets, or those of ``kind`` for all.

    Returns
    -------
    ``(n,)`` for each of :func:`columns_of`, NaN where a variant does not get that score.
    """
    result = {name: np.full(len(windows), np.nan) for name in columns_of(settings, head)}
    for score in settings.all_scores:
        mine = [i for i, window in enumerate(windows) if score in settings.scores_of(kind or window.variant.kind)]
        some = [windows[i] for i in mine]
        if not some:
            continue
        if score == "llr":
            result[score][mine] = log_likelihood_ratios(predictor, some)
        elif score == "pll":
            result[score][mine] = pseudo_likelihood_differences(predictor, some, settings.n_passes)
        elif score == "embedding":
            result[score][mine] = embedding_distances(predictor, some)
        elif head is not None:
            values = head.differences(some)
            for number, name in enumerate(head.names):
                result[f"head_{name}"][mine] = values[:, number]
    return result
