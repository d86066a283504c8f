"""Parity with the published PlantBiMoE code, on its own numbers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from umbel.model.checkpoint import export_released, import_released, load_checkpoint
from umbel.model.released import read_json_config, read_released_tensors, to_model_config

HERE = Path(__file__).parent
FOLDERS = [HERE / "plantbimoe-tiny-top1", HERE / "plantbimoe-tiny-top2"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_matches_the_published_implementation(folder):
    expected = load_file(folder / "expected.safetensors")
    model = load_checkpoint(folder)
    with torch.no_grad():
        output = model(expected["input_ids"])
    torch.testing.assert_close(output.logits, expected["logits"], atol=1e-5, rtol=0)
    with torch.no_grad():
        hidden = model.backbone(expected["input_ids"]).hidden
    torch.testing.assert_close(hidden, expected["last_hidden_state"], atol=1e-5, rtol=0)
    assert len(output.routings) == len(expected["router_logits"])
    for routing, wanted in zip(output.routings, expected["router_logits"], strict=True):
        # 1e-5 beside a size of up to 17: the file's own float32 rounding is 2.3e-5 (next test).
        assert float((routing.logits - wanted).abs().max() / wanted.abs().max()) < 1e-5
        chosen = wanted.softmax(-1).topk(routing.experts.shape[-1]).indices
        assert torch.equal(routing.experts, chosen)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_float64_shows_the_rounding_of_the_file_itself(folder):
    """What is left in float64 is the published run's float32 rounding, and no float32 code can be sure to beat it."""
    expected = load_file(folder / "expected.safetensors")
    model = load_checkpoint(folder).double()
    with torch.no_grad():
        output = model.backbone(expected["input_ids"])
    torch.testing.assert_close(output.hidden, expected["last_hidden_state"].double(), atol=1e-5, rtol=0)
    worst = max(
        float((r.logits - w).abs().max()) for r, w in zip(output.routings, expected["router_logits"], strict=True)
    )
    assert worst < 2.5e-5


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_import_then_export_gives_the_same_tensors(folder, tmp_path):
    from umbel.data.kmers import KmerTokens
    from umbel.data.tokenizers import hf_tokenizer

    import_released(folder, tmp_path / "ours", hf_tokenizer(KmerTokens(1), 512))
    export_released(tmp_path / "ours", tmp_path / "theirs")
    before, _ = read_released_tensors(folder)
    after, _ = read_released_tensors(tmp_path / "theirs")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    configs = [to_model_config(read_json_config(f), "") for f in (folder, tmp_path / "theirs")]
    assert replace(configs[0], dt_rank=configs[0].dt_width) == configs[1]
