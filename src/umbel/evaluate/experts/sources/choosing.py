"""Stretches of a genome that are looked at: evenly spread, and rich in bases that are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from umbel.genome.interval import Interval

MIN_ACGT = 0.5
"""Least share of A, C, G and T of a stretch that is chosen."""
_TRIES = 8


@dataclass(frozen=True)
class Chosen:
    """Stretches in the order of the genome, and how many were passed over for want of A, C, G and T."""

    stretches: tuple[Interval, ...]
    n_candidates: int
    n_poor: int


def cut_stretches(regions: Sequence[Interval], stretch_bp: int) -> list[Interval]:
    """Cut regions into stretches that follow one another; the last of each may be shorter.

    Examples
    --------
    >>> [str(one) for one in cut_stretches([Interval("c", 0, 25)], 10)]
    ['c:1-10', 'c:11-20', 'c:21-25']
    """
    return [
        Interval(region.contig, start, min(start + stretch_bp, region.end))
        for region in regions
        for start in range(region.start, region.end, stretch_bp)
    ]


def choose_stretches(
    regions: Sequence[Interval], stretch_bp: int, n_stretches: int, seed: int, acgt: Callable[[Interval], float]
) -> Chosen:
    """Choose stretches that are spread evenly over the bases of some regions.

    The regions are cut into stretches. Their bases, end to end, are divided into as many equal blocks as stretches are
    wanted, and of each block the stretch at a random base is taken, tried again up to 8 times where it was taken before
    or less than half of it is A, C, G or T. What is then still wanting is drawn from all that are left.

    Parameters
    ----------
    regions
        That do not overlap, in the order of the genome.
    stretch_bp
        Length of a stretch.
    n_stretches
        How many; 0 for all that hold an A, C, G or T.
    seed
        Of the random numbers.
    acgt
        Share of A, C, G and T of a stretch.

    Examples
    --------
    >>> chosen = choose_stretches([Interval("c", 0, 100)], 10, 2, 0, lambda stretch: 1.0)
    >>> [stretch.start // 50 for stretch in chosen.stretches]
    [0, 1]
    """
    candidates = cut_stretches(regions, stretch_bp)
    if n_stretches == 0:
        kept = [stretch for stretch in candidates if acgt(stretch) > 0]
        return Chosen(tuple(kept), len(candidates), len(candidates) - len(kept))
    rng = np.random.default_rng(seed)
    ends = np.cumsum([len(stretch) for stretch in candidates])
    is_rich: dict[int, bool] = {}
    taken: set[int] = set()

    def take(i: int) -> bool:
        if i in taken:
            return False
        if i not in is_rich:
            is_rich[i] = acgt(candidates[i]) >= MIN_ACGT
        if is_rich[i]:
            taken.add(i)
        return is_rich[i]

    for block in range(min(n_stretches, len(candidates))):
        places = (block + rng.random(_TRIES)) / n_stretches * ends[-1]
        for place in np.searchsorted(ends, places, side="right").tolist():
            if take(min(place, len(candidates) - 1)):
                break
    for i in rng.permutation(len(candidates)).tolist():
        if len(taken) >= n_stretches:
            break
        take(i)
    return Chosen(
        tuple(candidates[i] for i in sorted(taken)), len(candidates), sum(not rich for rich in is_rich.values())
    )
