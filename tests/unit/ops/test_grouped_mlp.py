"""Every backend of the experts against the definition, and the definition against one row at a time."""

import time

import pytest
import torch
import torch.nn.functional as F
from agreement import assert_close, errors
from torch.autograd import gradcheck

from umbel.errors import BackendError
from umbel.ops.grouped_mlp import gated_mlp, grouped_mlp

COUNTS = {
    "idle expert": [4, 0, 3],
    "one token": [1, 5, 1],
    "all with the last": [0, 0, 7],
    "rows of nobody": [2, 0, 1],
    "nobody has any": [0, 0, 0],
}


def draw(rows=7, n_experts=3, width=8, hidden=16):
    sizes = {
        "x_RD": (rows, width),
        "gate_EFD": (n_experts, hidden, width),
        "up_EFD": (n_experts, hidden, width),
        "down_EDF": (n_experts, width, hidden),
    }
    return {name: torch.randn(size, dtype=torch.float64) for name, size in sizes.items()}


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
def test_definition_agrees_with_one_row_at_a_time(counts):
    x, gate, up, down = draw().values()
    y = grouped_mlp(x, gate, up, down, torch.tensor(counts), backend="reference")
    owners = [e for e, n in enumerate(counts) for _ in range(n)]
    for row, e in enumerate(owners):
        torch.testing.assert_close(y[row], down[e] @ (F.silu(gate[e] @ x[row]) * (up[e] @ x[row])))
    assert not y[len(owners) :].any()


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("shape", [(8, 16), (5, 7), (33, 65)])
def test_the_cpu_kernels_agree_with_the_definition(counts, shape):
    found = errors(grouped_mlp, draw(7, 3, *shape), "cpu", torch.float32, counts_E=torch.tensor(counts))
    assert_close(found, 2e-6)


def test_torchs_grouped_product_agrees_with_the_definition(monkeypatch):
    """Called directly: it is chosen on GPUs only, but torch runs it here too."""
    from umbel.ops.grouped_mlp import grouped

    monkeypatch.setattr(grouped, "why_not", lambda x: None)
    for counts in ([4, 0, 3], [2, 0, 1]):
        v = {name: x.float() for name, x in draw().items()}
        exact = grouped_mlp(**draw_double(v), counts_E=torch.tensor(counts), backend="reference")
        leaves = [x.requires_grad_() for x in v.values()]
        y = grouped_mlp(**v, counts_E=torch.tensor(counts), backend="grouped")
        torch.testing.assert_close(y.double(), exact, atol=1e-4, rtol=1e-5)
        g_x, *_ = torch.autograd.grad(y, leaves, torch.ones(7, 8))
        assert not g_x[sum(counts) :].any()
        assert torch.isfinite(g_x).all()


def draw_double(v):
    return {name: x.detach().double() for name, x in v.items()}


def test_half_precision():
    v = {name: x / 2 for name, x in draw(20, 3, 16, 32).items()}
    x = {name: t.to(torch.bfloat16) for name, t in v.items()}
    y = grouped_mlp(**x, counts_E=torch.tensor([4, 9, 7]))
    wanted = grouped_mlp(**draw_double(x), counts_E=torch.tensor([4, 9, 7]))
    assert y.dtype == torch.bfloat16
    assert (y.double() - wanted).norm() / wanted.norm() < 2e-2
    with torch.autocast("cpu", torch.bfloat16):
        assert (
            grouped_mlp(**{n: t.float() for n, t in v.items()}, counts_E=torch.tensor([4, 9, 7])).dtype
            == torch.bfloat16
        )


def test_gradients_in_float64():
    v = [x.requires_grad_() for x in draw(5, 2, 3, 4).values()]
    assert gradcheck(lambda *x: grouped_mlp(*x, torch.tensor([2, 2]), backend="reference"), v)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_dense_mlp_is_one_expert(dtype):
    x, gate, up, down = (v.to(dtype).requires_grad_() for v in draw(6, 1, 5, 9).values())
    got = gated_mlp(x.view(2, 3, 5), gate[0], up[0], down[0])
    wanted = F.linear(F.silu(F.linear(x, gate[0])) * F.linear(x, up[0]), down[0])
    torch.testing.assert_close(got.view(6, 5), wanted)
    upstream = torch.randn(6, 5, dtype=dtype)
    pairs = zip(
        torch.autograd.grad(got, (x, gate, up, down), upstream.view(2, 3, 5)),
        torch.autograd.grad(wanted, (x, gate, up, down), upstream),
        strict=True,
    )
    for a, b in pairs:
        torch.testing.assert_close(a, b)


def test_the_backward_does_not_grow_with_idle_experts_weights():
    """Indexing stacked weights one by one costs a full-size gradient for each expert: E times all weights."""
    seconds = []
    for indexed in (False, True):
        v = {name: x.float().requires_grad_() for name, x in draw(128, 64, 64, 128).items()}
        counts = torch.full((64,), 2)
        best = float("inf")
        for _ in range(3):
            began = time.perf_counter()
            if indexed:
                x, gate, up, down = v.values()
                rows = x.split(counts.tolist())
                parts = [
                    F.linear(F.silu(F.linear(r, gate[e])) * F.linear(r, up[e]), down[e]) for e, r in enumerate(rows)
                ]
                y = torch.cat(parts)
            else:
                y = grouped_mlp(**v, counts_E=counts)
            torch.autograd.grad(y.sum(), list(v.values()))
            best = min(best, time.perf_counter() - began)
        seconds.append(best)
    assert seconds[1] > 4 * seconds[0]


def test_a_backend_that_cannot_run_is_refused_by_name():
    counts = torch.tensor([4, 0, 3])
    with pytest.raises(BackendError, match=r"'cpu' takes float32 tensors on a CPU, and got torch\.float64"):
        grouped_mlp(**draw(), counts_E=counts, backend="cpu")
    with pytest.raises(BackendError, match="'grouped' takes bfloat16 tensors on a CUDA device"):
        grouped_mlp(**draw(), counts_E=counts, backend="grouped")
