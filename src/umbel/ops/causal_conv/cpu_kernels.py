"""Numba kernels of the short convolution: imported late, because compiling them takes seconds.

A task owns some rows of one sequence and all their channels, for both directions.
"""

from __future__ import annotations

from numba import njit

from umbel.ops.threads import COUNTER, ENTERED, FIRST, SCRATCH, SCRATCH_FLOATS, TASKS
from umbel.ops.vectors import (
    LANES,
    fetch_add,
    kernel,
    load,
    load_part,
    sigmoid,
    silu,
    silu_slope,
    span_of,
    store,
    store_part,
    zero,
)

ROWS = 64  # bases in a task
BLOCK = 256  # channels whose filters and neighbouring rows stay in the first cache together


@njit(inline="always")
def _before_silu(x, x_t, t, start, stop, c, live, weight, bias, taps, width, sign):  # type: ignore[no-untyped-def]
    """Filter sixteen channels at position t; ``weight`` is (taps, width)."""
    total = load_part(bias, c, live)
    for k in range(taps):
        source = t + sign * (taps - 1 - k)
        if source >= start and source < stop:
            total = total + load_part(weight, k * width + c, live) * load_part(x, source * x_t + c, live)
    return total


@kernel
def forward(a):  # type: ignore[no-untyped-def]
    """Convolve; the arguments are listed in :func:`umbel.ops.causal_conv.cpu.forward`."""
    n_directions, n_batch, length, width, taps = a[FIRST], a[FIRST + 1], a[FIRST + 2], a[FIRST + 3], a[FIRST + 4]
    reverse, x0, x_b, x_t = a[FIRST + 5], a[FIRST + 6], a[FIRST + 7], a[FIRST + 8]
    weight, bias, spans, y = a[FIRST + 9], a[FIRST + 10], a[FIRST + 11], a[FIRST + 12]
    n_tiles = (length + ROWS - 1) // ROWS
    while True:
        task = fetch_add(a, COUNTER)
        if task >= a[TASKS]:
            return
        batch, tile = task // n_tiles, task % n_tiles
        start, stop = span_of(spans, batch, length)
        x = x0 + 4 * batch * x_b
        for block in range(0, width, BLOCK):
            for s in range(n_directions):
                sign = 1 if (s == 1) != (reverse != 0) else -1
                filters, shifts = weight + 4 * s * taps * width, bias + 4 * s * width
                for t in range(tile * ROWS, min(length, tile * ROWS + ROWS)):
                    row = ((s * n_batch + batch) * length + t) * width
                    for c in range(block, min(width, block + BLOCK), LANES):
                        v = zero()
                        if t >= start and t < stop:
                            v = _before_silu(x, x_t, t, start, stop, c, width - c, filters, shifts, taps, width, sign)
                            v = silu(v)
                        store_part(y, row + c, v, width - c)


@kernel
def backward(a):  # type: ignore[no-untyped-def]
    """Differentiate; the arguments are listed in :func:`umbel.ops.causal_conv.cpu.backward`.

    Each task first makes the gradient before SiLU at its rows and at the neighbours that its rows' x reach;
    sums over rows go to a slice of its own.
    """
    slopes = a[SCRATCH] + 4 * a[SCRATCH_FLOATS] * fetch_add(a, ENTERED)
    n_directions, n_batch, length, width, taps = a[FIRST], a[FIRST + 1], a[FIRST + 2], a[FIRST + 3], a[FIRST + 4]
    reverse, x0, x_b, x_t = a[FIRST + 5], a[FIRST + 6], a[FIRST + 7], a[FIRST + 8]
    weight, bias, spans, g_y = a[FIRST + 9], a[FIRST + 10], a[FIRST + 11], a[FIRST + 12]
    g_x, g_weight, g_bias = a[FIRST + 13], a[FIRST + 14], a[FIRST + 15]
    n_tiles = (length + ROWS - 1) // ROWS
    while True:
        task = fetch_add(a, COUNTER)
        if task >= a[TASKS]:
            return
        batch, tile = task // n_tiles, task % n_tiles
        start, stop = span_of(spans, batch, length)
        x = x0 + 4 * batch * x_b
        t_low, t_high = tile * ROWS, min(length, tile * ROWS + ROWS)
        for c in range(0, width, LANES):
            live = width - c
            for t in range(t_low, t_high):
                store_part(g_x, (batch * length + t) * width + c, zero(), live)
            for s in range(n_directions):
                sign = 1 if (s == 1) != (reverse != 0) else -1
                filters, shifts = weight + 4 * s * taps * width, bias + 4 * s * width
                rows = (s * n_batch + batch) * length
                # An output at t reaches inputs up to taps - 1 away, against the sign.
                first = max(start, t_low if sign < 0 else t_low - taps + 1)
                last = min(stop, t_high + taps - 1 if sign < 0 else t_high)
                sum_bias = zero()
                for t in range(first, last):
                    v = _before_silu(x, x_t, t, start, stop, c, live, filters, shifts, taps, width, sign)
                    s_v = sigmoid(v)
                    g = load_part(g_y, (rows + t) * width + c, live) * silu_slope(v, s_v)
                    store(slopes, (t - first) * LANES, g)
                    if t >= t_low and t < t_high:
                        sum_bias = sum_bias + g
                store_part(g_bias, (task * n_directions + s) * width + c, sum_bias, live)
                for k in range(taps):
                    reach = sign * (taps - 1 - k)
                    tap, sum_tap = load_part(filters, k * width + c, live), zero()
                    for t in range(max(first, start - reach), min(last, stop - reach)):
                        source = t + reach
                        g = load(slopes, (t - first) * LANES)
                        if t >= t_low and t < t_high:
                            sum_tap = sum_tap + g * load_part(x, source * x_t + c, live)
                        if source >= t_low and source < t_high:
                            place = (batch * length + source) * width + c
                            store_part(g_x, place, load_part(g_x, place, live) + g * tap, live)
                    store_part(g_weight, ((task * n_directions + s) * taps + k) * width + c, sum_tap, live)
