"""Numba kernel of the selective scan, forward: imported late, because compiling them takes seconds.

A task owns one sequence and a group of channels, for both directions, and walks along time in tiles whose
values stay in the first cache: no temporary of size L x I x N exists, and no two tasks write to one place, so
the result is the same bits on any number of threads. In a tile the loop over states is outside and the loop
over time inside, with the state in a register.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from umbel.ops.selective_scan.op import CHUNK
from umbel.ops.threads import COUNTER, ENTERED, FIRST, SCRATCH, SCRATCH_FLOATS, TASKS
from umbel.ops.vectors import (
    LANES,
    exp,
    exp2,
    exp2_of_product,
    fetch_add,
    keep_apart,
    kernel,
    least,
    load,
    load_part,
    log1p,
    maximum,
    minimum,
    sigmoid,
    span_of,
    splat_at,
    store,
    store_part,
    zero,
)

GROUP = 4  # vectors of channels in a task of the forward
# Floats of one vector of channels over a tile; some more than needed, lest all tables share their cache sets.
TILE = (CHUNK + 3) * LANES
_INLINE = {"inline": "always"}


def forward_scratch(n_state: int) -> int:
    """Count the floats a thread needs in :func:`forward`: three tables, the states, and their rates."""
    return GROUP * (3 * TILE + 2 * n_state * LANES)


@njit(**_INLINE)
def softplus(x):  # type: ignore[no-untyped-def]
    """log(1 + e**x) without overflow, and with full precision where it is small."""
    return maximum(x, zero()) + log1p(exp(zero() - maximum(x, zero() - x)))


@njit(**_INLINE)
def gather(source, stride, t_first, t_step, count, low, high, table):  # type: ignore[no-untyped-def]
    """Copy a group's channels over a tile from rows of ``stride`` floats to a table with a block after the other.

    Copying alone, ahead of the arithmetic, keeps many cache misses in flight at once.
    """
    for k in range(count):
        at = (t_first + k * t_step) * stride
        for c in range(low, high, LANES):
            store(table, (c - low) // LANES * TILE + k * LANES, load_part(source, at + c, high - c))


@njit(**_INLINE)
def scatter(target, stride, t_first, t_step, count, low, high, table):  # type: ignore[no-untyped-def]
    """Undo :func:`gather`."""
    for k in range(count):
        at = (t_first + k * t_step) * stride
        for c in range(low, high, LANES):
            store_part(target, at + c, load(table, (c - low) // LANES * TILE + k * LANES), high - c)


@njit(**_INLINE)
def blank(y, first, last, stride, c, live):  # type: ignore[no-untyped-def]
    """Write zeros to sixteen channels of rows ``first`` to ``last``."""
    for t in range(first, last):
        store_part(y, t * stride + c, zero(), live)


@njit
def _project(x, x_t, rank, weight, width, t_first, t_step, count, low, high, table):  # type: ignore[no-untyped-def]
    """Fill ``table`` with the products of x (T, rank) and ``weight`` (rank, width), four bases at a time."""
    keep_apart()
    for c in range(low, high, LANES):
        place = (c - low) // LANES * TILE
        for k in range(0, count, 4):
            # Beyond the tile's last base the same one is computed again, into rows that nobody reads.
            at = (t_first + k * t_step) * x_t
            at_1 = (t_first + min(k + 1, count - 1) * t_step) * x_t
            at_2 = (t_first + min(k + 2, count - 1) * t_step) * x_t
            at_3 = (t_first + min(k + 3, count - 1) * t_step) * x_t
            v, v_1, v_2, v_3 = zero(), zero(), zero(), zero()
            for r in range(rank):
                w = load_part(weight, r * width + c, high - c)
                v = splat_at(x, at + r) * w + v
                v_1 = splat_at(x, at_1 + r) * w + v_1
                v_2 = splat_at(x, at_2 + r) * w + v_2
                v_3 = splat_at(x, at_3 + r) * w + v_3
            store(table, place + k * LANES, v)
            store(table, place + k * LANES + LANES, v_1)
            store(table, place + k * LANES + 2 * LANES, v_2)
            store(table, place + k * LANES + 3 * LANES, v_3)


@njit
def _advance(steps, inputs, sums, state, rate, b, b_step, c, c_step, count):  # type: ignore[no-untyped-def]
    """Take sixteen channels of one state through ``count`` steps, adding C h to ``sums``."""
    keep_apart()
    h, a = load(state, 0), load(rate, 0)
    for k in range(count):
        h = exp2(load(steps, k * LANES) * a) * h + load(inputs, k * LANES) * splat_at(b, k * b_step)
        store(sums, k * LANES, splat_at(c, k * c_step) * h + load(sums, k * LANES))
    store(state, 0, h)


@njit
def _advance_gently(steps, inputs, sums, state, rate, b, b_step, c, c_step, count):  # type: ignore[no-untyped-def]
    """Do as :func:`_advance` does where no state shrinks by more than 2**-126 in a step: that needs less."""
    keep_apart()
    h, a = load(state, 0), load(rate, 0)
    for k in range(count):
        h = exp2_of_product(load(steps, k * LANES), a) * h + load(inputs, k * LANES) * splat_at(b, k * b_step)
        store(sums, k * LANES, splat_at(c, k * c_step) * h + load(sums, k * LANES))
    store(state, 0, h)


@kernel
def forward(a):  # type: ignore[no-untyped-def]
    """Scan; the arguments are listed in :func:`umbel.ops.selective_scan.cpu.forward`."""
    scratch = a[SCRATCH] + 4 * a[SCRATCH_FLOATS] * fetch_add(a, ENTERED)
    steps, inputs, sums = scratch, scratch + 4 * GROUP * TILE, scratch + 8 * GROUP * TILE
    states = scratch + 12 * GROUP * TILE
    n_directions, n_batch, length, width, n_state = a[FIRST], a[FIRST + 1], a[FIRST + 2], a[FIRST + 3], a[FIRST + 4]
    decays = states + 4 * GROUP * n_state * LANES
    reverse = a[FIRST + 5]
    u0, u_s, u_b, u_t = a[FIRST + 6], a[FIRST + 7], a[FIRST + 8], a[FIRST + 9]
    dt0, dt_s, dt_b, dt_t = a[FIRST + 10], a[FIRST + 11], a[FIRST + 12], a[FIRST + 13]
    b0, b_s, b_b, b_t = a[FIRST + 14], a[FIRST + 15], a[FIRST + 16], a[FIRST + 17]
    c0, c_s, c_b, c_t = a[FIRST + 18], a[FIRST + 19], a[FIRST + 20], a[FIRST + 21]
    z0, z_b, z_t = a[FIRST + 22], a[FIRST + 23], a[FIRST + 24]
    rates, skip, bias, initial = a[FIRST + 25], a[FIRST + 26], a[FIRST + 27], a[FIRST + 28]
    y, ungated, last, kept, spans = a[FIRST + 29], a[FIRST + 30], a[FIRST + 31], a[FIRST + 32], a[FIRST + 33]
    adds, dt_weight, rank = a[FIRST + 34], a[FIRST + 35], a[FIRST + 36]
    n_groups = (width + GROUP * LANES - 1) // (GROUP * LANES)
    n_chunks = (length + CHUNK - 1) // CHUNK
    while True:
        task = fetch_add(a, COUNTER)
        if task >= a[TASKS]:
            return
        batch, group = task // n_groups, task % n_groups
        start, stop = span_of(spans, batch, length)
        low = group * GROUP * LANES
        high = min(width, low + GROUP * LANES)
        row = batch * length * width
        # The direction that comes last adds what the other one left in y, and applies the gate.
        for turn in range(n_directions):
            s = n_directions - 1 - turn
            against = (s == 1) != (reverse != 0)
            finish = turn == n_directions - 1
            before = adds != 0 or turn == 1
            u, dt = u0 + 4 * (s * u_s + batch * u_b), dt0 + 4 * (s * dt_s + batch * dt_b)
            b_row, c_row = b0 + 4 * (s * b_s + batch * b_b), c0 + 4 * (s * c_s + batch * c_b)
            own = (s * n_batch + batch) * n_state
            for c in range(low, high, LANES):
                for n in range(n_state):
                    h = zero()
                    if initial != 0:
                        h = load_part(initial, (own + n) * width + c, high - c)
                    store(states, ((c - low) // LANES * n_state + n) * LANES, h)
                    rate = load_part(rates, (s * n_state + n) * width + c, high - c)
                    store(decays, ((c - low) // LANES * n_state + n) * LANES, rate)
                if finish:
                    blank(y, 0, start, width, row + c, high - c)
                    blank(y, stop, length, width, row + c, high - c)
                    if ungated != 0:
                        blank(ungated, 0, start, width, row + c, high - c)
                        blank(ungated, stop, length, width, row + c, high - c)
            n_tiles = (stop + CHUNK - 1) // CHUNK - start // CHUNK if stop > start else 0
            for i in range(n_tiles):
                tile = (stop - 1) // CHUNK - i if against else start // CHUNK + i
                t_low, t_high = max(start, tile * CHUNK), min(stop, tile * CHUNK + CHUNK)
                count = t_high - t_low
                t_first, t_step = (t_high - 1, -1) if against else (t_low, 1)
                if dt_weight != 0:
                    _project(dt, dt_t, rank, dt_weight, width, t_first, t_step, count, low, high, steps)
                else:
                    gather(dt, dt_t, t_first, t_step, count, low, high, steps)
                gather(u, u_t, t_first, t_step, count, low, high, inputs)
                if before:
                    gather(y + 4 * row, width, t_first, t_step, count, low, high, sums)
                for c in range(low, high, LANES):
                    live, block = high - c, (c - low) // LANES
                    bias_c, skip_c = load_part(bias, s * width + c, live), load_part(skip, s * width + c, live)
                    longest = zero()
                    for k in range(count):
                        at = block * TILE + k * LANES
                        step, x = softplus(load(steps, at) + bias_c), load(inputs, at)
                        longest = maximum(longest, step)
                        store(steps, at, step)
                        store(inputs, at, step * x)
                        store(sums, at, skip_c * x + load(sums, at) if before else skip_c * x)
                    fastest = zero()
                    for n in range(n_state):
                        fastest = minimum(fastest, load(decays, (block * n_state + n) * LANES))
                    gently = least(longest * fastest) > np.float32(-126.0)
                    for n in range(n_state):
                        place = (block * n_state + n) * LANES
                        if kept != 0:
                            where = (((s * n_batch + batch) * n_chunks + tile) * n_state + n) * width + c
                            store_part(kept, where, load(states, place), live)
                        dts, dus, ys = steps + 4 * block * TILE, inputs + 4 * block * TILE, sums + 4 * block * TILE
                        hs, rate = states + 4 * place, decays + 4 * place
                        b_n, c_n = b_row + 4 * (t_first * b_t + n), c_row + 4 * (t_first * c_t + n)
                        if gently:
                            _advance_gently(dts, dus, ys, hs, rate, b_n, t_step * b_t, c_n, t_step * c_t, count)
                        else:
                            _advance(dts, dus, ys, hs, rate, b_n, t_step * b_t, c_n, t_step * c_t, count)
                if finish and ungated != 0:
                    scatter(ungated + 4 * row, width, t_first, t_step, count, low, high, sums)
                if finish and z0 != 0:
                    gather(z0 + 4 * batch * z_b, z_t, t_first, t_step, count, low, high, steps)
                    for k in range((high - low + LANES - 1) // LANES * TILE // LANES):
                        z = load(steps, k * LANES)
                        store(sums, k * LANES, load(sums, k * LANES) * (z * sigmoid(z)))
                scatter(y + 4 * row, width, t_first, t_step, count, low, high, sums)
            for c in range(low, high, LANES):
                for n in range(n_state):
                    h = load(states, ((c - low) // LANES * n_state + n) * LANES)
                    store_part(last, (own + n) * width + c, h, high - c)
