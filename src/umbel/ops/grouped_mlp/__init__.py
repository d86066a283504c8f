"""SwiGLU experts on rows sorted by expert: ``reference`` is the definition, every other backend must agree with it."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from umbel.ops import backends
from umbel.ops.grouped_mlp import grouped, op, reference

Backend = Literal["auto", "grouped", "triton", "cpu", "reference"]


def offered(x: Tensor, *others: Tensor | None) -> dict[str, str | None]:
    """Give each backend, fastest first, with the reason why it cannot run on these inputs, or None."""
    return {
        "grouped": grouped.why_not(x),
        "triton": backends.why_not_triton(x) or _why_not_interpreted(x),
        "cpu": backends.why_not_cpu_kernel(x, *others),
        "reference": None,
    }


def _why_not_interpreted(x: Tensor) -> str | None:
    """Refuse what Triton's interpreter gets wrong: its matrix product takes the bits of bfloat16 for integers."""
    wrong = x.device.type == "cpu" and x.dtype == torch.bfloat16
    return "takes float32 and float16 on a CPU, and got torch.bfloat16" if wrong else None


def grouped_mlp(
    x_RD: Tensor,
    gate_EFD: Tensor,
    up_EFD: Tensor,
    down_EDF: Tensor,
    counts_E: Tensor,
    *,
    backend: Backend = "auto",
) -> Tensor:
    r"""Apply expert ``e`` to its own contiguous run of rows.

    Each expert is a SwiGLU MLP, :math:`f_e(x) = W^{down}_e(\mathrm{SiLU}(W^{gate}_e x) \odot W^{up}_e x)`.
    Rows must already be sorted by expert; :func:`umbel.model.moe.dispatch` does that.

    Parameters
    ----------
    x_RD
        Routed token states, ``(R, D)``, R = tokens x top_k.
    gate_EFD, up_EFD, down_EDF
        Expert weights, ``(E, F, D)``, ``(E, F, D)`` and ``(E, D, F)``.
    counts_E
        Rows per expert, ``(E,)``, integers. Zero is allowed (an idle expert). They add up to R or less: rows
        after the last expert's belong to nobody (padding) and come out as zeros. It is not checked here,
        because reading them would stall a GPU.
    backend
        ``auto`` takes the fastest that can run; see ``umbel doctor``.

    Returns
    -------
    Expert outputs in the row order of ``x_RD``, ``(R, D)``. Under autocast, in its dtype.

    References
    ----------
    Shazeer 2020, "GLU Variants Improve Transformer", arXiv:2002.05202, eq. 6.
    Gale et al. 2022, "MegaBlocks", arXiv:2211.15841, section 2.

    Examples
    --------
    >>> import torch
    >>> x, w = torch.ones(3, 2), torch.ones(2, 4, 2)
    >>> grouped_mlp(x, w, w, w.mT, torch.tensor([1, 2])).shape
    torch.Size([3, 2])
    """
    x_RD, gate_EFD, up_EFD, down_EDF = _autocast(x_RD, gate_EFD, up_EFD, down_EDF)
    chosen = backends.choose("grouped_mlp", backend, offered(x_RD, gate_EFD, up_EFD, down_EDF))
    if chosen in ("triton", "cpu"):
        return op.apply(x_RD, gate_EFD, up_EFD, down_EDF, counts_E, chosen)
    return (grouped if chosen == "grouped" else reference).apply(x_RD, gate_EFD, up_EFD, down_EDF, counts_E)


def gated_mlp(x: Tensor, gate_FD: Tensor, up_FD: Tensor, down_DF: Tensor) -> Tensor:
    r"""Apply one SwiGLU MLP, :math:`W^{down}(\mathrm{SiLU}(W^{gate} x) \odot W^{up} x)`, to every row.

    It is :func:`grouped_mlp` with a single expert, and on a CPU it runs as that.

    Parameters
    ----------
    x
        ``(..., D)``.
    gate_FD, up_FD, down_DF
        ``(F, D)``, ``(F, D)`` and ``(D, F)``.

    Returns
    -------
    ``(..., D)``. Under autocast, in its dtype.

    References
    ----------
    Shazeer 2020, "GLU Variants Improve Transformer", arXiv:2002.05202, eq. 6.

    Examples
    --------
    >>> import torch
    >>> gated_mlp(torch.ones(2, 3), torch.zeros(5, 3), torch.ones(5, 3), torch.ones(3, 5)).sum().item()
    0.0
    """
    x, gate_FD, up_FD, down_DF = _autocast(x, gate_FD, up_FD, down_DF)
    if offered(x, gate_FD, up_FD, down_DF)["cpu"] is not None:
        return F.linear(F.silu(F.linear(x, gate_FD)) * F.linear(x, up_FD), down_DF)
    rows = x.reshape(-1, x.shape[-1])
    counts = torch.tensor([rows.shape[0]])
    return op.apply(rows, gate_FD[None], up_FD[None], down_DF[None], counts, "cpu").view(x.shape)


def _autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    kind = tensors[0].device.type
    if not torch.is_autocast_enabled(kind):
        return tensors
    return tuple(x.to(torch.get_autocast_dtype(kind)) for x in tensors)
