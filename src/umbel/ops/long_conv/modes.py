"""Powers of the poles, and the two sums over them that plain-torch twins need, without a tensor of size D x S x L.

Positions are cut as t = BLOCK i + j, so that e**(lambda t) is a product of two short tables and a sum over the poles
is a matrix product. The tables are computed in float64 and then rounded: in float32 the angle of a pole at position
100,000 would be known to two digits only.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 128
FEW = 16


def _positions(length: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.arange(length, device=device, dtype=torch.float64)


_shared_positions = lru_cache(maxsize=32)(_positions)


def positions(length: int, device: torch.device) -> Tensor:
    """Give 0 to ``length`` - 1 in float64, made once and shared by all layers."""
    # torch's compiler cannot trace a cache, and while it traces, a tensor is not to be kept.
    return _positions(length, device) if torch.compiler.is_compiling() else _shared_positions(length, device)


def exact_powers(poles: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Give the parts of e**(lambda t), (D, S, T) each, in float64."""
    poles = poles.double()
    size, angle = torch.exp(poles[..., :1] * t), poles[..., 1:] * t
    return size * torch.cos(angle), size * torch.sin(angle)


class _Powers(torch.autograd.Function):
    """e**(lambda t) for some t; written out so that the backward keeps nothing but the result, and not in float64."""

    @staticmethod
    def forward(ctx: Any, poles: Tensor, t: Tensor, evenly: bool) -> Tensor:
        if evenly and len(t) > 2 * FEW:
            # Products in float64 lose nothing that float32 could show, and cost less than cosines.
            (a_re, a_im), (b_re, b_im) = (exact_powers(poles, part) for part in (t[::FEW], t[:FEW] - t[0]))
            a_re, a_im, b_re, b_im = a_re[..., None], a_im[..., None], b_re[..., None, :], b_im[..., None, :]
            parts = (a_re * b_re - a_im * b_im, a_re * b_im + a_im * b_re)
            found = torch.stack([x.to(poles.dtype).flatten(2)[..., : len(t)] for x in parts], 1)
        else:
            found = torch.stack(exact_powers(poles, t), 1).to(poles.dtype)
        ctx.save_for_backward(found, t)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (g,), (found, t) = grads, ctx.saved_tensors
        real = (g * found).sum(1, dtype=torch.float64) @ t
        imaginary = (g[:, 1] * found[:, 0] - g[:, 0] * found[:, 1]).double() @ t
        return torch.stack((real, imaginary), -1).to(found.dtype), None, None


def powers(poles: Tensor, t: Tensor, *, evenly: bool = True) -> Tensor:
    """Give e**(lambda t).

    Parameters
    ----------
    poles
        ``(D, S, 2)``, float32 or float64.
    t
        ``(T,)`` in float64.
    evenly
        Whether the steps between the t are all the same.

    Returns
    -------
    ``(D, 2, S, T)``, real and imaginary parts, in the dtype of ``poles``, right to its last digit.
    """
    return _Powers.apply(poles, t, evenly)


def product(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Multiply complex numbers whose two parts stand along ``dim``, counted from the end if their dimensions differ."""
    (a_re, a_im), (b_re, b_im) = a.unbind(dim), b.unbind(dim)
    return torch.stack((a_re * b_re - a_im * b_im, a_re * b_im + a_im * b_re), dim)


def responses(residues: Tensor, poles: Tensor, length: int) -> Tensor:
    """Give Re sum_k r_k e**(lambda_k t) for t from 0 to ``length`` - 1, from residues (..., D, S, 2) to (..., D, L)."""
    n_blocks = -(-length // BLOCK)
    within = powers(poles, positions(BLOCK, poles.device))  # (D, 2, S, T)
    before = powers(poles, BLOCK * positions(n_blocks, poles.device))  # (D, 2, S, n)
    weights = product(residues.transpose(-1, -2)[..., None], before, -3)
    # The real part of a product takes the imaginary parts with a minus.
    weights = torch.cat((weights.select(-3, 0), -weights.select(-3, 1)), -2)  # (..., D, 2S, n)
    return (weights.transpose(-1, -2) @ within.flatten(1, 2)).flatten(-2)[..., :length]


def states(u: Tensor, poles: Tensor) -> Tensor:
    """Give sum_t e**(lambda_k t) u(t), from u (B, L, D) to (B, D, S, 2)."""
    batch, length, width = u.shape
    n_blocks = -(-length // BLOCK)
    within = powers(poles, positions(BLOCK, poles.device)).flatten(1, 2)  # (D, 2S, T)
    before = powers(poles, BLOCK * positions(n_blocks, poles.device))  # (D, 2, S, n)
    u = F.pad(u, (0, 0, 0, n_blocks * BLOCK - length)).view(batch, n_blocks, BLOCK, width)
    of_blocks = torch.einsum("dkt,bntd->bdkn", within, u).unflatten(2, (2, -1))
    return product(of_blocks, before, -3).sum(-1).transpose(-1, -2)


def aligned(x: Tensor, spans: Tensor | None, backwards: bool, first: int = 0, count: int | None = None) -> Tensor:
    """Put every row's sequence first, and against its time where ``backwards``; zeros follow, whatever was outside.

    ``x`` is (B, L, D); of what results, ``count`` positions from ``first`` on are given, all by default.
    """
    length = x.shape[1]
    count = length if count is None else count
    if spans is None:
        return x[:, length - first - count : length - first].flip(1) if backwards else x[:, first : first + count]
    start, stop = spans[:, :1], spans[:, 1:]
    t = torch.arange(first, first + count, device=x.device)
    taken = x.gather(1, _inside(stop - 1 - t if backwards else start + t, x))
    return torch.where((t < stop - start)[..., None], taken, x.new_zeros(()))


def placed(y: Tensor, spans: Tensor | None, backwards: bool) -> Tensor:
    """Undo :func:`aligned`; zeros outside the spans."""
    if spans is None:
        return y.flip(1) if backwards else y
    start, stop = spans[:, :1], spans[:, 1:]
    t = torch.arange(y.shape[1], device=y.device)
    taken = y.gather(1, _inside(stop - 1 - t if backwards else t - start, y))
    return torch.where(((t >= start) & (t < stop))[..., None], taken, y.new_zeros(()))


def _inside(index: Tensor, x: Tensor) -> Tensor:
    return index.clamp(0, x.shape[1] - 1)[..., None].expand(-1, -1, x.shape[2])


def last_states(u: Tensor, poles: Tensor, initial: Tensor | None, spans: Tensor | None, reverse: bool) -> Tensor:
    """Give the states (B, D, S, 2) after the last base that is met, from u (B, L, D), blank outside the spans."""
    last = states(aligned(u, spans, not reverse), poles)
    if initial is None:
        return last
    # A decay rounded to float32 would be wrong anew, and the same way, in each of many short pieces.
    exact = poles.double()
    if spans is None:
        decay = powers(exact, positions(u.shape[1] + 1, u.device)[-1:])
    else:
        decay = powers(exact, (spans[:, 1] - spans[:, 0]).clamp(min=0).double(), evenly=False)
    decay = decay.permute(3, 0, 2, 1)  # (B, D, S, 2), or one row for all
    return (last + product(decay, initial.double(), -1)).to(last.dtype)


def next_residues(residues: Tensor, poles: Tensor, state: Tensor) -> Tensor:
    """Give r e**lambda s, (B, D, S, 2): as residues, they make what a state does to the bases after it."""
    one = powers(poles, positions(2, poles.device)[1:])[..., 0].transpose(1, 2)
    return product(product(residues, one, -1), state, -1)
