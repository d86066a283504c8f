import dataclasses
import math

import pytest
import torch

from umbel.config import ModelConfig
from umbel.model.layers import SwiGLU
from umbel.model.moe import MoE, choose_experts, combine, dispatch, follow_load

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


def gated_by_loops(moe, x, gating, top_k, load_bias):
    """Scores, choice and weights of one token from eq. 5-7, in Python's own numbers."""
    scores = [1 / (1 + math.exp(-float(key.detach().double() @ x.double()))) for key in moe.router.weight]
    ranked = [s + b for s, b in zip(scores, load_bias, strict=True)]
    chosen = sorted(range(len(scores)), key=lambda e: -ranked[e])[:top_k]
    total = sum(scores[e] for e in chosen)
    return {e: scores[e] / (1 if gating == "plain" else total) for e in chosen}


@pytest.mark.parametrize("top_k", [1, 2, 3])
@pytest.mark.parametrize("gating", ["plain", "normalised", "bias"])
def test_sigmoid_gating_and_shared_experts_agree_with_loops(gating, top_k):
    config = dataclasses.replace(CONFIG, gating=gating, top_k=top_k, expert_hidden=5, n_shared_experts=2)
    moe, x, load_bias = MoE(config, layer=0), torch.randn(1, 9, 6), [0.0] * 4
    if gating == "bias":
        load_bias = [0.9, -0.9, 0.4, 0.0]
        moe.router.load_bias.copy_(torch.tensor(load_bias))
    y, routing = moe(x)
    for t, token in enumerate(x[0]):
        weights = gated_by_loops(moe, token, gating, top_k, load_bias)
        assert routing.experts[0, t].tolist() == list(weights)
        assert routing.weights[0, t].tolist() == pytest.approx(list(weights.values()), rel=1e-5)
        wanted = torch.zeros(6)
        for e, weight in weights.items():
            hidden = torch.nn.functional.silu(moe.gate[e] @ token) * (moe.up[e] @ token)
            wanted += weight * (moe.down[e] @ hidden)
        for first in (0, 5):  # the shared experts, one by one
            part = slice(first, first + 5)
            hidden = torch.nn.functional.silu(moe.shared.gate.weight[part] @ token) * (
                moe.shared.up.weight[part] @ token
            )
            wanted += moe.shared.down.weight[:, part] @ hidden
        torch.testing.assert_close(y[0, t], wanted, atol=1e-6, rtol=1e-5)
    assert routing.scores == "sigmoid"


def test_normalising_has_no_sum_of_zero():
    """Sigmoids of very negative scores are 0 in float32; their shares are not."""
    moe = MoE(dataclasses.replace(CONFIG, gating="normalised"), layer=0)
    with torch.no_grad():
        moe.router.weight.fill_(-100.0)
    weights = moe.router(torch.full((1, 1, 6), 1.0), None).weights
    assert weights.flatten().tolist() == [0.5, 0.5]


def test_a_normalised_top_1_router_learns_nothing_and_a_plain_one_does():
    """Why the ablation's arm "normalised, top-1" cannot train its router: the weight is the constant 1."""
    gradient = {}
    for gating in ("normalised", "plain"):
        moe = MoE(dataclasses.replace(CONFIG, gating=gating, top_k=1), layer=0)
        moe(torch.randn(1, 9, 6))[0].square().sum().backward()
        gradient[gating] = float(moe.router.weight.grad.abs().max())
    assert gradient["normalised"] < 1e-6 < 1e-4 < gradient["plain"]


def test_the_bias_evens_a_skewed_load_without_touching_the_weights():
    torch.manual_seed(3)
    moe = MoE(dataclasses.replace(CONFIG, gating="bias", top_k=1), layer=0)
    x = torch.randn(1, 512, 6) + 1.0
    with torch.no_grad():
        moe.router.weight[2] += 0.5  # one expert wins nearly always
    before = moe.router(x, None)
    for _ in range(400):
        follow_load(moe.router, moe.router(x, None).counts(), 0.01)
    after = moe.router(x, None)
    assert before.counts().max() > 300
    assert after.counts().max() < 160
    assert torch.equal(after.logits, before.logits)
    assert "load_bias" in moe.router.state_dict()
    assert not any("load_bias" in name for name, _ in moe.named_parameters())


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
