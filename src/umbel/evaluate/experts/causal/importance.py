"""Whether the experts that specialise are the ones that matter: specialisation is not importance.

Shapes: X experts of all layers, U units, C classes, M expert layers, E experts of a layer, R draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from umbel.errors import ConfigError
from umbel.evaluate.experts.causal.ablation import Ablation
from umbel.evaluate.metrics import Estimate, Resamples, interval
from umbel.model.edited_router import KnockOut, Mode

Floats = npt.NDArray[np.float64]

LEAST = 3
"""Experts of which a rank correlation is made."""
EXPECTED = 5.0
"""Choices that independence must expect in a cell for its odds to count (Cochran's rule)."""


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation between a measure of specialisation and importance, over experts.

    Attributes
    ----------
    measure
        Such as ``load``.
    overall
        Over the experts of all layers together; None where it is not defined.
    within_layers
        Of ranks within each layer, minus their mean there: layers differ in what any of their experts costs, which
        alone makes ``overall`` large. None where it is not defined.
    n_experts
        That were compared.
    left_out
        Experts without this measure: too few choices to tell.
    """

    measure: str
    overall: Estimate | None
    within_layers: Estimate | None
    n_experts: int
    left_out: int


def rank_correlation(
    measure: str, specialisation_X: Floats, importance_X: Floats, layers_X: npt.NDArray[np.int64], draws: DrawPair
) -> Correlation:
    """Correlate two properties of experts by rank, with an interval from draws of the units.

    Parameters
    ----------
    specialisation_X, importance_X
        One number for each expert; experts whose specialisation is NaN are left out.
    layers_X
        The layer of each.
    draws
        The same two when units are resampled.

    Raises
    ------
    ValueError
        If an importance is not finite.

    References
    ----------
    Spearman 1904, "The proof and measurement of association between two things"; ties have their mean rank.

    Examples
    --------
    >>> x, layers = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 1, 3, 3])
    >>> found = rank_correlation("load", x, np.array([1.0, 2.0, 4.0, 3.0]), layers, DrawPair(x[None], x[None], 2))
    >>> round(found.overall.value, 3), found.within_layers.value
    (0.8, 0.0)
    """
    if not np.isfinite(importance_X).all():
        raise ValueError("an importance that is not finite")
    known = np.isfinite(specialisation_X)
    layers = layers_X[known]
    pairs = (
        np.vstack([specialisation_X[None, known], draws.specialisation[:, known]]),
        np.vstack([importance_X[None, known], draws.importance[:, known]]),
    )
    n = int(known.sum())
    overall = within = None
    if n >= LEAST:
        ranks = [rankdata(x, axis=1) for x in pairs]
        overall = _estimate(_pearson(*(x - x.mean(1, keepdims=True) for x in ranks)), draws.n_units)
        within = _estimate(_pearson(*(_ranks_within(x, layers) for x in pairs)), draws.n_units)
    return Correlation(measure, overall, within, n, int(len(known) - n))


@dataclass(frozen=True)
class DrawPair:
    """Specialisation and importance when units are drawn anew, ``(R, X)`` each, of ``n_units`` units."""

    specialisation: Floats
    importance: Floats
    n_units: int


def _ranks_within(values: Floats, layers: npt.NDArray[np.int64]) -> Floats:
    ranks = np.empty_like(values)
    for layer in np.unique(layers):
        of = layers == layer
        ranks[:, of] = rankdata(values[:, of], axis=1)
        ranks[:, of] -= ranks[:, of].mean(1, keepdims=True)
    return ranks


def _pearson(a: Floats, b: Floats) -> Floats:
    """Correlate centred rows; NaN where one has no spread."""
    spread = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.where(spread > 0, (a * b).sum(1) / np.where(spread > 0, spread, 1), np.nan)


def _estimate(values: Floats, n_units: int) -> Estimate | None:
    """Make the first value an estimate, and the others its draws; a draw without spread tells nothing."""
    if not np.isfinite(values[0]):
        return None
    draws = values[1:][np.isfinite(values[1:])]
    return interval(float(values[0]), draws, n_units if len(draws) else 0)


def specialisation_against_importance(ablation: Ablation, labelling: str, mode: Mode = "reroute") -> list[Correlation]:
    r"""Correlate how special each expert is with what knocking it out costs.

    Importance is the change of the loss over all hidden bases, when the expert is knocked out by ``mode``. Measures of
    specialisation, all of the choices at visible bases in the model as it is: ``load``, the share of its layer's
    choices; ``enrichment``, the largest :math:`|\log_2 \mathrm{odds}|` (0.5 added to each count) of the expert against
    a class of the labelling, over classes for which independence expects at least 5 choices in the cell.

    Units are resampled for both at once.

    Raises
    ------
    ConfigError
        If there is no such labelling, or no expert was knocked out in this mode.
    """
    losses, settings = ablation.losses, ablation.settings
    classes = [i for i, column in enumerate(losses.columns) if column.labelling == labelling and i]
    if not classes:
        known = ", ".join(dict.fromkeys(column.labelling for column in losses.columns[1:])) or "none"
        raise ConfigError(f"no labelling {labelling} was measured; there are: {known}")
    found = [(i, edit) for i, edit in enumerate(ablation.edits) if isinstance(edit, KnockOut) and edit.mode == mode]
    if not found:
        raise ConfigError(f"no expert was knocked out by {mode}, so there is no importance to compare with")
    sites = np.array([ablation.moe_layers.index(edit.layer) for _, edit in found])
    experts = np.array([edit.expert for _, edit in found])
    used = losses.n_bases[:, 0] > 0
    # Everything that is counted, as one table whose rows are drawn.
    n, taken = losses.n_bases[used, 0], losses.taken[used]
    change = np.stack([losses.loss[1 + i, used, 0] - losses.loss[0, used, 0] for i, _ in found], 1)
    resamples = Resamples(int(used.sum()), settings.n_draws, settings.seed)
    whole = np.ones((1, resamples.n_units))
    counts = taken[:, :, [0, *classes]].astype(np.float64)
    drawn_n, drawn_change, drawn_counts = (
        np.concatenate([np.tensordot(whole, x, 1), resamples.sums(x)]) for x in (n, change, counts)
    )
    importance = drawn_change / drawn_n[:, None]
    load = drawn_counts[:, :, 0] / drawn_counts[:, :, 0].sum(-1, keepdims=True)
    enrichment = _largest_log2_odds(drawn_counts[:, :, 1:])
    return [
        rank_correlation(
            name,
            values[0, sites, experts],
            importance[0],
            sites,
            DrawPair(values[1:, sites, experts], importance[1:], resamples.n_units),
        )
        for name, values in (("load", load), ("enrichment", enrichment))
    ]


def _largest_log2_odds(counts: Floats) -> Floats:
    """Give ``(1 + R, M, E)`` of counts ``(1 + R, M, C, E)``; cells count by what the first table expects in them."""
    of_class, of_expert = counts.sum(-1, keepdims=True), counts.sum(-2, keepdims=True)
    total = of_class.sum(-2, keepdims=True)
    expected = of_class[0] * of_expert[0] / np.maximum(total[0], 1)
    counted = (expected >= EXPECTED) & (total[0] - of_class[0] > 0)
    others = total - of_class - of_expert + counts
    odds = np.log2((counts + 0.5) * (others + 0.5) / ((of_class - counts + 0.5) * (of_expert - counts + 0.5)))
    largest = np.where(counted, np.abs(odds), -np.inf).max(-2)
    return np.where(np.isfinite(largest), largest, np.nan)
