"""The table of one dataset: every row with intervals, and the model against each of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from umbel.evaluate.bench.runs import Run
from umbel.evaluate.scores.comparisons import holm, paired_difference
from umbel.evaluate.scores.definitions import why_collapsed
from umbel.evaluate.scores.intervals import bootstrap

MODEL = "model"


def dataset_table(rows: Mapping[str, Sequence[Run]], metric: str, *, n_draws: int, seed: int = 0) -> dict[str, Any]:
    """Compute everything that is told of a dataset from what was predicted for its test examples.

    Parameters
    ----------
    rows
        Name of a row to its runs, one a seed; one row is called ``model``.
    metric
        The suite's, for the comparisons.
    n_draws, seed
        Of the bootstrap; all rows see the same resamples.

    Returns
    -------
    ``rows``: for each the ``metrics`` (value, low, high, sd, by_seed), ``seconds`` and ``flops`` of a run on average,
    ``collapsed`` (why, by seed, or null) and ``facts`` by seed. ``differences``: the model minus each other row on
    ``metric``, with ``p_holm``, adjusted over all of them.
    """
    said = {name: [run.test for run in runs if run.test is not None] for name, runs in rows.items()}
    drawn = {name: bootstrap(each, n_draws=n_draws, seed=seed) for name, each in said.items()}
    table = {
        name: {
            "metrics": {each: drawn[name].estimate(each).to_dict() for each in drawn[name].draws},
            "seconds": sum(run.facts.get("seconds", 0.0) for run in runs) / len(runs),
            "flops": sum(run.facts.get("flops", 0.0) for run in runs) / len(runs),
            "collapsed": [why_collapsed(each) for each in said[name]],
            "facts": [run.facts for run in runs],
        }
        for name, runs in rows.items()
    }
    differences = {
        name: paired_difference(drawn[MODEL], drawn[name], metric).to_dict() for name in rows if name != MODEL
    }
    adjusted = holm({name: found["p"] for name, found in differences.items()})
    return {
        "metric": metric,
        "rows": table,
        "differences": {name: found | {"p_holm": adjusted[name]} for name, found in differences.items()},
    }
