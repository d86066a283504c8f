"""What changes as a run goes on: weights, optimisers, averages, counts; and how it becomes a state and comes back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from umbel.config import RunConfig
from umbel.data.tokenizers import Tokens, describe
from umbel.model.hf import UmbelForMaskedLM, new_model
from umbel.model.moe import Router
from umbel.train.ema import Ema
from umbel.train.guards import BadSteps, Collapse
from umbel.train.optim import make_optimizers
from umbel.train.parallel import Spread
from umbel.train.processes import World
from umbel.train.state import read_tensors, saved_shapes
from umbel.train.workload import share_of

_GROWS_EVERY = 2_000


def untrained_model(run: RunConfig, tokens: Tokens) -> UmbelForMaskedLM:
    """Make the network that a run begins with; one that is to place spans has a head for it."""
    placement = run.masking.placement_weight > 0
    return new_model(run.model, run.corpus.window_bp, run.train.seed, describe(tokens), placement=placement)


@dataclass
class LossScale:
    """The factor that keeps float16 gradients from becoming 0: halved when they overflow, doubled after 2,000 steps.

    torch's GradScaler decides on each process by what that process holds; this one follows the norm of the whole
    gradient, which is the same everywhere, also where weights or experts are cut up.

    References
    ----------
    Micikevicius et al. 2018, "Mixed Precision Training", arXiv:1710.03740, section 3.2.

    Examples
    --------
    >>> scale = LossScale(8.0)
    >>> scale.follow(overflowed=True)
    >>> scale.value
    4.0
    """

    value: float = 2.0**16
    n_since: int = 0

    def follow(self, *, overflowed: bool) -> None:
        """Learn whether the last step's gradient overflowed."""
        self.n_since = 0 if overflowed else self.n_since + 1
        if overflowed:
            self.value /= 2
        elif self.n_since == _GROWS_EVERY:
            self.value, self.n_since = self.value * 2, 0


class Learner:
    """A model in training, on one process of ``world``.

    Parameters
    ----------
    model
        Whole, in float32; moved to the process' device and spread as ``run.parallel`` says.
    dtype
        Of autocast, or None for float32 throughout.

    Attributes
    ----------
    step
        Finished optimiser steps.
    cursor
        The next step's batches are those of this step of the data; it is ahead of ``step`` after a rollback.
    shares
        ``(layers with experts, E)`` float32: each expert's share of the last step's assignments.
    best
        Step and validation loss of the best checkpoint, or None.

    Raises
    ------
    ConfigError
        If so many processes cannot share the run's steps or experts.
    """

    def __init__(self, model: UmbelForMaskedLM, run: RunConfig, world: World, dtype: torch.dtype | None = None):
        share_of(run, world.size)
        self.run, self.world, self.dtype = run, world, dtype
        self.model = model.to(world.device)
        self.spread = Spread(self.model, run.parallel, world)
        self.optimizers = make_optimizers(self.model, run.optim)
        self.ema = Ema(self.model, run.train.ema_decay) if run.train.ema_decay else None
        self.scale = LossScale() if dtype is torch.float16 else None
        self.routers = [module for module in self.model.modules() if isinstance(module, Router)]
        experts = run.model.n_experts
        self.shares = torch.full((len(self.routers), experts), 1 / experts, device=world.device)
        self.bad_steps = BadSteps(run.health)
        self.collapse = Collapse(run.health, run.model.top_k, experts)
        self.step, self.cursor = 0, 0
        self.best: dict[str, float] | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Give everything a state holds, by name; what is cut up among processes as a DTensor."""
        found = {f"model.{name}": tensor for name, tensor in self.spread.saved(self._weights()).items()}
        for key, values in self._optimizer_state().items():
            found |= {f"optimizer.{name}.{key}": tensor for name, tensor in values.items()}
        if self.ema is not None:
            found |= {f"ema.{name}": tensor for name, tensor in self.spread.saved(self.ema.weights()).items()}
        return found | {"shares": self.shares}

    def _weights(self) -> dict[str, Tensor]:
        """Give parameters and buffers, a tied one once."""
        seen: set[int] = set()
        weights = {}
        for name, tensor in self.model.state_dict(keep_vars=True).items():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                weights[name] = tensor.detach()
        return weights

    def _optimizer_state(self) -> dict[str, dict[str, Tensor]]:
        """Give what the optimisers keep, by key and then by the name of the parameter."""
        name_of = {parameter: name for name, parameter in self.model.named_parameters()}
        by_key: dict[str, dict[str, Tensor]] = {}
        for optimizer in self.optimizers:
            for parameter, state in optimizer.state.items():
                for key, value in state.items():
                    by_key.setdefault(key, {})[name_of[parameter]] = value
        shaped = {key: {name: value for name, value in values.items() if value.ndim} for key, values in by_key.items()}
        return {key: values | self.spread.saved(shaped[key]) for key, values in by_key.items()}

    def numbers(self) -> dict[str, Any]:
        """Give what a state holds beside its tensors, ready for JSON."""
        return {
            "cursor": self.cursor,
            "scale": None if self.scale is None else [self.scale.value, self.scale.n_since],
            "bad_steps": self.bad_steps.state(),
            "collapse": self.collapse.state(),
            "ema_updates": 0 if self.ema is None else self.ema.n_updates,
            "best": self.best,
        }

    def load(self, folder: Path, step: int, numbers: dict[str, Any], *, after_rollback: bool = False) -> None:
        """Become what a state says, whatever this process was before and however many wrote the state.

        Parameters
        ----------
        folder, step, numbers
            As :func:`umbel.train.state.newest_state` gives them.
        after_rollback
            Keep the cursor and the count of bad steps, so that the same batches do not come again, and the best
            checkpoint, which is on disk.
        """
        self._make_room(saved_shapes(folder))
        read_tensors(folder, self.tensors(), self.world)
        if self.ema is not None:
            self.ema.n_updates = numbers["ema_updates"]
        self.step = step
        if after_rollback:
            self.bad_steps.rewind(numbers["bad_steps"])
        else:
            self.cursor, self.best = numbers["cursor"], numbers["best"]
            self.bad_steps.load(numbers["bad_steps"])
        self.collapse.load(numbers["collapse"])
        if self.scale is not None and numbers["scale"] is not None:
            self.scale = LossScale(*numbers["scale"])

    def _make_room(self, shapes: dict[str, tuple[torch.Size, torch.dtype]]) -> None:
        """Give the optimisers tensors of the right shapes, cut as the parameters are, to read a state into."""
        name_of = {parameter: name for name, parameter in self.model.named_parameters()}
        for optimizer in self.optimizers:
            optimizer.state.clear()
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                name, value = name_of[parameter], parameter.detach()
                whole = self.spread.saved({name: value})[name].shape
                prefix = f"optimizer.{name}."
                for key, (shape, dtype) in shapes.items():
                    if key.startswith(prefix):
                        is_like_it = shape == whole and len(shape) > 0
                        optimizer.state[parameter][key.removeprefix(prefix)] = (
                            torch.zeros_like(value, dtype=dtype)
                            if is_like_it
                            else torch.zeros(shape, dtype=dtype, device=self.world.device)
                        )
