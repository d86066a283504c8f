"""Units of a source: clusters of like sequences, at most so many, none of which mixes classes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from umbel.errors import ConfigError

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Units:
    """The unit of each stretch.

    Attributes
    ----------
    of_stretch
        int64 ``(n,)``, 0 to ``n_units - 1``, numbered as they first occur.
    n_units
        How many there are.
    n_straddling
        Clusters whose members have several combinations of classes; each became as many units.
    is_joined
        Whether clusters were put together because there were too many.
    """

    of_stretch: Ints
    n_units: int
    n_straddling: int
    is_joined: bool


def make_units(clusters: Sequence[int] | Ints, classes: Sequence[Hashable], most: int) -> Units:
    """Make units of clusters, cut where classes differ, and put neighbours together where there are too many.

    Each combination of classes gets at least one unit, and the others by its number of clusters. Clusters are
    neighbours in the order in which they first occur.

    Parameters
    ----------
    clusters
        Number of the cluster of each stretch, ``(n,)``.
    classes
        What may not be mixed: the classes of each stretch, ``(n,)``.
    most
        Units at most.

    Raises
    ------
    ConfigError
        If there are more combinations of classes than units.

    Examples
    --------
    >>> make_units([0, 0, 1, 2], ["a", "b", "a", "a"], 10).of_stretch.tolist()
    [0, 1, 2, 3]
    >>> make_units([0, 1, 2, 3], ["a", "a", "a", "b"], 3).of_stretch.tolist()
    [0, 0, 1, 2]
    """
    parts: dict[tuple[int, Hashable], int] = {}
    of_part = np.array(
        [parts.setdefault((int(cluster), kind), len(parts)) for cluster, kind in zip(clusters, classes, strict=True)],
        np.int64,
    )
    n_kinds: dict[int, int] = {}
    for cluster, _ in parts:
        n_kinds[cluster] = n_kinds.get(cluster, 0) + 1
    n_straddling = sum(n > 1 for n in n_kinds.values())
    if len(parts) <= most:
        return Units(of_part, len(parts), n_straddling, False)
    members: dict[Hashable, list[int]] = {}
    for (_, kind), part in parts.items():
        members.setdefault(kind, []).append(part)
    if len(members) > most:
        raise ConfigError(
            f"the labellings of sequences make {len(members):,} combinations of classes, and {most} units are the "
            "most there may be. Leave some of them out."
        )
    shares = _shares([len(own) for own in members.values()], most)
    unit = np.empty(len(parts), np.int64)
    begin = 0
    for own, share in zip(members.values(), shares, strict=True):
        unit[own] = begin + np.arange(len(own)) * share // len(own)
        begin += share
    units = unit[of_part]
    _, first, back = np.unique(units, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return Units(rank[back], len(first), n_straddling, True)


def _shares(sizes: Sequence[int], total: int) -> list[int]:
    """Divide ``total`` by sizes: at least one each, at most the size, and what rounding leaves to the neediest."""
    shares = [max(1, size * total // sum(sizes)) for size in sizes]
    while sum(shares) > total:
        most = max(range(len(sizes)), key=lambda i: (shares[i] / sizes[i] if shares[i] > 1 else -1.0, -i))
        shares[most] -= 1
    while sum(shares) < total:
        # Most members for a unit first.
        neediest = max(range(len(sizes)), key=lambda i: (sizes[i] / shares[i], -i))
        if shares[neediest] >= sizes[neediest]:
            break
        shares[neediest] += 1
    return shares
