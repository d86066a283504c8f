"""Numba kernel of the long convolution's gradient: imported late, because compiling it takes seconds.

Tasks, tiles and threads are those of ``cpu_kernels``; tiles are taken against the sequence's time. The gradient of a
pole's state obeys G(t) = conj(a) G(t+1) + conj(r) g(t), where g is the gradient of the sum before the gate.
"""

from __future__ import annotations

from numba import njit

from umbel.ops.long_conv.cpu_kernels import GROUP, STRIDE, TABLE, TILE, blank, lost_in_a_stride
from umbel.ops.long_conv.op import CHUNK
from umbel.ops.threads import COUNTER, ENTERED, FIRST, SCRATCH, SCRATCH_FLOATS, TASKS
from umbel.ops.vectors import (
    LANES,
    fetch_add,
    keep_apart,
    kernel,
    load,
    load_part,
    span_of,
    store,
    store_part,
    zero,
)

CARRIED = 8 * LANES  # floats a pole carries from tile to tile: its gradient, two sums, and what rounding takes


def backward_scratch(n_state: int) -> int:
    """Count the floats a thread needs in :func:`backward`: tiles, and what each pole carries."""
    return (4 * GROUP + 2) * TILE + GROUP * (n_state * CARRIED + LANES)


@njit
def _repeat(inputs, g_sums, sums, states, table, lost, sum_residue, count):  # type: ignore[no-untyped-def]
    """Make the states of a tile again from the first in ``states``, which is ``count`` + 1 long; and the sums."""
    keep_apart()
    a_re, a_im = load(table, 0), load(table, LANES)
    r_re, r_im = load(table, 4 * LANES), load(table, 5 * LANES)
    s_re, s_im = load(states, 0), load(states, TILE)
    sum_re, sum_im = zero(), zero()
    for first in range(0, count, STRIDE):
        first_re, first_im = s_re, s_im
        last = min(count, first + STRIDE)
        for k in range(first, last):
            turned = load(inputs, k * LANES) - a_im * s_im
            s_im = a_re * s_im + a_im * s_re
            s_re = a_re * s_re + turned
            store(sums, k * LANES, load(sums, k * LANES) + r_re * s_re - r_im * s_im)
            g = load(g_sums, k * LANES)
            sum_re = sum_re + g * s_re
            sum_im = sum_im - g * s_im
            store(states, k * LANES + LANES, s_re)
            store(states, TILE + k * LANES + LANES, s_im)
        if first + STRIDE <= count:
            l_re, l_im = load(lost, 0), load(lost, LANES)
            s_re = s_re + (l_re * first_re - l_im * first_im)
            s_im = s_im + (l_re * first_im + l_im * first_re)
            store(states, last * LANES, s_re)
            store(states, TILE + last * LANES, s_im)
    store(sum_residue, 0, load(sum_residue, 0) + sum_re)
    store(sum_residue, LANES, load(sum_residue, LANES) + sum_im)


@njit
def _retreat(g_sums, g_inputs, states, table, carried, count):  # type: ignore[no-untyped-def]
    """Take the gradient of sixteen channels of one pole's state back through a tile.

    ``carried`` holds the gradient of the state after the tile, the sum for the residue, that for the decay, and
    what rounding takes from the decay over a stride.
    """
    keep_apart()
    a_re, a_im = load(table, 0), load(table, LANES)
    r_re, r_im = load(table, 4 * LANES), load(table, 5 * LANES)
    before_re, before_im = load(carried, 0), load(carried, LANES)
    sum_re, sum_im = zero(), zero()
    for back in range(0, count, STRIDE):
        first = (count - 1) // STRIDE * STRIDE - back
        last = min(count, first + STRIDE)
        after_re, after_im = before_re, before_im
        for turn in range(last - first):
            k = (last - 1 - turn) * LANES
            g = load(g_sums, k)
            g_re = before_re + r_re * g
            g_im = before_im - r_im * g
            store(g_inputs, k, load(g_inputs, k) + g_re)
            s_re, s_im = load(states, k), load(states, TILE + k)
            sum_re = sum_re + g_re * s_re + g_im * s_im
            sum_im = sum_im + g_im * s_re - g_re * s_im
            before_re = a_re * g_re + a_im * g_im
            before_im = a_re * g_im - a_im * g_re
        if last == first + STRIDE:
            l_re, l_im = load(carried, 6 * LANES), load(carried, 7 * LANES)
            before_re = before_re + (l_re * after_re + l_im * after_im)
            before_im = before_im + (l_re * after_im - l_im * after_re)
    store(carried, 0, before_re)
    store(carried, LANES, before_im)
    store(carried, 4 * LANES, load(carried, 4 * LANES) + sum_re)
    store(carried, 5 * LANES, load(carried, 5 * LANES) + sum_im)


@kernel
def backward(a):  # type: ignore[no-untyped-def]
    """Differentiate; the arguments are listed in :func:`umbel.ops.long_conv.cpu.backward`.

    Each tile's states are made again from the kept one. Sums over time are taken tile by tile, and the sums of
    tiles are added: in one long sum, float32 would lose a digit.
    """
    scratch = a[SCRATCH] + 4 * a[SCRATCH_FLOATS] * fetch_add(a, ENTERED)
    inputs, g_sums = scratch, scratch + 4 * GROUP * TILE
    sums, g_inputs = scratch + 8 * GROUP * TILE, scratch + 12 * GROUP * TILE
    states = scratch + 16 * GROUP * TILE
    all_carried = states + 8 * TILE
    length, width, n_state, reverse = a[FIRST], a[FIRST + 1], a[FIRST + 2], a[FIRST + 3]
    for_skip = all_carried + 4 * GROUP * n_state * CARRIED
    z0, z_b, z_t = a[FIRST + 4], a[FIRST + 5], a[FIRST + 6]
    tables, skip, kept, spans, g_y = a[FIRST + 7], a[FIRST + 8], a[FIRST + 9], a[FIRST + 10], a[FIRST + 11]
    g_last, g_z, g_residues, g_decays = a[FIRST + 12], a[FIRST + 13], a[FIRST + 14], a[FIRST + 15]
    g_skip, g_initial = a[FIRST + 16], a[FIRST + 17]
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
        z, row = z0 + 4 * batch * z_b, batch * length * width
        for c in range(low, high, LANES):
            block, live = (c - low) // LANES, high - c
            for n in range(n_state):
                carried = all_carried + 4 * (block * n_state + n) * CARRIED
                for part in range(2):
                    g = zero()
                    if g_last != 0:
                        g = load_part(g_last, ((batch * n_state + n) * 2 + part) * width + c, live)
                    store(carried, part * LANES, g)
                for k in range(2, 6):
                    store(carried, k * LANES, zero())
                lost_in_a_stride(tables + 4 * (c // LANES * n_state + n) * TABLE, carried + 24 * LANES)
            store(for_skip, block * LANES, zero())
            for stream in range(3):
                blank(g_z, 0, min(start, length), 3 * width, 3 * row + stream * width + c, live)
                blank(g_z, max(0, stop), length, 3 * width, 3 * row + stream * width + c, live)
        n_tiles = (stop - start + CHUNK - 1) // CHUNK
        for i in range(n_tiles):
            tile = n_tiles - 1 - i
            count = min(CHUNK, stop - start - tile * CHUNK)
            t_first, t_step = (stop - 1 - tile * CHUNK, -1) if reverse != 0 else (start + tile * CHUNK, 1)
            for k in range(count):
                t = t_first + k * t_step
                for c in range(low, high, LANES):
                    at, live, place = t * z_t + c, high - c, (c - low) // LANES * TILE + k * LANES
                    store(inputs, place, load_part(z, at + width, live) * load_part(z, at + 2 * width, live))
                    store(g_sums, place, load_part(g_y, row + t * width + c, live) * load_part(z, at, live))
            for c in range(low, high, LANES):
                block, live = (c - low) // LANES, high - c
                us, gs = inputs + 4 * block * TILE, g_sums + 4 * block * TILE
                ys, g_us, w = sums + 4 * block * TILE, g_inputs + 4 * block * TILE, load_part(skip, c, live)
                sum_skip = zero()
                for k in range(count):
                    u, g = load(us, k * LANES), load(gs, k * LANES)
                    store(ys, k * LANES, w * u)
                    store(g_us, k * LANES, w * g)
                    sum_skip = sum_skip + g * u
                store(for_skip, block * LANES, load(for_skip, block * LANES) + sum_skip)
                for n in range(n_state):
                    where = ((batch * n_chunks + tile) * n_state + n) * 2 * width + c
                    store(states, 0, load_part(kept, where, live))
                    store(states, TILE, load_part(kept, where + width, live))
                    carried = all_carried + 4 * (block * n_state + n) * CARRIED
                    table = tables + 4 * (c // LANES * n_state + n) * TABLE
                    _repeat(us, gs, ys, states, table, carried + 24 * LANES, carried + 8 * LANES, count)
                    _retreat(gs, g_us, states, table, carried, count)
            for k in range(count):
                t = t_first + k * t_step
                for c in range(low, high, LANES):
                    at, live, place = t * z_t + c, high - c, (c - low) // LANES * TILE + k * LANES
                    to, g_u = 3 * (row + t * width) + c, load(g_inputs, place)
                    x1, v = load_part(z, at + width, live), load_part(z, at + 2 * width, live)
                    store_part(g_z, to, load_part(g_y, row + t * width + c, live) * load(sums, place), live)
                    store_part(g_z, to + width, g_u * v, live)
                    store_part(g_z, to + 2 * width, g_u * x1, live)
        for c in range(low, high, LANES):
            block, live = (c - low) // LANES, high - c
            for n in range(n_state):
                carried = all_carried + 4 * (block * n_state + n) * CARRIED
                for part in range(2):
                    where = ((batch * n_state + n) * 2 + part) * width + c
                    store_part(g_initial, where, load(carried, part * LANES), live)
                    store_part(g_residues, where, load(carried, (2 + part) * LANES), live)
                    store_part(g_decays, where, load(carried, (4 + part) * LANES), live)
            store_part(g_skip, batch * width + c, load(for_skip, block * LANES), live)
