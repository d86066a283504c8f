"""Classes of bases kept as runs, so that memory grows with the features and not with the genome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int16]
NO_CLASS = -1


@dataclass(frozen=True)
class ClassRuns:
    """Classes of the bases of a contig; what lies in no run has none.

    Attributes
    ----------
    starts, ends
        int64 ``(n,)``, 0-based half-open; sorted, and no two runs overlap.
    classes
        int16 ``(n,)``, from 0 on.
    """

    starts: Ints
    ends: Ints
    classes: Labels

    def labels(self, start: int, end: int) -> Labels:
        """Give the class of every base from ``start`` to ``end``: int16 ``(end - start,)``, -1 where there is none.

        Examples
        --------
        >>> runs = ClassRuns(np.array([2, 5]), np.array([4, 9]), np.array([1, 0], np.int16))
        >>> runs.labels(3, 7).tolist()
        [1, -1, 0, 0]
        """
        first = int(np.searchsorted(self.ends, start, side="right"))
        last = max(first, int(np.searchsorted(self.starts, end, side="left")))
        edges = np.empty(2 * (last - first) + 2, np.int64)
        edges[0], edges[-1] = start, end
        edges[1:-1:2] = np.clip(self.starts[first:last], start, end)
        edges[2:-1:2] = np.clip(self.ends[first:last], start, end)
        # Gaps and runs take turns, with a gap, empty or not, at either end.
        classes = np.full(len(edges) - 1, NO_CLASS, np.int16)
        classes[1::2] = self.classes[first:last]
        return np.repeat(classes, np.diff(edges))


def paint(features: Ints, painted: Sequence[int], length: int, rest: int = NO_CLASS) -> ClassRuns:
    """Give each base of a contig one class, where features may overlap.

    Parameters
    ----------
    features
        int64 ``(n, 3)``: start, end, class; in any order. What ends before it begins is nothing.
    painted
        Classes in the order in which they are painted: of several at a base the last stands. Classes that are not
        named here are not painted; -1 takes the class away.
    length
        Of the contig; features are cut off at its ends.
    rest
        Class of what no feature paints.

    Examples
    --------
    >>> runs = paint(np.array([[2, 9, 0], [4, 6, 1]]), (0, 1), 12)
    >>> runs.starts.tolist(), runs.ends.tolist(), runs.classes.tolist()
    ([2, 4, 6], [4, 6, 9], [0, 1, 0])
    """
    features = np.asarray(features, np.int64).reshape(-1, 3)
    features = features[features[:, 1] > features[:, 0]]
    start, end = np.clip(features[:, 0], 0, length), np.clip(features[:, 1], 0, length)
    edges = np.unique(np.concatenate((np.array([0, length]), start, end)))
    class_of = np.full(len(edges) - 1, rest, np.int64)
    for one in painted:
        mine = features[:, 2] == one
        # How many features of this class begin and end at each edge: they add up to the depth between edges.
        steps = np.bincount(np.searchsorted(edges, start[mine]), minlength=len(edges)) - np.bincount(
            np.searchsorted(edges, end[mine]), minlength=len(edges)
        )
        class_of[np.cumsum(steps)[:-1] > 0] = one
    first = np.flatnonzero(np.diff(class_of, prepend=class_of[:1] - 1))
    starts = edges[:-1][first]
    ends = np.append(starts[1:], edges[-1:])[: len(starts)]
    kept = class_of[first] != NO_CLASS
    return ClassRuns(starts[kept], ends[kept], class_of[first][kept].astype(np.int16))
