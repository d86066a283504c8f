"""Numba kernels of the selective scan: imported late, because compiling them takes seconds.

Each task owns one sequence and a block of channels and walks along time with the states of the block in
cache, so no temporary of size L x I x N exists, and no two tasks write to one place: the result is the
same bits on any number of threads. The innermost loops run over the block's channels and are vectorised.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic

BLOCK = 32
CHUNK = 32
_NO_REASSOCIATION = {"contract", "nsz"}


@intrinsic
def _float_from_bits(typingctx: Any, bits: Any) -> Any:
    """Read an int32 as the float32 of the same bits."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), build


@njit(fastmath=_NO_REASSOCIATION, cache=True)
def exp2_nonpositive(x):  # type: ignore[no-untyped-def]
    """2**x for x <= 0 in float32, within 2e-7 relative; a polynomial, so that loops of it vectorise."""
    x = max(x, np.float32(-126.0))
    whole = np.int32(x - np.float32(0.5))
    f = x - np.float32(whole)
    p = np.float32(1.326472786e-03)
    p = p * f + np.float32(9.671512924e-03)
    p = p * f + np.float32(5.550733743e-02)
    p = p * f + np.float32(2.402224208e-01)
    p = p * f + np.float32(6.931469776e-01)
    p = p * f + np.float32(1.0)
    return p * _float_from_bits((whole + np.int32(127)) << np.int32(23))


@njit(fastmath=True, cache=True)
def _row_dot(a, b, i):  # type: ignore[no-untyped-def]
    """Sum over c of a[c] * b[i, c]; summed in vector lanes."""
    total = np.float32(0.0)
    for c in range(BLOCK):
        total += a[c] * b[i, c]
    return total


@njit(parallel=True, fastmath=_NO_REASSOCIATION, cache=True)
def forward(u, dt, A2, B, C, D, reverse, y, kept):  # type: ignore[no-untyped-def]
    """Fill ``y`` (B, L, I) and ``kept`` (B, blocks, chunks, N, BLOCK), the state before each chunk.

    ``A2`` is A times log2(e), transposed to (N, I).
    """
    n_batch, length, width = u.shape
    n_state = A2.shape[0]
    n_blocks = (width + BLOCK - 1) // BLOCK
    for task in prange(n_batch * n_blocks):
        b, block = task // n_blocks, task % n_blocks
        first = block * BLOCK
        live = min(BLOCK, width - first)
        h = np.zeros((n_state, BLOCK), np.float32)
        a2 = np.zeros((n_state, BLOCK), np.float32)
        u_t = np.zeros(BLOCK, np.float32)
        dt_t = np.zeros(BLOCK, np.float32)
        skip = np.zeros(BLOCK, np.float32)
        total = np.zeros(BLOCK, np.float32)
        for c in range(live):
            skip[c] = D[first + c]
            for n in range(n_state):
                a2[n, c] = A2[n, first + c]
        for step in range(length):
            t = length - 1 - step if reverse else step
            if step % CHUNK == 0:
                for n in range(n_state):
                    for c in range(BLOCK):
                        kept[b, block, step // CHUNK, n, c] = h[n, c]
            for c in range(live):
                u_t[c] = u[b, t, first + c]
                dt_t[c] = dt[b, t, first + c]
            for c in range(BLOCK):
                total[c] = np.float32(0.0)
            for n in range(n_state):
                b_n, c_n = B[b, t, n], C[b, t, n]
                for c in range(BLOCK):
                    h[n, c] = exp2_nonpositive(dt_t[c] * a2[n, c]) * h[n, c] + dt_t[c] * u_t[c] * b_n
                    total[c] += c_n * h[n, c]
            for c in range(live):
                y[b, t, first + c] = total[c] + skip[c] * u_t[c]


@njit(parallel=True, fastmath=_NO_REASSOCIATION, cache=True)
def backward(u, dt, A2, B, C, D, reverse, kept, g_y, g_u, g_dt, g_A2, g_B, g_C, g_D):  # type: ignore[no-untyped-def]
    """Walk the chunks backwards, making each one's states again from the kept one.

    ``g_A2`` is (B, N, I) and ``g_D`` (B, I), one slice a sequence; ``g_B`` and ``g_C`` are
    (blocks, B, L, N), one slice a block of channels. The caller sums the slices. ``g_A2`` is the
    gradient for A itself.
    """
    n_batch, length, width = u.shape
    n_state = A2.shape[0]
    n_blocks = (width + BLOCK - 1) // BLOCK
    n_chunks = (length + CHUNK - 1) // CHUNK
    for task in prange(n_batch * n_blocks):
        b, block = task // n_blocks, task % n_blocks
        first = block * BLOCK
        live = min(BLOCK, width - first)
        # Row t * N + n of `decays` and row (t + 1) * N + n of `states` belong to step t of the chunk.
        states = np.zeros(((CHUNK + 1) * n_state, BLOCK), np.float32)
        decays = np.zeros((CHUNK * n_state, BLOCK), np.float32)
        us = np.zeros((CHUNK, BLOCK), np.float32)
        dts = np.zeros((CHUNK, BLOCK), np.float32)
        a2 = np.zeros((n_state, BLOCK), np.float32)
        g_a = np.zeros((n_state, BLOCK), np.float32)
        g_h = np.zeros((n_state, BLOCK), np.float32)
        skip = np.zeros(BLOCK, np.float32)
        g_skip = np.zeros(BLOCK, np.float32)
        g_out = np.zeros(BLOCK, np.float32)
        g_in = np.zeros(BLOCK, np.float32)
        g_step = np.zeros(BLOCK, np.float32)
        dtu = np.zeros(BLOCK, np.float32)
        for c in range(live):
            skip[c] = D[first + c]
            for n in range(n_state):
                a2[n, c] = A2[n, first + c]
        for chunk in range(n_chunks - 1, -1, -1):
            start = chunk * CHUNK
            count = min(CHUNK, length - start)
            for n in range(n_state):
                for c in range(BLOCK):
                    states[n, c] = kept[b, block, chunk, n, c]
            for i in range(count):
                t = length - 1 - start - i if reverse else start + i
                for c in range(live):
                    us[i, c] = u[b, t, first + c]
                    dts[i, c] = dt[b, t, first + c]
                for n in range(n_state):
                    b_n = B[b, t, n]
                    row = i * n_state + n
                    for c in range(BLOCK):
                        decay = exp2_nonpositive(dts[i, c] * a2[n, c])
                        decays[row, c] = decay
                        states[row + n_state, c] = decay * states[row, c] + dts[i, c] * us[i, c] * b_n
            for i in range(count - 1, -1, -1):
                t = length - 1 - start - i if reverse else start + i
                for c in range(live):
                    g_out[c] = g_y[b, t, first + c]
                for c in range(BLOCK):
                    g_in[c] = np.float32(0.0)
                    g_step[c] = np.float32(0.0)
                    dtu[c] = dts[i, c] * us[i, c]
                    g_skip[c] += g_out[c] * us[i, c]
                for n in range(n_state):
                    b_n, c_n = B[b, t, n], C[b, t, n]
                    row = i * n_state + n
                    g_C[block, b, t, n] = _row_dot(g_out, states, row + n_state)
                    for c in range(BLOCK):
                        g_h[n, c] += c_n * g_out[c]
                        g_in[c] += g_h[n, c] * b_n
                    g_B[block, b, t, n] = _row_dot(dtu, g_h, n)
                    for c in range(BLOCK):
                        g_h[n, c] *= decays[row, c]
                        through = g_h[n, c] * states[row, c]
                        g_step[c] += through * a2[n, c]
                        g_a[n, c] += through * dts[i, c]
                for c in range(live):
                    g_u[b, t, first + c] = g_in[c] * dts[i, c] + skip[c] * g_out[c]
                    # a2 carries a factor log2(e), which the derivative with respect to dt must lose again.
                    g_dt[b, t, first + c] = g_in[c] * us[i, c] + g_step[c] * np.float32(0.6931471805599453)
        for c in range(live):
            g_D[b, first + c] = g_skip[c]
            for n in range(n_state):
                g_A2[b, n, first + c] = g_a[n, c]
