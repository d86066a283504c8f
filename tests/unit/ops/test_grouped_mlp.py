import pytest
import torch
import torch.nn.functional as F

from umbel.ops.grouped_mlp import choose_backend, grouped_mlp


def weights(n_experts=3, width=8, hidden=16):
    gate, up = torch.randn(n_experts, hidden, width), torch.randn(n_experts, hidden, width)
    return [w.requires_grad_() for w in (gate, up, torch.randn(n_experts, width, hidden))]


@pytest.mark.parametrize("backend", ["reference", "grouped"])
@pytest.mark.parametrize("counts", [[4, 0, 3], [0, 0, 7], [1, 5, 1]])
def test_each_row_meets_its_own_expert(backend, counts):
    gate, up, down = weights()
    x = torch.randn(7, 8, requires_grad=True)
    y = grouped_mlp(x, gate, up, down, torch.tensor(counts), backend=backend)
    rows = []
    for row, expert in enumerate(e for e, n in enumerate(counts) for _ in range(n)):
        rows.append(down[expert] @ (F.silu(gate[expert] @ x[row]) * (up[expert] @ x[row])))
    wanted = torch.stack(rows)
    torch.testing.assert_close(y, wanted, atol=1e-4, rtol=1e-5)
    upstream = torch.randn(7, 8)
    got = torch.autograd.grad(y, (x, gate, up, down), upstream)
    want = torch.autograd.grad(wanted, (x, gate, up, down), upstream)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-4)


def test_auto_takes_the_loop_on_a_cpu():
    assert choose_backend(torch.device("cpu"), torch.float32) == "reference"
    assert choose_backend(torch.device("cuda"), torch.bfloat16) == "grouped"
    assert choose_backend(torch.device("cuda"), torch.float32) == "reference"
