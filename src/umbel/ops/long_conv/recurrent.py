"""The long convolution in plain torch, any device: chunks of 64 bases by matrix products, states between them.

Within a chunk the filter is a triangular matrix; what came before a chunk is in its poles' states. Without gradients
the memory beyond the output does not grow with the length.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from umbel.ops import backends
from umbel.ops.long_conv import modes

CHUNK = 64
SEGMENT = 32 * CHUNK  # bases taken at once


class _Tables:
    """What every chunk of ``size`` bases is multiplied with."""

    def __init__(self, residues: Tensor, poles: Tensor, skip: Tensor, size: int):
        self.size = size
        table = modes.powers(poles, modes.positions(size + 1, poles.device))  # (D, 2, S, T + 1)
        weights = modes.product(residues.transpose(1, 2)[..., None], table, 1)
        h = weights[:, 0, :, :size].sum(1)
        h = torch.cat((h[:, :1] + skip[:, None], h[:, 1:]), 1)
        # Row j holds j zeros, and then h(0), h(1), ...
        self.within = F.pad(h, (size - 1, 0)).unfold(1, size, 1).flip(1)  # (D, T, T)
        self.inward = table[..., :size].flip(-1).flatten(1, 2).transpose(1, 2)  # (D, T, 2S): what bases leave
        self.outward = torch.cat((weights[:, 0, :, 1:], -weights[:, 1, :, 1:]), 1)  # (D, 2S, T): what states do
        # Carried from chunk to chunk in float64: the rounding of a float32 factor would grow with the length.
        self.decay = torch.exp(size * torch.complex(poles[..., 0].double(), poles[..., 1].double()))[:, None]


class _Turned(torch.autograd.Function):
    """A transposed copy whose gradient is copied too: products of batches of matrices are slow on other strides."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        # A plain transposition of two dimensions is the one that torch does fast on a CPU.
        return x.t().contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].t().contiguous()


def _advance(u: Tensor, state: Tensor, tables: _Tables) -> tuple[Tensor, Tensor]:
    """Take whole chunks, u (B, T, D), through from a state (D, B, S) in complex128; give sums (B, T, D) and a state."""
    batch, length, width = u.shape
    u = _Turned.apply(u.reshape(batch * length, width)).view(width, -1, tables.size)  # (D, B n, T)
    left = (u @ tables.inward).double().unflatten(1, (batch, -1))
    left = torch.complex(*left.chunk(2, -1))  # (D, B, n, S)
    before = []
    for chunk in left.unbind(2):
        before.append(state)
        state = torch.addcmul(chunk, tables.decay, state)
    found = torch.stack(before, 2).flatten(1, 2)
    found = torch.cat((found.real, found.imag), -1).to(u.dtype)  # (D, B n, 2S)
    y = torch.baddbmm(found @ tables.outward, u, tables.within)
    return _Turned.apply(y.view(width, batch * length)).view(batch, length, width), state


def _as_complex(state: Tensor) -> Tensor:
    """Turn states (B, D, S, 2) to (D, B, S) in complex128."""
    return torch.complex(state[..., 0].double(), state[..., 1].double()).transpose(0, 1)


def convolve(
    z: Tensor,
    residues: Tensor,
    poles: Tensor,
    skip: Tensor,
    initial: Tensor | None,
    spans: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """Convolve as :func:`umbel.ops.long_conv.reference.convolve` does, with the same shapes."""
    batch, length, _ = z.shape
    width, n_state, _ = residues.shape
    state = _as_complex(z.new_zeros(batch, width, n_state, 2) if initial is None else initial)
    keep = backends.will_differentiate(z, residues, poles, skip, initial)
    outputs: list[Tensor] = []
    y = z.new_empty(0) if keep else z.new_empty(batch, length, width)
    whole = length // CHUNK * CHUNK
    pieces = [(first, min(SEGMENT, whole - first)) for first in range(0, whole, SEGMENT)]
    pieces += [(whole, length - whole)] if whole < length else []
    # The gradient of a slice is as long as what it was cut from: cut once where there will be gradients.
    cut = modes.aligned(z, spans, reverse).split([count for _, count in pieces], 1) if keep else None
    tables = None
    for i, (first, count) in enumerate(pieces):
        size = min(CHUNK, count)
        if tables is None or tables.size != size:
            tables = _Tables(residues, poles, skip, size)
        mine = modes.aligned(z, spans, reverse, first, count) if cut is None else cut[i]
        x2, x1, v = mine.chunk(3, -1)
        u = x1 * v
        total, after = _advance(u, state, tables)
        if spans is not None:
            # A row that ends in this piece keeps the state it ends with.
            rest = (spans[:, 1:] - spans[:, :1] - first).clamp(0, count)
            given = torch.view_as_real(state.transpose(0, 1)).to(z.dtype)
            after = modes.last_states(u, poles, given, torch.cat((torch.zeros_like(rest), rest), 1), False)
            after = _as_complex(after)
        state = after
        if keep:
            outputs.append(x2 * total)
        else:
            torch.mul(x2, total, out=y[:, first : first + count])
    y = modes.placed(torch.cat(outputs, 1) if keep else y, spans, reverse)
    return y, torch.view_as_real(state.transpose(0, 1)).to(z.dtype).contiguous()
