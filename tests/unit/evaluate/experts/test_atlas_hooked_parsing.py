"""What a router returned, in every layout that is known, against plain loops over its rows."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from umbel.errors import ConfigError
from umbel.evaluate.experts.hooked.learning import UnreadableError, learn
from umbel.evaluate.experts.hooked.parsing import Reading, decide
from umbel.evaluate.experts.hooked.recorder import Call
from umbel.evaluate.experts.hooked.sites import FoundRouter

ROWS, E, K = 40, 8, 3


def found(module=None, n_experts=E, block=None):
    module = module or nn.Linear(4, E)
    return FoundRouter("gate", module, block or nn.Identity(), None, n_experts, 0, "", 0, "declared by X", True)


def logits(seed=0, rows=ROWS, scale=2.0):
    return torch.randn(rows, E, generator=torch.Generator().manual_seed(seed)) * scale


def read(call, router=None, **options):
    router = router or found()
    reading, words = learn(call, router, ROWS, **options)
    own = {**dict(router.module.named_parameters()), **dict(router.module.named_buffers())}
    return reading, words, decide(call, reading, own, ROWS, "gate")


def best(row, k=K):
    return sorted(range(len(row)), key=lambda e: -row[e])[:k]


def softmax(row):
    top = max(row)
    parts = [math.exp(x - top) for x in row]
    return [part / sum(parts) for part in parts]


def check(decisions, probabilities, choice, chosen):
    entropy, margin = decisions.entropy().tolist(), decisions.margin().tolist()
    for t, (p, c, wanted) in enumerate(zip(probabilities, choice, chosen, strict=True)):
        assert decisions.experts[t].tolist() == sorted(wanted, key=lambda e: -c[e])
        assert entropy[t] == pytest.approx(-sum(x * math.log(x) for x in p), abs=1e-5)
        rest = max(c[e] for e in range(len(c)) if e not in wanted)
        assert margin[t] == pytest.approx(min(c[e] for e in wanted) - rest, abs=1e-5)


def test_softmax_logits_with_indices():
    x = logits()
    p = [softmax(row) for row in x.tolist()]
    chosen = [best(row) for row in p]
    weights = torch.tensor([[p[t][e] for e in row] for t, row in enumerate(chosen)])
    reading, words, decisions = read(Call((x, weights, torch.tensor(chosen)), ()))
    assert (reading.scores, reading.is_probability, reading.layout) == ("softmax", False, "indices")
    assert words == "it returns the experts that it chose; softmax by its weights"
    check(decisions, p, p, chosen)


def test_probabilities_under_the_name_of_logits_are_not_made_probabilities_twice():
    p = logits().softmax(-1)
    weights, chosen = p.topk(K)
    reading, words, decisions = read(Call((p, weights * torch.tensor([2.0, 0.5, 1.5]), chosen), ()))
    assert reading.is_probability and "probabilities already" in words
    check(decisions, p.tolist(), p.tolist(), chosen.tolist())


def test_sigmoid_with_a_bias_and_a_limit_to_groups():
    x = logits(scale=1.0)
    bias = torch.linspace(-0.4, 0.4, E)[torch.randperm(E, generator=torch.Generator().manual_seed(3))]
    router = nn.Linear(4, E)
    router.register_buffer("e_score_correction_bias", bias)
    chosen, weights, raw, choice = [], [], [], []
    for row in x.tolist():
        s = [1 / (1 + math.exp(-v)) for v in row]
        moved = [v + b for v, b in zip(s, bias.tolist(), strict=True)]
        groups = [sum(sorted(moved[:4])[-2:]), sum(sorted(moved[4:])[-2:])]
        allowed = range(4) if groups[0] > groups[1] else range(4, 8)
        picked = sorted(allowed, key=lambda e: -moved[e])[:K][::-1]
        chosen.append(picked)
        weights.append([2.5 * s[e] / sum(s[i] for i in picked) for e in picked])
        raw.append([v / sum(s) for v in s])
        choice.append([v / sum(s) for v in moved])
    reading, words, decisions = read(Call((x, torch.tensor(weights), torch.tensor(chosen)), ()), found(router))
    assert (reading.scores, reading.bias) == ("sigmoid", "e_score_correction_bias")
    assert words.endswith("sigmoid by its weights, chosen with a bias")
    check(decisions, raw, choice, chosen)
    # The limit forbids what would have won, and the highest scores are not those that were chosen.
    assert (decisions.margin() < 0).any()
    assert (x.topk(K).indices.sort(-1).values != decisions.experts.sort(-1).values).any()
    for t in range(ROWS):
        assert dict(zip(chosen[t], weights[t], strict=True)) == pytest.approx(
            dict(zip(decisions.experts[t].tolist(), decisions.weights[t].tolist(), strict=True))
        )


def test_a_bias_that_is_handed_over_in_the_call():
    x, bias = logits(), torch.linspace(-0.3, 0.3, E)
    chosen = (x.sigmoid() + bias).topk(K, sorted=False).indices
    weights = x.sigmoid().gather(1, chosen)
    reading, _, decisions = read(Call((x, weights, chosen), (torch.zeros(ROWS, 4), bias)))
    assert reading.bias == 1
    assert (decisions.margin() >= 0).all()


def test_the_bias_of_the_layer_itself_is_in_its_logits_already():
    router = nn.Linear(4, E)
    nn.init.normal_(router.bias)
    x = logits()
    weights, chosen = x.softmax(-1).topk(K)
    reading, _, _ = read(Call((x, weights, chosen), ()), found(router))
    assert reading.bias is None


def test_softmax_after_the_choice():
    x = logits()
    top, chosen = x.topk(K)
    reading, _, decisions = read(Call((x, top.softmax(-1), chosen), ()))
    assert reading.scores == "softmax"
    np.testing.assert_allclose(decisions.weights, top.softmax(-1))


def test_scores_and_logits_without_indices():
    x = logits()
    top, chosen = x.topk(K)
    scores = torch.zeros_like(x).scatter(1, chosen, top.sigmoid())
    reading, _, decisions = read(Call((scores, x), ()))
    assert (reading.layout, reading.scores, reading.top_k) == ("sparse", "sigmoid", K)
    s = x.sigmoid()
    check(decisions, (s / s.sum(-1, keepdim=True)).tolist(), (s / s.sum(-1, keepdim=True)).tolist(), chosen.tolist())
    np.testing.assert_allclose(decisions.weights, top.sigmoid())


def test_a_full_expert_takes_nobody_and_the_first_expert_gets_no_credit():
    x = logits()
    best_one = x.argmax(-1)
    mask = torch.nn.functional.one_hot(best_one, E)
    mask = mask * (mask.cumsum(0) <= 2)
    dropped = mask.sum(-1) == 0
    assert dropped.any() and not dropped.all()
    probability = x.softmax(-1).amax(-1, keepdim=True)
    call = Call(tuple(t.view(4, 10, -1) for t in (mask, probability, x)), ())
    reading, _, decisions = read(call)
    assert (reading.layout, reading.top_k, reading.scores) == ("one-hot", 1, "softmax")
    for t in range(ROWS):
        assert decisions.experts[t].tolist() == ([-1] if dropped[t] else [best_one[t].item()])
        assert decisions.weights[t].item() == (0 if dropped[t] else pytest.approx(probability[t].item()))
    assert torch.isnan(decisions.margin())[dropped].all() and not torch.isnan(decisions.margin())[~dropped].any()
    assert not torch.isnan(decisions.entropy()).any()


def test_two_choices_of_which_the_mask_shows_one():
    x = logits()
    p = x.softmax(-1)
    top, chosen = p.topk(2)
    weights = torch.zeros_like(p).scatter(1, chosen, top / top.sum(-1, keepdim=True))
    # The second expert of some is full.
    weights[::5].scatter_(1, chosen[::5, 1:], 0.0)
    reading, _, decisions = read(Call((torch.nn.functional.one_hot(chosen[:, 0], E), weights, x), ()))
    assert (reading.layout, reading.top_k) == ("sparse", 2)
    expected = chosen.clone()
    expected[::5, 1] = -1
    assert decisions.experts.tolist() == expected.tolist()


def test_tokens_sorted_by_expert():
    x = logits()
    top, chosen = x.topk(K)
    gates = top.softmax(-1).flatten()
    slots = chosen.flatten().argsort(stable=True)
    sizes = torch.bincount(chosen.flatten(), minlength=E).tolist()
    call = Call((slots, slots // K, gates[slots], tuple(sizes), x), ())
    reading, _, decisions = read(call)
    assert (reading.layout, reading.scores) == ("sorted", "softmax")
    assert decisions.experts.tolist() == chosen.tolist()
    np.testing.assert_allclose(decisions.weights, top.softmax(-1))


def test_what_the_experts_were_given_tells_where_the_router_does_not():
    x = logits()
    top, chosen = x.softmax(-1).topk(K)
    call = Call((x,), (), (torch.zeros(ROWS, 4), chosen, top / top.norm(p=1, dim=-1, keepdim=True)))
    reading, _, decisions = read(call)
    assert reading.layout == "given"
    assert decisions.experts.tolist() == chosen.tolist()
    np.testing.assert_allclose(decisions.weights.sum(-1), 1, rtol=1e-6)


def test_two_sets_of_keys():
    keys = torch.randn(2, ROWS, 4)
    router = nn.Linear(4, 8)
    reading, _, decisions = read(Call((torch.zeros(ROWS, 5), keys), ()), found(router, None), top_k=2)
    assert (reading.n_experts, reading.is_product) == (16, True)
    for t in range(ROWS):
        sums = [keys[0, t, i].item() + keys[1, t, j].item() for i in range(4) for j in range(4)]
        assert decisions.experts[t].tolist() == best(sums, 2)


def test_a_choice_to_take_no_expert():
    x = torch.randn(ROWS, E + 1)
    p = x.softmax(-1)
    top, chosen = p.topk(1)
    skipped = chosen == E
    assert skipped.any()
    call = Call((x, top.masked_fill(skipped, 0), chosen.masked_fill(skipped, 0)), ())
    reading, _, decisions = read(call)
    assert (reading.n_experts, reading.n_classes) == (E, E + 1)
    assert (decisions.experts == -1).equal(skipped)


def test_all_experts_chosen_has_no_margin():
    x = logits()
    top, chosen = x.softmax(-1).topk(E)
    _, _, decisions = read(Call((x, top, chosen), ()))
    assert torch.isnan(decisions.margin()).all()


def test_indices_alone_tell_neither_entropy_nor_margin():
    chosen = logits().topk(K).indices
    reading, words, decisions = read(Call((chosen, torch.rand(ROWS, K)), ()))
    assert reading.scores == "unknown" and words.endswith("no scores are told")
    assert torch.isnan(decisions.entropy()).all() and torch.isnan(decisions.margin()).all()


def test_weights_that_add_up_to_one_by_themselves_tell_nothing_and_that_is_said():
    x = logits()
    _, words, _ = read(Call((x, torch.ones(ROWS, 1), x.argmax(-1, keepdim=True)), ()))
    assert words.endswith("its weights do not tell what it makes of its logits: softmax is assumed")
    module = nn.Linear(4, E)
    module.scoring = "sigmoid"
    reading, words, _ = read(Call((x, torch.ones(ROWS, 1), x.argmax(-1, keepdim=True)), ()), found(module))
    assert reading.scores == "sigmoid"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_told_apart_too(dtype):
    x = logits().to(dtype)
    top, chosen = x.float().sigmoid().topk(K)
    weights = (top / top.sum(-1, keepdim=True)).to(dtype)
    reading, _, _ = read(Call((x, weights, chosen), ()))
    assert reading.scores == "sigmoid"


def test_nothing_tells_how_many_experts():
    with pytest.raises(ConfigError, match="gate returns scores of 8 experts, and nothing tells how many of them"):
        learn(Call((logits(),), ()), found(), ROWS)
    config = type("Config", (), {"num_experts_per_tok": 2})()
    assert learn(Call((logits(),), ()), found(), ROWS, config)[0].top_k == 2


def test_an_answer_that_is_no_routers():
    with pytest.raises(UnreadableError, match=r"gate \(declared by X\) was asked about 40 tokens"):
        learn(Call((torch.zeros(1, E),), ()), found(), ROWS)


def test_rows_that_were_dropped_are_noticed():
    x = logits()
    top, chosen = x.softmax(-1).topk(K)
    reading, _, _ = read(Call((x, top, chosen), ()))
    with pytest.raises(
        ConfigError, match=r"gate answered for 40 tokens, and the batch has 60\. A likely cause: the model"
    ):
        decide(Call((x, top, chosen), ()), reading, {}, 60, "gate")


def test_an_answer_that_changed_since_the_first_pass():
    p = logits().softmax(-1)
    top, chosen = p.topk(K)
    reading, _, _ = read(Call((p, top, chosen), ()))
    with pytest.raises(ConfigError, match="gate returned probabilities in the first pass, and now rows that do not"):
        decide(Call((logits(), top, chosen), ()), reading, {}, ROWS, "gate")
    with pytest.raises(ConfigError, match="gate returned less than in the first pass"):
        decide(Call((p,), ()), reading, {}, ROWS, "gate")
    sparse = Reading(E, 1, "sparse", "unknown", weight_at=0, n_classes=E)
    with pytest.raises(ConfigError, match="gate chose 1 experts in the first pass, and now 8"):
        decide(Call((p,), ()), dataclasses.replace(sparse), {}, ROWS, "gate")
