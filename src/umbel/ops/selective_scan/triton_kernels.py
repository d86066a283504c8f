"""Triton kernels of the selective scan: pieces of a sequence run side by side, and states pass from one to the next.

One warp owns BLOCK channels and keeps their states as a tile (N, BLOCK), so that a thread holds all states of a
channel and the sum over states needs no other thread. Sums over channels go out as one slice a block of channels.
"""

from __future__ import annotations

import triton
import triton.language as tl

from umbel.ops.triton_parts import sigmoid, span

# Nothing is gained by compiling anew for lengths and strides that are 1 or divide by 16.
_SIZES = ["batch", "length", "inner", "states", "pieces", "bases"] + [
    f"{name}_{of}" for name in ("x", "maps", "g_y", "u", "dt", "B", "C", "z") for of in "sbt"
]


@triton.jit
def _softplus(x):  # type: ignore[no-untyped-def]
    """log(1 + e**x) without overflow, accurate to rounding also where it is close to 0."""
    e = tl.exp(-tl.abs(x))
    # log(1 + e) = 2 artanh(r): a series in r**2 <= 1/9, as the hardware's logarithm is coarse close to 1.
    r = e / (2.0 + e)
    q = r * r
    p = q * (1.0 / 15.0) + (1.0 / 13.0)
    p = p * q + (1.0 / 11.0)
    p = p * q + (1.0 / 9.0)
    p = p * q + (1.0 / 7.0)
    p = p * q + (1.0 / 5.0)
    p = p * q + (1.0 / 3.0)
    return tl.maximum(x, 0.0) + 2.0 * r * (p * q + 1.0)


@triton.jit
def _load(row, t, stride, place, mask):  # type: ignore[no-untyped-def]
    """Load a position's numbers; the vector of places comes last, as addresses are then one and constants."""
    return tl.load(row + t * stride + place, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _overlap(first, bases, start, end, against):  # type: ignore[no-untyped-def]
    """Give how many positions of a range lie in [start, end), and the one that the direction meets first."""
    low = tl.maximum(first, start)
    n = tl.maximum(tl.minimum(first + bases, end) - low, 0)
    return n.to(tl.int32), low + against * (n - 1)


@triton.jit(do_not_specialize=_SIZES)
def carry_kernel(  # type: ignore[no-untyped-def]
    x, x_s, x_b, x_t, dt, dt_s, dt_b, dt_t, maps, maps_s, maps_b, maps_t, z, z_b, z_t, A2, bias, spans,
    carry, total, batch, length, inner, states, pieces, bases,
    FLIPPED: tl.constexpr, ADJOINT: tl.constexpr, HAS_Z: tl.constexpr, HAS_SPANS: tl.constexpr,
    N: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Run one piece from a state of zero: its last state, and the sum of its steps, which gives its whole decay.

    Forward ``x`` is u and ``maps`` is B; with ADJOINT they are the upstream gradient and C, and time is turned
    by the caller through FLIPPED.
    """
    blocks = tl.cdiv(inner, BLOCK)
    pid = tl.program_id(0).to(tl.int64)
    block, piece, row = pid % blocks, (pid // blocks) % pieces, pid // blocks // pieces
    s, b = row // batch, row % batch
    against = (s + FLIPPED) % 2
    i = block * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N)
    live_i, live_n = i < inner, n < states
    live = live_n[:, None] & live_i[None, :]
    a2 = tl.load(A2 + (s * states + n[:, None]) * inner + i[None, :], mask=live, other=0.0)
    bias_i = tl.load(bias + s * inner + i, mask=live_i, other=0.0)
    x += s * x_s + b * x_b
    dt += s * dt_s + b * dt_b
    maps += s * maps_s + b * maps_b
    z += b * z_b
    start, end = span(spans, b, length, HAS_SPANS)
    count, t0 = _overlap(piece * bases, bases, start, end, against)
    state = tl.zeros((N, BLOCK), tl.float32)
    steps = tl.zeros((BLOCK,), tl.float32)
    for j in range(count):
        t = t0 + (1 - 2 * against) * j
        step = _softplus(_load(dt, t, dt_t, i, live_i) + bias_i)
        value = _load(x, t, x_t, i, live_i)
        if HAS_Z:
            gate = _load(z, t, z_t, i, live_i)
            value *= gate * sigmoid(gate)
        entering = _load(maps, t, maps_t, n, live_n)[:, None]
        decay = tl.exp2(a2 * step[None, :])
        if ADJOINT:
            state = decay * (state + entering * value[None, :])
        else:
            state = decay * state + entering * (step * value)[None, :]
        steps += step
    place = row * pieces + piece
    tl.store(carry + (place * states + n[:, None]) * inner + i[None, :], state, mask=live)
    tl.store(total + place * inner + i, steps, mask=live_i)


@triton.jit(do_not_specialize=_SIZES)
def combine_kernel(  # type: ignore[no-untyped-def]
    carry, total, first, A2, entry, batch, inner, states, pieces,
    FLIPPED: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Pass states along the pieces: ``entry`` gets the state with which each one starts."""
    blocks = tl.cdiv(inner, BLOCK)
    pid = tl.program_id(0).to(tl.int64)
    block, row = pid % blocks, pid // blocks
    s = row // batch
    against = (s + FLIPPED) % 2
    i = block * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N)
    live_i = i < inner
    live = (n < states)[:, None] & live_i[None, :]
    tile = n[:, None] * inner + i[None, :]
    a2 = tl.load(A2 + s * states * inner + tile, mask=live, other=0.0)
    state = tl.load(first + row * states * inner + tile, mask=live, other=0.0)
    for j in range(pieces):
        place = row * pieces + j + against * (pieces - 1 - 2 * j)
        tl.store(entry + place * states * inner + tile, state, mask=live)
        steps = tl.load(total + place * inner + i, mask=live_i, other=0.0)
        state = tl.exp2(a2 * steps[None, :]) * state + tl.load(
            carry + place * states * inner + tile, mask=live, other=0.0
        )


@triton.jit
def _direction(  # type: ignore[no-untyped-def]
    u, u_s, u_b, u_t, dt, dt_s, dt_b, dt_t, B, B_s, B_b, B_t, C, C_s, C_b, C_t, z, z_b, z_t, A2, D, bias,
    entry, y, partial, ungated, last, kept, s, against, b, batch, i, length, inner, states, piece, pieces, bases,
    start, end, IS_FIRST: tl.constexpr, IS_LAST: tl.constexpr, KEEP: tl.constexpr, HAS_Z: tl.constexpr,
    CHUNK: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Walk one piece in one direction. The first of two directions leaves its sums in ``partial``."""
    n = tl.arange(0, N)
    live_i, live_n = i < inner, n < states
    live = live_n[:, None] & live_i[None, :]
    tile = n[:, None] * inner + i[None, :]
    row = s * batch + b
    a2 = tl.load(A2 + s * states * inner + tile, mask=live, other=0.0)
    bias_i = tl.load(bias + s * inner + i, mask=live_i, other=0.0)
    skip = tl.load(D + s * inner + i, mask=live_i, other=0.0)
    u += s * u_s + b * u_b
    dt += s * dt_s + b * dt_b
    B += s * B_s + b * B_b
    C += s * C_s + b * C_b
    state = tl.load(entry + (row * pieces + piece) * states * inner + tile, mask=live, other=0.0)
    chunks = tl.cdiv(length, CHUNK)
    per_piece = bases // CHUNK
    for c in range(per_piece):
        chunk = piece * per_piece + c + against * (per_piece - 1 - 2 * c)
        if KEEP:
            tl.store(kept + (row * chunks + chunk) * states * inner + tile, state, mask=live & (chunk < chunks))
        count, t0 = _overlap(chunk * CHUNK, CHUNK, start, end, against)
        for j in range(count):
            t = t0 + (1 - 2 * against) * j
            step = _softplus(_load(dt, t, dt_t, i, live_i) + bias_i)
            value = _load(u, t, u_t, i, live_i)
            entering = _load(B, t, B_t, n, live_n)[:, None]
            leaving = _load(C, t, C_t, n, live_n)[:, None]
            state = tl.exp2(a2 * step[None, :]) * state + entering * (step * value)[None, :]
            out = tl.sum(state * leaving, axis=0) + skip * value
            here = (b * length + t) * inner
            if not IS_FIRST:
                out += tl.load(partial + here + i, mask=live_i, other=0.0)
            if IS_LAST:
                if HAS_Z:
                    if KEEP:
                        tl.store(ungated + here + i, out, mask=live_i)
                    gate = _load(z + b * z_b, t, z_t, i, live_i)
                    out *= gate * sigmoid(gate)
                tl.store(y + here + i, out, mask=live_i)
            else:
                tl.store(partial + here + i, out, mask=live_i)
    ends_here = piece == (pieces - 1) * (1 - against)
    tl.store(last + (row * inner + i[None, :]) * states + n[:, None], state, mask=live & ends_here)


@triton.jit(do_not_specialize=_SIZES)
def output_kernel(  # type: ignore[no-untyped-def]
    u, u_s, u_b, u_t, dt, dt_s, dt_b, dt_t, B, B_s, B_b, B_t, C, C_s, C_b, C_t, z, z_b, z_t, A2, D, bias, spans,
    entry, y, partial, ungated, last, kept, batch, length, inner, states, pieces, bases,
    S: tl.constexpr, FLIPPED: tl.constexpr, KEEP: tl.constexpr, HAS_Z: tl.constexpr, HAS_SPANS: tl.constexpr,
    CHUNK: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Give one piece its outputs, its last states and the states before its chunks, in all directions."""
    blocks = tl.cdiv(inner, BLOCK)
    pid = tl.program_id(0).to(tl.int64)
    block, piece, b = pid % blocks, (pid // blocks) % pieces, pid // blocks // pieces
    i = block * BLOCK + tl.arange(0, BLOCK)
    start, end = span(spans, b, length, HAS_SPANS)
    if S == 2:
        _direction(
            u, u_s, u_b, u_t, dt, dt_s, dt_b, dt_t, B, B_s, B_b, B_t, C, C_s, C_b, C_t, z, z_b, z_t, A2, D, bias,
            entry, y, partial, ungated, last, kept, 1, 1 - FLIPPED, b, batch, i, length, inner, states, piece, pieces,
            bases, start, end, True, False, KEEP, HAS_Z, CHUNK, N, BLOCK,
        )  # fmt: skip
        # What one thread stored in partial, another may load.
        tl.debug_barrier()
    _direction(
        u, u_s, u_b, u_t, dt, dt_s, dt_b, dt_t, B, B_s, B_b, B_t, C, C_s, C_b, C_t, z, z_b, z_t, A2, D, bias,
        entry, y, partial, ungated, last, kept, 0, FLIPPED, b, batch, i, length, inner, states, piece, pieces,
        bases, start, end, S == 1, True, KEEP, HAS_Z, CHUNK, N, BLOCK,
    )  # fmt: skip


@triton.jit
def _advance(  # type: ignore[no-untyped-def]
    state, t, live, u, u_t, dt, dt_t, B, B_t, a2, bias_i, i, n, live_i, live_n,
):  # fmt: skip
    """Take a state over position ``t``; without ``live`` it stays as it is."""
    step = tl.where(live, _softplus(_load(dt, t, dt_t, i, live_i & live) + bias_i), 0.0)
    value = step * _load(u, t, u_t, i, live_i & live)
    return tl.exp2(a2 * step[None, :]) * state + _load(B, t, B_t, n, live_n & live)[:, None] * value[None, :]


@triton.jit(do_not_specialize=_SIZES)
def gradient_kernel(  # type: ignore[no-untyped-def]
    g_y, g_y_b, g_y_t, u, u_s, u_b, u_t, dt, dt_s, dt_b, dt_t, B, B_s, B_b, B_t, C, C_s, C_b, C_t, z, z_b, z_t,
    A2, D, bias, spans, ungated, kept, entry, scratch,
    g_u, g_dt, g_A, g_B, g_C, g_D, g_bias, g_z, g_initial, batch, length, inner, states, pieces, bases,
    FLIPPED: tl.constexpr, HAS_Z: tl.constexpr, HAS_SPANS: tl.constexpr,
    CHUNK: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Walk one piece of one direction against its time, chunk by chunk, and give all gradients.

    A chunk's states are made again from the kept one. Every fourth waits in ``scratch``, and the rest are made
    once more, four at a time, in registers.
    """
    blocks = tl.cdiv(inner, BLOCK)
    pid = tl.program_id(0).to(tl.int64)
    block, piece, row = pid % blocks, (pid // blocks) % pieces, pid // blocks // pieces
    s, b = row // batch, row % batch
    against = (s + FLIPPED) % 2
    sign = 1 - 2 * against
    i = block * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N)
    live_i, live_n = i < inner, n < states
    live_tile = live_n[:, None] & live_i[None, :]
    tile = n[:, None] * inner + i[None, :]
    a2 = tl.load(A2 + s * states * inner + tile, mask=live_tile, other=0.0)
    bias_i = tl.load(bias + s * inner + i, mask=live_i, other=0.0)
    skip = tl.load(D + s * inner + i, mask=live_i, other=0.0)
    u += s * u_s + b * u_b
    dt += s * dt_s + b * dt_b
    B += s * B_s + b * B_b
    C += s * C_s + b * C_b
    g_y += b * g_y_b
    z += b * z_b
    scratch += pid * (CHUNK // 4) * N * BLOCK
    spare = n[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    start, end = span(spans, b, length, HAS_SPANS)
    # The gradient of the state that the next position of the walk leaves behind.
    adjoint = tl.load(entry + (row * pieces + piece) * states * inner + tile, mask=live_tile, other=0.0)
    sum_A = tl.zeros((N, BLOCK), tl.float32)
    sum_D = tl.zeros((BLOCK,), tl.float32)
    sum_bias = tl.zeros((BLOCK,), tl.float32)
    chunks = tl.cdiv(length, CHUNK)
    per_piece = bases // CHUNK
    for c in range(per_piece):
        chunk = piece * per_piece + (1 - against) * (per_piece - 1) - sign * c
        count, t0 = _overlap(chunk * CHUNK, CHUNK, start, end, against)
        fours = (count + 3) // 4
        state = tl.load(kept + (row * chunks + chunk) * states * inner + tile, mask=live_tile & (count > 0), other=0.0)
        for four in range(fours):
            tl.store(scratch + four * N * BLOCK + spare, state)
            for r in range(4):
                j = four * 4 + r
                state = _advance(
                    state, t0 + sign * j, j < count, u, u_t, dt, dt_t, B, B_t, a2, bias_i, i, n, live_i, live_n
                )
        # What one thread stored in scratch, another may load.
        tl.debug_barrier()
        for back in range(fours):
            four = fours - 1 - back
            j = four * 4
            t = t0 + sign * j
            state_0 = tl.load(scratch + four * N * BLOCK + spare)
            state_1 = _advance(state_0, t, j < count, u, u_t, dt, dt_t, B, B_t, a2, bias_i, i, n, live_i, live_n)
            t += sign
            state_2 = _advance(state_1, t, j + 1 < count, u, u_t, dt, dt_t, B, B_t, a2, bias_i, i, n, live_i, live_n)
            t += sign
            state_3 = _advance(state_2, t, j + 2 < count, u, u_t, dt, dt_t, B, B_t, a2, bias_i, i, n, live_i, live_n)
            t += sign
            state_4 = _advance(state_3, t, j + 3 < count, u, u_t, dt, dt_t, B, B_t, a2, bias_i, i, n, live_i, live_n)
            for r in tl.static_range(4):
                if r == 0:
                    before, after = state_3, state_4
                elif r == 1:
                    before, after = state_2, state_3
                elif r == 2:
                    before, after = state_1, state_2
                else:
                    before, after = state_0, state_1
                j = four * 4 + 3 - r
                t = t0 + sign * j
                here = live_i & (j < count)
                here_n = live_n & (j < count)
                raw = _load(dt, t, dt_t, i, here) + bias_i
                step = tl.where(here, _softplus(raw), 0.0)
                value = _load(u, t, u_t, i, here)
                upstream = _load(g_y, t, g_y_t, i, here)
                if HAS_Z:
                    gate = _load(z, t, z_t, i, here)
                    opened = sigmoid(gate)
                    g_gate = upstream * opened * (1.0 + gate * (1.0 - opened))
                    g_gate *= _load(ungated, b * length + t, inner, i, here)
                    # Both directions come by here, and the gate is one.
                    tl.store(g_z + (b * length + t) * inner + i, g_gate, mask=here & (s == 0))
                    upstream *= gate * opened
                entering = _load(B, t, B_t, n, here_n)[:, None]
                leaving = _load(C, t, C_t, n, here_n)[:, None]
                out = ((block + blocks * row) * length + t) * states
                tl.store(g_C + out + n, tl.sum(after * upstream[None, :], axis=1), mask=here_n)
                adjoint += leaving * upstream[None, :]
                tl.store(g_B + out + n, tl.sum(adjoint * (step * value)[None, :], axis=1), mask=here_n)
                g_value = tl.sum(adjoint * entering, axis=0)
                adjoint *= tl.exp2(a2 * step[None, :])
                through = adjoint * before
                sum_A += through * step[None, :]
                # a2 carries a factor log2(e), which the derivative by the step must lose again.
                g_step = tl.sum(through * a2, axis=0) * 0.6931471805599453 + g_value * value
                g_raw = tl.where(here, g_step * sigmoid(raw), 0.0)
                sum_D += upstream * value
                sum_bias += g_raw
                tl.store(g_u + (row * length + t) * inner + i, g_value * step + skip * upstream, mask=here)
                tl.store(g_dt + (row * length + t) * inner + i, g_raw, mask=here)
        # No thread may overwrite scratch that another still loads.
        tl.debug_barrier()
    place = row * pieces + piece
    tl.store(g_A + place * states * inner + tile, sum_A, mask=live_tile)
    tl.store(g_D + place * inner + i, sum_D, mask=live_i)
    tl.store(g_bias + place * inner + i, sum_bias, mask=live_i)
    ends_here = piece == (pieces - 1) * against
    tl.store(g_initial + (row * inner + i[None, :]) * states + n[:, None], adjoint, mask=live_tile & ends_here)
