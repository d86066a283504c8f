"""The learning rate as a function of the step: warm-up, then a cosine, or a plateau and a fall at the end."""

from __future__ import annotations

import math

from umbel.config import OptimConfig
from umbel.errors import ConfigError


def decay_steps(config: OptimConfig, n_steps: int) -> int:
    """Give the number of steps over which the rate falls, at the end of a run of ``n_steps``.

    Examples
    --------
    >>> decay_steps(OptimConfig(schedule="wsd", decay_frac=0.25, warmup_steps=10), 200)
    50
    """
    if config.schedule == "cosine":
        return max(0, n_steps - config.warmup_steps)
    return round(config.decay_frac * n_steps)


def learning_rate(config: OptimConfig, step: int, n_steps: int) -> float:
    r"""Give the rate of step ``step`` (from 0) of ``n_steps``.

    The warm-up is linear and reaches the peak at its last step. Then ``cosine`` falls from the peak to
    ``final_lr_frac`` of it over all steps that are left; ``wsd`` stays at the peak and falls over the last
    ``decay_frac`` of the run as :math:`1 - \sqrt{x}` of its way x. Either would reach its end at step ``n_steps``,
    the first that is not taken.

    References
    ----------
    Loshchilov and Hutter 2016, arXiv:1608.03983, eq. 5 (cosine); Hägele et al. 2024, arXiv:2405.18392, eq. 1 and
    section 3 (warm-up, stable, decay, and 1-sqrt).

    Examples
    --------
    >>> config = OptimConfig(lr=1.0, warmup_steps=10)
    >>> learning_rate(config, 0, 110), learning_rate(config, 9, 110), round(learning_rate(config, 60, 110), 3)
    (0.1, 1.0, 0.5)
    >>> config = OptimConfig(lr=1.0, warmup_steps=10, schedule="wsd", decay_frac=0.4)
    >>> learning_rate(config, 59, 100), learning_rate(config, 70, 100)
    (1.0, 0.5)
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    n_decay = decay_steps(config, n_steps)
    way = min(1.0, max(0, step - (n_steps - n_decay)) / max(1, n_decay))
    left = 0.5 * (1 + math.cos(math.pi * way)) if config.schedule == "cosine" else 1 - math.sqrt(way)
    return config.lr * (config.final_lr_frac + (1 - config.final_lr_frac) * left)


def require_schedule(config: OptimConfig, n_steps: int) -> None:
    """See that the warm-up ends within the run, and before the rate falls.

    Raises
    ------
    ConfigError
        If it does not: the run would never be at its peak rate, or jump down from it.

    Examples
    --------
    >>> require_schedule(OptimConfig(warmup_steps=10), 100)
    """
    if config.warmup_steps > n_steps:
        raise ConfigError(
            f"optim.warmup_steps is {config.warmup_steps:,} and train.steps {n_steps:,}: the run would end before it "
            f"is warm. Lower optim.warmup_steps to {n_steps // 10} or so"
        )
    n_decay = decay_steps(config, n_steps)
    if config.warmup_steps + n_decay > n_steps:
        raise ConfigError(
            f"optim.warmup_steps is {config.warmup_steps:,} and the last {n_decay:,} of {n_steps:,} steps "
            f"(optim.decay_frac {config.decay_frac:g}) are for the fall: together more than the run. Lower one of them"
        )
