"""Selective scan of Mamba-1: ``reference`` is the definition, every other backend must agree with it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from umbel.errors import ShapeError
from umbel.ops import backends
from umbel.ops.selective_scan import chunked, op, reference

Backend = Literal["auto", "triton", "cpu", "chunked", "reference"]


def offered(x: Tensor, *others: Tensor | None) -> dict[str, str | None]:
    """Give each backend, fastest first, with the reason why it cannot run on these inputs, or None."""
    return {
        "triton": backends.why_not_triton(x),
        "cpu": backends.why_not_cpu_kernel(x, *others),
        "chunked": None,
        "reference": None,
    }


def selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    z: Tensor | None = None,
    *,
    reverse: bool = False,
    initial_state: Tensor | None = None,
    spans: Tensor | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    r"""Scan sequences with input-dependent steps, along time, against it, or both in one call.

    For every channel :math:`i`, with :math:`\Delta_t = \mathrm{softplus}(dt_t + b)`,
    :math:`h_t = e^{\Delta_t A} h_{t-1} + \Delta_t B_t u_t` and
    :math:`y_t = (C_t \cdot h_t + D u_t) \, \mathrm{SiLU}(z_t)`.
    Against time the neighbour is :math:`h_{t+1}`; nothing is flipped or copied.

    **Both directions.** When ``u``, ``dt``, ``A``, ``B``, ``C``, ``D`` and ``dt_bias`` have a leading dimension
    of 2, the first slice runs along time and the second against it, and their outputs are added before the one
    gate: :math:`y = (y^\to + y^\gets) \, \mathrm{SiLU}(z)`. The gate is elementwise, so this equals gating both
    and adding.

    Parameters
    ----------
    u
        Input, ``(B, L, I)``; float32, float64, bfloat16 or float16.
    dt
        Raw step sizes, before the bias and softplus, ``(B, L, I)``.
    A
        Decay rates, ``(I, N)``, < 0.
    B, C
        Input and output maps, ``(B, L, N)``; they may be slices of a wider tensor.
    D
        Skip weights, ``(I,)``.
    dt_bias
        ``(I,)``, added to ``dt``.
    z
        Gate before SiLU, ``(B, L, I)``, without the dimension of directions; None leaves the gate out.
    reverse
        Run from the last base to the first; with two directions it must stay False.
    initial_state
        ``(B, I, N)``, the state before the first base a direction meets; None is zero.
    spans
        ``(B, 2)`` integers: the first position of each row's sequence and the one past its last. What lies
        outside is padding: it never enters a state, whatever it holds, and its output is 0. None takes all.
    backend
        ``auto`` takes the fastest that can run; see ``umbel doctor``. Half precision is computed in float32.

    Returns
    -------
    y, last_state
        ``(B, L, I)`` in the dtype of ``u``; and ``(B, I, N)``, the state after the last base a direction meets,
        in at least float32, with the leading 2 where there are two directions.

    Raises
    ------
    ShapeError
        If shapes do not fit together.
    BackendError
        If the backend asked for by name cannot run on these inputs.

    References
    ----------
    Gu and Dao 2023, "Mamba", arXiv:2312.00752, algorithm 2 with the simplified discretisation of B
    that the authors' code uses, and figure 3 for the gate.

    Examples
    --------
    >>> import torch
    >>> one, zero = torch.ones(1, 3, 1), torch.zeros(1)
    >>> y, last = selective_scan(one, 40 * one, -torch.ones(1, 1), one, one, zero, zero)
    >>> y.flatten().tolist(), last.shape
    ([40.0, 40.0, 40.0], torch.Size([1, 1, 1]))
    """
    both = u.dim() == 4
    if not both:
        u, dt, A, B, C, D, dt_bias = (x[None] for x in (u, dt, A, B, C, D, dt_bias))
        initial_state = None if initial_state is None else initial_state[None]
    _check(u, dt, A, B, C, D, dt_bias, z, initial_state, spans, both, reverse)
    chosen = backends.choose("selective_scan", backend, offered(u, dt, A, B, C, D, dt_bias, z, initial_state))
    if chosen in ("triton", "cpu"):
        y, last = op.scan(u, dt, A, B, C, D, dt_bias, z, initial_state, spans, reverse, chosen)
    else:
        dtype, wide = u.dtype, torch.promote_types(u.dtype, torch.float32)
        u, dt, A, B, C, D, dt_bias = (x.to(wide) for x in (u, dt, A, B, C, D, dt_bias))
        z, initial_state = (x if x is None else x.to(wide) for x in (z, initial_state))
        twin = chunked if chosen == "chunked" else reference
        y, last = twin.scan(u, dt, A, B, C, D, dt_bias, z, initial_state, spans, reverse)
        y = y.to(dtype)
    return y, last if both else last[0]


def _check(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    z: Tensor | None,
    initial: Tensor | None,
    spans: Tensor | None,
    both: bool,
    reverse: bool,
) -> None:
    if u.dim() != 4 or (both and u.shape[0] != 2):
        raise ShapeError(f"selective_scan: u is {tuple(u.shape)}; it must be (B, L, I), or (2, B, L, I) for both ways")
    if both and reverse:
        raise ShapeError("selective_scan: with two directions the second runs against time anyway; drop reverse=True")
    s, batch, length, inner = u.shape
    n_state = A.shape[-1]
    wanted: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "dt": (dt, (s, batch, length, inner)),
        "A": (A, (s, inner, n_state)),
        "B": (B, (s, batch, length, n_state)),
        "C": (C, (s, batch, length, n_state)),
        "D": (D, (s, inner)),
        "dt_bias": (dt_bias, (s, inner)),
        "z": (z, (batch, length, inner)),
        "initial_state": (initial, (s, batch, inner, n_state)),
        "spans": (spans, (batch, 2)),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ShapeError(
                f"selective_scan: {name} is {tuple(tensor.shape)}, where u ({s} directions, {batch} rows, "
                f"{length} bases, {inner} channels) and A ({n_state} states) ask for {shape}"
            )
