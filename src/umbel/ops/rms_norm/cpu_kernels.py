"""Numba kernels of the norm: imported late, because compiling them takes seconds. A task owns some rows."""

from __future__ import annotations

import numpy as np

from umbel.ops.threads import COUNTER, ENTERED, FIRST, SCRATCH, SCRATCH_FLOATS, TASKS
from umbel.ops.vectors import (
    LANES,
    as_float,
    fetch_add,
    float_at,
    kernel,
    load,
    load_part,
    put,
    splat,
    store,
    store_part,
    total,
)

ROWS = 32


@kernel
def forward(a):  # type: ignore[no-untyped-def]
    """Add and normalise; the arguments are listed in :func:`umbel.ops.rms_norm.cpu.forward`."""
    n_rows, width, eps = a[FIRST], a[FIRST + 1], as_float(a[FIRST + 2])
    x, residual, weight, y = a[FIRST + 3], a[FIRST + 4], a[FIRST + 5], a[FIRST + 6]
    stream, inverse = a[FIRST + 7], a[FIRST + 8]
    while True:
        task = fetch_add(a, COUNTER)
        if task >= a[TASKS]:
            return
        for row in range(task * ROWS, min(n_rows, task * ROWS + ROWS)):
            at, squares = row * width, splat(np.float32(0.0))
            for c in range(0, width, LANES):
                v = load_part(x, at + c, width - c)
                if residual != 0:
                    v = v + load_part(residual, at + c, width - c)
                    store_part(stream, at + c, v, width - c)
                squares = squares + v * v
            scale = np.float32(1.0) / np.sqrt(total(squares) / np.float32(width) + eps)
            put(inverse, row, scale)
            source = stream if residual != 0 else x
            for c in range(0, width, LANES):
                v = load_part(source, at + c, width - c) * splat(scale)
                store_part(y, at + c, v * load_part(weight, c, width - c), width - c)


@kernel
def backward(a):  # type: ignore[no-untyped-def]
    """Differentiate; the arguments are listed in :func:`umbel.ops.rms_norm.cpu.backward`.

    The weight's gradient is summed over the task's rows into a slice of its own.
    """
    sums = a[SCRATCH] + 4 * a[SCRATCH_FLOATS] * fetch_add(a, ENTERED)
    n_rows, width = a[FIRST], a[FIRST + 1]
    g_y, g_stream, stream, weight, inverse = a[FIRST + 2], a[FIRST + 3], a[FIRST + 4], a[FIRST + 5], a[FIRST + 6]
    g_x, g_weight = a[FIRST + 7], a[FIRST + 8]
    zero = splat(np.float32(0.0))
    while True:
        task = fetch_add(a, COUNTER)
        if task >= a[TASKS]:
            return
        for c in range(0, width, LANES):
            store(sums, c, zero)
        for row in range(task * ROWS, min(n_rows, task * ROWS + ROWS)):
            at, along, scale = row * width, zero, float_at(inverse, row)
            for c in range(0, width, LANES):
                live = width - c
                g, v = load_part(g_y, at + c, live), load_part(stream, at + c, live)
                along = along + g * load_part(weight, c, live) * v
                store(sums, c, load(sums, c) + g * v * splat(scale))
            shrink = splat(total(along) / np.float32(width) * scale * scale * scale)
            for c in range(0, width, LANES):
                live = width - c
                g = load_part(g_y, at + c, live) * load_part(weight, c, live) * splat(scale)
                g = g - load_part(stream, at + c, live) * shrink
                if g_stream != 0:
                    g = g + load_part(g_stream, at + c, live)
                store_part(g_x, at + c, g, live)
        for c in range(0, width, LANES):
            store_part(g_weight, task * width + c, load(sums, c), width - c)
