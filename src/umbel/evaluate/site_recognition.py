"""How well splice sites and start and stop codons are told from decoys: without training, and by a linear probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from umbel.data.labelled.task import Task
from umbel.evaluate.baselines.linear import fit_linear
from umbel.evaluate.masked_loss import Scorer
from umbel.evaluate.metrics import Resamples, interval
from umbel.evaluate.one_sided import MotifModel
from umbel.evaluate.scores.definitions import MetricDraws
from umbel.genome.gene_sites import SiteWindows

Floats = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32]

TASK = Task("binary", ("decoy", "site"))
METRICS = ("auroc", "auprc")
DEV_EVERY = 5
"""One locus in so many chooses the penalty of a probe."""
_CHUNK = 256


class BaseEmbedder(Protocol):
    """What gives states of single bases: the predictor."""

    def embed_bases(self, codes: Sequence[Any], places: Sequence[Sequence[int]]) -> npt.NDArray[Any]:
        """``(n, places, D)``."""


def motif_log_probs(scorer: Scorer, windows: SiteWindows) -> Floats:
    """Log-probability of the letters of each site, all hidden at once, ``(n,)``: the sum over their bases.

    Site and decoy have the same letters, so what letters are frequent cancels out of their comparison.
    """
    hidden = np.zeros(windows.codes.shape[1], bool)
    hidden[windows.flank_bp : windows.flank_bp + windows.motif_bp] = True
    found = []
    for first in range(0, len(windows), _CHUNK):
        chunk = list(windows.codes[first : first + _CHUNK])
        logs = scorer.masked_log_probs(chunk, [hidden] * len(chunk))
        truth = np.stack(chunk)[:, hidden].astype(np.int64)
        at_truth = np.take_along_axis(np.stack([np.asarray(one, np.float64) for one in logs]), truth[..., None], 2)
        found.append(at_truth[..., 0].sum(1))
    return np.concatenate(found)


def flank_log_probs(model: MotifModel, windows: SiteWindows) -> Floats:
    """Log-probability of the letters of each site under a Markov model of whole motifs, ``(n,)``."""
    return np.array([model.log_prob(codes, windows.flank_bp) for codes in windows.codes])


def site_states(embedder: BaseEmbedder, windows: SiteWindows) -> Features:
    """States of the letters of each site and of the bases beside them, side by side, ``(n, (motif_bp + 2) D)``."""
    places = list(range(windows.flank_bp - 1, windows.flank_bp + windows.motif_bp + 1))
    found = []
    for first in range(0, len(windows), _CHUNK):
        chunk = list(windows.codes[first : first + _CHUNK])
        states = np.asarray(embedder.embed_bases(chunk, [places] * len(chunk)), np.float32)
        found.append(states.reshape(len(chunk), -1))
    return np.concatenate(found)


def position_weights(train: SiteWindows, flank_bp: int = 20) -> Floats:
    """Log odds of each base at each place around sites against decoys, ``(2 flank_bp + motif_bp, 4)``.

    One is added to every count. The sum over a window is the usual score of a position weight matrix.
    """
    counts = []
    for which in (train.is_site, ~train.is_site):
        around = _around(train, flank_bp)[which]
        counts.append(np.stack([(around == base).sum(0) for base in range(4)], axis=1) + 1.0)
    return np.log(counts[0] / counts[0].sum(1, keepdims=True)) - np.log(counts[1] / counts[1].sum(1, keepdims=True))


def weigh(weights: Floats, windows: SiteWindows) -> Floats:
    """Score windows by a position weight matrix, ``(n,)``."""
    around = _around(windows, (len(weights) - windows.motif_bp) // 2)
    return weights[np.arange(len(weights)), around].sum(1)


def _around(windows: SiteWindows, flank_bp: int) -> npt.NDArray[np.int64]:
    if flank_bp > windows.flank_bp:
        raise ValueError(f"{flank_bp} flanking bases are asked for, and the windows have {windows.flank_bp}")
    start = windows.flank_bp - flank_bp
    return windows.codes[:, start : start + 2 * flank_bp + windows.motif_bp].astype(np.int64)


def fit_site_probe(train: SiteWindows, features: Features) -> Any:
    """Fit logistic regression; every fifth locus of ``train`` chooses the penalty."""
    is_dev = train.locus % DEV_EVERY == 0
    targets = train.is_site.astype(np.int64)
    return fit_linear(TASK, features[~is_dev], targets[~is_dev], features[is_dev], targets[is_dev])


def site_table(
    scores: Mapping[str, Floats], windows: SiteWindows, *, model: str = "model", n_draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Compare scores of the same windows.

    Parameters
    ----------
    scores
        Row name to ``(n,)``, higher for sites.
    windows
        What was scored.
    model
        The row that is compared with the others.
    n_draws, seed
        Of the bootstrap over loci, which all rows share.

    Returns
    -------
    ``n_sites``, ``n_loci``, ``rows`` (``auroc``, ``auprc``: value, low, high; average precision at one decoy a site)
    and ``differences`` (``model`` minus row).

    Raises
    ------
    ValueError
        If a row has a score that is not finite.

    Examples
    --------
    >>> codes = np.zeros((4, 4), np.uint8)
    >>> windows = SiteWindows("donor", codes, np.array([True, False] * 2), np.array([0, 0, 1, 1]), 1, 2)
    >>> found = site_table({"model": np.array([3.0, 1.0, 2.0, 0.0])}, windows)
    >>> found["rows"]["model"]["auroc"]["value"], found["n_sites"]
    (1.0, 2)
    """
    n_loci = int(windows.locus.max()) + 1
    targets = windows.is_site.astype(np.int64)
    resamples = Resamples(n_loci, n_draws, seed)
    values: dict[str, dict[str, float]] = {}
    draws: dict[str, dict[str, Floats]] = {}
    for row, own in scores.items():
        if not np.isfinite(own).all():
            raise ValueError(f"row {row} has scores that are not finite")
        # Ranks: areas depend on the order alone, and float32 would make ties of near scores.
        yes = rankdata(own) / len(own)
        table = MetricDraws.of(TASK, targets, np.stack([1 - yes, yes], axis=1), windows.locus)
        once = table.draws(np.ones((1, n_loci)))
        values[row] = {metric: float(once[metric][0]) for metric in METRICS}
        chunks = [table.draws(weights) for weights in resamples.weights()]
        draws[row] = {metric: np.concatenate([chunk[metric] for chunk in chunks]) for metric in METRICS}
    return {
        "n_sites": int(targets.sum()),
        "n_loci": n_loci,
        "rows": {
            row: {metric: interval(values[row][metric], draws[row][metric], n_loci).to_dict() for metric in METRICS}
            for row in scores
        },
        "differences": {
            row: {
                metric: interval(
                    values[model][metric] - values[row][metric], draws[model][metric] - draws[row][metric], n_loci
                ).to_dict()
                for metric in METRICS
            }
            for row in scores
            if row != model
        },
    }
