"""The selective scan on a CPU in float32, by numba kernels, with gradients."""

from __future__ import annotations

import logging
import math
from functools import cache
from types import ModuleType
from typing import Any

import numba
import torch
from torch import Tensor

logger = logging.getLogger("umbel")


@cache
def _kernels() -> ModuleType:
    logger.info("preparing the CPU scan kernels (some 15 s the first time after installation, cached afterwards)")
    from umbel.ops.selective_scan import cpu_kernels

    return cpu_kernels


def _use_torch_threads() -> None:
    """Give numba as many threads as torch has, and torch as many as it had.

    When numba starts its OpenMP threads it sets the process's number of them, and torch's with it.
    """
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, reverse: bool) -> Tensor:
        kernels = _kernels()
        _use_torch_threads()
        u, dt, B, C, D = (x.detach().contiguous() for x in (u, dt, B, C, D))
        A2 = (A.detach() * math.log2(math.e)).T.contiguous()
        batch, length, width = u.shape
        blocks, chunks = -(-width // kernels.BLOCK), -(-length // kernels.CHUNK)
        y = torch.empty_like(u)
        kept = u.new_empty(batch, blocks, chunks, A2.shape[0], kernels.BLOCK)
        kernels.forward(*(x.numpy() for x in (u, dt, A2, B, C, D)), reverse, y.numpy(), kept.numpy())
        ctx.save_for_backward(u, dt, A2, B, C, D, kept)
        ctx.reverse = reverse
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kernels = _kernels()
        _use_torch_threads()
        u, dt, A2, B, C, D, kept = ctx.saved_tensors
        batch, length, width = u.shape
        n_state = A2.shape[0]
        g_u, g_dt = torch.empty_like(u), torch.empty_like(dt)
        g_A = u.new_empty(batch, n_state, width)
        g_B = u.new_empty(kept.shape[1], batch, length, n_state)
        g_C = torch.empty_like(g_B)
        g_D = u.new_empty(batch, width)
        inputs = (x.numpy() for x in (u, dt, A2, B, C, D))
        outputs = (x.numpy() for x in (kept, grads[0].contiguous(), g_u, g_dt, g_A, g_B, g_C, g_D))
        kernels.backward(*inputs, ctx.reverse, *outputs)
        return g_u, g_dt, g_A.sum(0).T, g_B.sum(0), g_C.sum(0), g_D.sum(0), None


def scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, reverse: bool) -> Tensor:
    """Run the kernels; the caller has seen to it that every tensor is float32 on the CPU."""
    return _Scan.apply(u, dt, A, B, C, D, reverse)
