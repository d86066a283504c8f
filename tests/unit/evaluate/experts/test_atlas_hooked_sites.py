"""Which modules of a model are its routers: declared, by shape, wrapped by an adapter, or none."""

import numpy as np
import pytest
import torch
from hooked_families import tiny_config, tiny_model, word_tokenizer
from torch import nn

from umbel.errors import ConfigError
from umbel.evaluate.experts.hooked.model import HookedModel
from umbel.evaluate.experts.hooked.sites import find_routers


class PlainExperts(nn.Module):
    """As in models that bring their own code: a linear router beside a list of experts; nothing is declared."""

    def __init__(self, width=16, n=4, hidden=24):
        super().__init__()
        self.router = nn.Linear(width, n, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, width)) for _ in range(n)
        )

    def forward(self, x):
        flat = x.reshape(-1, x.shape[-1])
        weight, chosen = self.router(flat).softmax(-1).max(-1)
        out = torch.stack([self.experts[int(e)](row) for e, row in zip(chosen, flat, strict=True)])
        return (out * weight[:, None]).view_as(x)


class PlainModel(nn.Module):
    def __init__(self, n_layers=2, n_labels=4):
        super().__init__()
        self.words = nn.Embedding(96, 16)
        self.layers = nn.ModuleList(nn.ModuleDict({"feed_forward": PlainExperts()}) for _ in range(n_layers))
        self.classifier = nn.Linear(16, n_labels)

    def forward(self, input_ids):
        x = self.words(input_ids)
        for layer in self.layers:
            x = x + layer["feed_forward"](x)
        return self.classifier(x.mean(1))


def names(model):
    return [found.name for found in find_routers(model)]


def test_declared_routers_are_found_with_their_class():
    found = find_routers(tiny_model("mixtral"))
    assert [one.name for one in found] == [f"layers.{i}.mlp.gate" for i in range(4)]
    assert [one.layer for one in found] == [0, 1, 2, 3]
    assert {one.how for one in found} == {"declared by MixtralModel"}
    assert {one.n_experts for one in found} == {8}


def test_the_first_dense_layers_have_none():
    assert names(tiny_model("deepseek_v3")) == [f"layers.{i}.mlp.gate" for i in (1, 2, 3)]


def test_plain_linear_router_is_found_by_shape():
    # Four layers and a classifier of four labels: a stack of layers is no container of experts.
    found = find_routers(PlainModel(n_layers=4))
    assert [one.name for one in found] == [f"layers.{i}.feed_forward.router" for i in range(4)]
    assert found[2].how == "its weight (4, 16) stands beside 4 experts in layers.2.feed_forward.experts"
    assert found[2].n_experts == 4 and not found[2].is_declared


def test_plain_linear_router_is_read_as_its_loop_would():
    torch.manual_seed(1)
    model = PlainModel()
    with pytest.raises(
        ConfigError, match=r"layers\.0\.feed_forward\.router returns scores of 4 experts, and nothing tells"
    ):
        HookedModel(model, word_tokenizer())
    hooked = HookedModel(model, word_tokenizer(), top_k=1)
    (routed,) = hooked.route(["w5 w6 w7 w8"])
    x = model.words(torch.tensor(routed.tokens.astype(np.int64)))[None]
    for layer, site in zip(model.layers, routed.sites, strict=True):
        scores = layer["feed_forward"].router(x[0]).softmax(-1)
        np.testing.assert_array_equal(site.experts[:, 0], scores.argmax(-1))
        np.testing.assert_allclose(site.weights[:, 0], scores.max(-1).values.detach(), rtol=1e-5)
        ranked = scores.sort(-1, descending=True).values
        np.testing.assert_allclose(site.margin, (ranked[:, 0] - ranked[:, 1]).detach(), atol=1e-6)
        x = x + layer["feed_forward"](x)
    assert "the experts with the highest are taken" in hooked.notes[0]


def test_what_only_has_the_shape_of_a_router_is_passed_over():
    model = PlainModel()
    # Asked once a sequence, as a pooler is.
    model.head = nn.ModuleDict({"weigh": nn.Linear(16, 3), "parts": nn.ModuleList(nn.Linear(16, 2) for _ in range(3))})
    plain = PlainModel.forward
    model.forward = lambda input_ids: (
        plain(model, input_ids),
        model.head["weigh"](model.words(input_ids).mean(1)),
    )
    assert names(model)[-1] == "head.weigh"
    hooked = HookedModel(model, word_tokenizer(), top_k=1)
    assert [site.name for site in hooked.sites] == ["layers.0.feed_forward.router", "layers.1.feed_forward.router"]
    (note,) = [note for note in hooked.notes if "head.weigh" in note]
    assert note.endswith("passed over, since it does not answer for each token.")


def test_tokens_that_are_dropped_before_a_layer_are_noticed():
    model = tiny_model("mixtral")

    model.layers[2].mlp.gate.register_forward_pre_hook(lambda module, args: (args[0][::2],))
    model.layers[2].mlp.forward = lambda x: (model.layers[2].mlp.gate(x.flatten(0, 1)), x)[1]
    with pytest.raises(
        ConfigError, match=r"layers\.2\.mlp\.gate .* was asked about 23 tokens, .* drops, repeats or packs"
    ):
        HookedModel(model, word_tokenizer())


def test_attention_routers_of_jetmoe_come_before_those_of_the_same_layer():
    hooked = HookedModel(tiny_model("jetmoe"), word_tokenizer())
    assert [(site.layer, "attention" in site.name) for site in hooked.sites] == [
        (layer, attention) for layer in range(4) for attention in (True, False)
    ]


def test_routers_of_two_stacks_have_a_stream():
    hooked = HookedModel(tiny_model("switch_transformers"), word_tokenizer())
    streams = [site.stream for site in hooked.sites]
    assert set(streams) == {"encoder", "decoder"} and streams == sorted(streams, reverse=True)
    assert {site.stream for site in HookedModel(tiny_model("mixtral"), word_tokenizer()).sites} == {""}


@pytest.mark.parametrize(
    ("family", "n"),
    [("qwen2_moe", 1), ("ernie4_5_moe", 2), ("granitemoeshared", 1), ("llama4_text", 1), ("mixtral", 0), ("olmoe", 0)],
)
def test_shared_experts_are_counted(family, n):
    assert {found.n_shared for found in find_routers(tiny_model(family))} == {n}


def test_routers_of_images_are_not_mixed_with_those_of_text():
    config = tiny_config(
        "ernie4_5_vl_moe",
        text_config={
            **tiny_config("ernie4_5_moe").to_dict(),
            "model_type": "ernie4_5_vl_moe_text",
            "moe_intermediate_size": [24, 16],
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
        },
        vision_config={"depth": 1, "hidden_size": 32, "num_heads": 4, "intermediate_size": 40},
    )
    from transformers import AutoModel

    model = AutoModel.from_config(config).eval()
    routers = names(model)
    assert any("vision_moe.gate" in name for name in routers) and any("text_moe.gate" in name for name in routers)
    hooked = HookedModel(model, word_tokenizer())
    assert hooked.sites and all("text_moe.gate" in site.name for site in hooked.sites)
    silent = [note for note in hooked.notes if "vision_moe.gate" in note]
    assert len(silent) == len(hooked.sites)
    assert all(
        note.endswith("not recorded, since it does not run when the model reads tokens alone.") for note in silent
    )


def test_no_router_and_nothing_that_looks_like_one():
    with pytest.raises(ConfigError, match="no class declares one, and no module's weight or name looks like one"):
        find_routers(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))


def test_no_router_names_what_looked_like_one():
    model = nn.ModuleDict({"block": nn.ModuleDict({"my_gate": nn.Linear(4, 3), "expert_mixer": nn.Linear(4, 4)})})
    with pytest.raises(ConfigError, match=r"look like parts of one: block\.my_gate"):
        find_routers(model)


def test_a_dense_model_of_a_library_has_none():
    from transformers import CONFIG_MAPPING, AutoModel

    config = CONFIG_MAPPING["llama"](
        vocab_size=96, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4
    )
    with pytest.raises(ConfigError, match="gate_proj"):
        find_routers(AutoModel.from_config(config))
