"""Numba kernels of the selective scan's gradient: imported late, because compiling them takes seconds.

Tasks, tiles and threads are those of ``cpu_kernels``; tiles are taken against each direction's time.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from umbel.ops.selective_scan.cpu_kernels import GROUP, TILE, blank, gather, softplus
from umbel.ops.selective_scan.op import CHUNK
from umbel.ops.threads import COUNTER, ENTERED, FIRST, SCRATCH, SCRATCH_FLOATS, TASKS
from umbel.ops.vectors import (
    LANES,
    exp2,
    fetch_add,
    keep_apart,
    kernel,
    load,
    load_part,
    put,
    sigmoid,
    silu_slope,
    span_of,
    splat,
    splat_at,
    store,
    store_part,
    total,
    zero,
)


def backward_group(width: int) -> int:
    """Choose the vectors of channels in a task of :func:`backward`: many make sums over channels cheaper."""
    return 8 if width >= 512 else GROUP


def backward_scratch(n_state: int, wide: int) -> int:
    """Count the floats a thread needs in :func:`backward`: tables for a tile, for a group of tiles, and sums."""
    return (6 + 3 * wide + 2 * n_state) * TILE + (2 + 3 * n_state) * wide * LANES


@njit
def _repeat(steps, inputs, decays, states, rate, b, b_step, count):  # type: ignore[no-untyped-def]
    """Make the states of a tile again from the first in ``states``, which is ``count`` + 1 long; keep the decays."""
    keep_apart()
    h, a = load(states, 0), load(rate, 0)
    for k in range(count):
        decay = exp2(load(steps, k * LANES) * a)
        h = decay * h + load(inputs, k * LANES) * splat_at(b, k * b_step)
        store(decays, k * LANES, decay)
        store(states, k * LANES + LANES, h)


@njit
def _retreat(tables, g_sums, for_b, for_c, adjoint, for_rate, rate, b, b_step, c, c_step, count):  # type: ignore[no-untyped-def]
    """Take the gradient of sixteen channels of one state back through a tile.

    ``tables`` hold steps, inputs, decays, states, gradients of inputs, and of steps.
    """
    keep_apart()
    g, sum_rate, a = load(adjoint, 0), load(for_rate, 0), load(rate, 0)
    h = load(tables, 3 * TILE + count * LANES)
    for back in range(count):
        k = count - 1 - back
        at = k * LANES
        g_sum = load(g_sums, at)
        g = splat_at(c, k * c_step) * g_sum + g
        store(for_c, at, g_sum * h + load(for_c, at))
        store(for_b, at, g * load(tables, TILE + at) + load(for_b, at))
        store(tables, 4 * TILE + at, g * splat_at(b, k * b_step) + load(tables, 4 * TILE + at))
        g = g * load(tables, 2 * TILE + at)
        h = load(tables, 3 * TILE + at)
        through = g * h
        store(tables, 5 * TILE + at, through * a + load(tables, 5 * TILE + at))
        sum_rate = through * load(tables, at) + sum_rate
    store(adjoint, 0, g)
    store(for_rate, 0, sum_rate)


@kernel
def backward(a):  # type: ignore[no-untyped-def]
    """Differentiate; the arguments are listed in :func:`umbel.ops.selective_scan.cpu.backward`.

    Each tile's states are made again from the kept one. Sums over channels (for B and C) are kept in sixteen
    lanes until the task's group is through the tile; each group has a slice of its own.
    """
    scratch = a[SCRATCH] + 4 * a[SCRATCH_FLOATS] * fetch_add(a, ENTERED)
    tables, wide = scratch, a[FIRST + 37]
    steps, inputs, decays, states = tables, tables + 4 * TILE, tables + 8 * TILE, tables + 12 * TILE
    g_inputs, g_steps = tables + 16 * TILE, tables + 20 * TILE
    all_raws, all_us = tables + 24 * TILE, tables + (24 + 4 * wide) * TILE
    all_g_sums, adjoints = tables + (24 + 8 * wide) * TILE, tables + (24 + 12 * wide) * TILE
    n_directions, n_batch, length, width, n_state = a[FIRST], a[FIRST + 1], a[FIRST + 2], a[FIRST + 3], a[FIRST + 4]
    reverse = a[FIRST + 5]
    u0, u_s, u_b, u_t = a[FIRST + 6], a[FIRST + 7], a[FIRST + 8], a[FIRST + 9]
    dt0, dt_s, dt_b, dt_t = a[FIRST + 10], a[FIRST + 11], a[FIRST + 12], a[FIRST + 13]
    b0, b_s, b_b, b_t = a[FIRST + 14], a[FIRST + 15], a[FIRST + 16], a[FIRST + 17]
    c0, c_s, c_b, c_t = a[FIRST + 18], a[FIRST + 19], a[FIRST + 20], a[FIRST + 21]
    rates, skip, bias, kept, spans = a[FIRST + 22], a[FIRST + 23], a[FIRST + 24], a[FIRST + 25], a[FIRST + 26]
    g_y, g_last, g_u, g_dt, g_initial = a[FIRST + 27], a[FIRST + 28], a[FIRST + 29], a[FIRST + 30], a[FIRST + 31]
    g_rates, g_b, g_c, g_skip, g_bias = a[FIRST + 32], a[FIRST + 33], a[FIRST + 34], a[FIRST + 35], a[FIRST + 36]
    n_groups = (width + wide * LANES - 1) // (wide * LANES)
    n_chunks = (length + CHUNK - 1) // CHUNK
    for_b = adjoints + 4 * wide * n_state * LANES
    for_c = for_b + 4 * n_state * TILE
    for_rates = for_c + 4 * n_state * TILE
    for_skip = for_rates + 4 * wide * n_state * LANES
    for_bias = for_skip + 4 * wide * LANES
    rate_table = for_bias + 4 * wide * LANES
    ln2 = splat(np.float32(0.6931471805599453))
    while True:
        task = fetch_add(a, COUNTER)
        if task >= a[TASKS]:
            return
        batch, group = task // n_groups, task % n_groups
        start, stop = span_of(spans, batch, length)
        low = group * wide * LANES
        high = min(width, low + wide * LANES)
        for s in range(n_directions):
            against = (s == 1) != (reverse != 0)
            u, dt = u0 + 4 * (s * u_s + batch * u_b), dt0 + 4 * (s * dt_s + batch * dt_b)
            b_row, c_row = b0 + 4 * (s * b_s + batch * b_b), c0 + 4 * (s * c_s + batch * c_b)
            own = s * n_batch + batch
            slice_row = ((group * n_directions + s) * n_batch + batch) * length * n_state
            for c in range(low, high, LANES):
                block = (c - low) // LANES
                for n in range(n_state):
                    g = zero()
                    if g_last != 0:
                        g = load_part(g_last, (own * n_state + n) * width + c, high - c)
                    store(adjoints, (block * n_state + n) * LANES, g)
                    store(for_rates, (block * n_state + n) * LANES, zero())
                    rate = load_part(rates, (s * n_state + n) * width + c, high - c)
                    store(rate_table, (block * n_state + n) * LANES, rate)
                store(for_skip, block * LANES, zero())
                store(for_bias, block * LANES, zero())
                blank(g_u, 0, start, width, own * length * width + c, high - c)
                blank(g_u, stop, length, width, own * length * width + c, high - c)
                blank(g_dt, 0, start, width, own * length * width + c, high - c)
                blank(g_dt, stop, length, width, own * length * width + c, high - c)
            for i in range(start * n_state):
                put(g_b, slice_row + i, np.float32(0.0))
                put(g_c, slice_row + i, np.float32(0.0))
            for i in range(stop * n_state, length * n_state):
                put(g_b, slice_row + i, np.float32(0.0))
                put(g_c, slice_row + i, np.float32(0.0))
            n_tiles = (stop + CHUNK - 1) // CHUNK - start // CHUNK if stop > start else 0
            for i in range(n_tiles):
                # Tiles in the order against the direction's time; within a tile, k follows its time.
                tile = start // CHUNK + i if against else (stop - 1) // CHUNK - i
                t_low, t_high = max(start, tile * CHUNK), min(stop, tile * CHUNK + CHUNK)
                count = t_high - t_low
                t_first, t_step = (t_high - 1, -1) if against else (t_low, 1)
                for k in range(n_state * TILE // LANES):
                    store(for_b, k * LANES, zero())
                    store(for_c, k * LANES, zero())
                gather(dt, dt_t, t_first, t_step, count, low, high, all_raws)
                gather(u, u_t, t_first, t_step, count, low, high, all_us)
                gather(g_y + 4 * batch * length * width, width, t_first, t_step, count, low, high, all_g_sums)
                for c in range(low, high, LANES):
                    live, block = high - c, (c - low) // LANES
                    raws, us, g_sums = (
                        all_raws + 4 * block * TILE,
                        all_us + 4 * block * TILE,
                        all_g_sums + 4 * block * TILE,
                    )
                    bias_c, skip_c = load_part(bias, s * width + c, live), load_part(skip, s * width + c, live)
                    sum_skip = load(for_skip, block * LANES)
                    for k in range(count):
                        step, x = softplus(load(raws, k * LANES) + bias_c), load(us, k * LANES)
                        store(steps, k * LANES, step)
                        store(inputs, k * LANES, step * x)
                        store(g_inputs, k * LANES, zero())
                        store(g_steps, k * LANES, zero())
                        sum_skip = sum_skip + load(g_sums, k * LANES) * x
                    store(for_skip, block * LANES, sum_skip)
                    for n in range(n_state):
                        place = (block * n_state + n) * LANES
                        store(states, 0, load_part(kept, ((own * n_chunks + tile) * n_state + n) * width + c, live))
                        b_n, c_n = b_row + 4 * (t_first * b_t + n), c_row + 4 * (t_first * c_t + n)
                        _repeat(steps, inputs, decays, states, rate_table + 4 * place, b_n, t_step * b_t, count)
                        _retreat(
                            tables,
                            g_sums,
                            for_b + 4 * n * TILE,
                            for_c + 4 * n * TILE,
                            adjoints + 4 * place,
                            for_rates + 4 * place,
                            rate_table + 4 * place,
                            b_n,
                            t_step * b_t,
                            c_n,
                            t_step * c_t,
                            count,
                        )
                    sum_bias = load(for_bias, block * LANES)
                    for k in range(count):
                        t = t_first + k * t_step
                        step, g_input = load(steps, k * LANES), load(g_inputs, k * LANES)
                        where = (own * length + t) * width + c
                        store_part(g_u, where, g_input * step + skip_c * load(g_sums, k * LANES), live)
                        # rates carry a factor log2(e), which the derivative must lose again.
                        g = g_input * load(us, k * LANES) + load(g_steps, k * LANES) * ln2
                        g = g * sigmoid(load(raws, k * LANES) + bias_c)
                        store_part(g_dt, where, g, live)
                        sum_bias = sum_bias + g
                    store(for_bias, block * LANES, sum_bias)
                for k in range(count):
                    t = t_first + k * t_step
                    for n in range(n_state):
                        put(g_b, slice_row + t * n_state + n, total(load(for_b, n * TILE + k * LANES)))
                        put(g_c, slice_row + t * n_state + n, total(load(for_c, n * TILE + k * LANES)))
            for c in range(low, high, LANES):
                block = (c - low) // LANES
                for n in range(n_state):
                    place, where = (block * n_state + n) * LANES, (own * n_state + n) * width + c
                    store_part(g_initial, where, load(adjoints, place), high - c)
                    store_part(g_rates, where, load(for_rates, place), high - c)
                store_part(g_skip, own * width + c, load(for_skip, block * LANES), high - c)
                store_part(g_bias, own * width + c, load(for_bias, block * LANES), high - c)


@kernel
def gate_backward(a):  # type: ignore[no-untyped-def]
    """Differentiate y = x SiLU(z): from g, z and x, the gradients of x and z; a task is one row of width floats."""
    length, width = a[FIRST], a[FIRST + 1]
    g0, x0, z0, z_b, z_t = a[FIRST + 2], a[FIRST + 3], a[FIRST + 4], a[FIRST + 5], a[FIRST + 6]
    g_x, g_z, spans = a[FIRST + 7], a[FIRST + 8], a[FIRST + 9]
    while True:
        task = fetch_add(a, COUNTER)
        if task >= a[TASKS]:
            return
        batch, tile = task // ((length + CHUNK - 1) // CHUNK), task % ((length + CHUNK - 1) // CHUNK)
        start, stop = span_of(spans, batch, length)
        for t in range(tile * CHUNK, min(length, tile * CHUNK + CHUNK)):
            row = (batch * length + t) * width
            for c in range(0, width, LANES):
                live = width - c
                if t < start or t >= stop:
                    store_part(g_x, row + c, zero(), live)
                    store_part(g_z, row + c, zero(), live)
                else:
                    z, g = load_part(z0, batch * z_b + t * z_t + c, live), load_part(g0, row + c, live)
                    s = sigmoid(z)
                    store_part(g_x, row + c, g * (z * s), live)
                    store_part(g_z, row + c, g * load_part(x0, row + c, live) * silu_slope(z, s), live)
