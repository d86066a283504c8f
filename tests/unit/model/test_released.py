"""The released layout is read strictly: each way of not fitting is an error that lists the keys."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from toys import toy_run

from umbel.config import ModelConfig
from umbel.errors import CheckpointError
from umbel.model.backbone import Backbone, count_parameters
from umbel.model.checkpoint import load_checkpoint
from umbel.model.hf import new_model
from umbel.model.released import read_json_config, to_model_config, to_released_config, write_released

TINY = Path(__file__).parents[2] / "golden" / "plantbimoe-tiny-top1"


@pytest.fixture
def folder(tmp_path):
    config = ModelConfig(n_layers=2, d_model=16, d_state=4, ffn_hidden=24, rescale="out_proj")
    write_released(tmp_path / "theirs", new_model(config, 512, 0).state_dict(), config)
    return tmp_path / "theirs"


def edit(folder, change):
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file({k: v.clone() for k, v in tensors.items()}, path)


def edit_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_every_problem_is_listed_at_once(folder):
    root = "plantbimoe.backbone"

    def change(tensors):
        del tensors[f"{root}.norm_f.weight"]
        tensors["classifier.weight"] = torch.ones(2)
        tensors[f"{root}.layers.1.feed_forward.router.weight"] = torch.ones(5, 16)

    edit(folder, change)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    text = str(caught.value)
    assert "3 keys do not fit" in text
    assert f"missing {root}.norm_f.weight" in text
    assert "unexpected classifier.weight" in text
    assert "router.weight has shape (5, 16), must be (4, 16)" in text


def test_tied_tensors_must_be_equal(folder):
    key = "plantbimoe.backbone.layers.0.mixer.mixer.mamba_rev.in_proj.weight"
    edit(folder, lambda tensors: tensors[key].add_(1))
    with pytest.raises(CheckpointError, match=r"mamba_rev.in_proj.weight differs from .*mamba_fwd.in_proj.weight"):
        load_checkpoint(folder)


def test_a_bin_file_loads_without_running_code(folder):
    wanted = load_checkpoint(folder).state_dict()
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert all(torch.equal(value, wanted[key]) for key, value in load_checkpoint(folder).state_dict().items())

    class Evil:
        def __reduce__(self):
            return (print, ("code ran",))

    torch.save({"a": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin: damaged or not a weights file"):
        load_checkpoint(folder)


def test_no_weights_and_truncated_weights(folder):
    (folder / "model.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(CheckpointError, match=r"model.safetensors: damaged or not a weights file"):
        load_checkpoint(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"neither model.safetensors nor pytorch_model.bin is there"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"rms_norm": False}, "rms_norm is False, must be True"),
        ({"bidirectional": False}, "bidirectional is False, must be True"),
        ({"bidirectional_strategy": "max"}, "bidirectional_strategy is 'max', must be one of add, ew_multiply"),
        ({"ssm_cfg": {"bias": True}}, "ssm_cfg.bias is True, must be False"),
    ],
)
def test_a_config_that_we_cannot_compute_is_refused_by_key(folder, values, text):
    edit_config(folder, **values)
    with pytest.raises(CheckpointError, match=text):
        load_checkpoint(folder)


def test_a_missing_size_is_refused(folder):
    values = json.loads((folder / "config.json").read_text())
    del values["num_experts"]
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="num_experts is missing"):
        load_checkpoint(folder)


def test_the_released_config_is_the_published_size():
    """The golden config with the published sizes put in, as the released config.json has them."""
    published = {"d_model": 512, "n_layer": 16, "intermediate_size": 1408}
    config = to_model_config({**read_json_config(TINY), **published}, "config.json")
    assert count_parameters(config) == (115_612_160, 63_707_648)


@pytest.mark.parametrize("change", [{"fusion": "gate"}, {"pattern": "Me"}])
def test_what_the_released_code_lacks_is_not_exported(change):
    from dataclasses import replace

    with pytest.raises(CheckpointError, match=r"the released PlantBiMoE layout has no (fusion 'gate'|pattern 'Me')"):
        to_released_config(replace(toy_run().model, **change))


def test_untied_heads_and_directions_survive_the_round_trip(tmp_path):
    config = ModelConfig(
        n_layers=2, d_model=16, d_state=4, ffn_hidden=24, tie_head=False, tie_projections=False, fusion="multiply",
        top_k=2, n_experts=3, rescale="none",
    )  # fmt: skip
    model = new_model(config, 512, 1)
    write_released(tmp_path / "x", model.state_dict(), config)
    loaded = load_checkpoint(tmp_path / "x")
    assert loaded.config.model == Backbone(loaded.config.model).config
    wanted = model.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in loaded.state_dict().items())
