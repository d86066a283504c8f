"""Does every part of an adapter learn? Its gradients are looked at before a long run is spent on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from umbel.errors import AdapterError
from umbel.model.adapters.attach import Adapter
from umbel.model.routing import Routing

_SHOWN = 6
_PROBE_STD = 0.02


@dataclass(frozen=True)
class Audit:
    """What an audit found that is no error.

    Attributes
    ----------
    n_checked
        Factors (A and B count apart) whose gradient is not zero.
    idle
        Parts of experts to which no token of the batch went: nothing can be said of them.
    """

    n_checked: int
    idle: tuple[str, ...]

    def describe(self) -> str:
        """Say it in one line.

        Examples
        --------
        >>> Audit(12, ()).describe()
        'adapter: all of its 12 factors that were checked have a gradient'
        """
        text = f"adapter: all of its {self.n_checked} factors that were checked have a gradient"
        if self.idle:
            text += f"; no token went to {_listed(self.idle)}, so nothing is known of these"
        return text


def audit_gradients(adapter: Adapter, routings: Sequence[Routing] = ()) -> Audit:
    """See that every part of an adapter got a gradient from the last backward pass.

    B of a new adapter is 0, and so, by the chain rule, is the gradient of A: A is looked at only where B is not 0. See
    :func:`probe_gradients` for both.

    Parameters
    ----------
    routings
        Of all micro-batches of the pass. Without them an expert that got no token cannot be told from one whose adapter
        is dead.

    Raises
    ------
    AdapterError
        Naming the parts without a gradient, or whose gradient is not finite.
    """
    loads: dict[int, Tensor] = {}
    for routing in routings:
        loads[routing.layer] = loads.get(routing.layer, torch.zeros(1)).to(routing.experts.device) + routing.counts()
    dead, wild, idle, n_checked = [], [], [], 0
    for part in adapter.parts():
        if part.expert is not None and part.layer in loads and not loads[part.layer][part.expert]:
            idle.append(part.name)
            continue
        # The gradient of one factor is a product with the other.
        for name, gradient, other in zip("AB", part.gradients, (part.b, part.a), strict=True):
            if name == "A" and not other.any():
                continue
            if gradient is None or not gradient.any():
                dead.append(f"{name} of {part.name}")
            elif not gradient.isfinite().all():
                wild.append(f"{name} of {part.name}")
            else:
                n_checked += 1
    if dead:
        unknown = not routings and any(target.experts is not None for target in adapter.targets)
        hint = " (give the routings, to tell experts that got no token)" if unknown else ""
        raise AdapterError(
            f"{len(dead)} factors of the adapter get no gradient, and would never learn: {_listed(dead)}{hint}. What "
            "they adapt has no effect on the loss, or is read past the adapter"
        )
    if wild:
        raise AdapterError(f"{len(wild)} factors of the adapter have a gradient that is not finite: {_listed(wild)}")
    return Audit(n_checked, tuple(idle))


def probe_gradients(
    adapter: Adapter, loss_of: Callable[[nn.Module], tuple[Tensor, Sequence[Routing]]], *, seed: int = 0
) -> Audit:
    """Audit A and B on one batch before training: B is drawn for the time of one pass, and put back bit for bit.

    Parameters
    ----------
    loss_of
        Runs the model on a batch; gives the loss, and the routings of the pass (none in a network without experts).
    seed
        Of B.

    Raises
    ------
    AdapterError
        As :func:`audit_gradients`.
    """
    trained = [p for p in adapter.model.parameters() if p.requires_grad]
    before = [p.grad for p in trained]
    kept = {part.of_all_b: part.of_all_b.detach().clone() for part in adapter.parts()}
    generator = torch.Generator().manual_seed(seed)
    try:
        with torch.no_grad():
            for part in adapter.parts():
                part.b.copy_(_PROBE_STD * torch.randn(part.b.shape, generator=generator))
        for p in trained:
            p.grad = None
        loss, routings = loss_of(adapter.model)
        loss.backward()
        return audit_gradients(adapter, routings)
    finally:
        with torch.no_grad():
            for whole, values in kept.items():
                whole.copy_(values)
        for p, gradient in zip(trained, before, strict=True):
            p.grad = gradient


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
