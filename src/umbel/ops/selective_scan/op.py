"""The scan's kernels as a torch operator, so that compile, export and checkpointing work through them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from umbel.ops import backends

CHUNK = 64  # bases between two states kept for the backward


@torch.library.custom_op("umbel::selective_scan", mutates_args=())
def _forward(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    z: Tensor | None,
    initial: Tensor | None,
    spans: Tensor | None,
    reverse: bool,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Give y, the last states, and for the backward the sum before the gate and the state before every chunk.

    The last two are empty where nothing needs them: ``keep`` False, or no gate.
    """
    return backends.kernels(__package__, backend).forward(u, dt, A, B, C, D, dt_bias, z, initial, spans, reverse, keep)


@_forward.register_fake
def _(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    u, _, A, _, _, _, _, z, _, _, _, keep, _ = inputs
    n_directions, batch, length, inner = u.shape
    n_state = A.shape[2]
    y = u.new_empty(batch, length, inner)
    last = u.new_empty(n_directions, batch, inner, n_state, dtype=torch.float32)
    ungated = torch.empty_like(y) if keep and z is not None else u.new_empty(0)
    chunks = (length + CHUNK - 1) // CHUNK if keep else 0
    return y, last, ungated, u.new_empty(n_directions, batch, chunks, n_state, inner, dtype=torch.float32)


@torch.library.custom_op("umbel::selective_scan_backward", mutates_args=())
def _backward(
    g_y: Tensor,
    g_last: Tensor | None,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    z: Tensor | None,
    spans: Tensor | None,
    reverse: bool,
    ungated: Tensor,
    kept: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Give the gradients of u, dt, A, B, C, D, dt_bias, z (empty without a gate) and of the initial states."""
    return backends.kernels(__package__, backend).backward(
        g_y, g_last, u, dt, A, B, C, D, dt_bias, z, spans, reverse, ungated, kept
    )


@_backward.register_fake
def _(g_y: Tensor, g_last: Tensor | None, *inputs: Any) -> tuple[Tensor, ...]:
    (u, _, A, *_), z = inputs[:7], inputs[7]
    like = [x.new_empty(x.shape) for x in inputs[:7]]
    g_z = u.new_empty(0) if z is None else z.new_empty(z.shape)
    g_initial = u.new_empty(u.shape[0], u.shape[1], u.shape[3], A.shape[2], dtype=torch.float32)
    return *like, g_z, g_initial


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    u, dt, A, B, C, D, dt_bias, z, initial, spans, reverse, _, backend = inputs
    _, _, ungated, kept = output
    ctx.save_for_backward(u, dt, A, B, C, D, dt_bias, z, spans, ungated, kept)
    ctx.reverse, ctx.backend, ctx.has_initial = reverse, backend, initial is not None
    ctx.mark_non_differentiable(ungated, kept)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, g_y: Tensor | None, g_last: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    u, dt, A, B, C, D, dt_bias, z, spans, ungated, kept = ctx.saved_tensors
    g_y = u.new_zeros(u.shape[1:]) if g_y is None else g_y
    *grads, g_z, g_initial = _backward(
        g_y, g_last, u, dt, A, B, C, D, dt_bias, z, spans, ctx.reverse, ungated, kept, ctx.backend
    )
    last = (None if z is None else g_z, g_initial if ctx.has_initial else None)
    return (*grads, *last, None, None, None, None)


_forward.register_autograd(_differentiate, setup_context=_remember)


def scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    z: Tensor | None,
    initial: Tensor | None,
    spans: Tensor | None,
    reverse: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """Scan by the kernels named; shapes as in :func:`umbel.ops.selective_scan.reference.scan`."""
    tensors = (u, dt, A, B, C, D, dt_bias, z, initial)
    y, last, _, _ = _forward(*tensors, spans, reverse, backends.will_differentiate(*tensors), backend)
    return y, last
