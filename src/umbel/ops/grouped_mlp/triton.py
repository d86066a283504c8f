"""The experts on a CUDA device by Triton, forward and backward; the counts of rows stay on the device.

R rows, E experts, D width, F hidden width, as in :func:`umbel.ops.grouped_mlp.grouped_mlp`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from umbel.ops.triton_parts import sigmoid

ROWS, COLUMNS = 64, 64  # of a program's tile of a product
ELEMENTS = 1024  # of a program, where numbers meet only their own kind


@triton.jit
def _find(counts, tile, n_rows, E: tl.constexpr, EXPERTS: tl.constexpr, ROWS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Give the expert of a tile of rows, the tile's first row and the one past the expert's last.

    Every expert has tiles of its own, the last of them partly filled; so has what is left over. Tiles beyond
    that start where they end.
    """
    e = tl.arange(0, EXPERTS)
    count = tl.load(counts + e, mask=e < E, other=0).to(tl.int64)
    count = tl.where(e == E, n_rows - tl.sum(count, axis=0), count)
    tiles = tl.cdiv(count, ROWS)
    expert = tl.sum(tl.where(tl.cumsum(tiles, axis=0) <= tile, 1, 0), axis=0)
    first = tl.sum(tl.where(e < expert, count, 0), axis=0)
    before = tl.sum(tl.where(e < expert, tiles, 0), axis=0)
    last = first + tl.sum(tl.where(e == expert, count, 0), axis=0)
    return expert, tl.minimum(first + (tile - before) * ROWS, last), last


@triton.jit
def _add_product(  # type: ignore[no-untyped-def]
    total, x, w, w_e, w_c, w_k, r, c, live_r, live_c, expert, depth, E: tl.constexpr, DEPTH: tl.constexpr
):  # fmt: skip
    """Add rows ``r`` of x (R, depth) times columns ``c`` of the expert's matrix; nothing where it has none."""
    k = tl.arange(0, DEPTH)
    w += expert.to(tl.int64) * w_e
    for step in range(tl.where(expert < E, tl.cdiv(depth, DEPTH), 0)):
        place = (step * DEPTH + k).to(tl.int64)
        live_k = place < depth
        left = tl.load(x + r[:, None] * depth + place[None, :], mask=live_r[:, None] & live_k[None, :], other=0.0)
        right = tl.load(w + c[None, :] * w_c + place[:, None] * w_k, mask=live_c[None, :] & live_k[:, None], other=0.0)
        total = tl.dot(left, right.to(left.dtype), total, input_precision="ieee")
    return total


@triton.jit(do_not_specialize=["n_rows"])
def _product_kernel(  # type: ignore[no-untyped-def]
    x, w, w_e, w_c, w_k, x2, w2, w2_e, w2_c, w2_k, counts, y, n_rows, depth, columns,
    HAS_SECOND: tl.constexpr, E: tl.constexpr, EXPERTS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Multiply rows (R, depth) with their experts' matrices to (R, columns), or add up two such products."""
    across = tl.cdiv(columns, COLUMNS)
    pid = tl.program_id(0)
    expert, first, last = _find(counts, pid // across, n_rows, E, EXPERTS, ROWS)
    r = first + tl.arange(0, ROWS)
    c = (pid % across * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    live_r, live_c = r < last, c < columns
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    total = _add_product(total, x, w, w_e, w_c, w_k, r, c, live_r, live_c, expert, depth, E, DEPTH)
    if HAS_SECOND:
        total = _add_product(total, x2, w2, w2_e, w2_c, w2_k, r, c, live_r, live_c, expert, depth, E, DEPTH)
    tl.store(y + r[:, None] * columns + c[None, :], total, mask=live_r[:, None] & live_c[None, :])


@triton.jit
def _weight_kernel(  # type: ignore[no-untyped-def]
    g, x, counts, g_w, columns, depth, E: tl.constexpr, EXPERTS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """Give the gradient of an expert's matrix (columns, depth): g^T x over its rows, 0 if it has none."""
    expert = tl.program_id(2)
    e = tl.arange(0, EXPERTS)
    count = tl.load(counts + e, mask=e < E, other=0).to(tl.int64)
    first = tl.sum(tl.where(e < expert, count, 0), axis=0)
    last = tl.sum(tl.where(e <= expert, count, 0), axis=0)
    c = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    k = (tl.program_id(0) * DEPTH + tl.arange(0, DEPTH)).to(tl.int64)
    live_c, live_k = c < columns, k < depth
    total = tl.zeros((COLUMNS, DEPTH), tl.float32)
    for step in range(tl.cdiv(last - first, ROWS)):
        r = first + step * ROWS + tl.arange(0, ROWS)
        live_r = r < last
        left = tl.load(g + r[None, :] * columns + c[:, None], mask=live_r[None, :] & live_c[:, None], other=0.0)
        right = tl.load(x + r[:, None] * depth + k[None, :], mask=live_r[:, None] & live_k[None, :], other=0.0)
        total = tl.dot(left, right, total, input_precision="ieee")
    place = (expert.to(tl.int64) * columns + c[:, None]) * depth + k[None, :]
    tl.store(g_w + place, total, mask=live_c[:, None] & live_k[None, :])


@triton.jit
def _gate_kernel(gated, upped, hidden, size, ELEMENTS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Give SiLU(gated) * upped."""
    place = tl.program_id(0).to(tl.int64) * ELEMENTS + tl.arange(0, ELEMENTS)
    a = tl.load(gated + place, mask=place < size, other=0.0).to(tl.float32)
    b = tl.load(upped + place, mask=place < size, other=0.0).to(tl.float32)
    tl.store(hidden + place, a * sigmoid(a) * b, mask=place < size)


@triton.jit
def _gate_backward_kernel(  # type: ignore[no-untyped-def]
    g, gated, upped, hidden, g_gated, g_upped, size, ELEMENTS: tl.constexpr
):  # fmt: skip
    """Give SiLU(gated) * upped again, and its gradients."""
    place = tl.program_id(0).to(tl.int64) * ELEMENTS + tl.arange(0, ELEMENTS)
    live = place < size
    a = tl.load(gated + place, mask=live, other=0.0).to(tl.float32)
    b = tl.load(upped + place, mask=live, other=0.0).to(tl.float32)
    upstream = tl.load(g + place, mask=live, other=0.0).to(tl.float32)
    opened = sigmoid(a)
    tl.store(hidden + place, a * opened * b, mask=live)
    tl.store(g_upped + place, upstream * a * opened, mask=live)
    tl.store(g_gated + place, upstream * b * opened * (1.0 + a * (1.0 - opened)), mask=live)


def _product(x: Tensor, w: Tensor, counts: Tensor, x2: Tensor | None = None, w2: Tensor | None = None) -> Tensor:
    """Multiply rows (R, K) with their experts' (E, N, K), any strides, transposed; add the second product."""
    (n_rows, depth), (n_experts, columns) = x.shape, w.shape[:2]
    y = x.new_empty(n_rows, columns)
    second = (x, w) if x2 is None or w2 is None else (x2, w2)
    # Each expert fills its last tile in part, and so does what is left over.
    tiles = triton.cdiv(n_rows, ROWS) + n_experts
    _product_kernel[(tiles * triton.cdiv(columns, COLUMNS),)](
        x, w, *w.stride(), second[0], second[1], *second[1].stride(), counts, y, n_rows, depth, columns,
        HAS_SECOND=x2 is not None, E=n_experts, EXPERTS=triton.next_power_of_2(n_experts + 1),
        ROWS=ROWS, COLUMNS=COLUMNS, DEPTH=32, num_warps=4,
    )  # fmt: skip
    return y


def _weight_gradient(g: Tensor, x: Tensor, counts: Tensor, like: Tensor) -> Tensor:
    """Give each expert's g^T x, (E, N, K), from g (R, N) and x (R, K)."""
    columns, depth = g.shape[1], x.shape[1]
    g_w = like.new_empty(like.shape)
    grid = (triton.cdiv(depth, COLUMNS), triton.cdiv(columns, COLUMNS), len(counts))
    _weight_kernel[grid](
        g, x, counts, g_w, columns, depth, E=len(counts), EXPERTS=triton.next_power_of_2(len(counts)),
        ROWS=32, COLUMNS=COLUMNS, DEPTH=COLUMNS, num_warps=4,
    )  # fmt: skip
    return g_w


def forward(
    x_RD: Tensor, gate_EFD: Tensor, up_EFD: Tensor, down_EDF: Tensor, counts_E: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the outputs, and the products with gate and up, (R, F) each; these two are empty unless ``keep``."""
    x, counts = x_RD.contiguous(), counts_E.contiguous()
    with torch.cuda.device_of(x):
        gated, upped = _product(x, gate_EFD, counts), _product(x, up_EFD, counts)
        hidden = torch.empty_like(gated) if keep else gated
        _gate_kernel[(triton.cdiv(gated.numel(), ELEMENTS),)](gated, upped, hidden, gated.numel(), ELEMENTS=ELEMENTS)
        y = _product(hidden, down_EDF, counts)
    if not keep:
        gated, upped = (x.new_empty(0, gated.shape[1]) for _ in range(2))
    return y, gated, upped


def backward(
    g_RD: Tensor, x_RD: Tensor, gate_EFD: Tensor, up_EFD: Tensor, down_EDF: Tensor, counts_E: Tensor,
    gated_RF: Tensor, upped_RF: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Give the gradients of x, gate, up and down."""
    g, x, counts = g_RD.contiguous(), x_RD.contiguous(), counts_E.contiguous()
    with torch.cuda.device_of(x):
        g_hidden = _product(g, down_EDF.mT, counts)
        hidden, g_gated, g_upped = (torch.empty_like(gated_RF) for _ in range(3))
        _gate_backward_kernel[(triton.cdiv(hidden.numel(), ELEMENTS),)](
            g_hidden, gated_RF, upped_RF, hidden, g_gated, g_upped, hidden.numel(), ELEMENTS=ELEMENTS
        )
        g_x = _product(g_gated, gate_EFD.mT, counts, g_upped, up_EFD.mT)
        g_gate = _weight_gradient(g_gated, x, counts, gate_EFD)
        g_up = _weight_gradient(g_upped, x, counts, up_EFD)
        g_down = _weight_gradient(g, hidden, counts, down_EDF)
    return g_x, g_gate, g_up, g_down
