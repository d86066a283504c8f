"""The masked loss of a model and of its edited copies, by class: one set of hidden bases for all of them.

Shapes: X branches (edited copies), U units, C classes, M expert layers, E experts, H hidden bases.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from torch import Tensor

from umbel.errors import CheckpointError, ConfigError
from umbel.evaluate.experts.causal.hidden import Column, HiddenStretch, columns_of, hide_stretch
from umbel.evaluate.experts.causal.settings import CausalSettings
from umbel.evaluate.experts.source import Source
from umbel.evaluate.masked_loss import choose_windows
from umbel.evaluate.metrics import Estimate, bootstrap_ratio
from umbel.evaluate.stages import Stages, code_version
from umbel.predict.branches import Answer, Edits, branched_log_probs
from umbel.predict.predictor import Predictor
from umbel.progress import Reporter

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CHUNK = 16
"""Stretches whose results are stored together: what a stopped run computes again is at most these."""


@dataclass(frozen=True)
class Losses:
    """Sums over the hidden bases of each unit and class.

    Attributes
    ----------
    columns
        C of them; the first is of all hidden bases.
    n_bases
        ``(U, C)`` hidden bases.
    loss
        ``(1 + X, U, C)`` negative natural-log probabilities of the true bases: first of the model as it is.
    taken
        ``(U, M, C, E)``: of the model as it is, how often an expert was among the chosen at bases that are not hidden.
    taken_hidden
        The same at hidden bases, whose token is ``[MASK]``: a router often has an expert for that alone.
    """

    columns: tuple[Column, ...]
    n_bases: Ints
    loss: Floats
    taken: Ints
    taken_hidden: Ints

    def value(self, branch: int, column: int, settings: CausalSettings) -> Estimate | None:
        """Loss of a branch (0 is the model as it is), nats a hidden base; None where no base of the class is hidden."""
        return self._ratio(self.loss[branch, :, column], column, settings)

    def difference(self, branch: int, column: int, settings: CausalSettings) -> Estimate | None:
        """Loss of a branch minus that of the model as it is, at the same bases: above 0, the edit hurts."""
        return self._ratio(self.loss[branch, :, column] - self.loss[0, :, column], column, settings)

    def _ratio(self, sums_U: Floats, column: int, settings: CausalSettings) -> Estimate | None:
        n = self.n_bases[:, column]
        return bootstrap_ratio(sums_U, n, n_draws=settings.n_draws, seed=settings.seed) if n.any() else None


def measure(
    predictor: Predictor,
    source: Source,
    branches_of: Callable[[Tensor], Sequence[Edits]],
    n_branches: int,
    settings: CausalSettings,
    folder: Path,
    key: dict[str, Any],
    reporter: Reporter,
    *,
    title: str,
    extra_experts: int = 0,
) -> Losses:
    """Measure the loss of a model and of its edited copies at the same hidden bases.

    Results are stored for every :data:`CHUNK` stretches; the same call goes on behind the last of them.

    Parameters
    ----------
    branches_of, extra_experts
        As :func:`umbel.predict.branches.branched_log_probs` takes them.
    n_branches
        X, how many edited copies there are.
    folder, key
        Where results are stored, and what they belong to beside model, source, settings and code; plain JSON.
    title
        Of the progress, and of what is stored.

    Raises
    ------
    ConfigError
        If the source has no stretch or no base to hide, a stretch does not fit the model, or its tokens are learnt
        words.
    CheckpointError
        If a loss is not a number.
    """
    if not len(source):
        raise ConfigError("this source has no stretches, so there is nothing to measure a loss on")
    ids = choose_windows(np.arange(len(source)), settings.n_windows, settings.seed).tolist()
    columns = columns_of(source)
    n_layers = len(predictor.moe_layers)
    n_bases = np.zeros((source.n_units, len(columns)), np.int64)
    loss = np.zeros((1 + n_branches, source.n_units, len(columns)))
    taken = np.zeros((2, source.n_units, n_layers, len(columns), predictor.n_experts), np.int64)
    stages = Stages(folder, _whole_key(predictor, source, settings, key), reporter)
    task = reporter.start(title, len(ids) * (1 + n_branches), "passes")
    is_timed = False
    for first in range(0, len(ids), CHUNK):
        chunk = ids[first : first + CHUNK]
        began = time.monotonic()
        computed = False

        def compute(chunk: list[int] = chunk) -> dict[str, Any]:
            nonlocal computed
            computed = True
            hidden = [_read(source, i, predictor, settings) for i in chunk]
            return _sums(predictor, hidden, branches_of, n_branches, task.advance, extra_experts, title)

        sums = stages.run(f"{title}-{first // CHUNK:05d}", compute)
        if not computed:
            task.advance(len(chunk) * (1 + n_branches))
        elif not is_timed and len(ids) > first + CHUNK:
            is_timed = True
            minutes = (time.monotonic() - began) / 60 * (len(ids) - first - CHUNK) / len(chunk)
            reporter.say(f"{title}: {n_branches} edits on {len(ids)} stretches, about {minutes:.1f} more minutes")
        of_stretch = (np.array(sums["n_bases"]), np.array(sums["loss"]).swapaxes(0, 1), np.array(sums["taken"]))
        for unit, n, losses, chosen in zip(sums["units"], *of_stretch, strict=True):
            n_bases[unit] += n
            loss[:, unit] += losses
            taken[:, unit] += chosen
    task.close()
    if not n_bases[:, 0].any():
        raise ConfigError(f"no base was hidden in {len(ids)} stretches: raise mask_frac ({settings.mask_frac})")
    return Losses(columns, n_bases, loss, taken[0], taken[1])


def _whole_key(predictor: Predictor, source: Source, settings: CausalSettings, key: dict[str, Any]) -> dict[str, Any]:
    whole = {
        "weights": predictor.weights_hash,
        "precision": predictor.precision,
        "source": source.facts,
        "settings": {"seed": settings.seed, "n_windows": settings.n_windows, "mask_frac": settings.mask_frac},
        "code": code_version(),
        **key,
    }
    # As it is read again: a tuple comes back as a list.
    return cast("dict[str, Any]", json.loads(json.dumps(whole)))


def _read(source: Source, i: int, predictor: Predictor, settings: CausalSettings) -> HiddenStretch:
    return hide_stretch(
        source,
        i,
        seed=settings.seed,
        mask_frac=settings.mask_frac,
        min_bp=predictor.min_bases,
        max_bp=predictor.window_bp,
    )


def _sums(
    predictor: Predictor,
    hidden: Sequence[HiddenStretch],
    branches_of: Callable[[Tensor], Sequence[Edits]],
    n_branches: int,
    advance: Callable[[], None],
    extra_experts: int,
    title: str,
) -> dict[str, Any]:
    """Sum by stretch and class, as plain JSON."""
    n_columns = len(hidden[0].classes)
    loss = np.zeros((1 + n_branches, len(hidden), n_columns))
    taken = np.zeros((len(hidden), 2, len(predictor.moe_layers), n_columns, predictor.n_experts), np.int64)
    answers = branched_log_probs(
        predictor,
        [each.codes for each in hidden],
        [each.hidden for each in hidden],
        branches_of,
        extra_experts=extra_experts,
    )
    for answer in answers:
        stretch = hidden[answer.index]
        loss[1 + answer.branch, answer.index] = stretch.member @ _losses(stretch, answer, title)
        if answer.experts is not None:
            for which, bases in enumerate((stretch.visible, stretch.hidden)):
                chosen = np.eye(predictor.n_experts)[answer.experts[:, bases]].sum(2)
                taken[answer.index, which] = stretch.classes[:, bases].astype(np.float64) @ chosen
        advance()
    return {
        "units": [each.unit for each in hidden],
        "n_bases": [each.member.sum(1).tolist() for each in hidden],
        "loss": loss.tolist(),
        "taken": taken.tolist(),
    }


def _losses(stretch: HiddenStretch, answer: Answer, title: str) -> Floats:
    """Negative natural-log probability of each true base, ``(H,)``."""
    truth = stretch.codes[stretch.hidden].astype(np.int64)
    found = -np.take_along_axis(answer.log_probs.astype(np.float64), truth[:, None], axis=1)[:, 0]
    if not np.isfinite(found).all():
        raise CheckpointError(
            f"{title}: a loss is {found[~np.isfinite(found)][0]}, which is no result. The weights have probably "
            "diverged: take an earlier checkpoint."
        )
    return found
