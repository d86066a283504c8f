"""AdamW with parameter groups, and the learning rate as a function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from umbel.config import OptimConfig

_NEVER_DECAYED = ("A_log", "conv_weight", "log_decay", "frequency", "residues")


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Tell whether weight decay acts on a parameter: on matrices only.

    Never on A_log, D and a HyenaLite filter's poles and residues (their zero is no neutral value), norms, biases,
    convolution filters or the embedding.

    Examples
    --------
    >>> is_decayed("layers.0.mixer.along.A_log", nn.Parameter(torch.zeros(2, 2)))
    False
    """
    last = name.rsplit(".", 1)[-1]
    return parameter.ndim >= 2 and last not in _NEVER_DECAYED and "embedding" not in name


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Make AdamW with two groups, decayed and not; the learning rate is set before every step.

    References
    ----------
    Loshchilov and Hutter 2017, arXiv:1711.05101.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in named if is_decayed(name, p)], "weight_decay": config.weight_decay},
        {"params": [p for name, p in named if not is_decayed(name, p)], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps)


def learning_rate(config: OptimConfig, step: int, n_steps: int) -> float:
    """Give the rate of step ``step`` (from 0) of ``n_steps``: linear warm-up, then cosine to the final share.

    Examples
    --------
    >>> config = OptimConfig(lr=1.0, warmup_steps=10)
    >>> learning_rate(config, 0, 110), learning_rate(config, 9, 110), round(learning_rate(config, 60, 110), 3)
    (0.1, 1.0, 0.5)
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    span = max(1, n_steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (step - config.warmup_steps) / span)))
    return config.lr * (config.final_lr_frac + (1 - config.final_lr_frac) * cosine)
