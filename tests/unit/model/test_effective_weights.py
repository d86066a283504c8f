"""What a kernel reads where PEFT stands in the place of a layer, by PEFT's own functions and nothing of ours."""

import copy

import peft
import pytest
import torch
from adapted import classifier, small_config, some_ids
from torch import nn

from umbel.errors import AdapterError
from umbel.model import expert_exchange
from umbel.model.effective_weights import require_unwrapped, weight_of, within
from umbel.model.streaming import require_streamable, stream

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing. is deprecated:FutureWarning")


def wrapped(model, config):
    return peft.get_peft_model(model, config)


def draw_all(model):
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name:
                p.normal_(std=0.3)


def one_layer(**settings):
    """A linear layer within LoRA: PEFT's, for a network of that layer alone."""
    net = nn.Sequential()
    net.add_module("proj", nn.Linear(5, 4))
    model = wrapped(net, peft.LoraConfig(r=2, lora_alpha=6, target_modules=["proj"], **settings))
    draw_all(model)
    return model, model.base_model.model.proj


def summed(lora, *adapters):
    """W + s B A by loops."""
    weight = lora.base_layer.weight.detach().clone()
    for adapter in adapters:
        A, B = lora.lora_A[adapter].weight.detach(), lora.lora_B[adapter].weight.detach()
        for i in range(weight.shape[0]):
            for j in range(weight.shape[1]):
                weight[i, j] += lora.scaling[adapter] * sum(float(B[i, r] * A[r, j]) for r in range(A.shape[0]))
    return weight


def test_a_plain_layer_gives_its_own_weight():
    for layer in (nn.Linear(3, 2), nn.RMSNorm(3)):
        assert weight_of(layer, "x") is layer.weight
        assert within(layer) is layer
        require_unwrapped(layer, "x")


def test_lora_gives_the_sum_and_its_gradients():
    model, lora = one_layer()
    weight = weight_of(lora, "x")
    torch.testing.assert_close(weight, summed(lora, "default"))
    assert within(lora) is lora.base_layer
    x = torch.randn(7, 5)
    torch.testing.assert_close(x @ weight.T + lora.base_layer.bias, model(x))
    up = torch.randn(4, 5)
    (weight * up).sum().backward()
    A, B = lora.lora_A["default"].weight, lora.lora_B["default"].weight
    torch.testing.assert_close(B.grad, 3 * up @ A.detach().T)
    torch.testing.assert_close(A.grad, 3 * B.detach().T @ up)
    assert lora.base_layer.weight.grad is None


def test_it_follows_peft_through_two_adapters_switching_off_and_merging():
    model, lora = one_layer()
    model.add_adapter("second", peft.LoraConfig(r=3, lora_alpha=3, target_modules=["proj"]))
    draw_all(model)
    x, base = torch.randn(3, 5), lora.base_layer.weight.detach().clone()

    def agrees(*adapters):
        weight = weight_of(lora, "x")
        torch.testing.assert_close(x @ weight.T + lora.base_layer.bias, model(x))
        return torch.allclose(weight, summed(lora, *adapters), atol=1e-6)

    assert agrees("default")
    model.base_model.set_adapter(["default", "second"])
    assert agrees("default", "second")
    with model.disable_adapter():
        assert weight_of(lora, "x") is lora.base_layer.weight
    model.merge_adapter(["second"])
    assert weight_of(lora, "x") is lora.base_layer.weight
    assert agrees()
    # As PEFT does when called: an adapter that is switched off is taken out of the weight again.
    with model.disable_adapter():
        torch.testing.assert_close(weight_of(lora, "x"), base)


def test_a_parameter_targeted_by_name():
    net = nn.Sequential()
    net.add_module("proj", nn.Linear(5, 4))
    model = wrapped(net, peft.LoraConfig(r=2, target_modules=[], target_parameters=["proj.weight"]))
    draw_all(model)
    x = torch.randn(3, 5)
    lora = model.base_model.model.proj
    torch.testing.assert_close(x @ weight_of(lora, "x").T + within(lora).bias, model(x))


def test_half_precision_keeps_its_dtype_and_autocast_does_not_round_the_update():
    net = nn.Sequential()
    net.add_module("proj", nn.Linear(5, 4))
    model = wrapped(net.to(torch.bfloat16), peft.LoraConfig(r=2, target_modules=["proj"]))
    draw_all(model)
    lora = model.base_model.model.proj
    assert lora.lora_A["default"].weight.dtype == torch.float32
    assert weight_of(lora, "x").dtype == torch.bfloat16
    _, lora = one_layer()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(weight_of(lora, "x"), summed(lora, "default"))


def test_a_copy_that_is_trained_whole_is_what_is_read():
    net = nn.Sequential()
    net.add_module("proj", nn.Linear(5, 4))
    net.add_module("other", nn.Linear(4, 4))
    model = wrapped(net, peft.LoraConfig(r=2, target_modules=["other"], modules_to_save=["proj"]))
    copied = model.base_model.model.proj
    assert weight_of(copied, "x") is copied.modules_to_save["default"].weight
    with model.disable_adapter():
        assert weight_of(copied, "x") is copied.original_module.weight


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"use_dora": True}, "DoraLinearVariant is no plain LoRA"),
        ({"lora_bias": True}, "lora_bias adds to its bias too"),
        ({"lora_dropout": 0.1}, "lora_dropout is 0.1: set it to 0"),
    ],
)
def test_what_is_no_change_of_the_weight_is_refused(settings, problem):
    _, lora = one_layer(**settings)
    with pytest.raises(AdapterError, match=f"x_proj: its adapter cannot be used here.*{problem}.*target_modules"):
        weight_of(lora, "x_proj")


def test_dropout_is_no_matter_in_evaluation():
    _, lora = one_layer(lora_dropout=0.1)
    torch.testing.assert_close(weight_of(lora.eval(), "x"), summed(lora, "default"))


@pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning")
def test_other_methods_are_refused():
    for config in (
        peft.IA3Config(target_modules=["proj"], feedforward_modules=[]),
        peft.OFTConfig(target_modules=["proj"], oft_block_size=5, r=0),
        peft.LNTuningConfig(target_modules=["norm"]),
    ):
        net = nn.Sequential()
        net.add_module("proj", nn.Linear(5, 5))
        net.add_module("norm", nn.RMSNorm(5))
        inner = wrapped(net, config).base_model.model
        layer = inner.norm if isinstance(config, peft.LNTuningConfig) else inner.proj
        with pytest.raises(AdapterError, match="does more than add to its weight"):
            weight_of(layer, "proj")


def test_one_adapter_per_sequence_is_refused_where_a_weight_is_read():
    model = wrapped(classifier(small_config("Md")), peft.LoraConfig(r=2, target_modules=["x_proj"])).eval()
    with pytest.raises(AdapterError, match=r"x_proj.*adapter_names, one adapter per sequence"):
        model(input_ids=some_ids(2), adapter_names=["default", "__base__"])


def test_any_user_of_peft_gets_gradients_for_every_projection():
    """The four names that are dead in other Mamba models: none of their adapters has a gradient there (D-14)."""
    model = wrapped(
        classifier(small_config(fusion="gate")),
        peft.LoraConfig(r=2, target_modules=["in_proj", "x_proj", "dt_proj", "out_proj", "fuse", "gate", "up", "down"]),
    )
    model(input_ids=some_ids(), labels=torch.tensor([0, 1, 2])).loss.backward()
    factors = {name: p for name, p in model.named_parameters() if "lora_B" in name}
    assert len(factors) == 2 * (2 + 2 * 2 + 1) + 3
    assert all(p.grad.any() for p in factors.values())


def test_a_router_by_its_parameter():
    base = classifier(small_config("Me"))
    model = wrapped(copy.deepcopy(base), peft.LoraConfig(r=2, target_modules=[], target_parameters=["router.weight"]))
    draw_all(model)
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.endswith(".router"):
                plain = base.get_submodule(name.removeprefix("base_model.model."))
                plain.weight += module.get_delta_weight("default")
        torch.testing.assert_close(model(input_ids=some_ids()).logits, base(some_ids()).logits, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("pattern", "parameter", "name"),
    [("Md", "along.A_log", "a Mamba direction"), ("Hd", "along.residues", "a long filter")],
)
def test_parameters_that_a_kernel_reads_can_have_no_adapter(pattern, parameter, name):
    config = peft.LoraConfig(r=2, target_modules=[], target_parameters=[parameter])
    model = wrapped(classifier(small_config(pattern)), config)
    with pytest.raises(AdapterError, match=rf"{name}: its parameters \(.*{parameter.split('.')[1]}.*target_parameters"):
        model(input_ids=some_ids())


def test_a_mixer_within_an_adapter_is_called_and_never_streamed():
    base = classifier(small_config("Hd", hyena_taps=3))
    config = peft.LoraConfig(r=2, target_modules=[], target_parameters=["mixer.conv_weight"])
    model = wrapped(copy.deepcopy(base), config).eval()
    draw_all(model)
    backbone = model.get_base_model().backbone
    with torch.no_grad():
        for block, plain in zip(backbone.layers, base.backbone.layers, strict=True):
            plain.mixer.conv_weight += block.mixer.get_delta_weight("default")
        torch.testing.assert_close(model(input_ids=some_ids()).logits, base(some_ids()).logits, atol=1e-6, rtol=0)
    with pytest.raises(AdapterError, match=r"layers\.0\.mixer: an adapter stands around the whole mixer.*merge it"):
        require_streamable(backbone)


def test_a_stream_has_the_adapters_of_its_projections():
    model = wrapped(
        classifier(small_config("Hd Ae")), peft.LoraConfig(r=2, target_modules=["in_proj", "out_proj", "up"])
    ).eval()
    draw_all(model)
    backbone, ids = model.get_base_model().backbone, some_ids(1)
    whole = backbone(ids).hidden[0]
    (part,) = stream(backbone, ids[0], chunk=50, overlap=0)
    torch.testing.assert_close(part.hidden, whole.detach(), atol=1e-5, rtol=0)


def test_experts_with_an_adapter_are_not_spread(monkeypatch):
    config = peft.LoraConfig(r=2, target_modules=[], target_parameters=["ffn.gate"])
    model = wrapped(classifier(small_config("Me")), config)
    monkeypatch.setattr(expert_exchange.dist, "get_world_size", lambda group: 2)
    monkeypatch.setattr(expert_exchange.dist, "get_rank", lambda group: 0)
    with pytest.raises(AdapterError, match=r"its experts have an adapter.*merge it before spreading"):
        expert_exchange.spread_experts(model, None)
