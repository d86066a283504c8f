"""A backbone's forward pass on a CPU without gradients: in place, piece by piece along the sequence.

Of a layer only the residual stream, the output of ``in_proj`` and one direction's output are as long as the
sequence; all else lives in buffers of one piece, which stay in cache and are used again. A row of a batch is
computed alone, from its own first base, so padding and batch-mates cannot touch it.

Shapes: B batch, L length, T a piece, D width, I inner width, N scan state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from umbel.config import ModelConfig
from umbel.model.bimamba import BiMamba, Direction
from umbel.model.int8 import Int8Gated, Int8Linear, Int8MoE, Int8SwiGLU
from umbel.model.layers import SwiGLU
from umbel.model.moe import MoE, Router, combine, dispatch
from umbel.model.routing import Routing
from umbel.ops import backends
from umbel.ops.causal_conv.cpu import convolve_into
from umbel.ops.grouped_mlp.cpu import expert_runs, experts_into
from umbel.ops.rms_norm.cpu import normalise_into
from umbel.ops.selective_scan.cpu import scan_into, scan_rates

if TYPE_CHECKING:
    from umbel.model.backbone import Backbone, Block

PIECE = 2048
"""Bases in a piece: enough for matrix products at full speed, few enough for the buffers to stay in cache."""


_PLAIN = (Direction, BiMamba, SwiGLU, MoE, Router, nn.Linear, nn.RMSNorm, nn.Embedding, nn.ModuleList)
_ROUNDED = (Int8Gated, Int8Linear, Int8MoE, Int8SwiGLU)


def is_possible(backbone: Backbone) -> bool:
    """Tell whether a forward pass may go this way.

    It needs Mamba mixers, no gradients, float32 on a CPU with our kernels, and no autocast. And as it reads weights
    rather than calling modules, calling each must do nothing but what its class says: nobody may have hooked into
    them, put others (adapters, say) in their places, given them another forward, or spread experts over processes.
    """
    from umbel.model.backbone import Block

    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
        return False
    if any(kind[0] != "M" for kind in backbone.config.layer_kinds):
        return False
    if backends.why_not_cpu_kernel(*backbone.parameters()):
        return False
    return all(
        (type(m) in (*_PLAIN, *_ROUNDED, Block))
        and not (m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m))
        and not (isinstance(m, MoE) and m.exchange is not None)
        for m in backbone.modules()
        if m is not backbone
    )


@dataclass
class _Prepared:
    """One direction's weights in the layouts that the kernels read."""

    filters: Tensor
    bias: Tensor
    x_proj: Tensor
    dt_proj: Tensor
    dt_bias: Tensor
    rates: Tensor
    skip: Tensor


def _prepare(direction: Direction) -> _Prepared:
    return _Prepared(
        direction.conv_weight.T.contiguous(),
        direction.conv_bias.contiguous(),
        direction.x_proj.weight.T,
        direction.dt_proj.weight.T.contiguous(),
        direction.dt_proj.bias.contiguous(),
        scan_rates(-torch.exp(direction.A_log)),
        direction.D.contiguous(),
    )


class Workspace:
    """The buffers of a forward pass over sequences of at most ``length`` bases.

    Examples
    --------
    >>> Workspace(ModelConfig(d_model=8, ffn_hidden=16), 5000).xz.shape
    torch.Size([5000, 32])
    """

    def __init__(self, config: ModelConfig, length: int):
        inner, width, hidden = config.d_inner, config.d_model, max(config.ffn_hidden, config.expert_width)
        piece = min(PIECE, length)
        self.n_state, self.rank = config.d_state, config.dt_width
        self.stream, self.branch = torch.empty(length, width), torch.empty(length, width)
        self.xz = torch.empty(length, 2 * inner)
        self.merged = config.fusion == "add" and config.tie_projections
        self.against = torch.empty(length, inner if self.merged else width)
        self.normed, self.mixed = torch.empty(piece, width), torch.empty(piece, width)
        self.inverse = torch.empty(piece)
        self.u, self.y = torch.empty(piece, inner), torch.empty(piece, inner)
        self.projected = torch.empty(piece, self.rank + 2 * self.n_state)
        self.state = torch.empty(self.n_state, inner)
        rows = piece * (config.top_k if any(kind[1] == "e" for kind in config.layer_kinds) else 1)
        self.outputs = torch.empty(rows, width)
        self._gated, self._upped = torch.empty(rows * hidden), torch.empty(rows * hidden)

    def hidden(self, rows: int, width: int) -> tuple[Tensor, Tensor]:
        """Give two buffers of an MLP of this hidden width, ``(rows, width)`` each."""
        gated, upped = (x[: rows * width].view(rows, width) for x in (self._gated, self._upped))
        return gated, upped


def _pieces(length: int) -> list[slice]:
    return [slice(start, min(start + PIECE, length)) for start in range(0, length, PIECE)]


def _project(x: Tensor, layer: nn.Module, out: Tensor) -> None:
    """Run a linear layer on rows (T, in), into ``out``."""
    if isinstance(layer, Int8Linear):
        layer.into(x, out)
    else:
        torch.mm(x, cast(nn.Linear, layer).weight.T, out=out)


def _scan_piece(
    w: Workspace, p: _Prepared, xz: Tensor, at: slice, y: Tensor, *, reverse: bool, add: bool, gate: bool
) -> None:
    """Filter, project and scan one piece of ``xz`` (L, 2I), writing (or adding to) ``y`` (T, I)."""
    n, inner = at.stop - at.start, xz.shape[1] // 2
    u, projected = w.u[:n], w.projected[:n]
    convolve_into(xz[:, :inner], at.start, p.filters, p.bias, u, reverse=reverse)
    torch.mm(u, p.x_proj, out=projected)
    low, B, C = projected.split([w.rank, w.n_state, w.n_state], 1)
    z = xz[at, inner:] if gate else None
    scan_into(u, low, p.dt_proj, p.rates, B, C, p.skip, p.dt_bias, z, w.state, y, reverse=reverse, add=add)


def _go_against_time(w: Workspace, block: Block, against: _Prepared, length: int) -> None:
    """Walk from the last piece to the first: norm, ``in_proj``, and the scan against time, left in ``w.against``."""
    mixer = cast(BiMamba, block.mixer)
    stream, branch, xz = w.stream[:length], w.branch[:length], w.xz[:length]
    pieces = _pieces(length)
    xz_back = xz if mixer.tied else torch.empty_like(xz)
    w.state.zero_()
    for at in reversed(pieces):
        n = at.stop - at.start
        normed = w.normed[:n]
        normalise_into(branch[at], stream[at], block.mixer_norm.weight, block.eps, normed, w.inverse)
        _project(normed, mixer.in_proj, xz[at])
        if not mixer.tied:
            _project(normed, mixer.in_proj_backward, xz_back[at])
        if w.merged:
            _scan_piece(w, against, xz_back, at, w.against[at], reverse=True, add=False, gate=False)
        else:
            _scan_piece(w, against, xz_back, at, w.y[:n], reverse=True, add=False, gate=True)
            out_proj = mixer.out_proj if mixer.tied else mixer.out_proj_backward
            _project(w.y[:n], out_proj, w.against[at])


def _go_along_time(w: Workspace, mixer: BiMamba, along: _Prepared, at: slice, length: int) -> Tensor:
    """Scan a piece along time, fuse, and project; the scans of earlier pieces have left their state."""
    xz, n = w.xz[:length], at.stop - at.start
    y = w.against[at] if w.merged else w.y[:n]
    _scan_piece(w, along, xz, at, y, reverse=False, add=w.merged, gate=True)
    _project(y, mixer.out_proj, w.mixed[:n])
    return w.mixed[:n] if w.merged else mixer.fused(w.mixed[:n], w.against[at])


def _experts(w: Workspace, moe: MoE, x: Tensor, out: Tensor, at: slice, whole: Routing) -> None:
    """Route one piece (T, D), run its experts, and write what came of it to ``out`` and to its part of ``whole``."""
    routing = moe.router(x[None], None)
    rows, order, counts = dispatch(x, routing.experts[0], routing.n_experts)
    n = len(rows)
    runs = expert_runs(counts)
    if isinstance(moe, Int8MoE):
        moe.experts.into(rows, runs, *w.hidden(n, moe.experts.gate[0].n_out), w.outputs[:n])
    else:
        gated, upped = w.hidden(n, moe.gate.shape[1])
        experts_into(rows, moe.gate, moe.up, moe.down, runs, gated, upped, upped, w.outputs[:n])
    out.copy_(combine(w.outputs[:n], order, routing.weights[0]))
    if moe.shared is not None:
        out += moe.shared(x)
    whole.logits[at], whole.experts[at], whole.weights[at] = routing.logits[0], routing.experts[0], routing.weights[0]


def _block(
    w: Workspace, block: Block, directions: tuple[_Prepared, _Prepared], length: int, routing: Routing | None
) -> None:
    """Take ``stream`` and ``branch``, the part yet to be added to it, through a block, in place.

    An expert layer writes to ``routing``, whose tensors are (L, E) and (L, K).
    """
    along, against = directions
    _go_against_time(w, block, against, length)
    mixer = cast(BiMamba, block.mixer)
    w.state.zero_()
    for at in _pieces(length):
        n = at.stop - at.start
        mixed = _go_along_time(w, mixer, along, at, length)
        normed = w.normed[:n]
        normalise_into(mixed, w.stream[at], block.ffn_norm.weight, block.eps, normed, w.inverse)
        if isinstance(block.ffn, MoE):
            _experts(w, block.ffn, normed, w.branch[at], at, cast(Routing, routing))
        elif isinstance(block.ffn, Int8SwiGLU):
            experts = block.ffn.experts
            experts.into(normed, [slice(0, n)], *w.hidden(n, experts.gate[0].n_out), w.branch[at])
        else:
            ffn = block.ffn
            gated, hidden = w.hidden(n, ffn.gate.weight.shape[0])
            weights = (ffn.gate.weight[None], ffn.up.weight[None], ffn.down.weight[None])
            experts_into(normed, *weights, [slice(0, n)], gated, hidden, hidden, w.branch[at])


def run(
    backbone: Backbone, input_ids: Tensor, spans: Tensor | None, *, keep_stream: bool, n_layers: int | None = None
) -> tuple[Tensor, tuple[Routing, ...], tuple[Tensor, ...]]:
    """Give the hidden states, routings and kept streams of :meth:`umbel.model.backbone.Backbone.forward`.

    Parameters
    ----------
    spans
        ``(B, 2)`` starts and stops of the rows' sequences; None takes all. Padding comes out as zeros.
    """
    config, (batch, length) = backbone.config, input_ids.shape
    blocks = cast("list[Block]", list(backbone.layers)[:n_layers])
    hidden = torch.zeros(batch, length, config.d_model)
    streams = tuple(torch.zeros_like(hidden) for _ in range(len(blocks) + 1)) if keep_stream else ()
    routings = {
        i: Routing(
            i,
            torch.zeros(batch, length, config.n_experts),
            torch.full((batch, length, config.top_k), -1),
            torch.zeros(batch, length, config.top_k),
            cast(MoE, backbone.layers[i].ffn).router.scores,
        )
        for i, kind in enumerate(config.layer_kinds[: len(blocks)])
        if kind[1] == "e"
    }
    places = [(0, length)] * batch if spans is None else [tuple(row) for row in spans.tolist()]
    mixers = [cast(BiMamba, block.mixer) for block in blocks]
    prepared = [(_prepare(mixer.along), _prepare(mixer.against)) for mixer in mixers]
    w = Workspace(config, max([stop - start for start, stop in places], default=0))
    for row, (start, stop) in enumerate(places):
        n = stop - start
        if n == 0:
            continue
        # The first norm adds the branch to the stream: begin with 0 + embedding.
        w.stream[:n] = 0
        torch.index_select(backbone.embedding.weight, 0, input_ids[row, start:stop], out=w.branch[:n])
        for layer, block in enumerate(blocks):
            if keep_stream:
                torch.add(w.stream[:n], w.branch[:n], out=streams[layer][row, start:stop])
            routing = routings.get(layer)
            if routing is not None:
                routing = routing.part(row, slice(start, stop))
            _block(w, block, prepared[layer], n, routing)
        if keep_stream:
            torch.add(w.stream[:n], w.branch[:n], out=streams[-1][row, start:stop])
        if n_layers is not None:
            torch.add(w.stream[:n], w.branch[:n], out=hidden[row, start:stop])
            continue
        for at in _pieces(n):
            m = at.stop - at.start
            y = hidden[row, start + at.start : start + at.stop]
            normalise_into(w.branch[at], w.stream[at], backbone.norm.weight, config.norm_eps, y, w.inverse[:m])
    return hidden, tuple(routings.values()), streams
