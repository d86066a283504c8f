"""An audit that passes a sound network and fails broken ones."""

import dataclasses

import pytest
import torch
from adapted import EVERYTHING, adapted, classifier, small_config, some_ids
from torch import nn

from umbel.config.finetuning import AdapterConfig
from umbel.errors import AdapterError
from umbel.model import bimamba, layers
from umbel.model.adapters.attach import attach, lora_layers
from umbel.model.adapters.audit import audit_gradients, probe_gradients

LABELS = torch.tensor([0, 1, 2])


def loss_of(model):
    output = model(input_ids=some_ids(), labels=LABELS)
    return output.loss, output.routings


def new_adapter(targets=EVERYTHING, pattern="Md Me", **shape):
    return attach(classifier(small_config(pattern, **shape)), AdapterConfig(targets=targets, rank=2), seed=0)


@pytest.mark.parametrize("pattern", ["Md Me", "Hd Ae"])
def test_every_linear_layer_and_expert_of_every_network_learns(pattern):
    for shape in ({"n_shared_experts": 1, "top_k": 2}, {"tie_projections": False, "fusion": "gate", "top_k": 4}):
        model = classifier(small_config(pattern, **shape))
        names = [name for name, module in model.backbone.named_modules() if isinstance(module, nn.Linear)]
        adapter = attach(model, AdapterConfig(targets=(*names, "experts"), rank=2), seed=0)
        assert len(adapter.targets) == len(names) + 3
        audit = probe_gradients(adapter, loss_of)
        parts = sum(1 for _ in adapter.parts())
        assert audit.n_checked == 2 * (parts - len(audit.idle))


def test_the_first_step_is_checked_for_B_and_later_ones_for_both():
    adapter = new_adapter(("mixers", "ffn"))
    loss, routings = loss_of(adapter.model)
    loss.backward()
    assert audit_gradients(adapter, routings).n_checked == len(adapter.targets)
    torch.optim.SGD(adapter.model.parameters(), lr=0.1).step()
    adapter.model.zero_grad()
    loss_of(adapter.model)[0].backward()
    assert audit_gradients(adapter).n_checked == 2 * len(adapter.targets)


@pytest.mark.parametrize(
    ("module", "targets", "dead"),
    [(bimamba, ("in_proj", "x_proj", "out_proj"), "x_proj"), (layers, ("mixers", "ffn"), "ffn.gate")],
)
def test_a_kernel_that_reads_past_the_adapter_is_found(module, targets, dead, monkeypatch):
    """As in D-14: a path that takes the base's weight trains such an adapter for nothing."""
    monkeypatch.setattr(module, "weight_of", lambda layer, name: layer.weight)
    adapter = new_adapter(targets, "Md")
    with pytest.raises(
        AdapterError, match=rf"factors of the adapter get no gradient.*B of backbone.*{dead}.*read past"
    ):
        loss, routings = loss_of(adapter.model)
        loss.backward()
        audit_gradients(adapter, routings)
    with pytest.raises(AdapterError, match=rf"A of backbone.*{dead}"):
        probe_gradients(adapter, loss_of)


def test_a_router_without_a_gradient_is_found():
    """The normalised weight of one chosen expert is the constant 1."""
    adapter = new_adapter(("router",), "Me", gating="normalised")
    with pytest.raises(AdapterError, match=r"B of backbone\.layers\.0\.ffn\.router"):
        loss, routings = loss_of(adapter.model)
        loss.backward()
        audit_gradients(adapter, routings)


def test_an_expert_without_tokens_is_reported_and_not_an_error():
    adapter = new_adapter(("experts",), "Ae", n_layers=1, n_experts=4)
    moe = adapter.model.get_base_model().backbone.layers[0].ffn
    router = next(module for module in moe.modules() if hasattr(module, "route"))
    with torch.no_grad():
        router.weight.zero_()
        router.weight[3] = router.weight[0]
    loss, routings = loss_of(adapter.model)
    assert routings[0].counts().tolist()[1:] == [0, 0, 0]
    loss.backward()
    audit = audit_gradients(adapter, routings)
    assert audit.n_checked == 3
    assert "backbone.layers.0.ffn.up, expert 2" in audit.idle and len(audit.idle) == 9
    assert "no token went to backbone.layers.0.ffn.gate, expert 1" in audit.describe()
    assert "and 3 more" in audit.describe()
    with pytest.raises(AdapterError, match=r"expert 1.*give the routings"):
        audit_gradients(adapter)


def test_an_expert_with_tokens_and_no_gradient_is_an_error():
    adapter = new_adapter(("experts:1",), "Ae", n_layers=1, n_experts=2, top_k=2)
    loss, routings = loss_of(adapter.model)
    loss.backward()
    for lora in lora_layers(adapter.model).values():
        lora.lora_B["default"].weight.grad.zero_()
    with pytest.raises(AdapterError, match=r"3 factors.*B of backbone\.layers\.0\.ffn\.gate, expert 1"):
        audit_gradients(adapter, routings)


def test_loads_of_several_micro_batches_add_up():
    adapter = new_adapter(("experts",), "Ae", n_layers=1, n_experts=2)
    loss, routings = loss_of(adapter.model)
    loss.backward()
    empty = [dataclasses.replace(r, experts=torch.full_like(r.experts, -1)) for r in routings]
    assert audit_gradients(adapter, [*routings, *empty]) == audit_gradients(adapter, routings)


def test_no_backward_pass_is_an_error_and_so_is_a_gradient_that_is_no_number():
    adapter = new_adapter(("out_proj",), "Md")
    with pytest.raises(AdapterError, match="2 factors of the adapter get no gradient"):
        audit_gradients(adapter)
    loss_of(adapter.model)[0].backward()
    next(adapter.parts()).of_all_b.grad[0, 0] = torch.nan
    with pytest.raises(AdapterError, match=r"1 factors.*not finite: B of backbone\.layers\.0\.mixer\.out_proj"):
        audit_gradients(adapter)


def test_a_probe_leaves_everything_as_it_was():
    adapter = adapted(classifier(small_config()))
    loss_of(adapter.model)[0].backward()
    before = {name: (p.detach().clone(), p.grad) for name, p in adapter.model.named_parameters()}
    kept = {name: None if grad is None else grad.clone() for name, (_, grad) in before.items()}
    probe_gradients(adapter, loss_of)

    def broken(model):
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        probe_gradients(adapter, broken)
    for name, p in adapter.model.named_parameters():
        weight, grad = before[name]
        assert torch.equal(p, weight)
        assert p.grad is grad
        assert grad is None or torch.equal(grad, kept[name])
