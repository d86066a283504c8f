"""Root-mean-square norm of a sum: ``reference`` is the definition, every other backend must agree with it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from umbel.errors import ShapeError
from umbel.ops import backends
from umbel.ops.rms_norm import op, reference

Backend = Literal["auto", "triton", "cpu", "reference"]


def offered(x: Tensor, *others: Tensor | None) -> dict[str, str | None]:
    """Give each backend, fastest first, with the reason why it cannot run on these inputs, or None."""
    return {"triton": backends.why_not_triton(x), "cpu": backends.why_not_cpu_kernel(x, *others), "reference": None}


def add_rms_norm(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    eps: float,
    *,
    out_dtype: torch.dtype | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    r"""Add a branch to the residual stream, and normalise the sum for the next branch.

    :math:`s = r + x` and :math:`y = s \cdot w / \sqrt{\mathrm{mean}(s^2) + \epsilon}`, over the last dimension,
    in at least float32.

    Parameters
    ----------
    x
        What a branch gave, ``(..., D)``.
    residual
        The stream before it, ``(..., D)``; None stands for zeros, and s is x itself.
    weight
        ``(D,)``.
    eps
        Added to the mean square, > 0.
    out_dtype
        Dtype of the normalised sum; None takes that of ``weight``, or autocast's where that is on.
    backend
        ``auto`` takes the fastest that can run; see ``umbel doctor``.

    Returns
    -------
    y, s
        ``(..., D)`` each; s in the wider dtype of ``x`` and ``residual``.

    Raises
    ------
    ShapeError
        If shapes do not fit together.
    BackendError
        If the backend asked for by name cannot run on these inputs.

    References
    ----------
    Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", arXiv:1910.07467, eq. 4.

    Examples
    --------
    >>> import torch
    >>> y, s = add_rms_norm(torch.tensor([[3.0, 3.0]]), torch.tensor([[1.0, 1.0]]), torch.ones(2), 1e-12)
    >>> y.tolist(), s.tolist()
    ([[1.0, 1.0]], [[4.0, 4.0]])
    """
    if weight.shape != x.shape[-1:] or (residual is not None and residual.shape != x.shape):
        shapes = f"x {tuple(x.shape)}, residual {None if residual is None else tuple(residual.shape)}"
        raise ShapeError(f"add_rms_norm: {shapes} and weight {tuple(weight.shape)} do not fit together")
    if out_dtype is None:
        kind = x.device.type
        out_dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    reasons = offered(x if residual is None else residual, x, weight)
    if out_dtype != torch.float32:
        reasons["cpu"] = reasons["cpu"] or f"gives float32, and {out_dtype} is asked for"
    chosen = backends.choose("add_rms_norm", backend, reasons)
    if chosen == "reference":
        return reference.apply(x, residual, weight, eps, out_dtype)
    return op.apply(x, residual, weight, eps, out_dtype, chosen)
