"""How often each species is drawn: chances by size and family, caps in epochs, and shares of a pool of bases."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from umbel.config import BalanceConfig
from umbel.errors import ConfigError

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

# Chances come from sums of floats; a promise that is kept but for their rounding is kept.
_ROUNDING = 1e-9
_TOLD = 5


def species_chances(n_bases: npt.ArrayLike, families: Sequence[str], config: BalanceConfig) -> Floats:
    r"""Chance of each species to be drawn, ``(S,)``, adding up to 1.

    :math:`P(f) \propto B_f^\beta` for a family of :math:`B_f` bases, and
    :math:`P(s \mid f) \propto b_s^\alpha` for a species of :math:`b_s`. With both powers 1 this is in proportion to
    bases; with both 0, families are drawn evenly and so are the species of each.

    Parameters
    ----------
    n_bases
        ``(S,)`` bases of each species; a species without any is never drawn.
    families
        Family of each; species whose family is unknown (``""``) are families of their own.
    config
        ``alpha``, ``beta`` and ``n_species`` are read; of species with equally many bases the first is taken.

    Raises
    ------
    ConfigError
        If ``n_species`` is more than there are.

    Examples
    --------
    >>> species_chances([900, 100, 500], ["Poaceae", "Poaceae", ""], BalanceConfig(alpha=0.5, beta=0)).tolist()
    [0.375, 0.125, 0.5]
    """
    bases = np.asarray(n_bases, np.float64)
    n_there = int((bases > 0).sum())
    if config.n_species > n_there:
        raise ConfigError(
            f"balance.n_species asks for {config.n_species} species and {n_there} have windows to train on: "
            f"set it to {n_there} or less, or to 0 for all"
        )
    if config.n_species:
        left_out = np.argsort(-bases, kind="stable")[config.n_species :]
        bases = bases.copy()
        bases[left_out] = 0
    # No family is called by a number and a zero byte.
    names = [family or f"{number}\0" for number, family in enumerate(families)]
    family_of = np.unique(names, return_inverse=True)[1]
    # Divided by the largest, so that no power overflows.
    largest = np.zeros(family_of.max() + 1)
    np.maximum.at(largest, family_of, bases)
    weights = np.where(bases > 0, (bases / np.maximum(largest, 1)[family_of]) ** config.alpha, 0)
    family_bases, family_weights = np.bincount(family_of, bases), np.bincount(family_of, weights)
    of_family = np.where(family_bases > 0, (family_bases / family_bases.max()) ** config.beta, 0)
    shares = weights / np.where(family_weights > 0, family_weights, 1)[family_of]
    return np.asarray((of_family / of_family.sum())[family_of] * shares, np.float64)


def effective_species(chances: npt.ArrayLike) -> float:
    """Give the number of species that, drawn evenly, are as diverse: ``exp(H)``, H the entropy of the chances in nats.

    References
    ----------
    Hill 1973, "Diversity and evenness", Ecology 54:427 (order 1).

    Examples
    --------
    >>> round(effective_species([0.5, 0.5, 0]), 3), round(effective_species([0.9, 0.1]), 3)
    (2.0, 1.384)
    """
    p = np.asarray(chances, np.float64)
    p = p[p > 0]
    return math.exp(-float((p * np.log(p)).sum()))


def fill(weights: npt.ArrayLike, limits: npt.ArrayLike, total: float) -> Floats:
    r"""Share ``total`` out by weight where nobody takes more than its limit: :math:`x_i = \min(l_i, c\,w_i)`.

    The level c is the one at which the shares add up to ``total``; where the limits of all with a weight add up
    to less, each of them is at its limit.

    Examples
    --------
    >>> fill([1, 1, 2], [0.1, 9, 9], 1.0).tolist()
    [0.1, 0.3, 0.6]
    """
    w, most = np.asarray(weights, np.float64), np.asarray(limits, np.float64)
    shares = np.where(w > 0, most, 0)
    if shares.sum() <= total:
        return shares
    weighty = np.flatnonzero(w > 0)
    # In the order of the levels at which they reach their limits.
    order = weighty[np.argsort(most[weighty] / w[weighty], kind="stable")]
    taken = np.concatenate(([0.0], np.cumsum(most[order])[:-1]))
    left = np.cumsum(w[order][::-1])[::-1]
    levels = (total - taken) / left
    first_free = int(np.flatnonzero(levels * w[order] <= most[order])[0])
    free = order[first_free:]
    shares[free] = levels[first_free] * w[free]
    return shares


def cap_chances(chances: Floats, n_units: Counts, max_epochs: float, steps: int, batch_windows: int) -> Floats:
    """Lower the chances of species that a run would pass over more than ``max_epochs`` times; the others take more.

    What is taken from some goes to all others in proportion to their chances, and those that it lifts to their own cap
    stay there. Passes are meant on average: a step draws by chance.

    Parameters
    ----------
    chances
        ``(S,)``, adding up to 1.
    n_units
        ``(S,)`` windows of each species, or packed rows.
    max_epochs
        Bound on steps x batch x chance / units; 0 sets none.

    Raises
    ------
    ConfigError
        If all species at their caps are not enough for the run, with the number of steps that would be possible.

    Examples
    --------
    >>> cap_chances(np.array([0.8, 0.2]), np.array([40, 400]), 1.0, steps=10, batch_windows=10).tolist()
    [0.4, 0.6]
    """
    if not max_epochs:
        return chances
    n_draws = steps * batch_windows
    n_possible = max_epochs * float(n_units[chances > 0].sum())
    if n_possible < n_draws * (1 - _ROUNDING):
        most = math.floor(n_possible / batch_windows * (1 + _ROUNDING))
        # Rounded up, so that who follows the advice gets what it promises.
        enough = math.ceil(1000 * n_draws / float(n_units[chances > 0].sum())) / 1000
        fewer = f"set train.steps to at most {most}, or " if most else ""
        raise ConfigError(
            f"balance.max_epochs is {max_epochs:g}, and {steps} steps of {batch_windows} windows need more than that "
            f"of every species: {fewer}set balance.max_epochs to at least {enough:g}, or to 0 for no bound"
        )
    shares = fill(chances, max_epochs * n_units / n_draws, 1.0)
    return np.asarray(shares / shares.sum(), np.float64)


def pool_shares(chances: Floats, n_bases: Counts, pool_bp: int) -> Floats:
    """Share a pool of different bases among species by their chances, ``(S,)``; none gives more than it has.

    Raises
    ------
    ConfigError
        If all of them together have less.

    Examples
    --------
    >>> pool_shares(np.array([0.5, 0.5]), np.array([100, 9_000]), 1_000).tolist()
    [100.0, 900.0]
    """
    n_there = int(n_bases[chances > 0].sum())
    if pool_bp > n_there:
        raise ConfigError(
            f"balance.pool_bp asks for {pool_bp:,} different bases and the species drawn have {n_there:,} in windows: "
            f"set it to {n_there} or less, to 0 for all, or raise balance.n_species"
        )
    return fill(chances, n_bases, float(pool_bp))


def balance_text(names: Sequence[str], chances: Floats, n_draws: Floats, least: int) -> str:
    """Tell how many species are drawn, how evenly, and the largest shares.

    Parameters
    ----------
    names, chances
        ``(S,)``.
    n_draws
        ``(S,)`` draws of the whole run, were all of them of this species, in epochs of it.
    least
        Fewest species that a step can show.

    Examples
    --------
    >>> balance_text(["maize", "rice"], np.array([0.75, 0.25]), np.array([4.0, 8.0]), 1)
    'species: 2, effective 1.8, at least 1 in every step: maize 75.00 % (3.00 epochs), rice 25.00 % (2.00 epochs)'
    """
    order = np.argsort(-chances, kind="stable")[: int((chances > 0).sum())].tolist()
    text = f"species: {len(order)}, effective {effective_species(chances):.1f}"
    shares = [f"{names[i]} {chances[i]:.2%} ({chances[i] * n_draws[i]:.2f} epochs)" for i in order[:_TOLD]]
    shares = [share.replace("%", " %") for share in shares]
    if len(order) == 1:
        return f"{text}: {shares[0]}"
    if len(order) > _TOLD:
        shares.append(f"and {len(order) - _TOLD} more of at most {chances[order[_TOLD]]:.2%}".replace("%", " %"))
    return f"{text}, at least {least} in every step: {', '.join(shares)}"
