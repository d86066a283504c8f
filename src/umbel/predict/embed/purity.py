"""How often the nearest neighbours of a row are of its class: the number that a picture only suggests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from umbel.genome.sequence import Codes, revcomp
from umbel.predict.embed.scaling import Scaling

N_NEIGHBOURS = 10
APART_BP = 10_000


def neighbour_purity(
    values: np.ndarray,
    of_row: npt.NDArray[np.int64],
    contigs: Sequence[str],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
) -> tuple[float, float]:
    """Give the share of a row's 10 nearest neighbours that are of its class, and the share by chance.

    The mean over the classes of the means over their rows, so that a common class does not carry the number; by chance
    it is 1 over the number of classes. The vectors are scaled first. Rows closer than 10 kb on a contig are no
    neighbours, because they are of one gene or one repeat; classes with 10 rows or fewer are left out.

    Returns
    -------
    Two shares, 0 to 1; NaN where fewer than two classes have enough rows.
    """
    enough = np.flatnonzero(np.bincount(of_row) > N_NEIGHBOURS)
    kept = np.flatnonzero(np.isin(of_row, enough))
    if len(enough) < 2:
        return float("nan"), float("nan")
    x, classes = Scaling.of([values[kept]]).apply(values[kept]), of_row[kept]
    squares = (x**2).sum(1)
    number_of = {name: i for i, name in enumerate(dict.fromkeys(contigs))}
    contig = np.array([number_of[contigs[i]] for i in kept.tolist()])
    start, end = starts[kept], ends[kept]
    is_same = np.zeros(len(kept))
    for i in range(len(kept)):
        distance = squares - 2 * (x @ x[i])
        is_near = (contig == contig[i]) & (start < end[i] + APART_BP) & (end > start[i] - APART_BP)
        distance[is_near] = np.inf
        nearest = np.argsort(distance, kind="stable")[:N_NEIGHBOURS]
        nearest = nearest[np.isfinite(distance[nearest])]
        is_same[i] = np.mean(classes[nearest] == classes[i]) if len(nearest) else np.nan
    with np.errstate(invalid="ignore"):
        return float(np.mean([np.nanmean(is_same[classes == c]) for c in enough])), 1 / len(enough)


def kmer_composition(codes: Codes, k: int = 4) -> np.ndarray:
    """Count k-mers without N on both strands, as shares, float64 ``(4^k,)``; what any embedding has to beat.

    Examples
    --------
    >>> kmer_composition(np.array([0, 0, 3, 4, 1]), k=1).tolist()
    [0.375, 0.125, 0.125, 0.375]
    """
    counts = np.zeros(4**k)
    for read in (codes, revcomp(codes)):
        words = np.lib.stride_tricks.sliding_window_view(read, k) if len(read) >= k else np.empty((0, k), np.uint8)
        words = words[(words < 4).all(1)].astype(np.int64)
        counts += np.bincount(words @ 4 ** np.arange(k)[::-1], minlength=4**k)
    return counts / max(1.0, counts.sum())
