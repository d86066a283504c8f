"""The same agreements on a CUDA device."""

import dataclasses

import pytest
import torch
from toys import toy_run

from umbel.model.hf import new_model
from umbel.ops.grouped_mlp import grouped_mlp
from umbel.ops.selective_scan import selective_scan

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _not_deterministic_mode():
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("reverse", [False, True])
def test_chunked_scan_agrees_with_the_definition(reverse):
    shape = (2, 200, 24, 16)
    u, dt = torch.randn(shape[:3]).double(), torch.rand(shape[:3]).double()
    A, D = -torch.rand(24, 16).double(), torch.randn(24).double()
    B, C = torch.randn(2, 200, 16).double(), torch.randn(2, 200, 16).double()
    exact = [x.requires_grad_() for x in (u, dt, A, B, C, D)]
    wanted = selective_scan(*exact, reverse=reverse, backend="reference")
    upstream = torch.randn_like(wanted)
    wanted_grads = torch.autograd.grad(wanted, exact, upstream)
    moved = [x.detach().float().cuda().requires_grad_() for x in exact]
    y = selective_scan(*moved, reverse=reverse)
    grads = torch.autograd.grad(y, moved, upstream.float().cuda())
    for got, want in zip((y, *grads), (wanted, *wanted_grads), strict=True):
        assert (got.double().cpu() - want).norm() / want.norm() < 5e-6


def test_grouped_product_agrees_with_the_loop_in_bfloat16():
    x = torch.randn(300, 64, device="cuda", dtype=torch.bfloat16)
    gate, up = (torch.randn(4, 128, 64, device="cuda", dtype=torch.bfloat16) / 8 for _ in range(2))
    down = torch.randn(4, 64, 128, device="cuda", dtype=torch.bfloat16) / 12
    counts = torch.tensor([100, 0, 150, 50], device="cuda")
    fast = grouped_mlp(x, gate, up, down, counts)
    wanted = grouped_mlp(*(v.float() for v in (x, gate, up, down)), counts, backend="reference")
    assert (fast.float() - wanted).norm() / wanted.norm() < 2e-2


def test_a_model_gives_the_same_on_cpu_and_gpu():
    config = dataclasses.replace(toy_run().model, d_model=32, ffn_hidden=64)
    model = new_model(config, 256, seed=0).eval()
    ids = torch.randint(7, 11, (3, 120))
    ids[1, 60:] = 4
    with torch.no_grad():
        wanted = model(ids).logits
        got = model.cuda()(ids.cuda()).logits.cpu()
    real = ids != 4
    torch.testing.assert_close(got[real], wanted[real], atol=2e-4, rtol=1e-3)
