import dataclasses

import pytest
import torch
import torch.nn.functional as F

from umbel.config import ModelConfig
from umbel.data import kmers, masking, vocabulary
from umbel.data.labelled import task
from umbel.model import backbone as backbone_module
from umbel.model import bases, heads, pooling
from umbel.model.backbone import Backbone, count_parameters, real_tokens
from umbel.train import recipes

SMALL = ModelConfig(n_layers=4, d_model=16, d_state=4, ffn_hidden=24)
IDS = torch.tensor([[0, 7, 8, 9, 10, 11, 7, 1]])


def test_the_published_shape_has_the_published_number_of_parameters():
    assert count_parameters(recipes.plantbimoe().model) == (115_612_160, 63_707_648)
    # With 8 experts, as one summary of the paper says, it would be 184.8 M, and not the paper's 116 M.
    assert round(count_parameters(dataclasses.replace(ModelConfig(), n_experts=8))[0] / 1e5) == 1848


@pytest.mark.parametrize("fusion", ["add", "multiply", "gate", "concat"])
@pytest.mark.parametrize("tied", [True, False])
def test_parameter_count_is_that_of_the_module(fusion, tied):
    config = dataclasses.replace(SMALL, fusion=fusion, tie_projections=tied, top_k=2, tie_head=False)
    total, active = count_parameters(config)
    assert total == sum(p.numel() for p in Backbone(config).parameters()) + 12 * 16
    assert total - active == 2 * 2 * 3 * 24 * 16


def test_pattern_says_where_the_experts_are():
    assert [r.layer for r in Backbone(SMALL)(IDS).routings] == [1, 3]
    assert [r.layer for r in Backbone(dataclasses.replace(SMALL, pattern="Me"))(IDS).routings] == [0, 1, 2, 3]
    assert Backbone(dataclasses.replace(SMALL, pattern="Md"))(IDS).routings == ()


def test_stream_is_the_residual_stream_and_ends_before_the_final_norm():
    model = Backbone(SMALL)
    output = model(IDS, keep_stream=True)
    assert len(output.stream) == 5
    for n in range(1, 5):
        assert torch.equal(model(IDS, n_layers=n).hidden, output.stream[n])
    assert torch.equal(output.stream[0], F.embedding(IDS, model.embedding.weight))
    torch.testing.assert_close(model.norm(output.stream[-1]), output.hidden)
    block = model.layers[2]
    half = output.stream[2] + block.mixer(block.mixer_norm(output.stream[2]))
    torch.testing.assert_close(half + block.ffn(block.ffn_norm(half)), output.stream[3])


def test_residual_scaling_follows_the_setting():
    """The std of Kaiming-uniform(a = sqrt 5) with fan-in n is 1/sqrt(3n), then divided by sqrt(branches)."""
    for rescale, mixer_branches, ffn_branches in (("none", 1, 1), ("out_proj", 4, 1), ("all", 8, 8)):
        model = Backbone(dataclasses.replace(SMALL, d_model=64, ffn_hidden=96, rescale=rescale))
        for block in model.layers:
            mixer, fan_in = block.mixer.out_proj.weight, 128
            assert float(mixer.detach().std()) == pytest.approx((3 * fan_in * mixer_branches) ** -0.5, rel=0.05)
            down = block.ffn.down if isinstance(block.ffn.down, torch.nn.Parameter) else block.ffn.down.weight
            assert float(down.detach().std()) == pytest.approx((3 * 96 * ffn_branches) ** -0.5, rel=0.05)


def test_residual_in_float32_keeps_the_stream_wide():
    model = Backbone(dataclasses.replace(SMALL, residual_fp32=True)).to(torch.bfloat16)
    output = model(IDS, keep_stream=True)
    assert output.stream[1].dtype == torch.float32
    assert output.hidden.dtype == torch.bfloat16


def test_padding_is_found_by_id_and_by_mask():
    ids = torch.tensor([[0, 7, 1, 4], [4, 0, 8, 1]])
    assert real_tokens(ids, None).tolist() == [[True, True, True, False], [False, True, True, True]]
    assert real_tokens(ids[:, 1:3], None) is None
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]])
    assert real_tokens(ids, mask).tolist() == [[True, True, False, False], [False, False, True, True]]


def test_a_hole_and_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="row 1: padding stands between real tokens; pad on the left or on the right"):
        real_tokens(torch.tensor([[0, 7, 8, 1], [0, 4, 8, 1]]), None)
    with pytest.raises(ValueError, match=r"attention_mask is \(1, 3\) and input_ids \(1, 4\)"):
        real_tokens(torch.tensor([[0, 7, 8, 1]]), torch.ones(1, 3))


def test_model_and_data_agree_on_the_tokens():
    """The two packages do not import each other, so their numbers are compared here."""
    assert backbone_module.PAD_ID == vocabulary.PAD_ID
    assert heads.IGNORED == masking.IGNORED == task.IGNORED
    assert (pooling.FIRST_BASE_ID, pooling.N_ID) == (vocabulary.BASE_ID, vocabulary.N_ID)
    assert bases.FIRST_WORD_ID == vocabulary.WORD_ID
    assert kmers.KmerTokens(1).words[vocabulary.BASE_ID : vocabulary.BASE_ID + 5] == ("A", "C", "G", "T", "N")


@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_every_recipe_builds_on_the_meta_device(recipe):
    run = recipes.load_recipe(recipe)
    with torch.device("meta"):
        model = Backbone(run.model)
    assert len(model.layers) == run.model.n_layers
