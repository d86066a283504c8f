"""The long convolution's kernels as a torch operator, so that compile, export and checkpointing work through them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from umbel.ops import backends

CHUNK = 64  # bases between two states kept for the backward


@torch.library.custom_op("umbel::long_conv", mutates_args=())
def _forward(
    z: Tensor,
    residues: Tensor,
    poles: Tensor,
    skip: Tensor,
    initial: Tensor | None,
    spans: Tensor | None,
    reverse: bool,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Give y, the last states, and for the backward the states before every chunk: none where ``keep`` is False."""
    return backends.kernels(__package__, backend).forward(z, residues, poles, skip, initial, spans, reverse, keep)


@_forward.register_fake
def _(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    z, residues, _, _, _, _, _, keep, _ = inputs
    batch, length, _ = z.shape
    width, n_state, _ = residues.shape
    chunks = (length + CHUNK - 1) // CHUNK if keep else 0
    y, last = z.new_empty(batch, length, width), z.new_empty(batch, width, n_state, 2)
    return y, last, z.new_empty(batch, chunks, n_state, 2, width)


@torch.library.custom_op("umbel::long_conv_backward", mutates_args=())
def _backward(
    g_y: Tensor,
    g_last: Tensor | None,
    z: Tensor,
    residues: Tensor,
    poles: Tensor,
    skip: Tensor,
    spans: Tensor | None,
    reverse: bool,
    kept: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Give the gradients of z, residues, poles, skip and of the initial states."""
    return backends.kernels(__package__, backend).backward(g_y, g_last, z, residues, poles, skip, spans, reverse, kept)


@_backward.register_fake
def _(g_y: Tensor, g_last: Tensor | None, *inputs: Any) -> tuple[Tensor, ...]:
    z, residues, poles, skip = inputs[:4]
    like = [x.new_empty(x.shape) for x in (z, residues, poles, skip)]
    return *like, z.new_empty(z.shape[0], *residues.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    z, residues, poles, skip, initial, spans, reverse, _, backend = inputs
    kept = output[2]
    ctx.save_for_backward(z, residues, poles, skip, spans, kept)
    ctx.reverse, ctx.backend, ctx.has_initial = reverse, backend, initial is not None
    ctx.mark_non_differentiable(kept)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, g_y: Tensor | None, g_last: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    z, residues, poles, skip, spans, kept = ctx.saved_tensors
    g_y = z.new_zeros(*z.shape[:2], len(skip)) if g_y is None else g_y
    *grads, g_initial = _backward(g_y, g_last, z, residues, poles, skip, spans, ctx.reverse, kept, ctx.backend)
    return (*grads, g_initial if ctx.has_initial else None, None, None, None, None)


_forward.register_autograd(_differentiate, setup_context=_remember)


def convolve(
    z: Tensor,
    residues: Tensor,
    poles: Tensor,
    skip: Tensor,
    initial: Tensor | None,
    spans: Tensor | None,
    reverse: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """Convolve by the kernels named; shapes as in :func:`umbel.ops.long_conv.reference.convolve`."""
    tensors = (z, residues, poles, skip, initial)
    y, last, _ = _forward(*tensors, spans, reverse, backends.will_differentiate(*tensors), backend)
    return y, last
