"""Selective scan of Mamba-1: ``reference`` is the definition, every other backend must agree with it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from umbel.errors import BackendError
from umbel.ops.selective_scan import chunked, cpu, reference

Backend = Literal["auto", "reference", "chunked", "cpu"]


def choose_backend(device: torch.device, dtype: torch.dtype) -> Backend:
    """Name the backend that ``auto`` takes: ``cpu`` for float32 on a CPU, ``chunked`` for the rest."""
    return "cpu" if device.type == "cpu" and dtype == torch.float32 else "chunked"


def selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    *,
    reverse: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    r"""Scan a sequence with input-dependent steps, forwards or backwards in time.

    For every channel :math:`i`,
    :math:`h_t = e^{\Delta_t A} h_{t-1} + \Delta_t B_t u_t` and :math:`y_t = C_t \cdot h_t + D u_t`,
    from :math:`h = 0`; with ``reverse`` the neighbour is :math:`h_{t+1}`, and nothing is flipped or copied.
    A step of 0 leaves the state exactly as it is: that is how padding is kept out of it.

    Parameters
    ----------
    u
        Input, ``(B, L, I)``.
    dt
        Step sizes after softplus, ``(B, L, I)``, >= 0.
    A
        Decay rates, ``(I, N)``, < 0.
    B, C
        Input and output maps, ``(B, L, N)``.
    D
        Skip weights, ``(I,)``.
    reverse
        Run from the last base to the first.
    backend
        ``auto`` takes ``cpu`` (numba, float32) for float32 on a CPU, else ``chunked``.
        Half-precision inputs are computed in float32.

    Returns
    -------
    ``y``, ``(B, L, I)``, in the dtype of ``u``.

    Raises
    ------
    BackendError
        If ``cpu`` is asked for by name with inputs that are not float32 on a CPU.

    References
    ----------
    Gu and Dao 2023, "Mamba", arXiv:2312.00752, algorithm 2 with the simplified discretisation of B
    that the authors' code uses.

    Examples
    --------
    >>> import torch
    >>> one = torch.ones(1, 3, 1)
    >>> selective_scan(one, one, -torch.ones(1, 1), one, one, torch.zeros(1)).flatten().tolist()[0]
    1.0
    """
    dtype = u.dtype
    if dtype in (torch.float16, torch.bfloat16):
        u, dt, A, B, C, D = (x.float() for x in (u, dt, A, B, C, D))
    choices = {choose_backend(x.device, x.dtype) for x in (u, dt, A, B, C, D)}
    if backend == "auto":
        backend = "cpu" if choices == {"cpu"} else "chunked"
    if backend == "cpu":
        if choices != {"cpu"}:
            raise BackendError(
                f"selective_scan: backend 'cpu' takes float32 tensors on a CPU, and got {u.dtype} on {u.device}. "
                "Use backend='auto' or 'chunked'."
            )
        return cpu.scan(u, dt, A, B, C, D, reverse).to(dtype)
    return (chunked if backend == "chunked" else reference).scan(u, dt, A, B, C, D, reverse).to(dtype)
