"""The long convolution in plain torch, any device: chunks of 64 bases by matrix products, states between them.

Within a chunk the filter is a triangular matrix; what came before a chunk is in its poles' states. Without gradients
the memory beyond the output does not grow with the length.
"""

from __future__ import annotations

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
        h = modes.responses(residues, poles, size)
        h = torch.cat((h[:, :1] + skip[:, None], h[:, 1:]), 1)
        # Row t holds h(t), h(t - 1), ..., h(0), and then zeros.
        self.within = F.pad(h.flip(1), (0, size - 1)).unfold(1, size, 1).flip(1)  # (D, T, T)
        table = modes.powers(poles, modes.positions(size + 1, poles.device))  # (D, 2, S, T + 1)
        self.inward = table[..., :size].flip(-1).flatten(1, 2)  # (D, 2S, T): what a base leaves in the states
        weights = modes.product(residues.transpose(1, 2)[..., None], table[..., 1:], 1)
        self.outward = torch.cat((weights[:, 0], -weights[:, 1]), 1).transpose(1, 2)  # (D, T, 2S)
        # Carried from chunk to chunk in float64: the rounding of a float32 factor would grow with the length.
        self.decay = torch.exp(size * torch.complex(poles[..., 0].double(), poles[..., 1].double()))[..., None]


def _advance(u: Tensor, state: Tensor, tables: _Tables) -> tuple[Tensor, Tensor]:
    """Take whole chunks, u (B, T, D), through from a state (D, S, B) in complex128; give sums (B, T, D) and a state."""
    batch, n_chunks = u.shape[0], u.shape[1] // tables.size
    u = u.reshape(batch, n_chunks, tables.size, -1).permute(3, 2, 1, 0).flatten(2).contiguous()  # (D, T, n B)
    left = (tables.inward @ u).double().unflatten(1, (2, -1)).unflatten(-1, (n_chunks, batch))
    chunks = torch.complex(left[:, 0], left[:, 1]).movedim(2, 0).contiguous()  # (n, D, S, B)
    before = []
    for chunk in chunks.unbind():
        before.append(state)
        state = torch.addcmul(chunk, tables.decay, state)
    found = torch.stack(before, 2).flatten(2)  # (D, S, n B)
    found = torch.cat((found.real, found.imag), 1).to(u.dtype)
    y = torch.baddbmm(tables.outward @ found, tables.within, u).unflatten(-1, (n_chunks, batch))
    return y.permute(3, 2, 1, 0).flatten(1, 2), state


def _as_complex(state: Tensor) -> Tensor:
    """Turn states (B, D, S, 2) to (D, S, B) in complex128."""
    return torch.complex(state[..., 0].double(), state[..., 1].double()).permute(1, 2, 0)


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
    tables = None
    for first, count in pieces:
        size = min(CHUNK, count)
        if tables is None or tables.size != size:
            tables = _Tables(residues, poles, skip, size)
        x2, x1, v = modes.aligned(z, spans, reverse, first, count).chunk(3, -1)
        u = x1 * v
        total, after = _advance(u, state, tables)
        if spans is not None:
            # A row that ends in this piece keeps the state it ends with.
            rest = (spans[:, 1:] - spans[:, :1] - first).clamp(0, count)
            given = torch.view_as_real(state.permute(2, 0, 1)).to(z.dtype)
            after = modes.last_states(u, poles, given, torch.cat((torch.zeros_like(rest), rest), 1), False)
            after = _as_complex(after)
        state = after
        if keep:
            outputs.append(x2 * total)
        else:
            torch.mul(x2, total, out=y[:, first : first + count])
    y = modes.placed(torch.cat(outputs, 1) if keep else y, spans, reverse)
    return y, torch.view_as_real(state.permute(2, 0, 1)).to(z.dtype).contiguous()
