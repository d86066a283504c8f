"""What changes while a head and a backbone are fitted: weights, optimiser, the best so far; and its state on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from umbel.config import FinetuneConfig, OptimConfig
from umbel.model.hf import UmbelConfig
from umbel.train.optim import make_optimizers
from umbel.train.processes import World
from umbel.train.schedule import learning_rate
from umbel.train.state import read_tensors, saved_shapes

_BETAS = 0.9, 0.999


class FinetuneLearner:
    """A model that is fitted to labelled examples, on one device.

    Parameters
    ----------
    model
        On its device; what takes a gradient is what is trained.
    lr
        Peak learning rate.
    n_steps
        Steps of the whole run, if nothing stops it early.

    Attributes
    ----------
    step
        Finished optimiser steps.
    best
        ``epoch``, ``step`` and dev ``score`` of the best weights so far, or None before the first epoch's end.
    history
        One entry per finished epoch.
    counted
        ``tokens`` seen and ``seconds`` taken over all sittings; ``loss`` summed over the ``steps`` of this epoch.
    problem
        Why the run cannot go on, or None.
    shares
        ``(layers with experts, E)`` float32: each expert's share of the last step's assignments.
    """

    def __init__(self, model: nn.Module, config: FinetuneConfig, lr: float, n_steps: int):
        self.model, self.n_steps = model, n_steps
        self.optim = OptimConfig(
            lr=lr,
            warmup_steps=int(config.warmup_frac * n_steps),
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            weight_decay=config.weight_decay,
            clip_norm=config.clip_norm,
        )
        shape = cast(UmbelConfig, model.config).model
        n_layers = sum(kind[1] == "e" for kind in shape.layer_kinds)
        device = next(model.parameters()).device
        self.shares = torch.full((n_layers, shape.n_experts), 1 / shape.n_experts, device=device)
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        (self.optimizer,) = make_optimizers(model, self.optim)
        self.step = 0
        self.best: dict[str, Any] | None = None
        self.history: list[dict[str, Any]] = []
        self.counted: dict[str, float] = {"tokens": 0, "seconds": 0.0, "loss": 0.0, "steps": 0}
        self.problem: str | None = None
        self._best_weights: dict[str, Tensor] = {}

    def is_over(self, patience: int) -> bool:
        """Tell whether all steps are taken, nothing got better in ``patience`` epochs (0: ever), or it failed."""
        waited = 0 if self.best is None else len(self.history) - self.best["epoch"]
        return self.step >= self.n_steps or self.problem is not None or (0 < patience <= waited)

    def move(self) -> None:
        """Take an optimiser step with the gradients there are, unless their norm is not finite."""
        rate = learning_rate(self.optim, self.step, self.n_steps)
        norm = nn.utils.clip_grad_norm_(self.trained.values(), self.optim.clip_norm)
        if not bool(norm.isfinite()):
            self.problem = f"the gradient is not finite at step {self.step + 1}"
            return
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def keep_best(self, epoch: int, score: float) -> None:
        """Remember the weights as they are."""
        self.best = {"epoch": epoch, "step": self.step, "score": score}
        self._best_weights = {name: p.detach().clone() for name, p in self.trained.items()}

    @torch.no_grad()
    def take_best(self) -> None:
        """Return to the best weights."""
        for name, value in self._best_weights.items():
            self.trained[name].copy_(value)

    def tensors(self) -> dict[str, Tensor]:
        """Give what a state holds, by name; frozen weights are the base's and are not in it."""
        found = {f"trained.{name}": p.detach() for name, p in self.trained.items()}
        found |= {f"best.{name}": value for name, value in self._best_weights.items()}
        name_of = {p: name for name, p in self.trained.items()}
        for parameter, values in self.optimizer.state.items():
            found |= {
                f"optimizer.{name_of[cast(nn.Parameter, parameter)]}.{key}": value for key, value in values.items()
            }
        return found | {"shares": self.shares}

    def numbers(self) -> dict[str, Any]:
        """Give what a state holds beside its tensors."""
        return {"best": self.best, "history": self.history, "counted": self.counted}

    def load(self, folder: Path, step: int, numbers: dict[str, Any], world: World) -> None:
        """Become what a state says; see :func:`umbel.train.state.newest_state`."""
        self.step, self.best, self.history = step, numbers["best"], numbers["history"]
        self.counted = numbers["counted"]
        shapes = saved_shapes(folder)
        if self.best is not None:
            self._best_weights = {name: torch.empty_like(p) for name, p in self.trained.items()}
        for name, parameter in self.trained.items():
            prefix = f"optimizer.{name}."
            self.optimizer.state[parameter] = {
                key.removeprefix(prefix): torch.zeros(shape, dtype=dtype, device=parameter.device if shape else "cpu")
                for key, (shape, dtype) in shapes.items()
                if key.startswith(prefix)
            }
        read_tensors(folder, self.tensors(), world)
