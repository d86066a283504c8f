"""Which stage of training a checkpoint has been through, and what each stage adds to the divergence between classes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from umbel.errors import ConfigError
from umbel.evaluate.experts.compare.checkpoints import Checkpoint
from umbel.evaluate.experts.compare.counting import Sums
from umbel.evaluate.experts.compare.settings import Design
from umbel.evaluate.experts.compare.tables import spread
from umbel.evaluate.experts.statistics.stages import StageSplit, split_stages

MAX_STAGES = 6
"""Of a chain that is split; the orders of more are not run through for one that was measured."""

Step = tuple[int, int]


def trained(checkpoints: Sequence[Checkpoint]) -> list[int]:
    """Give the numbers of those that are no controls."""
    return [i for i, checkpoint in enumerate(checkpoints) if not checkpoint.is_control]


def require_design(checkpoints: Sequence[Checkpoint], design: Design) -> None:
    """See that there are as many checkpoints as the design has.

    Raises
    ------
    ConfigError
        If a 2x2 design has not four.
    """
    names = [checkpoints[i].name for i in trained(checkpoints)]
    if design == "2x2" and len(names) != 4:
        raise ConfigError(
            f"a 2x2 design has four checkpoints, in this order: base, the first stage alone, the second alone, both; "
            f"these are {len(names)} ({', '.join(names)})"
        )


def stages_of(checkpoints: Sequence[Checkpoint], design: Design) -> dict[int, tuple[str, ...]]:
    """Name the stages that each trained checkpoint has been through, by its number; nothing where none is told.

    A stage of a chain has the name of the checkpoint that it ends with.

    Examples
    --------
    >>> class Fake:
    ...     is_control = False
    ...
    ...     def __init__(self, name):
    ...         self.name = name
    >>> stages_of([Fake("base"), Fake("cpt"), Fake("tuned")], "chain")
    {0: (), 1: ('cpt',), 2: ('cpt', 'tuned')}
    """
    numbers = trained(checkpoints)
    names = [checkpoints[i].name for i in numbers]
    if design == "2x2":
        return dict(zip(numbers, ((), (names[1],), (names[2],), (names[1], names[2])), strict=True))
    if design == "chain" and 2 <= len(numbers) <= MAX_STAGES + 1:
        return {number: tuple(names[1 : place + 1]) for place, number in enumerate(numbers)}
    return {}


def drift_steps(checkpoints: Sequence[Checkpoint], design: Design) -> list[Step]:
    """Say between which checkpoints weights are compared: each step of the design, and the whole way."""
    numbers = trained(checkpoints)
    if design == "2x2":
        base, a, b, both = numbers
        return [(base, a), (base, b), (a, both), (b, both), (base, both)]
    if design == "chain":
        steps = list(pairwise(numbers))
        return steps + ([(numbers[0], numbers[-1])] if len(numbers) > 2 else [])
    return []


def split_all(
    checkpoints: Sequence[Checkpoint],
    sums: Sums,
    labellings: Sequence[str],
    design: Design,
    *,
    n_draws: int,
    seed: int,
) -> dict[tuple[str, int], StageSplit]:
    """Split the change of divergence into stages, by labelling's name and router's number.

    Classes in fewer than two units are left out, and units without items of the others. There is no split where
    models have other numbers of routers, or fewer than two classes are left.
    """
    stages = stages_of(checkpoints, design)
    if len({len(sums.sites[i]) for i in stages}) != 1:
        return {}
    found = {}
    for labelling in labellings:
        for m in range(len(sums.sites[next(iter(stages))])):
            tables = {through: sums.sites[i][m].joint[labelling] for i, through in stages.items()}
            if len({table.shape for table in tables.values()}) > 1:
                continue
            base = tables[()]
            kept = base.any(2).sum(0) >= 2
            seen = base[:, kept].any((1, 2))
            if kept.sum() >= 2:
                measured = {through: table[seen][:, kept] for through, table in tables.items()}
                found[labelling, m] = split_stages(measured, n_draws=n_draws, seed=seed)
    return found


def stage_rows(
    checkpoints: Sequence[Checkpoint], found: dict[tuple[str, int], StageSplit], design: Design
) -> list[dict[str, Any]]:
    """One row for each labelling, router and stage; nats. Shares are None where the total's interval holds 0."""
    last = checkpoints[trained(checkpoints)[-1]]
    order = max(stages_of(checkpoints, design).values(), key=len, default=())
    rows = []
    for (labelling, m), split in found.items():
        by_name = {stage.name: stage for stage in split.stages}
        for name in order:
            stage = by_name[name]
            rows.append(
                {"labelling": labelling, "site": m, "layer": last.sites[m].layer, "stage": name}
                | spread("change", stage.change)
                | {"order_low": stage.lowest, "order_high": stage.highest}
                | spread("share", stage.share)
                | spread("total", split.total)
                | {"is_suppressed": split.suppressed, "is_order_dependent": split.is_order_dependent}
            )
    return rows
