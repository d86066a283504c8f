"""Short depthwise convolution with SiLU: ``reference`` is the definition, every other backend must agree with it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from umbel.errors import ShapeError
from umbel.ops import backends
from umbel.ops.causal_conv import op, reference, shifted

Backend = Literal["auto", "triton", "cpu", "shifted", "reference"]


def offered(x: Tensor, *others: Tensor | None) -> dict[str, str | None]:
    """Give each backend, fastest first, with the reason why it cannot run on these inputs, or None."""
    return {
        "triton": backends.why_not_triton(x),
        "cpu": backends.why_not_cpu_kernel(x, *others),
        "shifted": None,
        "reference": None,
    }


def causal_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    reverse: bool = False,
    spans: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    r"""Convolve every channel with its own short filter that sees only the past, then apply SiLU.

    :math:`y_t = \mathrm{SiLU}(b + \sum_{k=0}^{W-1} w_k\, x_{t-(W-1-k)})`; with ``reverse`` the filter sees only
    the future, :math:`x_{t+(W-1-k)}`. Bases outside the sequence count as zero.

    **Both directions.** When ``weight`` and ``bias`` have a leading dimension of 2, the same input is convolved
    along time with the first and against it with the second, and the output has that dimension too.

    Parameters
    ----------
    x
        Input, ``(B, L, I)``, channels last; it may be a slice of a wider tensor.
    weight
        Filters, ``(I, W)`` or ``(2, I, W)``; the last tap meets the present base.
    bias
        ``(I,)`` or ``(2, I)``.
    reverse
        Look at the future in place of the past; with two directions it must stay False.
    spans
        ``(B, 2)`` integers: the first position of each row's sequence and the one past its last; outside it
        the input counts as zero, whatever it holds, and the output is 0. None takes all.
    backend
        ``auto`` takes the fastest that can run; see ``umbel doctor``. Half precision is computed in float32.

    Returns
    -------
    ``(B, L, I)`` or ``(2, B, L, I)``, in the dtype of ``x``.

    Raises
    ------
    ShapeError
        If shapes do not fit together.
    BackendError
        If the backend asked for by name cannot run on these inputs.

    References
    ----------
    Gu and Dao 2023, "Mamba", arXiv:2312.00752, figure 3.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([0.0, 1.0, 0.0]).reshape(1, 3, 1)
    >>> causal_conv(x, torch.tensor([[2.0, 0.0]]), torch.zeros(1)).argmax().item()
    2
    >>> causal_conv(x, torch.tensor([[2.0, 0.0]]), torch.zeros(1), reverse=True).argmax().item()
    0
    """
    both = weight.dim() == 3
    if not both:
        weight, bias = weight[None], bias[None]
    _check(x, weight, bias, spans, both, reverse)
    chosen = backends.choose("causal_conv", backend, offered(x, weight, bias))
    if chosen in ("triton", "cpu"):
        y = op.convolve(x, weight, bias, spans, reverse, chosen)
    else:
        dtype, wide = x.dtype, torch.promote_types(x.dtype, torch.float32)
        twin = shifted if chosen == "shifted" else reference
        y = twin.apply(x.to(wide), weight.to(wide), bias.to(wide), spans, reverse).to(dtype)
    return y if both else y[0]


def _check(x: Tensor, weight: Tensor, bias: Tensor, spans: Tensor | None, both: bool, reverse: bool) -> None:
    if x.dim() != 3:
        raise ShapeError(f"causal_conv: x is {tuple(x.shape)}; it must be (B, L, I)")
    if both and reverse:
        raise ShapeError("causal_conv: with two directions the second runs against time anyway; drop reverse=True")
    s = 2 if both else 1
    wanted: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "weight": (weight, (s, x.shape[2], weight.shape[-1])),
        "bias": (bias, (s, x.shape[2])),
        "spans": (spans, (x.shape[0], 2)),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ShapeError(
                f"causal_conv: {name} is {tuple(tensor.shape)}, where x {tuple(x.shape)} and {s} directions "
                f"ask for {shape}"
            )
