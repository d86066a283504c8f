"""Laws of sparse experts."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.config import ModelConfig
from umbel.model.moe import MoE, combine, dispatch


@settings(max_examples=30, deadline=None, derandomize=True)
@given(tokens=st.integers(1, 40), experts=st.integers(1, 7), top_k=st.integers(1, 3), seed=st.integers(0, 10_000))
def test_combine_undoes_dispatch(tokens, experts, top_k, seed):
    top_k = min(top_k, experts)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, 3, generator=generator)
    chosen = torch.stack([torch.randperm(experts, generator=generator)[:top_k] for _ in range(tokens)])
    rows, order, counts = dispatch(x, chosen, experts)
    assert counts.tolist() == [int((chosen == e).sum()) for e in range(experts)]
    torch.testing.assert_close(combine(rows, order, torch.full((tokens, top_k), 1 / top_k)), x)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(order=st.permutations(range(5)), top_k=st.integers(1, 5))
def test_permuting_experts_with_their_router_rows_changes_nothing(order, top_k):
    torch.manual_seed(0)
    moe = MoE(ModelConfig(n_layers=1, d_model=6, ffn_hidden=8, n_experts=5, top_k=top_k), layer=0)
    x = torch.randn(2, 11, 6)
    before, _ = moe(x)
    with torch.no_grad():
        for weight in (moe.router.weight, moe.gate, moe.up, moe.down):
            weight.copy_(weight[list(order)].clone())
    torch.testing.assert_close(moe(x)[0], before, atol=1e-6, rtol=1e-5)


def test_all_experts_with_even_weights_are_their_mean():
    moe = MoE(ModelConfig(n_layers=1, d_model=6, ffn_hidden=8, n_experts=4, top_k=4), layer=0)
    with torch.no_grad():
        moe.router.weight.zero_()
    x = torch.randn(1, 7, 6)
    each = [(torch.nn.functional.silu(x @ moe.gate[e].T) * (x @ moe.up[e].T)) @ moe.down[e].T for e in range(4)]
    torch.testing.assert_close(moe(x)[0], torch.stack(each).mean(0), atol=1e-6, rtol=1e-5)
