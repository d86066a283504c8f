"""The grouped MLP on a CPU in float32: torch's matrix products for each expert, SwiGLU fused between them.

An expert is a contiguous slice of rows, of outputs and of gradients, so every product writes to its place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from umbel.ops.threads import launch, load_kernels


def swiglu(gated: Tensor, upped: Tensor, out: Tensor) -> Tensor:
    """Write SiLU(gated) * upped, all contiguous and float32, to ``out``, which may be one of the two."""
    kernels = load_kernels("umbel.ops.grouped_mlp.cpu_kernels")
    count = gated.numel()
    addresses = (x.data_ptr() for x in (gated, upped, out))
    launch(kernels.swiglu, -(-count // kernels.RUN), 0, count, *addresses)
    return out


def expert_runs(counts_E: Tensor) -> list[slice]:
    """Turn rows per expert into the slice of rows of each."""
    ends = counts_E.cumsum(0).tolist()
    return [slice(low, high) for low, high in zip([0, *ends], ends, strict=False)]


def experts_into(
    x_RD: Tensor,
    gate_EFD: Tensor,
    up_EFD: Tensor,
    down_EDF: Tensor,
    runs: list[slice],
    gated: Tensor,
    upped: Tensor,
    hidden: Tensor,
    y_RD: Tensor,
) -> None:
    """Run each expert on its rows and write the outputs to ``y_RD``; ``hidden`` may be ``gated`` or ``upped``."""
    for run, gate, up in zip(runs, gate_EFD, up_EFD, strict=True):
        torch.mm(x_RD[run], gate.T, out=gated[run])
        torch.mm(x_RD[run], up.T, out=upped[run])
    owned = runs[-1].stop
    swiglu(gated[:owned], upped[:owned], hidden[:owned])
    for run, down in zip(runs, down_EDF, strict=True):
        torch.mm(hidden[run], down.T, out=y_RD[run])


def forward(
    x_RD: Tensor, gate_EFD: Tensor, up_EFD: Tensor, down_EDF: Tensor, counts_E: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the experts; shapes and meaning as in :mod:`umbel.ops.grouped_mlp.op`."""
    runs = expert_runs(counts_E)
    owned = runs[-1].stop
    gated, upped = (x_RD.new_empty(len(x_RD), gate_EFD.shape[1]) for _ in range(2))
    hidden = torch.empty_like(upped) if keep else upped
    y_RD = torch.empty_like(x_RD, memory_format=torch.contiguous_format)
    experts_into(x_RD, gate_EFD, up_EFD, down_EDF, runs, gated, upped, hidden, y_RD)
    y_RD[owned:] = 0
    if not keep:
        return y_RD, gated.new_empty(0, gated.shape[1]), gated.new_empty(0, gated.shape[1])
    # Nobody reads these rows, but they leave the operator.
    gated[owned:] = 0
    upped[owned:] = 0
    return y_RD, gated, upped


def backward(
    g_RD: Tensor,
    x_RD: Tensor,
    gate_EFD: Tensor,
    up_EFD: Tensor,
    down_EDF: Tensor,
    counts_E: Tensor,
    gated_RF: Tensor,
    upped_RF: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Differentiate; an idle expert's products have no rows, and give zeros."""
    kernels = load_kernels("umbel.ops.grouped_mlp.cpu_kernels")
    runs = expert_runs(counts_E)
    owned = runs[-1].stop
    g_RD = g_RD.contiguous()
    hidden = torch.empty_like(gated_RF)
    for run, down in zip(runs, down_EDF, strict=True):
        torch.mm(g_RD[run], down, out=hidden[run])
    g_gated, g_upped = torch.empty_like(gated_RF), torch.empty_like(upped_RF)
    count = owned * gated_RF.shape[1]
    addresses = (v.data_ptr() for v in (hidden, gated_RF, upped_RF, g_gated, g_upped, hidden))
    launch(kernels.swiglu_backward, -(-count // kernels.RUN), 0, count, *addresses)
    g_gate, g_up, g_down = (
        torch.empty_like(w, memory_format=torch.contiguous_format) for w in (gate_EFD, up_EFD, down_EDF)
    )
    g_x = torch.empty_like(x_RD, memory_format=torch.contiguous_format)
    for e, run in enumerate(runs):
        torch.mm(g_gated[run], gate_EFD[e], out=g_x[run])
        g_x[run].addmm_(g_upped[run], up_EFD[e])
        torch.mm(g_gated[run].T, x_RD[run], out=g_gate[e])
        torch.mm(g_upped[run].T, x_RD[run], out=g_up[e])
        torch.mm(g_RD[run].T, hidden[run], out=g_down[e])
    g_x[owned:] = 0
    return g_x, g_gate, g_up, g_down
