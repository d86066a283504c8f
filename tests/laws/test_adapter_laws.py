"""Laws of adapters: merged, unmerged, and W + s B A written out are one function, and one gradient, on every path."""

import copy

import pytest
import torch
from adapted import EVERYTHING, adapted, classifier, dense_twin, factors, small_config, some_ids
from torch.utils.checkpoint import checkpoint

from umbel.config.finetuning import AdapterConfig
from umbel.model import inference
from umbel.model.adapters.attach import attach
from umbel.model.adapters.merge import merge
from umbel.model.backbone import Block
from umbel.ops import backends

MIXERS_M = [
    {"fusion": fusion, "tie_projections": tied}
    for fusion in ("add", "multiply", "gate", "concat")
    for tied in (True, False)
]
SHAPES = {
    **{f"Md Me {s['fusion']} {'tied' if s['tie_projections'] else 'untied'}": ("Md Me", s) for s in MIXERS_M},
    "Hd Ae": ("Hd Ae", {}),
    "Hd Ae, ahead, short filter": ("Hd Ae", {"hyena_bidirectional": True, "hyena_taps": 3}),
    "shared experts, two of four": ("Md Me", {"n_shared_experts": 1, "top_k": 2, "gating": "normalised"}),
    "plain gating": ("Me", {"gating": "plain"}),
    "bias gating": ("Ae", {"gating": "bias", "top_k": 2}),
    "one expert": ("Me", {"n_experts": 1}),
}


def targets_of(pattern, shape):
    # A softmax over one expert is the constant 1, and so there is nothing to route.
    left_out = {"router"} if shape.get("n_experts") == 1 else set()
    left_out |= set() if "M" in pattern else {"dt_proj"}
    left_out |= set() if "d" in pattern or shape.get("n_shared_experts") else {"ffn"}
    return (
        *(t for t in EVERYTHING if t not in left_out),
        *(("fuse",) if shape.get("fusion") in ("gate", "concat") else ()),
    )


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def trio(request):
    """A base, its adapter, and the base with the sums written in."""
    pattern, shape = request.param
    base = classifier(small_config(pattern, **shape))
    adapter = adapted(copy.deepcopy(base), targets_of(pattern, shape))
    return base, adapter, dense_twin(base, adapter)


def test_merged_and_unmerged_are_what_is_written_out_with_gradients_on(trio):
    base, adapter, twin = trio
    ids = some_ids()
    wanted = twin(ids).logits
    assert (wanted - base(ids).logits).abs().max() > 1e-3
    torch.testing.assert_close(adapter.model(ids).logits, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(merge(adapter)(ids).logits, wanted, atol=1e-5, rtol=0)


def test_and_without_gradients_where_only_the_merged_one_may_take_the_short_way(trio):
    _, adapter, twin = trio
    ids, plain = some_ids(), merge(adapter)
    with torch.no_grad():
        is_mamba = all(kind[0] == "M" for kind in plain.config.model.layer_kinds)
        assert inference.is_possible(plain.backbone) == is_mamba
        assert not inference.is_possible(adapter.model.get_base_model().backbone)
        wanted = twin(ids).logits
        torch.testing.assert_close(adapter.model(ids).logits, wanted, atol=1e-5, rtol=0)
        torch.testing.assert_close(plain(ids).logits, wanted, atol=1e-5, rtol=0)


def test_merged_weights_are_those_written_out(trio):
    _, adapter, twin = trio
    merged, wanted = merge(adapter).state_dict(), twin.state_dict()
    assert list(merged) == list(wanted)
    for name, weight in merged.items():
        torch.testing.assert_close(weight, wanted[name], atol=1e-6, rtol=1e-6, msg=name)


def test_gradients_are_those_of_the_chain_rule(trio):
    """With W' = W + s B A: dB = s dW' A^T, dA = s B^T dW', where dW' is the dense network's gradient."""
    _, adapter, twin = trio
    ids, labels = some_ids(), torch.tensor([0, 2, 1])
    twin(ids, labels=labels).loss.backward()
    adapter.model(input_ids=ids, labels=labels).loss.backward()
    weights, rank, scale = dict(twin.named_parameters()), adapter.rank, adapter.config.scale
    for name, (A, B) in factors(adapter).items():
        dense = weights[name].grad
        if dense.ndim == 2:
            pairs = [(dense, A, B, A.grad, B.grad)]
        else:
            n = len(dense)
            pairs = [
                (
                    dense[e],
                    *(
                        x[e * rank : (e + 1) * rank] if x.shape[0] == n * rank else x[:, e::n]
                        for x in (A, B, A.grad, B.grad)
                    ),
                )
                for e in range(n)
            ]
        for of_weight, a, b, got_a, got_b in pairs:
            torch.testing.assert_close(got_b, scale * of_weight @ a.T, atol=1e-6, rtol=1e-4, msg=name)
            torch.testing.assert_close(got_a, scale * b.T @ of_weight, atol=1e-6, rtol=1e-4, msg=name)


def test_nothing_but_adapter_and_head_has_a_gradient(trio):
    _, adapter, _ = trio
    adapter.model(input_ids=some_ids(), labels=torch.tensor([0, 2, 1])).loss.backward()
    learning = {name for name, p in adapter.model.named_parameters() if p.grad is not None}
    assert all(".lora_" in name or ".modules_to_save." in name for name in learning)
    assert {name for name, p in adapter.model.named_parameters() if p.requires_grad} == learning


@pytest.mark.parametrize("wanted", [["reference"], ["cpu"], ["chunked", "shifted", "fft"], ["recurrent"], ["triton"]])
@pytest.mark.parametrize("pattern", ["Md Me", "Hd Ae"])
def test_on_every_backend(pattern, wanted, monkeypatch):
    choose = backends.choose

    def forced(operator, asked, offered):
        return next((name for name in wanted if name in offered and offered[name] is None), None) or choose(
            operator, asked, offered
        )

    base = classifier(small_config(pattern, n_shared_experts=1))
    adapter = adapted(copy.deepcopy(base), targets_of(pattern, {"n_shared_experts": 1}))
    # Interpreted kernels are slow.
    ids = some_ids(1, 9) if wanted == ["triton"] else some_ids()
    with torch.no_grad():
        exact = dense_twin(base, adapter).double()(ids).logits
    monkeypatch.setattr(backends, "choose", forced)
    if wanted != ["cpu"]:
        monkeypatch.setattr(backends, "why_not_cpu_kernel", lambda *tensors: "is not asked for")
    for model in (adapter.model, merge(adapter)):
        torch.testing.assert_close(model(ids).logits.double(), exact, atol=1e-5, rtol=0)
        with torch.no_grad():
            torch.testing.assert_close(model(ids).logits.double(), exact, atol=1e-5, rtol=0)


def test_in_double_precision_rounding_alone_is_left():
    base = classifier(small_config(n_shared_experts=1)).double()
    adapter = adapted(copy.deepcopy(base))
    with torch.no_grad():
        wanted = dense_twin(base, adapter)(some_ids()).logits
        torch.testing.assert_close(adapter.model(some_ids()).logits, wanted, atol=1e-13, rtol=0)
        torch.testing.assert_close(merge(adapter)(some_ids()).logits, wanted, atol=1e-13, rtol=0)


def test_under_autocast_merged_and_unmerged_differ_by_its_rounding_only():
    base = classifier(small_config(n_shared_experts=1))
    adapter = adapted(copy.deepcopy(base))
    with torch.no_grad():
        exact = merge(adapter)(some_ids()).logits
        with torch.autocast("cpu", torch.bfloat16):
            merged, apart = merge(adapter)(some_ids()).logits, adapter.model(some_ids()).logits
    assert (merged.float() - exact).abs().max() < 0.02
    assert (apart.float() - exact).abs().max() < 0.02


@pytest.mark.gpu
@pytest.mark.parametrize("pattern", ["Md Me", "Hd Ae"])
def test_on_a_gpu(pattern):
    base = classifier(small_config(pattern, n_shared_experts=1)).cuda()
    adapter = adapted(copy.deepcopy(base), targets_of(pattern, {"n_shared_experts": 1}))
    ids = some_ids().cuda()
    wanted = dense_twin(base, adapter)(ids).logits
    torch.testing.assert_close(adapter.model(ids).logits, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(merge(adapter)(ids).logits, wanted, atol=1e-5, rtol=0)


def test_a_new_adapter_changes_nothing():
    base = classifier(small_config())
    adapter = attach(copy.deepcopy(base), AdapterConfig(targets=EVERYTHING, rank=3), seed=0)
    assert torch.equal(merge(adapter)(some_ids()).logits, base(some_ids()).logits)
    torch.testing.assert_close(adapter.model(some_ids()).logits, base(some_ids()).logits, atol=1e-6, rtol=0)


def test_blocks_that_are_run_again_in_the_backward_pass_give_the_same_gradients():
    def gradients(again):
        adapter = adapted(classifier(small_config(n_shared_experts=1)))
        for block in adapter.model.get_base_model().backbone.layers if again else ():
            block.training_way = lambda *inputs: checkpoint(Block.compute, *inputs, use_reentrant=False)
        adapter.model(input_ids=some_ids(), labels=torch.tensor([0, 2, 1])).loss.backward()
        return {name: p.grad for name, p in adapter.model.named_parameters() if p.grad is not None}

    kept, again = gradients(False), gradients(True)
    assert kept.keys() == again.keys()
    assert all(torch.equal(kept[name], again[name]) for name in kept)
