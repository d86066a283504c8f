"""What stands on a backbone: linear layers in float32, numbers in their own units, and the masked-language loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from umbel.errors import ConfigError

IGNORED = -100


def label_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in nats at every position that has a label, ``(B, L)`` float32; 0 elsewhere.

    Parameters
    ----------
    logits
        ``(B, L, V)``; computed in float32 whatever their dtype.
    labels
        ``(B, L)`` token ids, or -100 where there is nothing to predict.
    """
    flat = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return flat.view(labels.shape)


def masked_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of :func:`label_losses` over the positions that have a label; 0 where none has."""
    return label_losses(logits, labels).sum() / (labels != IGNORED).sum().clamp(min=1)


def at_least_float32(x: Tensor) -> Tensor:
    """Give half precision as float32, and anything else as it is."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def apply_head(head: nn.Module, hidden: Tensor) -> Tensor:
    """Run a linear layer in the precision of its weights, also under autocast; float32 or float64 comes out.

    Examples
    --------
    >>> apply_head(nn.Linear(4, 2), torch.zeros(3, 4, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    weight: Tensor = head.weight  # type: ignore[assignment]
    with torch.autocast(hidden.device.type, enabled=False):
        return at_least_float32(head(hidden.to(weight.dtype)))


class NumberHead(nn.Linear):
    """A linear layer for quantities: it gives standardised numbers, and :meth:`in_units` those of the target.

    So weights and loss have one scale whatever is measured, and in whatever units. Mean and scale are saved with the
    weights; 0 and 1 change nothing.

    Attributes
    ----------
    output_mean, output_scale
        float buffers ``(outputs,)``: an output is ``scale * linear + mean``.

    Examples
    --------
    >>> head = NumberHead(4, 1)
    >>> head.set_units([100.0], [5.0])
    >>> head.in_units(torch.tensor([[-1.0]]))
    tensor([[95.]])
    """

    output_mean: Tensor
    output_scale: Tensor

    def __init__(self, d_model: int, n_outputs: int):
        super().__init__(d_model, n_outputs)
        self.register_buffer("output_mean", torch.zeros(n_outputs))
        self.register_buffer("output_scale", torch.ones(n_outputs))

    def set_units(self, mean: Sequence[float] | None, scale: Sequence[float] | None) -> None:
        """Set mean and scale, which are those of the training targets; None leaves one as it is.

        Raises
        ------
        ConfigError
            If there is not one number per output, a number is not finite, or a scale is not above zero.
        """
        for name, values in (("output_mean", mean), ("output_scale", scale)):
            if values is None:
                continue
            given = torch.as_tensor(values, dtype=torch.float64)
            if given.shape != (self.out_features,):
                raise ConfigError(f"{name} has shape {tuple(given.shape)}, and there are {self.out_features} outputs")
            bad = ~given.isfinite() | (
                given <= 0 if name == "output_scale" else torch.zeros_like(given, dtype=torch.bool)
            )
            if bool(bad.any()):
                place = int(bad.nonzero()[0])
                kind = "finite and above 0" if name == "output_scale" else "finite"
                raise ConfigError(f"{name}[{place}] is {float(given[place])}, must be {kind}")
            getattr(self, name).copy_(given)

    def in_units(self, standardised: Tensor) -> Tensor:
        """Turn ``(..., outputs)`` of the linear layer into numbers in the units of the target."""
        return standardised * self.output_scale.to(standardised.dtype) + self.output_mean.to(standardised.dtype)

    def standardised(self, targets: Tensor) -> Tensor:
        """Undo :meth:`in_units`."""
        targets = targets if targets.dtype == torch.float64 else targets.float()
        return (targets - self.output_mean.to(targets.dtype)) / self.output_scale.to(targets.dtype)
