"""Layers whose weights have 8 bits, for a CPU, and a backbone that has them.

Projections of mixers, FFNs and experts are rounded. What is small or decides stays in float32: ``x_proj``,
``dt_proj``, scans, filters and fusions, norms, routers, the embedding, and whatever stands on the backbone.

Shapes: R rows, D width, F hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from umbel.model.effective_weights import is_wrapped
from umbel.model.layers import SwiGLU
from umbel.model.moe import MoE
from umbel.ops import backends
from umbel.ops.grouped_mlp.cpu import expert_runs, swiglu
from umbel.ops.int8 import Int8Weight, require_int8, round_rows

if TYPE_CHECKING:
    from umbel.model.backbone import Backbone

_MIXERS = ("in_proj", "out_proj", "in_proj_backward", "out_proj_backward")


class Int8Linear(nn.Module):
    """A linear layer without bias, whose weight has 8 bits.

    Examples
    --------
    >>> layer = Int8Linear(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
    >>> layer(torch.tensor([[2.0, 2.0]])).round(decimals=3).tolist()
    [[2.0, -2.0]]
    """

    def __init__(self, weight: Tensor):
        super().__init__()
        self.matrix = Int8Weight(weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in)`` to ``(..., out)``."""
        return self.into(x.reshape(-1, x.shape[-1]), None).view(*x.shape[:-1], -1)

    def into(self, x: Tensor, out: Tensor | None) -> Tensor:
        """Map rows ``(R, in)``, to ``out`` where it is given."""
        return self.matrix.product(round_rows(x), out)


class Int8Gated(nn.Module):
    """Experts ``down(SiLU(gate(x)) * up(x))`` whose weights have 8 bits; a dense FFN is one of them.

    Parameters
    ----------
    gate, up, down
        ``(F, D)``, ``(F, D)`` and ``(D, F)`` of each expert.
    """

    def __init__(self, gate: Sequence[Tensor], up: Sequence[Tensor], down: Sequence[Tensor]):
        super().__init__()
        self.gate, self.up, self.down = ([Int8Weight(matrix) for matrix in part] for part in (gate, up, down))

    def into(self, x: Tensor, runs: Sequence[slice], gated: Tensor, upped: Tensor, out: Tensor) -> Tensor:
        """Run each expert on its run of the rows, and write what comes of it to ``out``; the others are buffers."""
        rows = round_rows(x)
        for run, gate, up in zip(runs, self.gate, self.up, strict=True):
            gate.product(rows.part(run), gated[run])
            up.product(rows.part(run), upped[run])
        owned = runs[-1].stop
        hidden = round_rows(_gated(gated[:owned], upped[:owned]))
        for run, down in zip(runs, self.down, strict=True):
            down.product(hidden.part(run), out[run])
        return out

    def run(self, x: Tensor, runs: Sequence[slice]) -> Tensor:
        """Do what :meth:`into` does with buffers of its own; rows beyond the last run become zeros."""
        gated, upped = (x.new_empty(len(x), self.gate[0].n_out) for _ in range(2))
        out = torch.empty_like(x)
        out[runs[-1].stop :] = 0
        return self.into(x, runs, gated, upped, out)


def _gated(gated: Tensor, upped: Tensor) -> Tensor:
    """Give SiLU(gated) * upped, in the place of ``upped`` or in another."""
    if backends.why_not_cpu_kernel(gated):
        return F.silu(gated) * upped
    return swiglu(gated, upped, upped)


class Int8SwiGLU(nn.Module):
    """A dense FFN, as :class:`~umbel.model.layers.SwiGLU`."""

    def __init__(self, ffn: SwiGLU):
        super().__init__()
        self.experts = Int8Gated([ffn.gate.weight], [ffn.up.weight], [ffn.down.weight])

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., D)`` to ``(..., D)``."""
        rows = x.reshape(-1, x.shape[-1])
        return self.experts.run(rows, [slice(0, len(rows))]).view(x.shape)


class Int8MoE(MoE):
    """Experts behind a router in float32, as :class:`~umbel.model.moe.MoE`."""

    def __init__(self, moe: MoE):
        nn.Module.__init__(self)
        self.router = moe.router
        self.experts = Int8Gated(*(part.unbind() for part in (moe.gate, moe.up, moe.down)))
        self.shared = None if moe.shared is None else Int8SwiGLU(moe.shared)  # type: ignore[assignment]
        self.exchange = None

    def run_experts(self, rows_RD: Tensor, counts_E: Tensor) -> Tensor:
        """Give each row what its expert makes of it."""
        return self.experts.run(rows_RD, expert_runs(counts_E))


@torch.no_grad()
def round_backbone(backbone: Backbone) -> None:
    """Put layers of 8 bits in the places of a backbone's large ones; it is changed, and cannot be changed back.

    Raises
    ------
    BackendError
        If it is not on a CPU, or torch has no such products there.
    ValueError
        If there are adapters in it, or its experts are spread over processes.

    Examples
    --------
    >>> from umbel.config import ModelConfig
    >>> from umbel.model.backbone import Backbone
    >>> backbone = Backbone(ModelConfig(n_layers=2, d_model=8, ffn_hidden=16)).eval()
    >>> round_backbone(backbone)
    >>> sorted({type(part).__name__ for part in backbone.modules() if "Int8" in type(part).__name__})
    ['Int8Gated', 'Int8Linear', 'Int8MoE', 'Int8SwiGLU']
    """
    require_int8(backbone.embedding.weight.device)
    if any(is_wrapped(module) for module in backbone.modules()):
        raise ValueError("there are adapters in this backbone: merge them first")
    for block in backbone.layers:
        for name in _MIXERS:
            linear = getattr(block.mixer, name, None)
            if isinstance(linear, nn.Linear):
                setattr(block.mixer, name, Int8Linear(linear.weight))
        if isinstance(block.ffn, Int8MoE | Int8SwiGLU):
            continue
        if isinstance(block.ffn, MoE):
            if block.ffn.exchange is not None:
                raise ValueError("the experts of this backbone are spread over processes: load it in one")
            block.ffn = Int8MoE(block.ffn)
        else:
            block.ffn = Int8SwiGLU(cast(SwiGLU, block.ffn))
