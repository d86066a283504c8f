"""The loss of labelled sequences, as sums: so that no micro-batch, and no process, changes a mean over a whole step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100


def target_weights(kind: str, targets: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Say how much each target weighs in the loss: 0 where there is none.

    Parameters
    ----------
    kind
        As :class:`umbel.data.labelled.task.Task` has it.
    targets
        Classes: int64, -100 where there is none; else float, NaN where there is none. Any shape.
    class_weights
        ``(classes,)``, for classes only; None weighs all alike.

    Returns
    -------
    float32, the shape of ``targets``.

    Examples
    --------
    >>> target_weights("bases", torch.tensor([1, -100, 0]), torch.tensor([1.0, 3.0])).tolist()
    [3.0, 0.0, 1.0]
    """
    if kind not in ("binary", "multiclass", "bases"):
        return (~targets.isnan()).float()
    known = targets != IGNORED
    if class_weights is None:
        return known.float()
    return class_weights.to(targets.device)[targets.clamp(min=0)] * known


def label_loss_sum(
    kind: str,
    logits: Tensor,
    targets: Tensor,
    class_weights: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """Add up the weighted losses of all targets there are; divide by the sum of :func:`target_weights` for their mean.

    Cross-entropy of a softmax for classes, of sigmoids for labels, squared error for numbers, in nats or in units of
    ``scale`` squared; computed in float32 at least.

    Parameters
    ----------
    logits
        Classes: the shape of ``targets`` and one dimension more, the classes; else the shape of ``targets``.
    scale
        Numbers only: ``(outputs,)``, what an error is divided by. None: 1.

    Returns
    -------
    A scalar.

    Examples
    --------
    >>> logits, targets = torch.tensor([[0.0, 0.0], [9.0, 9.0]]), torch.tensor([1, -100])
    >>> round(label_loss_sum("binary", logits, targets).item(), 4)
    0.6931
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    weights = target_weights(kind, targets, class_weights).to(logits.dtype)
    if kind in ("binary", "multiclass", "bases"):
        flat = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=IGNORED, reduction="none")
        return (flat.view(targets.shape) * weights).sum()
    # Not a product with 0: a NaN would stay one.
    known = torch.where(weights > 0, targets.to(logits.dtype), logits.detach())
    if kind == "multilabel":
        losses = F.binary_cross_entropy_with_logits(logits, known, reduction="none")
    else:
        losses = ((logits - known) / (1.0 if scale is None else scale.to(logits))).square()
    return (losses * weights).sum()
