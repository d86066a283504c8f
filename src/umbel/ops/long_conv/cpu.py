"""The long convolution on a CPU in float32, by numba kernels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from umbel.ops.long_conv import modes
from umbel.ops.long_conv.op import CHUNK
from umbel.ops.threads import address, launch, load_kernels


def _decays(poles: Tensor) -> tuple[Tensor, Tensor]:
    """Give the parts of e**lambda, (D, S) each, in float64."""
    real, imaginary = modes.exact_powers(poles, torch.ones(1, dtype=torch.float64))
    return real[..., 0], imaginary[..., 0]


def _tables(residues: Tensor, poles: Tensor, lanes: int) -> Tensor:
    """Lay out, for each vector of channels and each pole, what a kernel multiplies with: ``TABLE`` floats.

    They are e**lambda in float32, what float32 took from it, and the residue.
    """
    width, n_state, _ = residues.shape
    exact = _decays(poles)
    rounded = [x.float() for x in exact]
    lost = [(x - y).float() for x, y in zip(exact, rounded, strict=True)]
    found = F.pad(torch.stack((*rounded, *lost, *residues.unbind(-1))), (0, 0, 0, -width % lanes))  # (6, D, S)
    return found.view(6, -1, lanes, n_state).permute(1, 3, 0, 2).contiguous()


def _states_last(x: Tensor) -> Tensor:
    """Turn (B, S, 2, D) into (B, D, S, 2)."""
    return x.permute(0, 3, 1, 2).contiguous()


def _channels_last(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.permute(0, 2, 3, 1).contiguous()


def forward(
    z: Tensor,
    residues: Tensor,
    poles: Tensor,
    skip: Tensor,
    initial: Tensor | None,
    spans: Tensor | None,
    reverse: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Convolve; shapes and meaning as in :mod:`umbel.ops.long_conv.op`."""
    kernels = load_kernels("umbel.ops.long_conv.cpu_kernels")
    batch, length, _ = z.shape
    width, n_state, _ = residues.shape
    z, before = z if z.stride(-1) == 1 else z.contiguous(), initial
    tables, skip, initial = _tables(residues, poles, kernels.LANES), skip.contiguous(), _channels_last(initial)
    spans = None if spans is None else spans.to(torch.int64).contiguous()
    y, last = z.new_empty(batch, length, width), z.new_empty(batch, n_state, 2, width)
    kept = z.new_empty(batch, -(-length // CHUNK) if keep else 0, n_state, 2, width)
    launch(
        kernels.forward,
        batch * -(-width // (kernels.GROUP * kernels.LANES)),
        kernels.forward_scratch(n_state),
        *(length, width, n_state, int(reverse), z.data_ptr(), *z.stride()[:2]),
        *(address(x) for x in (tables, skip, initial, spans, y, last, kept)),
    )
    if before is not None and spans is None and length < kernels.STRIDE:
        # What so few bases lose is less than a float32 state can be mended by, and adds up over many such pieces.
        _, x1, v = z.chunk(3, -1)
        return y, modes.last_states(x1 * v, poles, before, None, reverse).contiguous(), kept
    return y, _states_last(last), kept


def backward(
    g_y: Tensor,
    g_last: Tensor | None,
    z: Tensor,
    residues: Tensor,
    poles: Tensor,
    skip: Tensor,
    spans: Tensor | None,
    reverse: bool,
    kept: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Differentiate; shapes and meaning as in :mod:`umbel.ops.long_conv.op`."""
    kernels = load_kernels("umbel.ops.long_conv.cpu_gradient")
    batch, length, _ = z.shape
    width, n_state, _ = residues.shape
    z, g_y, g_last = z if z.stride(-1) == 1 else z.contiguous(), g_y.contiguous(), _channels_last(g_last)
    tables, skip = _tables(residues, poles, kernels.LANES), skip.contiguous()
    spans = None if spans is None else spans.to(torch.int64).contiguous()
    g_z = z.new_empty(z.shape)
    g_residues, g_decays, g_initial = (z.new_empty(batch, n_state, 2, width) for _ in range(3))
    g_skip = z.new_empty(batch, width)
    launch(
        kernels.backward,
        batch * -(-width // (kernels.GROUP * kernels.LANES)),
        kernels.backward_scratch(n_state),
        *(length, width, n_state, int(reverse), z.data_ptr(), *z.stride()[:2]),
        *(address(x) for x in (tables, skip, kept, spans, g_y, g_last)),
        *(address(x) for x in (g_z, g_residues, g_decays, g_skip, g_initial)),
    )
    # Of a = e**lambda to lambda: times the conjugate of a.
    (a_re, a_im), (g_re, g_im) = _decays(poles), g_decays.double().sum(0).transpose(0, 2).unbind(1)
    g_poles = torch.stack((a_re * g_re + a_im * g_im, a_re * g_im - a_im * g_re), -1).float()
    return g_z, _states_last(g_residues).sum(0), g_poles, g_skip.sum(0), _states_last(g_initial)
