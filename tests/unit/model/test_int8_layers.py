"""Backbones in 8 bits: what is rounded, how near they stay, and that rows stay their own."""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from toys import toy_run

from umbel.model import inference
from umbel.model.adapters.attach import attach
from umbel.model.backbone import Backbone
from umbel.model.hf import new_model
from umbel.model.int8 import Int8Linear, Int8MoE, Int8SwiGLU, round_backbone
from umbel.model.moe import MoE

VARIANTS = {
    "published": {},
    "top-2 of 8, shared": {"n_experts": 8, "top_k": 2, "n_shared_experts": 1},
    "gate": {"fusion": "gate", "tie_projections": False},
    "hyena and attention": {"pattern": "Hd Ae"},
    "three mixers": {"pattern": "Md He Ad", "n_layers": 3},
}


def make(variant):
    torch.manual_seed(3)
    return Backbone(dataclasses.replace(toy_run().model, **VARIANTS[variant])).eval()


def rounded(backbone):
    twin = copy.deepcopy(backbone)
    round_backbone(twin)
    return twin


@pytest.mark.parametrize("variant", VARIANTS)
def test_states_stay_near_and_padding_changes_nothing(variant):
    backbone = make(variant)
    twin = rounded(backbone)
    row = torch.randint(7, 11, (1, 50))
    batch = torch.full((3, 90), 4)
    batch[0, :50] = row[0]
    batch[1:] = torch.randint(7, 11, (2, 90))
    with torch.no_grad():
        wanted, alone, together = backbone(row).hidden, twin(row).hidden, twin(batch).hidden
    torch.testing.assert_close(together[0, :50], alone[0], atol=1e-5, rtol=0)
    # Where a router has nearly a tie, a token goes to another expert.
    assert 0 < (alone - wanted).norm() / wanted.norm() < 0.15


@pytest.mark.parametrize("variant", ["published", "top-2 of 8, shared", "gate"])
def test_piece_by_piece_is_what_the_layers_give(variant, monkeypatch):
    twin, ids = rounded(make(variant)), torch.randint(7, 11, (2, 40))
    with torch.no_grad():
        assert inference.is_possible(twin)
        fast = twin(ids)
        monkeypatch.setattr(inference, "is_possible", lambda backbone: False)
        slow = twin(ids)
    # A sum taken in another order may round a number to the next level.
    assert (fast.hidden - slow.hidden).norm() / slow.hidden.norm() < 0.01
    assert (fast.routings[0].experts == slow.routings[0].experts).float().mean() > 0.98


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_small_or_decides_keeps_its_numbers(variant):
    backbone = make(variant)
    twin = rounded(backbone)
    mine, theirs = dict(backbone.named_parameters()), dict(twin.named_parameters())
    big = ("in_proj", "out_proj", ".gate", ".up", ".down")
    for name, value in mine.items():
        if any(part in name for part in big):
            assert name not in theirs
        else:
            assert torch.equal(theirs[name], value)
    kinds = {type(module) for module in twin.modules()}
    assert Int8Linear in kinds and Int8SwiGLU in kinds and Int8MoE in kinds
    assert not kinds & {MoE} and not any(isinstance(m, nn.Linear) and "in_proj" in n for n, m in twin.named_modules())


def test_it_can_be_done_again_and_copied():
    twin, ids = rounded(make("published")), torch.randint(7, 11, (1, 20))
    again = rounded(twin)
    with torch.no_grad():
        assert torch.equal(twin(ids).hidden, again(ids).hidden)


def test_adapters_have_to_be_merged_first():
    from umbel.config.finetuning import AdapterConfig

    model = new_model(toy_run().model, 64, 0)
    attach(model, AdapterConfig(targets=("mixers",), rank=1), seed=0)
    with pytest.raises(ValueError, match="there are adapters in this backbone: merge them first"):
        round_backbone(model.backbone)
