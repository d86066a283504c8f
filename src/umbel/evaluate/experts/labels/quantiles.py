"""Numbers sorted into classes with as many members each as ties allow."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def quantile_edges(values: Floats, n_classes: int) -> Floats:
    """Find where to cut: quantiles ``i / n_classes`` of the finite values, ``(n,)``, n at most ``n_classes - 1``.

    Where many values are equal, cuts that would leave a class empty are left out; one value alone gives no cut.

    Raises
    ------
    ValueError
        If there is no finite value, or fewer than two classes are asked for.

    Examples
    --------
    >>> quantile_edges(np.arange(9.0), 4).tolist(), quantile_edges(np.array([0.0, 0, 0, 0, 5]), 4).tolist()
    ([2.0, 4.0, 6.0], [0.0])
    """
    if n_classes < 2:
        raise ValueError(f"n_classes is {n_classes}: give at least 2")
    finite = values[np.isfinite(values)]
    if not len(finite):
        raise ValueError("there is no finite value")
    # Edges are values that occur, so that a class below an edge is never empty.
    edges = np.unique(np.quantile(finite, np.arange(1, n_classes) / n_classes, method="inverted_cdf"))
    return edges[edges < finite.max()]


def quantile_labels(values: Floats, edges: Floats) -> npt.NDArray[np.int16]:
    """Class of each value: the number of edges below it; -1 where it is not finite.

    Examples
    --------
    >>> quantile_labels(np.array([1.0, 2.0, 3.0, np.nan]), np.array([2.0])).tolist()
    [0, 0, 1, -1]
    """
    found = np.searchsorted(edges, values, side="left").astype(np.int16)
    found[~np.isfinite(values)] = -1
    return found


def quantile_names(edges: Floats) -> tuple[str, ...]:
    """Name the classes between edges, with as many digits as tell the edges apart.

    Examples
    --------
    >>> quantile_names(np.array([0.25, 3.0])), quantile_names(np.array([1.00001, 1.00002]))
    (('<= 0.25', '0.25 to 3', '> 3'), ('<= 1.00001', '1.00001 to 1.00002', '> 1.00002'))
    """
    for digits in range(4, 18):
        told = [f"{edge:.{digits}g}" for edge in edges.tolist()]
        if len(set(told)) == len(told):
            break
    between = [f"{low} to {high}" for low, high in pairwise(told)]
    return (f"<= {told[0]}", *between, f"> {told[-1]}")
