"""When a step is bad, when a run has had enough of them, and when experts have collapsed: decisions from plain numbers.

Every process must ask with the same numbers, those of the whole step, so that all decide alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from umbel.config import HealthConfig
from umbel.errors import RunError
from umbel.train.health import LayerHealth

_SIGMA_OF_MAD = 1.4826
"""Standard deviation over median absolute deviation, of a normal distribution."""
_LEAST_SIGMA_FRAC = 1e-3
"""No deviation is taken to be less than this share of the median: a flat window would call rounding a jump."""
_LEAST_SIGMA_NATS = 1e-6
_TOKENS_PER_EXPERT = 20
"""With fewer assignments per expert on average, an expert without any says nothing."""


class BadSteps:
    """Judges every step before it is taken, and gives up after too many bad ones.

    A loss is a jump if it lies ``spike_sigmas`` robust standard deviations (1.4826 times the median absolute deviation)
    above the median of the last ``spike_window_steps`` good losses, of which at least half must be there. Bad losses
    never enter that window, so that one jump does not hide the next. Of normal noise, 6 calls one loss in 3 million a
    jump when 100 losses are there, and one in 200,000 when 50 are (by simulation: the deviation is an estimate, too).

    A row of bad steps ends with a good step at or after the last bad one: after a rollback the steps up to it are
    taken again, and do not count as progress.

    Parameters
    ----------
    config
        What is bad, and how much of it is too much.

    Attributes
    ----------
    n_bad
        Bad steps in all.
    n_in_row
        Bad steps since the last progress.

    Examples
    --------
    >>> guard = BadSteps(HealthConfig(spike_sigmas=6.0, spike_window_steps=8))
    >>> [guard.judge(step, loss, 0.5) for step, loss in enumerate((1.3, 1.4, 1.2, 1.3, 1.4))]
    [None, None, None, None, None]
    >>> guard.judge(5, 9.1, 0.5)
    'the loss 9.1 is 52.6 robust standard deviations above the median 1.3 of the last 5 good steps'
    >>> guard.judge(6, float("nan"), 0.5), guard.n_bad
    ('the loss is nan', 2)
    """

    def __init__(self, config: HealthConfig):
        self._config = config
        self._losses: list[float] = []
        self._last_bad = -1
        self.n_in_row = 0
        self.n_bad = 0

    def judge(self, step: int, loss: float, grad_norm: float) -> str | None:
        """Say why a step is bad, in words that fit into a sentence, or ``None``.

        Parameters
        ----------
        step
            Its number; after a rollback numbers come again.
        loss
            What is minimised, over the whole step, in nats.
        grad_norm
            Norm of the whole gradient before it is clipped.

        Raises
        ------
        RunError
            If this is the ``max_bad_steps``-th bad step with no progress between.
        """
        reason = self._reason(loss, grad_norm)
        if reason is None:
            self._losses = [*self._losses, loss][-self._config.spike_window_steps :]
            if step >= self._last_bad:
                self.n_in_row = 0
            return None
        self._last_bad = max(self._last_bad, step)
        self.n_in_row += 1
        self.n_bad += 1
        if self.n_in_row >= self._config.max_bad_steps:
            count = f"{self.n_in_row} bad steps" if self.n_in_row > 1 else "a bad step"
            raise RunError(
                f"step {step}: {count} with none taken between, and health.max_bad_steps is "
                f"{self._config.max_bad_steps}; at the last, {reason}. The run stopped; its last state is kept. Lower "
                "optim.lr or raise optim.warmup_steps, and start in a new folder."
            )
        return reason

    def _reason(self, loss: float, grad_norm: float) -> str | None:
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(grad_norm):
            return f"the gradient norm is {grad_norm}"
        if not self._config.spike_sigmas or len(self._losses) * 2 < self._config.spike_window_steps:
            return None
        median = float(np.median(self._losses))
        deviation = _SIGMA_OF_MAD * float(np.median(np.abs(np.array(self._losses) - median)))
        sigma = max(deviation, _LEAST_SIGMA_FRAC * abs(median), _LEAST_SIGMA_NATS)
        height = (loss - median) / sigma
        if height <= self._config.spike_sigmas:
            return None
        return (
            f"the loss {loss:.4g} is {height:.3g} robust standard deviations above the median {median:.4g} of the last "
            f"{len(self._losses)} good steps"
        )

    def state(self) -> dict[str, Any]:
        """Give what a resumed run needs, as plain numbers."""
        return {
            "losses": list(self._losses),
            "last_bad": self._last_bad,
            "n_in_row": self.n_in_row,
            "n_bad": self.n_bad,
        }

    def load(self, values: Mapping[str, Any]) -> None:
        """Go on from :meth:`state` of an earlier process."""
        self._losses, self._last_bad = list(values["losses"]), values["last_bad"]
        self.n_in_row, self.n_bad = values["n_in_row"], values["n_bad"]

    def rewind(self, values: Mapping[str, Any]) -> None:
        """Go back to the losses of an earlier :meth:`state` after a rollback; what was bad stays counted.

        A run that met the same bad step after each rollback would else never end.
        """
        self._losses = list(values["losses"])


class Collapse:
    """Gives a run up when a layer has sent every token to the same ``top_k`` experts for too many steps in a row.

    Steps with fewer than 20 E / K tokens are not judged: they neither count nor end a row. Where there are no more than
    ``top_k`` experts nothing is ever a collapse.

    Parameters
    ----------
    config
        ``collapse_steps``; 0 never gives up.
    top_k, n_experts
        Of the network.

    Examples
    --------
    >>> guard = Collapse(HealthConfig(collapse_steps=2), top_k=1, n_experts=4)
    >>> layer = LayerHealth([0.0, 0.0, 1.0, 0.0], 4.0, 3**0.5, 3, 0.0, 1, 0.1, [0.0, 0.1, 0.9, 0.0], 500)
    >>> guard.look(1, [layer])
    >>> guard.look(2, [layer])
    Traceback (most recent call last):
    ...
    umbel.errors.RunError: step 2: layer 1 has sent every token to expert 2 since step 1, and the other 3 got none. ...
    """

    def __init__(self, config: HealthConfig, top_k: int, n_experts: int):
        self._steps = config.collapse_steps
        self._top_k, self._n_experts = top_k, n_experts
        # Of each layer that looks collapsed: the experts left, the first step, and how many have been judged since.
        self._rows: dict[int, tuple[tuple[int, ...], int, int]] = {}

    def look(self, step: int, layers: Sequence[LayerHealth]) -> None:
        """See the loads of one step, over its whole batch.

        Raises
        ------
        RunError
            If a layer has collapsed. It names each such layer, its experts, since when, and what to do.
        """
        if not self._steps or self._top_k >= self._n_experts:
            return
        for layer in layers:
            if layer.n_tokens * self._top_k < _TOKENS_PER_EXPERT * self._n_experts:
                continue
            left = tuple(expert for expert, share in enumerate(layer.load) if share > 0)
            before, since, n_steps = self._rows.pop(layer.layer, ((), step, 0))
            if len(left) > self._top_k:
                continue
            self._rows[layer.layer] = (left, since, n_steps + 1) if left == before else (left, step, 1)
        fallen = {layer: row for layer, row in sorted(self._rows.items()) if row[2] >= self._steps}
        if fallen:
            n_others = self._n_experts - self._top_k
            told = "; ".join(
                f"layer {layer} has sent every token to expert{'s' if len(left) > 1 else ''} "
                f"{' and '.join(map(str, left))} since step {since}, and the other {n_others} got none"
                for layer, (left, since, _) in fallen.items()
            )
            raise RunError(
                f"step {step}: {told}. The run stopped; its last state is kept. Set train.balance_coef (0.01 is usual) "
                "or model.gating=bias, set train.z_coef (0.001 is usual) where the router's scores run away, or lower "
                "optim.lr, and start in a new folder; health.collapse_steps=0 lets such a run go on."
            )

    def state(self) -> dict[str, Any]:
        """Give what a resumed run needs, as plain numbers."""
        return {"rows": [[layer, list(left), since, n] for layer, (left, since, n) in self._rows.items()]}

    def load(self, values: Mapping[str, Any]) -> None:
        """Go on from :meth:`state` of an earlier process, or of the state that a rollback returns to."""
        self._rows = {layer: (tuple(left), since, n) for layer, left, since, n in values["rows"]}
