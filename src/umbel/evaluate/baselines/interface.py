"""What every baseline has in common: it is fitted on train, chosen on dev, and never sees test before it is asked."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from umbel.data.labelled.examples import Examples
from umbel.errors import LabelError
from umbel.evaluate.scores.predictions import Scores
from umbel.progress import Reporter

Array = npt.NDArray[Any]


class Fitted(Protocol):
    """A baseline after training."""

    @property
    def facts(self) -> dict[str, Any]:
        """As plain JSON: what was chosen on dev (``chosen``), ``n_parameters``, ``seconds``."""

    def scores(self, examples: Examples) -> Scores:
        """Scores of every example, ``(rows, outputs)`` float32; along a sequence all bases or bins end to end.

        They go with :meth:`umbel.evaluate.scores.predictions.Predictions.of_examples`.
        """


class Baseline(Protocol):
    """A baseline with its settings, before training."""

    @property
    def name(self) -> str:
        """What its row is called."""

    def fit(self, train: Examples, dev: Examples, *, seed: int = 0, reporter: Reporter | None = None) -> Fitted:
        """Fit on train and choose on dev.

        Raises
        ------
        LabelError
            If train or dev is empty, or they are of two tasks.
        """


def require_splits(train: Examples, dev: Examples) -> None:
    """See that there is something to fit and to choose on, of one task.

    Raises
    ------
    LabelError
        If not.
    """
    for role, examples in (("train", train), ("dev", dev)):
        if not len(examples):
            raise LabelError(f"there are no {role} examples, and a baseline needs some.", examples.source)
    if train.task != dev.task:
        raise LabelError(f"the dev examples are of another task ({dev.task}) than train ({train.task}).", dev.source)


def drawn_rows(n_rows: int, most: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw at most ``most`` of ``n_rows`` rows without replacement by ``seed``; their indices, ascending.

    Examples
    --------
    >>> drawn_rows(3, 10, 0).tolist(), len(drawn_rows(100, 10, 0))
    ([0, 1, 2], 10)
    """
    if n_rows <= most:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).permutation(n_rows)[:most])


def finite(value: float) -> float | None:
    """Turn an infinite score, which no JSON can hold, into None."""
    return float(value) if np.isfinite(value) else None
