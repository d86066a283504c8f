"""What several operators' Triton kernels call."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def span(spans, b, length, HAS_SPANS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Give the first position of row ``b``'s sequence and the one past its last."""
    start = b * 0
    end = start + length
    if HAS_SPANS:
        start = tl.maximum(tl.load(spans + b * 2).to(tl.int64), start)
        end = tl.minimum(tl.load(spans + b * 2 + 1).to(tl.int64), end)
    return start, end


@triton.jit
def sigmoid(x):  # type: ignore[no-untyped-def]
    """1 / (1 + e**-x) without overflow."""
    e = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, e) / (1.0 + e)
