"""An exponential moving average of the weights, beside the ones that are trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from umbel.errors import CheckpointError
from umbel.train.shards import local_part


class Ema:
    r"""Average of the weights after each step, recent ones counting most, in float32.

    After t updates the weights of update i count as :math:`d^{t-i}`, divided by the sum over all i = 1 ... t. So the
    average after the first update is the weights then, and the initial ones are never in it: each update moves the
    average by :math:`(1 - d) / (1 - d^t)` of the way to the weights, which is Adam's correction of the bias.

    Buffers are not averaged. Parameters that FSDP2 has cut up have averages that are cut in the same way.

    Parameters
    ----------
    model
        After it was moved to its device and cut up.
    decay
        d, in [0, 1): the average looks back over about 1 / (1 - d) updates.

    Attributes
    ----------
    decay
        d.
    n_updates
        t, which must be saved beside :meth:`weights`.

    References
    ----------
    Polyak and Juditsky 1992, doi:10.1137/0330046; Kingma and Ba 2014, arXiv:1412.6980, section 3 (the correction).

    Examples
    --------
    >>> model = nn.Linear(1, 1, bias=False)
    >>> ema = Ema(model, decay=0.5)
    >>> for value in (3.0, 6.0):
    ...     _ = nn.init.constant_(model.weight, value)
    ...     ema.update()
    >>> ema.weights()["weight"].item()  # (0.5 * 3 + 1 * 6) / (0.5 + 1)
    5.0
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay, self.n_updates = decay, 0
        self._model = model
        self._parameters = dict(model.named_parameters())
        self._averages = {name: p.detach().to(torch.float32, copy=True) for name, p in self._parameters.items()}

    def _pairs(self) -> tuple[list[Tensor], list[Tensor]]:
        """Give what of the averages and of the weights lies in this process."""
        return [local_part(a) for a in self._averages.values()], [local_part(p) for p in self._parameters.values()]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now; to be called after each step that moved them."""
        self.n_updates += 1
        averages, weights = self._pairs()
        share = (1 - self.decay) / (1 - self.decay**self.n_updates)
        torch._foreach_lerp_(averages, [w.float() for w in weights], share)

    def weights(self) -> dict[str, Tensor]:
        """Give the averages, float32, by the names of the parameters; they go on changing with :meth:`update`.

        Before the first update they are the weights that the model had.
        """
        return dict(self._averages)

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor], n_updates: int) -> None:
        """Go on from an average that was saved.

        Parameters
        ----------
        weights
            As :meth:`weights` gave them, cut up in the same way.
        n_updates
            How many updates were in them.

        Raises
        ------
        CheckpointError
            If names or shapes are not those of the model.
        """
        ours = {name: tuple(average.shape) for name, average in self._averages.items()}
        theirs = {name: tuple(weight.shape) for name, weight in weights.items()}
        if ours != theirs:
            wrong = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
            shown = ", ".join(f"{name} {theirs.get(name, 'missing')}" for name in wrong[:3])
            raise CheckpointError(
                f"the saved average of the weights is of another network: {len(wrong)} of its parameters differ "
                f"({shown}). Continue the run with the settings it began with"
            )
        for name, average in self._averages.items():
            local_part(average).copy_(local_part(weights[name]))
        self.n_updates = n_updates

    @contextmanager
    def in_place_of_weights(self) -> Iterator[None]:
        """Let the model have the averages for a while; then it gets its weights back, bit for bit, come what may."""
        averages, weights = self._pairs()
        kept = [w.clone() for w in weights]
        self._fill(weights, averages)
        try:
            yield
        finally:
            self._fill(weights, kept)

    @torch.no_grad()
    def _fill(self, weights: list[Tensor], values: list[Tensor]) -> None:
        for module in self._model.modules():
            # After a forward pass alone FSDP2 still holds whole weights, and would use them in place of the new ones.
            if isinstance(module, FSDPModule):
                module.reshard()
        torch._foreach_copy_(weights, values)
