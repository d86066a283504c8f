import dataclasses

import pytest
import torch

from umbel.config import ModelConfig
from umbel.model.layers import SwiGLU
from umbel.model.moe import MoE, choose_experts, combine, dispatch

CONFIG = ModelConfig(n_layers=2, d_model=6, ffn_hidden=10, n_experts=4, top_k=2)


def by_loops(moe, x):
    """Each token's experts one at a time, straight from the definition."""
    result = torch.zeros_like(x)
    for b in range(x.shape[0]):
        for t in range(x.shape[1]):
            scores = torch.softmax(moe.router.weight @ x[b, t], 0)
            for e in torch.topk(scores, moe.router.top_k).indices.tolist():
                expert = SwiGLU(6, 10)
                expert.gate.weight, expert.up.weight, expert.down.weight = (
                    torch.nn.Parameter(w[e]) for w in (moe.gate, moe.up, moe.down)
                )
                result[b, t] += scores[e] * expert(x[b, t])
    return result


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_agrees_with_loops(top_k):
    moe = MoE(dataclasses.replace(CONFIG, top_k=top_k), layer=1)
    x = torch.randn(2, 9, 6)
    y, routing = moe(x)
    torch.testing.assert_close(y, by_loops(moe, x), atol=1e-6, rtol=1e-5)
    assert routing.layer == 1
    assert routing.logits.shape == (2, 9, 4)
    assert routing.experts.shape == routing.weights.shape == (2, 9, top_k)


def test_weights_are_raw_probabilities_so_that_a_top_1_router_learns():
    moe = MoE(dataclasses.replace(CONFIG, top_k=1), layer=0)
    y, routing = moe(torch.randn(1, 5, 6))
    assert float(routing.weights.detach().max()) < 1
    y.square().sum().backward()
    assert float(moe.router.weight.grad.abs().max()) > 0


def test_pads_are_neither_routed_nor_computed():
    moe = MoE(CONFIG, layer=0)
    x = torch.randn(2, 7, 6)
    real = torch.ones(2, 7, dtype=torch.bool)
    real[0, 4:] = False
    real[1, :2] = False
    y, routing = moe(x, real)
    alone, _ = moe(x)
    torch.testing.assert_close(y[real], alone[real])
    assert torch.equal(y[~real], torch.zeros(5, 6))
    assert (routing.experts[~real] == -1).all()
    assert not routing.weights[~real].any()
    assert int(routing.counts().sum()) == 9 * 2


def test_ties_go_to_the_lower_index():
    assert choose_experts(torch.zeros(3, 5), 2).tolist() == [[0, 1]] * 3
    assert choose_experts(torch.tensor([[0.0, 1.0, 1.0, 1.0]]), 2).tolist() == [[1, 2]]


def test_dispatch_sorts_by_expert_then_token_and_combine_undoes_it():
    x = torch.arange(8.0).reshape(4, 2)
    experts = torch.tensor([[2, 0], [0, 1], [2, 1], [1, 0]])
    rows, order, counts = dispatch(x, experts, 4)
    assert counts.tolist() == [3, 3, 2, 0]
    assert (order // 2).tolist() == [0, 1, 3, 1, 2, 3, 0, 2]
    assert torch.equal(rows, x[order // 2])
    assert torch.equal(combine(rows, order, torch.full((4, 2), 0.5)), x)


def test_the_router_stays_in_float32_under_autocast():
    moe = MoE(CONFIG, layer=0)
    with torch.autocast("cpu", torch.bfloat16):
        _, routing = moe(torch.randn(1, 4, 6).to(torch.bfloat16))
    assert routing.logits.dtype == routing.weights.dtype == torch.float32


def test_nothing_about_the_routing_is_read_by_the_host(monkeypatch):
    """On the meta device there are no values: a shape or a choice that depended on one would raise."""
    from umbel.ops.grouped_mlp import grouped

    # torch's product has no implementation there; its shapes are all that matters.
    monkeypatch.setattr(grouped.F, "grouped_mm", lambda x, w, offs: x.new_empty(x.shape[0], w.shape[2]))
    with torch.device("meta"):
        x, logits, weights = torch.empty(16, 6), torch.empty(16, 4), torch.empty(16, 2)
        gate, up, down = torch.empty(4, 10, 6), torch.empty(4, 10, 6), torch.empty(4, 6, 10)
        experts = choose_experts(logits, 2)
        rows, order, counts = dispatch(x, experts, 4)
        y = combine(grouped.apply(rows, gate, up, down, counts), order, weights)
    assert (rows.shape, y.shape) == ((32, 6), (16, 6))
