"""Gated long convolution of HyenaLite: ``reference`` is the definition, every other backend must agree with it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from umbel.errors import ShapeError
from umbel.ops import backends
from umbel.ops.long_conv import fft, modes, op, recurrent, reference

Backend = Literal["auto", "cpu", "fft", "recurrent", "reference"]


def offered(z: Tensor, *others: Tensor | None) -> dict[str, str | None]:
    """Give each backend, fastest first, with the reason why it cannot run on these inputs, or None."""
    # On a CPU no length from 64 to 32,768 was found where Fourier transforms are faster than the other two
    # (benchmarks/long_conv.py). On CUDA nothing was measured: two batched transforms against many small steps.
    plain = ("fft", "recurrent") if z.device.type == "cuda" else ("recurrent", "fft")
    return {"cpu": backends.why_not_cpu_kernel(z, *others)} | dict.fromkeys((*plain, "reference"))


def long_conv(
    z: Tensor,
    residues: Tensor,
    poles: Tensor,
    skip: Tensor,
    *,
    initial_state: Tensor | None = None,
    spans: Tensor | None = None,
    reverse: bool = False,
    filter: Tensor | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    r"""Convolve every channel with a filter as long as the sequence, between two gates.

    ``z`` holds three streams side by side, :math:`x_2, x_1, v`. With :math:`u = x_1 v` and the filter
    :math:`h(t) = \mathrm{Re} \sum_k r_k e^{\lambda_k t}` of each channel,

    .. math:: y(t) = x_2(t) \, \Big[ \sum_{\tau \le t} h(t - \tau)\, u(\tau) + w\, u(t) \Big].

    The same sum is a recurrence over S complex states, :math:`s_k(t) = e^{\lambda_k} s_k(t-1) + u(t)` and
    :math:`(h * u)(t) = \mathrm{Re} \sum_k r_k s_k(t)`, which is how a sequence can be taken in pieces.

    Parameters
    ----------
    z
        The streams, ``(B, L, 3D)``, channels last; it may be a slice of a wider tensor.
    residues
        :math:`r`, ``(D, S, 2)``: real and imaginary parts.
    poles
        :math:`\lambda`, ``(D, S, 2)``: real parts, which must be < 0, and imaginary parts.
    skip
        :math:`w`, ``(D,)``.
    initial_state
        ``(B, D, S, 2)``, the states before the first base that is met; None is zero.
    spans
        ``(B, 2)`` integers: the first position of each row's sequence and the one past its last. Outside it the
        input counts as zero, whatever it holds, and the output is 0. None takes all.
    reverse
        The filter sees the future, :math:`\tau \ge t`, and states go from the last base to the first.
    filter
        What :func:`filter_of` gives for at least L positions, kept from an earlier call. ``fft`` takes it in place
        of computing it; gradients of the filter then go to this tensor. Other backends need none.
    backend
        ``auto`` takes the fastest that can run; see ``umbel doctor``. Half precision is computed in float32.

    Returns
    -------
    y, last_state
        ``(B, L, D)`` in the dtype of ``z``; and ``(B, D, S, 2)``, the states after the last base that is met, in at
        least float32. A row whose span is empty keeps its initial state.

    Raises
    ------
    ShapeError
        If shapes do not fit together.
    BackendError
        If the backend asked for by name cannot run on these inputs.

    References
    ----------
    "HyenaMoE: a hybrid and scalable architecture for efficient genomic modeling", equations 2 to 4.

    Examples
    --------
    One real pole, halving at each base: an impulse comes out as the filter.

    >>> import torch
    >>> z = torch.tensor([[[1.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]])
    >>> residues, poles = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[-0.6931472, 0.0]]])
    >>> y, last_state = long_conv(z, residues, poles, torch.zeros(1))
    >>> [round(v, 4) for v in y.flatten().tolist()], last_state.shape
    ([1.0, 0.5, 0.25], torch.Size([1, 1, 1, 2]))
    """
    _check(z, residues, poles, skip, initial_state, spans, filter)
    chosen = backends.choose("long_conv", backend, offered(z, residues, poles, skip, initial_state))
    if chosen == "cpu":
        return op.convolve(z, residues, poles, skip, initial_state, spans, reverse, chosen)
    dtype, wide = z.dtype, torch.promote_types(z.dtype, torch.float32)
    z, residues, poles, skip = (x.to(wide) for x in (z, residues, poles, skip))
    initial_state = None if initial_state is None else initial_state.to(wide)
    if chosen == "fft":
        h = None if filter is None else filter.to(wide)
        y, last = fft.convolve(z, residues, poles, skip, initial_state, spans, reverse, h)
    else:
        twin = recurrent if chosen == "recurrent" else reference
        y, last = twin.convolve(z, residues, poles, skip, initial_state, spans, reverse)
    return y.to(dtype), last


def filter_of(residues: Tensor, poles: Tensor, length: int) -> Tensor:
    r"""Give the filters themselves, :math:`h(t) = \mathrm{Re} \sum_k r_k e^{\lambda_k t}` for t from 0.

    Parameters
    ----------
    residues, poles
        ``(D, S, 2)`` each, as in :func:`long_conv`; float32 or float64.
    length
        Positions, at least 1.

    Returns
    -------
    ``(D, length)``, in the dtype of ``residues``; differentiable.

    Raises
    ------
    ShapeError
        If shapes do not fit together, or the length is not positive.

    Examples
    --------
    >>> filter_of(torch.tensor([[[2.0, 0.0]]]), torch.tensor([[[-0.6931472, 0.0]]]), 3)
    tensor([[2.0000, 1.0000, 0.5000]])
    """
    if residues.dim() != 3 or residues.shape[2] != 2 or poles.shape != residues.shape or length < 1:
        raise ShapeError(
            f"filter_of: residues {tuple(residues.shape)} and poles {tuple(poles.shape)} must both be (D, S, 2), "
            f"and the length, {length}, at least 1"
        )
    return modes.responses(residues, poles, length)


def _check(
    z: Tensor,
    residues: Tensor,
    poles: Tensor,
    skip: Tensor,
    initial: Tensor | None,
    spans: Tensor | None,
    cached: Tensor | None,
) -> None:
    if z.dim() != 3 or z.shape[2] % 3 or z.shape[1] == 0:
        raise ShapeError(f"long_conv: z is {tuple(z.shape)}; it must be (B, L, 3D) with at least one base")
    if residues.dim() != 3:
        raise ShapeError(f"long_conv: residues is {tuple(residues.shape)}; it must be (D, S, 2)")
    batch, length, width = z.shape[0], z.shape[1], z.shape[2] // 3
    n_state = residues.shape[1]
    wanted: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "residues": (residues, (width, n_state, 2)),
        "poles": (poles, (width, n_state, 2)),
        "skip": (skip, (width,)),
        "initial_state": (initial, (batch, width, n_state, 2)),
        "spans": (spans, (batch, 2)),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ShapeError(
                f"long_conv: {name} is {tuple(tensor.shape)}, where z ({batch} rows, {length} bases, three streams of "
                f"{width} channels) and residues ({n_state} poles) ask for {shape}"
            )
    if cached is not None and (cached.dim() != 2 or cached.shape[0] != width or cached.shape[1] < length):
        raise ShapeError(
            f"long_conv: filter is {tuple(cached.shape)}, where z ({length} bases, {width} channels) asks for "
            f"({width}, {length}) or longer; make it with filter_of"
        )
