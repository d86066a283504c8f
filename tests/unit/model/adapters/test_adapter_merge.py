"""Merging: what the plain model has, and what is refused."""

import copy

import pytest
import torch
from adapted import adapted, classifier, language_model, small_config, some_ids
from torch import nn

from umbel.config.finetuning import AdapterConfig
from umbel.errors import AdapterError
from umbel.model.adapters.attach import attach, lora_layers
from umbel.model.adapters.merge import merge
from umbel.model.bimamba import BiMamba
from umbel.model.moe import MoE, Router


def test_a_plain_model_comes_out_and_the_adapter_stays():
    base = classifier(small_config(n_shared_experts=1))
    adapter = adapted(copy.deepcopy(base))
    before = {name: p.detach().clone() for name, p in adapter.model.named_parameters()}
    adapter.model(input_ids=some_ids(), labels=torch.tensor([0, 1, 2])).loss.backward()
    plain = merge(adapter)
    assert [(name, type(module)) for name, module in plain.named_modules()] == [
        (name, type(module)) for name, module in base.named_modules()
    ]
    assert list(plain.state_dict()) == list(base.state_dict())
    assert not hasattr(plain, "peft_config")
    assert all(p.requires_grad and p.grad is None for p in plain.parameters())
    assert not plain.training
    for name, p in adapter.model.named_parameters():
        assert torch.equal(p, before[name])
    assert any(p.grad is not None for p in adapter.model.parameters())


def test_it_can_be_adapted_again():
    first = merge(adapted(classifier(small_config())))
    wanted = first(some_ids()).logits
    again = attach(first, AdapterConfig(), seed=1)
    torch.testing.assert_close(again.model(input_ids=some_ids()).logits, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("tied", [True, False])
def test_each_direction_has_its_own_projections_update_and_no_other(tied):
    """Tied: one layer, changed once. Untied: the backward direction's layer has its own change."""
    base = classifier(small_config("Md", n_layers=1, tie_projections=tied))
    adapter = adapted(copy.deepcopy(base), ("mixers",))
    deltas = {name: lora.get_delta_weight("default") for name, lora in lora_layers(adapter.model).items()}
    plain = merge(adapter)
    names = [name for name, module in plain.named_modules() if isinstance(module, BiMamba)]
    for mixer in names:
        for name in ("in_proj", "out_proj", *(() if tied else ("in_proj_backward", "out_proj_backward"))):
            path = f"{mixer}.{name}"
            changed = plain.get_submodule(path).weight - base.get_submodule(path).weight
            torch.testing.assert_close(changed, deltas[path], atol=1e-6, rtol=0)
            assert changed.any()
    assert len(deltas) == (4 if tied else 6)


def test_router_and_shared_experts_inside_adapted_experts_are_merged_too():
    """PEFT's own function leaves these two behind."""
    adapter = adapted(classifier(small_config("Ae", n_shared_experts=1)), ("experts", "router", "ffn"))
    plain = merge(adapter)
    for block in plain.backbone.layers:
        assert type(block.ffn) is MoE and type(block.ffn.router) is Router
        assert type(block.ffn.shared.gate) is nn.Linear


def test_a_tied_language_head_stays_tied_and_unchanged():
    base = language_model(small_config())
    plain = merge(adapted(copy.deepcopy(base)))
    assert plain.lm_head.weight is plain.backbone.embedding.weight
    assert torch.equal(plain.lm_head.weight, base.lm_head.weight)


def test_weights_that_are_no_numbers_are_refused():
    adapter = adapted(classifier(small_config("Md")), ("dt_proj",))
    with torch.no_grad():
        next(adapter.parts()).of_all_b[0, 0] = torch.inf
    with pytest.raises(AdapterError, match=r"backbone\.layers\.\d\.mixer\.\w+\.dt_proj: the adapter cannot be merged"):
        merge(adapter)
