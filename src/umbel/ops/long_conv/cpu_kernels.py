"""Numba kernel of the long convolution, forward: imported late, because compiling them takes seconds.

A task owns one sequence and a group of channels, and walks along its time in tiles of CHUNK bases, counted from the
first base that is met, so that no bit depends on padding. In a tile the loop over poles is outside and the loop over
time inside, with the pole's states in registers. No two tasks write to one place: the result is the same bits on any
number of threads.

**Rounding.** A float32 multiplier a is off by up to 3e-8, which over n bases would grow to n times as much. So after
every STRIDE bases each state gets what the state before them lost, s * (a**STRIDE - rounded a**STRIDE).
"""

from __future__ import annotations

import numpy as np
from numba import njit

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
    splat,
    store,
    store_part,
    zero,
)

GROUP = 4  # vectors of channels in a task
# Floats of one vector of channels over a tile; some more than needed, lest all tables share their cache sets.
TILE = (CHUNK + 3) * LANES
STRIDE = 32  # bases after which states are mended; twice that is CHUNK
TABLE = 6 * LANES  # floats of a pole's table: decay, what rounding took from it, residue; each two parts
_INLINE = {"inline": "always"}


def forward_scratch(n_state: int) -> int:
    """Count the floats a thread needs in :func:`forward`: two tiles, the states, and what rounding takes from them."""
    return GROUP * (2 * TILE + 4 * n_state * LANES)


@njit(**_INLINE)
def lost_in_a_stride(table, lost):  # type: ignore[no-untyped-def]
    """Write a**STRIDE less its rounded twin for the pole at ``table``: STRIDE a**(STRIDE - 1) times one rounding."""
    p_re, p_im = load(table, 0), load(table, LANES)
    d_re, d_im = load(table, 2 * LANES), load(table, 3 * LANES)
    many = splat(np.float32(STRIDE))
    d_re, d_im = d_re * many, d_im * many
    reached = 1
    # STRIDE - 1 = 1 + 2 + 4 + ...
    while reached < STRIDE:
        d_re, d_im = d_re * p_re - d_im * p_im, d_re * p_im + d_im * p_re
        p_re, p_im = p_re * p_re - p_im * p_im, (p_re + p_re) * p_im
        reached = 2 * reached
    store(lost, 0, d_re)
    store(lost, LANES, d_im)


@njit(**_INLINE)
def blank(y, first, last, stride, c, live):  # type: ignore[no-untyped-def]
    """Write zeros to sixteen channels of rows ``first`` to ``last``."""
    for t in range(first, last):
        store_part(y, t * stride + c, zero(), live)


@njit
def _advance(inputs, sums, table, state, lost, count):  # type: ignore[no-untyped-def]
    """Take sixteen channels of one pole through ``count`` bases, adding Re(r s) to ``sums``."""
    keep_apart()
    a_re, a_im = load(table, 0), load(table, LANES)
    r_re, r_im = load(table, 4 * LANES), load(table, 5 * LANES)
    l_re, l_im = load(lost, 0), load(lost, LANES)
    s_re, s_im = load(state, 0), load(state, LANES)
    for first in range(0, count, STRIDE):
        first_re, first_im = s_re, s_im
        for k in range(first, min(count, first + STRIDE)):
            turned = load(inputs, k * LANES) - a_im * s_im
            s_im = a_re * s_im + a_im * s_re
            s_re = a_re * s_re + turned
            store(sums, k * LANES, load(sums, k * LANES) + r_re * s_re - r_im * s_im)
        if first + STRIDE > count:
            # A sequence taken in pieces has such a rest in each: count - first bases, and so much was lost.
            many = splat(np.float32(count - first))
            l_re, l_im = load(table, 2 * LANES) * many, load(table, 3 * LANES) * many
            for _ in range(first + 1, count):
                l_re, l_im = l_re * a_re - l_im * a_im, l_re * a_im + l_im * a_re
        s_re = s_re + (l_re * first_re - l_im * first_im)
        s_im = s_im + (l_re * first_im + l_im * first_re)
    store(state, 0, s_re)
    store(state, LANES, s_im)


@kernel
def forward(a):  # type: ignore[no-untyped-def]
    """Convolve; the arguments are listed in :func:`umbel.ops.long_conv.cpu.forward`."""
    scratch = a[SCRATCH] + 4 * a[SCRATCH_FLOATS] * fetch_add(a, ENTERED)
    inputs, sums, states = scratch, scratch + 4 * GROUP * TILE, scratch + 8 * GROUP * TILE
    length, width, n_state, reverse = a[FIRST], a[FIRST + 1], a[FIRST + 2], a[FIRST + 3]
    losses = states + 8 * GROUP * n_state * LANES
    z0, z_b, z_t = a[FIRST + 4], a[FIRST + 5], a[FIRST + 6]
    tables, skip, initial, spans = a[FIRST + 7], a[FIRST + 8], a[FIRST + 9], a[FIRST + 10]
    y, last, kept = a[FIRST + 11], a[FIRST + 12], a[FIRST + 13]
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
            live = high - c
            for n in range(n_state):
                place = ((c - low) // LANES * n_state + n) * 2 * LANES
                for part in range(2):
                    s = zero()
                    if initial != 0:
                        s = load_part(initial, ((batch * n_state + n) * 2 + part) * width + c, live)
                    store(states, place + part * LANES, s)
                lost_in_a_stride(tables + 4 * (c // LANES * n_state + n) * TABLE, losses + 4 * place)
            blank(y, 0, min(start, length), width, row + c, live)
            blank(y, max(0, stop), length, width, row + c, live)
        for tile in range((stop - start + CHUNK - 1) // CHUNK):
            count = min(CHUNK, stop - start - tile * CHUNK)
            t_first, t_step = (stop - 1 - tile * CHUNK, -1) if reverse != 0 else (start + tile * CHUNK, 1)
            for k in range(count):
                at = (t_first + k * t_step) * z_t
                for c in range(low, high, LANES):
                    u = load_part(z, at + width + c, high - c) * load_part(z, at + 2 * width + c, high - c)
                    store(inputs, (c - low) // LANES * TILE + k * LANES, u)
            for c in range(low, high, LANES):
                block, live = (c - low) // LANES, high - c
                us, ys, w = inputs + 4 * block * TILE, sums + 4 * block * TILE, load_part(skip, c, live)
                for k in range(count):
                    store(ys, k * LANES, w * load(us, k * LANES))
                for n in range(n_state):
                    place = (block * n_state + n) * 2 * LANES
                    if kept != 0:
                        where = ((batch * n_chunks + tile) * n_state + n) * 2 * width + c
                        store_part(kept, where, load(states, place), live)
                        store_part(kept, where + width, load(states, place + LANES), live)
                    table = tables + 4 * (c // LANES * n_state + n) * TABLE
                    _advance(us, ys, table, states + 4 * place, losses + 4 * place, count)
            for k in range(count):
                t = t_first + k * t_step
                for c in range(low, high, LANES):
                    total = load(sums, (c - low) // LANES * TILE + k * LANES)
                    store_part(y, row + t * width + c, load_part(z, t * z_t + c, high - c) * total, high - c)
        for c in range(low, high, LANES):
            for n in range(n_state):
                place = ((c - low) // LANES * n_state + n) * 2 * LANES
                where = (batch * n_state + n) * 2 * width + c
                store_part(last, where, load(states, place), high - c)
                store_part(last, where + width, load(states, place + LANES), high - c)
