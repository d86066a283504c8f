"""Means of a metric over the datasets of a task, with an interval made of theirs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def mean_estimate(estimates: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average metrics, or differences of them, over datasets.

    Half-widths below the mean are the root of the summed squares of those of the datasets, divided by their number;
    above likewise. That takes the datasets' errors as independent: other examples, and runs of their own.

    Parameters
    ----------
    estimates
        For each dataset ``value``, ``low``, ``high``; of a metric also ``by_seed``.

    Returns
    -------
    ``value``, ``low``, ``high``, and ``sd`` over seeds of the mean with ``by_seed``, where all have the same number of
    seeds. The value is None where one is; so are the bounds.

    References
    ----------
    Zou & Donner 2008, "Construction of confidence limits about effect measures: a general approach", eq. 3.

    Examples
    --------
    >>> one = {"value": 0.5, "low": 0.4, "high": 0.6, "by_seed": [0.4, 0.6]}
    >>> found = mean_estimate([one, one | {"low": 0.5}])
    >>> round(found["low"], 3), round(found["high"], 3), found["by_seed"]
    (0.45, 0.571, [0.4, 0.6])
    """
    if len(estimates) == 1:
        return dict(estimates[0])
    values = [each["value"] for each in estimates]
    seeds = [each.get("by_seed") or [] for each in estimates]
    found: dict[str, Any] = {"value": None, "low": None, "high": None, "sd": None, "by_seed": []}
    if None in values:
        return found
    found["value"] = sum(values) / len(values)
    if len({len(each) for each in seeds}) == 1 and seeds[0]:
        found["by_seed"] = np.mean(seeds, axis=0).tolist()
        found["sd"] = float(np.std(found["by_seed"], ddof=1)) if len(found["by_seed"]) > 1 else None
    if all(each["low"] is not None for each in estimates):
        below = math.sqrt(sum((each["value"] - each["low"]) ** 2 for each in estimates))
        above = math.sqrt(sum((each["high"] - each["value"]) ** 2 for each in estimates))
        found["low"] = found["value"] - below / len(values)
        found["high"] = found["value"] + above / len(values)
    return found
