"""Routers that an adapter has wrapped are still hooked, and say what the adapter makes them choose."""

import numpy as np
import pytest
import torch
from hooked_families import tiny_model, tokens_that_changed, word_tokenizer, words

from umbel.evaluate.experts.hooked.model import HookedModel

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def randomised_adapter(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.5)
    return model.eval()


def routes(hooked):
    (routed,) = hooked.route([words(20)])
    return np.stack([np.sort(site.experts, 1) for site in routed.sites])


@pytest.mark.parametrize(
    ("family", "options"),
    [
        # A projection within the router; the router's own tensor; the router as a whole.
        ("dbrx", {"target_modules": ["layer"]}),
        ("gemma4_text", {"target_modules": ["proj"]}),
        ("mixtral", {"target_modules": ["q_proj"], "target_parameters": ["gate.weight"]}),
        ("mixtral", {"target_modules": ["q_proj"], "modules_to_save": ["gate"]}),
    ],
)
def test_wrapped_routers_are_hooked(family, options):
    model = tiny_model(family)
    before = routes(HookedModel(model, word_tokenizer()))
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, **options))
    hooked = HookedModel(randomised_adapter(wrapped), word_tokenizer())
    assert len(hooked.sites) == len(before)
    assert hooked.facts["adapters"] == {"default": "LORA"}
    after = routes(hooked)
    # Of the first layer: later ones differ as their input does. A frozen copy of the router alone would give the same.
    if "modules_to_save" not in options:
        assert (after[0] != before[0]).any()


def test_what_the_adapter_chose_is_what_ran():
    wrapped = peft.get_peft_model(tiny_model("mixtral"), peft.LoraConfig(r=4, target_parameters=["gate.weight"]))
    hooked = HookedModel(randomised_adapter(wrapped), word_tokenizer())
    for router in hooked._probe.routers:
        assert ".base_layer" in router.site.name
    routed, changed = tokens_that_changed(hooked, words(12))
    for routes_of, ran in zip(routed.sites, changed, strict=True):
        np.testing.assert_array_equal(np.sort(routes_of.experts, 1), [np.flatnonzero(row) for row in ran])
