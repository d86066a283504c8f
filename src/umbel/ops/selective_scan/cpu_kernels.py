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


# Rows of a task's scratch tables: w has them for every state n, v once, past for every base of a chunk.
# Loops over c touch rows a fixed distance apart in a table; so the compiler sees that they do not overlap,
# and vectorises.
_H, _A2, _G_A, _FOR_B, _FOR_C, _W_ROWS = 0, 1, 2, 3, 4, 5
_U, _DT, _DTU, _TOTAL, _G_OUT, _G_IN, _G_STEP, _SKIP, _G_SKIP, _V_ROWS = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
_BEFORE, _DECAY, _AFTER = 0, 1, 2


@njit(fastmath=_NO_REASSOCIATION, cache=True)
def _load(w, v, A2, D, first, live):  # type: ignore[no-untyped-def]
    for c in range(live):
        v[_SKIP, c] = D[first + c]
        for n in range(A2.shape[0]):
            w[n, _A2, c] = A2[n, first + c]


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
        w = np.zeros((n_state, _W_ROWS, BLOCK), np.float32)
        v = np.zeros((_V_ROWS, BLOCK), np.float32)
        _load(w, v, A2, D, first, live)
        for step in range(length):
            t = length - 1 - step if reverse else step
            if step % CHUNK == 0:
                for n in range(n_state):
                    for c in range(BLOCK):
                        kept[b, block, step // CHUNK, n, c] = w[n, _H, c]
            for c in range(live):
                v[_U, c] = u[b, t, first + c]
                v[_DT, c] = dt[b, t, first + c]
            for c in range(BLOCK):
                v[_DTU, c] = v[_DT, c] * v[_U, c]
                v[_TOTAL, c] = np.float32(0.0)
            for n in range(n_state):
                b_n, c_n = B[b, t, n], C[b, t, n]
                for c in range(BLOCK):
                    h = exp2_nonpositive(v[_DT, c] * w[n, _A2, c]) * w[n, _H, c] + v[_DTU, c] * b_n
                    w[n, _H, c] = h
                    v[_TOTAL, c] += c_n * h
            for c in range(live):
                y[b, t, first + c] = v[_TOTAL, c] + v[_SKIP, c] * v[_U, c]


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
        w = np.zeros((n_state, _W_ROWS, BLOCK), np.float32)
        v = np.zeros((_V_ROWS, BLOCK), np.float32)
        past = np.zeros((CHUNK, n_state, 3, BLOCK), np.float32)
        inputs = np.zeros((CHUNK, 2, BLOCK), np.float32)
        _load(w, v, A2, D, first, live)
        for chunk in range(n_chunks - 1, -1, -1):
            start = chunk * CHUNK
            count = min(CHUNK, length - start)
            for i in range(count):
                t = length - 1 - start - i if reverse else start + i
                for c in range(live):
                    inputs[i, 0, c] = u[b, t, first + c]
                    inputs[i, 1, c] = dt[b, t, first + c]
                for n in range(n_state):
                    b_n = B[b, t, n]
                    if i == 0:
                        for c in range(BLOCK):
                            past[0, n, _BEFORE, c] = kept[b, block, chunk, n, c]
                    else:
                        for c in range(BLOCK):
                            past[i, n, _BEFORE, c] = past[i - 1, n, _AFTER, c]
                    for c in range(BLOCK):
                        decay = exp2_nonpositive(inputs[i, 1, c] * w[n, _A2, c])
                        past[i, n, _DECAY, c] = decay
                        past[i, n, _AFTER, c] = decay * past[i, n, _BEFORE, c] + inputs[i, 1, c] * inputs[i, 0, c] * b_n
            for i in range(count - 1, -1, -1):
                t = length - 1 - start - i if reverse else start + i
                for c in range(live):
                    v[_G_OUT, c] = g_y[b, t, first + c]
                for c in range(BLOCK):
                    v[_U, c] = inputs[i, 0, c]
                    v[_DT, c] = inputs[i, 1, c]
                for c in range(BLOCK):
                    v[_G_IN, c] = np.float32(0.0)
                    v[_G_STEP, c] = np.float32(0.0)
                    v[_DTU, c] = v[_DT, c] * v[_U, c]
                    v[_G_SKIP, c] += v[_G_OUT, c] * v[_U, c]
                for n in range(n_state):
                    b_n, c_n = B[b, t, n], C[b, t, n]
                    for c in range(BLOCK):
                        w[n, _FOR_C, c] = v[_G_OUT, c] * past[i, n, _AFTER, c]
                        g = w[n, _H, c] + c_n * v[_G_OUT, c]
                        v[_G_IN, c] += g * b_n
                        w[n, _FOR_B, c] = g * v[_DTU, c]
                        g = g * past[i, n, _DECAY, c]
                        w[n, _H, c] = g
                        through = g * past[i, n, _BEFORE, c]
                        v[_G_STEP, c] += through * w[n, _A2, c]
                        w[n, _G_A, c] += through * v[_DT, c]
                    # Sums over c by halving: a running sum could not be vectorised, and these two add as one tree.
                    for c in range(16):
                        w[n, _FOR_B, c] += w[n, _FOR_B, c + 16]
                        w[n, _FOR_C, c] += w[n, _FOR_C, c + 16]
                    for c in range(8):
                        w[n, _FOR_B, c] += w[n, _FOR_B, c + 8]
                        w[n, _FOR_C, c] += w[n, _FOR_C, c + 8]
                    g_B[block, b, t, n] = (
                        (w[n, _FOR_B, 0] + w[n, _FOR_B, 1]) + (w[n, _FOR_B, 2] + w[n, _FOR_B, 3])
                    ) + ((w[n, _FOR_B, 4] + w[n, _FOR_B, 5]) + (w[n, _FOR_B, 6] + w[n, _FOR_B, 7]))
                    g_C[block, b, t, n] = (
                        (w[n, _FOR_C, 0] + w[n, _FOR_C, 1]) + (w[n, _FOR_C, 2] + w[n, _FOR_C, 3])
                    ) + ((w[n, _FOR_C, 4] + w[n, _FOR_C, 5]) + (w[n, _FOR_C, 6] + w[n, _FOR_C, 7]))
                for c in range(live):
                    g_u[b, t, first + c] = v[_G_IN, c] * v[_DT, c] + v[_SKIP, c] * v[_G_OUT, c]
                    # a2 carries a factor log2(e), which the derivative with respect to dt must lose again.
                    g_dt[b, t, first + c] = v[_G_IN, c] * v[_U, c] + v[_G_STEP, c] * np.float32(0.6931471805599453)
        for c in range(live):
            g_D[b, first + c] = v[_G_SKIP, c]
            for n in range(n_state):
                g_A2[b, n, first + c] = w[n, _G_A, c]
