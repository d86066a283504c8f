"""Which species each sample of a step shows, as a pure function of (seed, step): systematic sampling.

The chances of all species stand end to end on a line, and n evenly spaced points with one offset drawn for the
step fall on it. So a species gets n times its chance of the samples, rounded up or down, and on average exactly
that much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from umbel.data.masking import stream
from umbel.errors import ConfigError, RunError

Counts = npt.NDArray[np.int64]

_OFFSET, _MIX = 101, 102
# Edges and offsets are whole numbers of this share of the distance between two points: what is counted is exact.
_POINT = 1 << 32
_BLOCK_STEPS = 1024
_LARGEST_FACTOR = 1024


@dataclass(frozen=True)
class Draws:
    """Samples of one step, ``(n,)`` each.

    Attributes
    ----------
    sample
        Their places in the step.
    species
        Which species each shows.
    number
        The how-manieth sample of its species this is, over the whole run, from 0.
    """

    sample: Counts
    species: Counts
    number: Counts


def species_edges(chances: npt.ArrayLike, n_samples: int, families: Sequence[str] = ()) -> tuple[Counts, Counts]:
    """Where the chance of each species begins and ends on the line of points, ``(S,)`` each; points are 2^32 apart.

    Species of a family stand side by side, so that a family that is due a sample a step gets one in every step.

    Examples
    --------
    >>> starts, ends = species_edges([0.5, 0.25, 0.25], 4)
    >>> (starts / 2**32).tolist(), (ends / 2**32).tolist()
    ([0.0, 2.0, 3.0], [2.0, 3.0, 4.0])
    """
    p = np.asarray(chances, np.float64)
    first_of: dict[str, int] = {}
    ranks = [first_of.setdefault(family, i) if family else i for i, family in enumerate(families or [""] * len(p))]
    order = np.argsort(ranks, kind="stable")
    sums = np.concatenate(([0.0], np.cumsum(p[order])))
    edges = np.rint(sums / sums[-1] * (n_samples * _POINT)).astype(np.int64)
    starts, ends = np.empty((2, len(p)), np.int64)
    starts[order], ends[order] = edges[:-1], edges[1:]
    return starts, ends


def least_species(starts: Counts, ends: Counts) -> int:
    """Least number of different species that a step can show, over every offset there is.

    A species narrower than the distance of two points is hit by offsets from its start to its end, counted around the
    circle; so the number of species that an offset hits changes at those places only, and all of them are looked at.

    Examples
    --------
    >>> least_species(*species_edges([0.4, 0.2, 0.2, 0.2], 3))
    2
    """
    widths = ends - starts
    is_narrow = (widths > 0) & (widths < _POINT)
    begins = starts[is_narrow] % _POINT
    stops = begins + widths[is_narrow]
    n_around = int((stops >= _POINT).sum())
    places = np.concatenate((begins, stops % _POINT))
    changes = np.repeat(np.array([1, -1]), len(begins))
    order = np.argsort(places, kind="stable")
    hit = n_around + np.cumsum(changes[order])
    # Of several changes at one place only the last leaves a number that some offset has.
    is_last = np.diff(places[order], append=_POINT) > 0
    before_the_first = [n_around] if not len(places) or places[order][0] > 0 else []
    return int((widths >= _POINT).sum()) + int(min([*hit[is_last].tolist(), *before_the_first]))


class SpeciesDraws:
    """Draws species for the samples of each step, and counts how often each came before.

    Parameters
    ----------
    chances
        ``(S,)``, adding up to 1.
    n_samples
        Samples of a step.
    seed
        Of the run.
    min_species
        Every step must show so many species.
    families
        Family of each species, where known.

    Attributes
    ----------
    least_species
        The least number of species that a step can show.

    Raises
    ------
    ConfigError
        If a step could show fewer than ``min_species``.

    Examples
    --------
    >>> draws = SpeciesDraws([0.5, 0.3, 0.2], n_samples=10, seed=0)
    >>> np.bincount(draws.samples(7).species).tolist(), draws.n_before(7).tolist()
    ([5, 3, 2], [35, 21, 14])
    """

    def __init__(
        self,
        chances: npt.ArrayLike,
        n_samples: int,
        seed: int,
        min_species: int = 1,
        families: Sequence[str] = (),
    ):
        self.n_samples, self._seed, self._min_species = n_samples, seed, min_species
        self._starts, self._ends = species_edges(chances, n_samples, families)
        self.least_species = least_species(self._starts, self._ends)
        if self.least_species < min_species:
            raise ConfigError(self._too_few(chances, families))
        # Draws of each species before each block of steps, as far as they were asked for.
        self._before_block: dict[int, Counts] = {0: np.zeros(len(self._starts), np.int64)}

    def _too_few(self, chances: npt.ArrayLike, families: Sequence[str]) -> str:
        n_there = int((np.asarray(chances) > 0).sum())
        if n_there < self._min_species:
            return (
                f"balance.min_species is {self._min_species}, and this run draws from {n_there} species: set it to "
                f"{n_there} or less, or raise balance.n_species"
            )
        enough, factor = "", 2
        while factor <= _LARGEST_FACTOR and not enough:
            n_samples = factor * self.n_samples
            if least_species(*species_edges(chances, n_samples, families)) >= self._min_species:
                enough = f" ({n_samples} would do with the same chances)"
            factor *= 2
        return (
            f"balance.min_species is {self._min_species}, and a step of {self.n_samples} windows can have as few as "
            f"{self.least_species} species: raise train.batch_windows{enough}, or lower balance.alpha and balance.beta "
            "so that rare species are drawn more often"
        )

    def _offsets(self, block: int) -> npt.NDArray[np.int64]:
        bits = stream(self._seed, _OFFSET, block, 0).bit_generator
        return (bits.random_raw(_BLOCK_STEPS) >> np.uint64(32)).astype(np.int64)

    def _drawn(self, offsets: npt.NDArray[np.int64]) -> Counts:
        """Count the points on each species over steps with these offsets, ``(S,)``."""
        offsets = np.sort(offsets)

        def n_below(edges: Counts) -> Counts:
            # Point i of a step lies at i points + offset.
            whole, rest = np.divmod(edges, _POINT)
            return np.asarray(len(offsets) * whole + np.searchsorted(offsets, rest), np.int64)

        return n_below(self._ends) - n_below(self._starts)

    def n_before(self, step: int) -> Counts:
        """Count the samples of each species in all steps before ``step``, ``(S,)``."""
        block, in_block = divmod(step, _BLOCK_STEPS)
        if block not in self._before_block:
            known = max(b for b in self._before_block if b < block)
            before = self._before_block[known]
            for b in range(known, block):
                before = before + self._drawn(self._offsets(b))
                self._before_block[b + 1] = before
        return self._before_block[block] + self._drawn(self._offsets(block)[:in_block])

    def samples(self, step: int) -> Draws:
        """Draw the samples of a step.

        Raises
        ------
        RunError
            If they show fewer than ``min_species`` species.
        """
        block, in_block = divmod(step, _BLOCK_STEPS)
        counts = self._drawn(self._offsets(block)[in_block : in_block + 1])
        n_shown = int(np.count_nonzero(counts))
        if n_shown < self._min_species:
            raise RunError(
                f"step {step} shows {n_shown} species, fewer than the {self._min_species} of balance.min_species. This "
                "should not be possible: please report it with the settings of the run."
            )
        species = np.repeat(np.arange(len(counts)), counts)
        first = np.cumsum(counts) - counts
        sample = np.arange(self.n_samples)
        number = self.n_before(step)[species] + sample - first[species]
        if n_shown > 1:
            # So that each rank and each micro-batch gets a mix of species.
            mix = stream(self._seed, _MIX, step, 0).permutation(self.n_samples)
            species, number = species[mix], number[mix]
        return Draws(sample, species, number)

    def rank_samples(self, step: int, rank: int, world_size: int) -> Draws:
        """Give the samples of a step that fall to one of ``world_size`` processes: every ``world_size``-th.

        Raises
        ------
        ValueError
            If there is no such rank.
        """
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is none of 0 to {world_size - 1}")
        whole = self.samples(step)
        return Draws(*(part[rank::world_size] for part in (whole.sample, whole.species, whole.number)))
