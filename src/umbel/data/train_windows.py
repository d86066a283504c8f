"""The windows that a run trains on, by species: those of role ``train``, or as many of them as its pool holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from umbel.config import BalanceConfig
from umbel.data.balance import pool_shares, species_chances
from umbel.data.corpus.store import Corpus, Species
from umbel.data.masking import epoch_order, stream
from umbel.errors import ConfigError, CorpusError

Counts = npt.NDArray[np.int64]

_POOL = 103


@dataclass(frozen=True, eq=False)
class TrainWindows:
    """Windows by species, and how often each species is to be drawn before any cap in epochs.

    Attributes
    ----------
    species
        The S species of the corpus, also those without a window here.
    ids
        ``(n,)`` window ids, one species after another, ascending within each.
    firsts
        ``(S + 1,)``: those of species s are ``ids[firsts[s]:firsts[s + 1]]``.
    chances
        ``(S,)``, adding up to 1; 0 where a species has no window here.
    n_bases
        ``(S,)`` bases, N apart, of the windows here; a base in two windows counts twice.
    n_bases_there
        ``(S,)`` the same of every window of role ``train``.
    seed
        Of the run.
    """

    species: tuple[Species, ...]
    ids: Counts
    firsts: Counts
    chances: npt.NDArray[np.float64]
    n_bases: Counts
    n_bases_there: Counts
    seed: int

    @property
    def n_windows(self) -> Counts:
        """Windows of each species, ``(S,)``."""
        return np.diff(self.firsts)

    def of(self, species: int) -> Counts:
        """Ids of a species' windows."""
        return self.ids[self.firsts[species] : self.firsts[species + 1]]

    @cached_property
    def _orders(self) -> list[Callable[[int], npt.NDArray[np.int32]]]:
        """For each species a function that gives the order of an epoch, and keeps the last two."""

        def orders_of(species: int, n: int) -> Callable[[int], npt.NDArray[np.int32]]:
            return lru_cache(maxsize=2)(lambda epoch: epoch_order(n, self.seed, epoch, species).astype(np.int32))

        return [orders_of(species, n) for species, n in enumerate(self.n_windows.tolist())]

    def order(self, species: int, epoch: int) -> npt.NDArray[np.int32]:
        """Order of a species' windows in an epoch, as indices into :meth:`of`."""
        return self._orders[species](epoch)

    def drawn(self, species: int, number: int) -> int:
        """Give the id of the window that is shown when a species is drawn for the ``number``-th time, from 0.

        Windows come without replacement: each once in every ``n_windows`` draws, in an order of its own.
        """
        epoch, place = divmod(number, int(self.firsts[species + 1] - self.firsts[species]))
        return int(self.ids[self.firsts[species] + self.order(species, epoch)[place]])


def choose_windows(corpus: Corpus, balance: BalanceConfig, seed: int) -> TrainWindows:
    """Choose the windows of a run by ``balance.n_species`` and ``balance.pool_bp``, a pure function of the seed.

    A species gives whole windows, in an order drawn for it, until their bases come nearest to its share of the pool,
    at least one; what they are too many or too few is made good by the species with the next larger share. So the
    whole pool is within a window of what was asked for.

    Raises
    ------
    ConfigError
        If there are fewer species or bases than asked for, or a window of each is more than the pool.
    CorpusError
        If no window has the role ``train``, or none of them a base that is not N.
    """
    ids = corpus.window_ids("train")
    bases = corpus.window_sizes(ids)[1]
    if not bases.any():
        what = "train windows hold nothing but N" if len(ids) else "no train windows"
        raise CorpusError(
            f"{corpus.path}: {what}, so there is nothing to train on. Give some contigs the role train in the "
            "manifest and build the corpus again."
        )
    n_species = len(corpus.species)
    of_window = corpus.window_species(ids)
    n_there = np.bincount(of_window, bases, n_species).astype(np.int64)
    chances = species_chances(n_there, [species.family for species in corpus.species], balance)
    if not chances[of_window].all():
        kept = chances[of_window] > 0
        ids, bases, of_window = ids[kept], bases[kept], of_window[kept]
    by_species = np.argsort(of_window, kind="stable")
    firsts = np.concatenate(([0], np.cumsum(np.bincount(of_window, minlength=n_species))))
    if balance.pool_bp:
        shares = pool_shares(chances, n_there, balance.pool_bp)
        parts = _pool(np.split(by_species, firsts[1:-1]), bases, shares, seed)
        by_species = np.concatenate(parts)
        firsts = np.concatenate(([0], np.cumsum([len(part) for part in parts])))
        n_chosen, longest = int(bases[by_species].sum()), int(bases.max())
        if abs(n_chosen - balance.pool_bp) > longest:
            raise ConfigError(
                f"balance.pool_bp asks for {balance.pool_bp:,} bases, and one window of each species drawn makes "
                f"{n_chosen:,}: set it to {n_chosen} or more, or lower balance.n_species"
            )
    n_bases = np.bincount(of_window[by_species], bases[by_species], n_species).astype(np.int64)
    return TrainWindows(corpus.species, ids[by_species], firsts, chances, n_bases, n_there, seed)


def _pool(windows: list[Counts], bases: Counts, shares: npt.NDArray[np.float64], seed: int) -> list[Counts]:
    """Choose windows of each species whose bases add up to about its share, and all together to about their sum."""
    chosen = [np.empty(0, np.int64) for _ in windows]
    owed = 0.0
    # The largest share comes last: it makes good what whole windows took too much or too little before.
    for species in np.argsort(shares, kind="stable").tolist():
        if not len(windows[species]):
            continue
        drawn = stream(seed, _POOL, species, 0).permutation(windows[species])
        sums = np.cumsum(bases[drawn])
        owed += shares[species]
        n_taken = int(np.abs(sums - owed).argmin()) + 1
        owed -= sums[n_taken - 1]
        chosen[species] = np.sort(drawn[:n_taken])
    return chosen
