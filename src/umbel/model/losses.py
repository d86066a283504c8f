"""Losses of the heads for labelled sequences, part by part, and the labels that they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from umbel.errors import ShapeError
from umbel.model.heads import IGNORED, label_losses

_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@dataclass(frozen=True)
class Losses:
    """The loss of every label. A batch that is cut into several adds up values and weights, and divides at the end.

    Attributes
    ----------
    values
        float32, the shape of the labels; 0 where there is no label.
    weights
        float32 of the same shape: what each counts; 0 where there is no label.

    Examples
    --------
    >>> Losses(torch.tensor([1.0, 4.0]), torch.tensor([3.0, 1.0])).mean()
    tensor(1.7500)
    """

    values: Tensor
    weights: Tensor

    def mean(self) -> Tensor:
        """Weighted mean; 0 where nothing counts."""
        total = self.weights.sum()
        return (self.values * self.weights).sum() / torch.where(total > 0, total, 1)


def _at(index: Sequence[int], where: Sequence[str]) -> str:
    return ", ".join(f"{name} {i}" for name, i in zip(where, index, strict=False))


def _refuse(bad: Tensor, labels: Tensor, where: Sequence[str], problem: str) -> None:
    if bool(bad.any()):
        index = bad.nonzero()[0].tolist()
        raise ValueError(f"{_at(index, where)}: the label is {labels[tuple(index)].item()}, {problem}")


def _require_shape(labels: Tensor, *allowed: tuple[int, ...]) -> None:
    if tuple(labels.shape) not in allowed:
        wanted = " or ".join(str(shape) for shape in allowed)
        raise ShapeError(f"labels have shape {tuple(labels.shape)}, must be {wanted}")


def class_losses(logits: Tensor, labels: Tensor, class_weights: Sequence[float] | None = None) -> Losses:
    """Cross-entropy in nats of one class out of C; each counts what its class weighs.

    Parameters
    ----------
    logits
        ``(B, C)`` of sequences, or ``(B, L, C)`` of places along them.
    labels
        Class numbers: ``(B,)`` or ``(B, 1)`` for sequences; ``(B, L)`` for places, -100 where there is no class.
    class_weights
        ``(C,)``; None is 1 for all.

    Raises
    ------
    ValueError
        If a label is no whole number or no class.
    ShapeError
        If labels have another shape.

    Examples
    --------
    >>> class_losses(torch.zeros(2, 4), torch.tensor([3, 0]), [1.0, 1.0, 1.0, 2.0])
    Losses(values=tensor([1.3863, 1.3863]), weights=tensor([2., 1.]))
    """
    n_classes, along = logits.shape[-1], logits.ndim == 3
    shape = tuple(logits.shape[:-1])
    _require_shape(labels, *([shape] if along else [shape, (*shape, 1)]))
    if labels.dtype not in _WHOLE:
        raise ValueError(f"labels are {labels.dtype}, and classes are whole numbers (torch.int64)")
    labels = labels.reshape(shape).to(logits.device, torch.int64)
    bad, problem = (labels < 0) | (labels >= n_classes), f"and there are {n_classes} classes: 0 to {n_classes - 1}"
    if along:
        bad, problem = bad & (labels != IGNORED), f"{problem}, or {IGNORED} for none"
    _refuse(bad, labels, ("row", "place"), problem)
    weights = (labels != IGNORED).float()
    if class_weights is not None:
        weights = weights * torch.tensor(class_weights, device=logits.device)[labels.clamp(min=0)]
    values = label_losses(logits, labels) if along else label_losses(logits[:, None], labels[:, None])[:, 0]
    return Losses(values, weights)


def label_set_losses(logits: Tensor, labels: Tensor) -> Losses:
    """Binary cross-entropy in nats of C labels, each of which is there or not.

    Parameters
    ----------
    logits
        ``(B, C)``.
    labels
        ``(B, C)`` of 0 to 1.

    Raises
    ------
    ValueError
        If a label is not from 0 to 1.
    ShapeError
        If labels have another shape.

    Examples
    --------
    >>> label_set_losses(torch.zeros(1, 2), torch.tensor([[1, 0]])).values
    tensor([[0.6931, 0.6931]])
    """
    _require_shape(labels, tuple(logits.shape))
    labels = labels.to(logits.device, torch.float32)
    _refuse(~((labels >= 0) & (labels <= 1)), labels, ("row", "label"), "must be from 0 to 1")
    values = F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="none")
    return Losses(values, torch.ones_like(values))


def require_numbers(labels: Tensor, shape: tuple[int, ...], *, all_known: bool) -> Tensor:
    """Give the targets of quantities in the shape of the logits.

    Parameters
    ----------
    labels
        Of that shape, or without a last dimension of 1. NaN where nothing was measured.
    shape
        Of the logits.
    all_known
        NaN is refused too.

    Raises
    ------
    ValueError
        If a target is infinite, or NaN where that is refused.
    ShapeError
        If labels have another shape.
    """
    _require_shape(labels, *([shape, shape[:-1]] if shape[-1] == 1 else [shape]))
    labels = labels.reshape(shape)
    where = ("row", "output") if len(shape) == 2 else ("row", "bin", "output")
    _refuse(labels.isinf() | (labels.isnan() & all_known), labels, where, "must be a finite number")
    return labels


def number_losses(standardised: Tensor, targets: Tensor) -> Losses:
    """Squared error of standardised outputs; a target that is NaN is not there.

    Parameters
    ----------
    standardised, targets
        ``(..., outputs)``, both in the units of :class:`~umbel.model.heads.NumberHead`'s linear layer.

    Examples
    --------
    >>> number_losses(torch.tensor([1.0, 5.0]), torch.tensor([3.0, torch.nan]))
    Losses(values=tensor([4., 0.]), weights=tensor([1., 0.]))
    """
    known = ~targets.isnan()
    values = torch.where(known, standardised.float() - targets.nan_to_num().float(), 0).square()
    return Losses(values, known.float())
