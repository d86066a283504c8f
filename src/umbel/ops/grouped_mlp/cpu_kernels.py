"""Numba kernels of SwiGLU: imported late, because compiling them takes seconds. A task owns a run of numbers."""

from __future__ import annotations

from umbel.ops.threads import COUNTER, FIRST, TASKS
from umbel.ops.vectors import LANES, fetch_add, kernel, load_part, sigmoid, silu, silu_slope, store_part

RUN = 16384  # numbers in a task


@kernel
def swiglu(a):  # type: ignore[no-untyped-def]
    """Write SiLU(gated) * upped; ``out`` may be one of the two."""
    count, gated, upped, out = a[FIRST], a[FIRST + 1], a[FIRST + 2], a[FIRST + 3]
    while True:
        task = fetch_add(a, COUNTER)
        if task >= a[TASKS]:
            return
        for i in range(task * RUN, min(count, task * RUN + RUN), LANES):
            v = load_part(gated, i, count - i)
            store_part(out, i, silu(v) * load_part(upped, i, count - i), count - i)


@kernel
def swiglu_backward(a):  # type: ignore[no-untyped-def]
    """From the gradient of the product, write those of ``gated`` and ``upped``, and the product again.

    The product may be written over its gradient.
    """
    count, g_hidden, gated, upped = a[FIRST], a[FIRST + 1], a[FIRST + 2], a[FIRST + 3]
    g_gated, g_upped, hidden = a[FIRST + 4], a[FIRST + 5], a[FIRST + 6]
    while True:
        task = fetch_add(a, COUNTER)
        if task >= a[TASKS]:
            return
        for i in range(task * RUN, min(count, task * RUN + RUN), LANES):
            live = count - i
            g, v, w = load_part(g_hidden, i, live), load_part(gated, i, live), load_part(upped, i, live)
            s = sigmoid(v)
            silu = v * s
            store_part(hidden, i, silu * w, live)
            store_part(g_upped, i, g * silu, live)
            store_part(g_gated, i, g * w * silu_slope(v, s), live)
