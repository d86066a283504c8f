"""How the choice at one router goes on at the next.

Shapes: E experts at the router before, E' at this one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.evaluate.experts.statistics.divergence import shares_of
from umbel.evaluate.experts.statistics.information import miller_madow, mutual_information
from umbel.evaluate.experts.statistics.units import Floats


@dataclass(frozen=True)
class ExpertPaths:
    """What the first choice at one router tells about that at the next.

    Attributes
    ----------
    mi
        Mutual information of the two, in nats, as counted.
    corrected
        The same with the bias of independent items taken off (Miller & Madow).
    share
        ``mi`` over its bound min(ln E, ln E'); None where one of the two has a single expert.
    following
        ``(E, E')``: of the items of an expert, the part that goes on to each; NaN for dead experts.
    lift
        ``(E, E')``: the part over the next expert's share of all; 1 by chance, NaN where either is dead.
    """

    mi: float
    corrected: float
    share: float | None
    following: Floats
    lift: Floats


def expert_paths(paths_EE: npt.NDArray[Any]) -> ExpertPaths:
    """Describe the ways of items from router to router.

    Parameters
    ----------
    paths_EE
        ``(E, E')`` items by their first choices at a router and at the next.

    Raises
    ------
    ValueError
        If there are none.

    Examples
    --------
    >>> found = expert_paths(np.diag([5, 5]))
    >>> found.mi == math.log(2), found.following.tolist()
    (True, [[1.0, 0.0], [0.0, 1.0]])
    """
    paths = np.asarray(paths_EE, np.float64)
    if paths.ndim != 2 or not paths.any():
        raise ValueError("paths between two routers, where no item passed")
    mi, following = float(mutual_information(paths)), shares_of(paths)
    overall = shares_of(paths.sum(0))
    lift = np.divide(following, overall, out=np.full(paths.shape, np.nan), where=overall > 0)
    bound = math.log(min(paths.shape))
    return ExpertPaths(mi, float(miller_madow(paths)), mi / bound if bound > 0 else None, following, lift)
