"""Sizes counted by hand, first weights, and what learns."""

import copy
import math

import pytest
import torch
from adapted import EVERYTHING, adapted, classifier, language_model, small_config, some_ids

from umbel.config.finetuning import AdapterConfig
from umbel.errors import AdapterError, ConfigError
from umbel.model.adapters.attach import attach, lora_layers, nearest_rank
from umbel.model.adapters.targets import Target
from umbel.model.heads import masked_cross_entropy


def test_parameters_are_counted_exactly():
    model = classifier(small_config("Md Ae"), n_classes=5)
    n_base = sum(p.numel() for p in model.backbone.parameters())
    adapter = attach(model, AdapterConfig(targets=("mixers", "ffn"), rank=3), seed=0)
    mamba = (16 + 64) + (32 + 16) + 2 * (32 + 9)
    attention = (16 + 48) + (16 + 16)
    assert adapter.n_parameters == 3 * (mamba + attention + 3 * (16 + 24))
    assert adapter.n_base == n_base
    assert adapter.share == adapter.n_parameters / n_base
    lora = sum(p.numel() for name, p in adapter.model.named_parameters() if ".lora_" in name)
    assert lora == adapter.n_parameters
    assert adapter.n_head == 5 * 17
    learning = sum(p.numel() for p in adapter.model.parameters() if p.requires_grad)
    assert learning == adapter.n_parameters + adapter.n_head
    text = adapter.describe()
    assert f"rank 3: {adapter.n_parameters:,} parameters, {100 * adapter.share:.3f} % of the base's {n_base:,}" in text
    assert "the head's 85 come on top" in text


def test_of_experts_the_chosen_ones_alone_count():
    adapter = attach(
        classifier(small_config("Ae", n_layers=1)), AdapterConfig(targets=("experts:0,2",), rank=2), seed=0
    )
    assert adapter.n_parameters == 2 * 2 * 3 * (16 + 24)
    # PEFT has room for all four.
    assert (
        sum(p.numel() for name, p in adapter.model.named_parameters() if ".lora_" in name) == 2 * adapter.n_parameters
    )
    assert "gate of experts 0, 2" in adapter.describe()


@pytest.mark.parametrize("share", [0.005, 0.04, 0.3])
def test_the_rank_is_the_one_nearest_to_the_share(share):
    model = classifier(small_config())
    adapter = attach(copy.deepcopy(model), AdapterConfig(share=share), seed=0)
    shares = [
        abs(attach(copy.deepcopy(model), AdapterConfig(rank=rank), seed=0).share - share)
        for rank in (adapter.rank - 1, adapter.rank, adapter.rank + 1)
        if rank
    ]
    assert min(shares) == abs(adapter.share - share)


def test_nearest_rank_by_hand():
    targets = (Target("a", 0, 6, 4),)
    assert [nearest_rank(targets, n) for n in (1, 14, 15, 16, 99)] == [1, 1, 1, 2, 10]


def test_four_percent_of_the_published_network():
    """Ranks and shares that a table of the adapter's sizes on PlantBiMoE gives: 4.05 % at rank 32."""
    from umbel.config import ModelConfig
    from umbel.model.adapters.targets import find_targets
    from umbel.model.backbone import Backbone

    with torch.device("meta"):
        backbone = Backbone(ModelConfig())
    n_base = sum(p.numel() for p in backbone.parameters())
    targets = find_targets(backbone, AdapterConfig().targets)
    rank = nearest_rank(targets, 0.04 * n_base)
    assert rank == 32
    assert sum(t.n_parameters(rank) for t in targets) / n_base == pytest.approx(0.0405, abs=5e-5)


def test_first_weights_depend_on_the_seed_and_the_name_alone():
    def first(seed, targets=("mixers", "experts:1")):
        adapter = attach(classifier(small_config()), AdapterConfig(targets=targets, rank=2), seed=seed)
        return {part.name: part for part in adapter.parts()}

    one = first(3)
    torch.rand(17)
    again, fewer, other = first(3), first(3, ("in_proj",)), first(4)
    for name, part in one.items():
        assert torch.equal(part.a, again[name].a)
        assert not torch.equal(part.a, other[name].a)
        assert not part.b.any()
        bound = 1 / math.sqrt(part.a.shape[1])
        assert part.a.abs().max() <= bound
        assert part.a.std() > 0.3 * bound
    assert all(torch.equal(part.a, one[name].a) for name, part in fewer.items())


def test_the_global_generator_is_left_alone():
    model = classifier(small_config())
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    attach(model, AdapterConfig(targets=EVERYTHING, rank=2), seed=0)
    assert torch.equal(torch.rand(3), wanted)


def test_experts_that_were_not_chosen_stay_zero_in_training():
    adapter = attach(classifier(small_config("Ae", top_k=4)), AdapterConfig(targets=("experts:0,2",), rank=2), seed=0)
    learning = [p for p in adapter.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        adapter.model(input_ids=some_ids(), labels=torch.tensor([0, 1, 2])).loss.backward()
        optimizer.step()
    for lora in lora_layers(adapter.model).values():
        A, B = (factor["default"].weight for factor in (lora.lora_A, lora.lora_B))
        # Rank 2, four experts: A has an expert's rows together, B has each fourth column.
        assert not A.grad[2:4].any() and not A.grad[6:8].any() and not A[2:4].any() and not A[6:8].any()
        assert not B.grad[:, 1::4].any() and not B.grad[:, 3::4].any() and not B[:, 1::4].any() and not B[:, 3::4].any()
        assert A[0:2].any() and A[4:6].any() and B[:, 0::4].any() and B[:, 2::4].any()


def test_a_tied_mixer_has_one_update_for_both_directions():
    for tied, count in ((True, 2), (False, 4)):
        model = classifier(small_config("Md", n_layers=1, tie_projections=tied, fusion="multiply"))
        names = [t.name for t in attach(model, AdapterConfig(targets=("mixers",)), seed=0).targets]
        assert len([name for name in names if "x_proj" not in name]) == count


def test_a_language_model_learns_species_without_touching_embedding_and_head():
    model = language_model(small_config())
    embedding = model.backbone.embedding.weight.detach().clone()
    adapter = attach(model, AdapterConfig(share=0.1), seed=0)
    assert adapter.n_head == 0
    learning = [(name, p) for name, p in adapter.model.named_parameters() if p.requires_grad]
    assert all(".lora_" in name for name, _ in learning)
    assert not any("embedding" in name or "lm_head" in name for name, _ in learning)
    ids = some_ids()
    labels = torch.where(torch.rand(ids.shape) < 0.3, ids, -100).masked_fill(ids == 4, -100)
    shown = ids.masked_fill(labels != -100, 3)
    optimizer = torch.optim.SGD([p for _, p in learning], lr=1.0)
    before = adapter.model(input_ids=shown, labels=labels).loss
    before.backward()
    optimizer.step()
    after = adapter.model(input_ids=shown, labels=labels)
    assert after.loss < before
    torch.testing.assert_close(after.loss, masked_cross_entropy(after.logits, labels))
    base = adapter.model.get_base_model()
    assert torch.equal(base.backbone.embedding.weight, embedding)
    assert base.lm_head.weight is base.backbone.embedding.weight


def test_a_second_adapter_is_refused():
    adapter = adapted(classifier(small_config("Md")), ("mixers",))
    with pytest.raises(AdapterError, match="has an adapter already: merge it first"):
        attach(adapter.model.get_base_model(), AdapterConfig(), seed=0)


def test_spread_experts_are_refused():
    model = classifier(small_config("Me"))
    model.backbone.layers[0].ffn.exchange = lambda *tensors: tensors[0]
    with pytest.raises(ConfigError, match="adapters need all experts in one process"):
        attach(model, AdapterConfig(targets=("mixers",)), seed=0)
