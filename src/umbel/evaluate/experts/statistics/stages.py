"""Which stage of training made classes of items part ways: the change of a divergence, split fairly.

Shapes: U units, C classes, E experts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.evaluate.experts.statistics.divergence import generalised_js
from umbel.evaluate.experts.statistics.units import Floats, Statistic, jackknife, percentiles, resampled
from umbel.evaluate.metrics import Estimate, Resamples


@dataclass(frozen=True)
class Stage:
    """What one stage adds.

    Attributes
    ----------
    name
        Of the stage.
    change
        By how much it raises the divergence, in nats; the mean over the orders measured.
    lowest, highest
        Over the orders: what it adds depends on what came before it.
    share
        Its part of the total change; None where this is suppressed. May be below 0 or above 1.
    """

    name: str
    change: Estimate
    lowest: float
    highest: float
    share: Estimate | None


@dataclass(frozen=True)
class StageSplit:
    """The change of a divergence between the base model and that with all stages.

    Attributes
    ----------
    before, after, total
        Divergence of the base, with all stages, and the difference; in nats, bias taken off.
    stages
        Their changes add up to the total.
    n_orders
        Orders of the stages whose every step was measured.
    is_order_dependent
        Not every order was measured (as in a chain of checkpoints): another order could give other parts.
    suppressed
        The interval of the total holds 0, or there is none: there may be nothing to share out.
    reason
        Why shares are suppressed; else empty.
    """

    before: Estimate
    after: Estimate
    total: Estimate
    stages: tuple[Stage, ...]
    n_orders: int
    is_order_dependent: bool
    suppressed: bool
    reason: str


def split_stages(
    measured: Mapping[tuple[str, ...], npt.NDArray[Any]],
    *,
    statistic: Statistic = generalised_js,
    n_draws: int = 1000,
    seed: int = 0,
) -> StageSplit:
    """Split the change of a divergence among stages, averaged over the orders that were measured.

    With all combinations measured (for two stages the 2 x 2 design: base, A alone, B alone, both) the parts are Shapley
    values. Of a chain (base, A, A and B) there is one order, which is said.

    Parameters
    ----------
    measured
        Names of the stages that a checkpoint went through, in any order, to its ``(U, C, E)`` counts; the base has
        none: ``()``. All are of the same items in the same units.
    statistic
        From tables ``(n, C, E)`` to ``(n,)``; the generalised Jensen-Shannon divergence by default.
    n_draws, seed
        Bootstrap draws of units, the same for all checkpoints, and what makes them the same each time.

    Raises
    ------
    ValueError
        If the base, the checkpoint with all stages, or the steps between are missing; or tables differ in shape.

    References
    ----------
    Shapley 1953, "A value for n-person games", eq. 13; Owen 1972, Management Science 18:64 (means over orders).

    Examples
    --------
    >>> even, apart = np.full((6, 2, 2), 50), np.array([[[90, 10], [10, 90]]] * 6)
    >>> split = split_stages({(): even, ("A",): even, ("B",): apart, ("A", "B"): apart}, n_draws=20)
    >>> [(stage.name, round(stage.share.value, 6)) for stage in split.stages], split.n_orders
    ([('A', 0.0), ('B', 1.0)], 2)
    """
    tables = {frozenset(names): np.asarray(table, np.float64) for names, table in measured.items()}
    names = sorted(frozenset().union(*tables))
    orders = _orders(tables, names)
    shapes = {table.shape for table in tables.values()}
    if len(shapes) > 1:
        raise ValueError(f"tables of shapes {sorted(shapes)}: all checkpoints must have routed the same units")
    n_units = shapes.pop()[0]
    resamples = Resamples(n_units, n_draws, seed)
    values, draws = {}, {}
    for key, table in tables.items():
        values[key] = jackknife(statistic, table).corrected
        drawn = resampled(statistic, table, resamples)
        draws[key] = drawn - drawn.mean() + values[key]

    def steps(of: Mapping[frozenset[str], Floats], name: str) -> Floats:
        """Give what the stage adds in each order, ``(orders, ...)``."""
        befores = [frozenset(order[: order.index(name)]) for order in orders]
        return np.stack([of[before | {name}] - of[before] for before in befores])

    base, whole = frozenset[str](), frozenset(names)
    total_draws = draws[whole] - draws[base]
    total = percentiles(values[whole] - values[base], total_draws, n_units).estimate()
    reason = _suppression(total)
    stages = []
    for name in names:
        added, mean_draws = steps(values, name), steps(draws, name).mean(0)
        change = percentiles(added.mean(0), mean_draws, n_units).estimate()
        share = None
        if not reason:
            parts = mean_draws / np.where(total_draws == 0, np.nan, total_draws)
            share = percentiles(added.mean(0) / total.value, parts, n_units).estimate()
        stages.append(Stage(name, change, float(added.min()), float(added.max()), share))
    return StageSplit(
        before=percentiles(values[base], draws[base], n_units).estimate(),
        after=percentiles(values[whole], draws[whole], n_units).estimate(),
        total=total,
        stages=tuple(stages),
        n_orders=len(orders),
        is_order_dependent=len(orders) < math.factorial(len(names)),
        suppressed=bool(reason),
        reason=reason,
    )


def _orders(tables: Mapping[frozenset[str], Any], names: list[str]) -> list[tuple[str, ...]]:
    """Find the orders of which every step was measured."""
    if frozenset() not in tables or frozenset(names) not in tables or not names:
        raise ValueError(
            "the change between two checkpoints: give the base, as (), and the one with all stages "
            f"({', '.join(names) or 'none named'})"
        )
    orders: list[tuple[str, ...]] = [()]
    for _ in names:
        orders = [
            (*order, name)
            for order in orders
            for name in names
            if name not in order and frozenset((*order, name)) in tables
        ]
    if not orders:
        raise ValueError(
            f"no way from the base to all stages ({', '.join(names)}) by adding one at a time: checkpoints in between "
            "are missing"
        )
    return orders


def _suppression(total: Estimate) -> str:
    if total.low is None or total.high is None or np.isnan(total.value):
        return "the total change has no interval: fewer than two units, or a class in one unit only"
    if total.low <= 0 <= total.high:
        return f"the interval of the total change, {total.low:.3g} to {total.high:.3g} nats, holds 0"
    return ""
