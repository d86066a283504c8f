import json

import pytest

from umbel.config import ModelConfig, RunConfig, apply_settings, from_dict, read_run_config, to_dict
from umbel.errors import ConfigError
from umbel.train.recipes import RECIPES, load_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_json_and_back_without_loss(name):
    run = load_recipe(name)
    assert from_dict(RunConfig, json.loads(json.dumps(to_dict(run)))) == run


def test_settings_change_one_thing():
    run = apply_settings(RunConfig("a"), ["optim.lr=1e-3", "model.fusion=gate", "model.tie_head=false", "name=b"])
    assert (run.optim.lr, run.model.fusion, run.model.tie_head, run.name) == (1e-3, "gate", False, "b")
    assert run.optim.warmup_steps == RunConfig("a").optim.warmup_steps


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("optim.lr", "no such setting. Write section.name=value"),
        ("optim.speed=1", "here one of: beta1, beta2"),
        ("speed=1", "here one of: balance, corpus, health, masking, model, name, optim, parallel, tokens, train"),
        ("model.pattern.x=1", "no such setting"),
        ("optim.lr=-1", "optim.lr: Input should be greater than 0"),
        ("model.pattern=", "pattern is empty"),
        ("model.pattern=Md Mz", "pattern has Mz: each layer is 'M', 'H' or 'A' followed by 'd' or 'e'"),
        ("model.top_k=5", "top_k is 5 but there are only 4 experts"),
        ("corpus.overlap_bp=-1", "greater than or equal to 0"),
        ("corpus.overlap_bp=129", "less than or equal to 128"),
        ("corpus.window_bp=100", "overlap_bp 128 must be below window_bp 100"),
        ("train.micro_batch_windows=3", "batch_windows must be a multiple"),
        ("masking.as_random_frac=0.3", "must not add up to more than 1"),
    ],
)
def test_wrong_settings_say_what_and_where(setting, text):
    with pytest.raises(ConfigError) as caught:
        apply_settings(RunConfig("a"), [setting])
    assert text in str(caught.value)


def test_pattern_is_tiled():
    assert ModelConfig(pattern="Md Me Me", n_layers=4).layer_kinds == ("Md", "Me", "Me", "Md")
    assert ModelConfig(d_model=500).dt_width == 32
    assert ModelConfig(d_model=500, dt_rank=7).dt_width == 7


def test_runs_are_read_from_json_and_toml(tmp_path):
    toml, broken, unknown = tmp_path / "a.toml", tmp_path / "b.json", tmp_path / "c.json"
    toml.write_text('name = "mine"\n[optim]\nlr = 0.5\n')
    assert read_run_config(toml).optim.lr == 0.5
    wrapped = tmp_path / "run.json"
    wrapped.write_text(json.dumps({"config": to_dict(RunConfig("x")), "corpus": {}}))
    assert read_run_config(wrapped).name == "x"
    broken.write_text("{")
    with pytest.raises(ConfigError, match=r"b.json: not readable as JSON"):
        read_run_config(broken)
    unknown.write_text('{"name": "x", "colour": 1}')
    with pytest.raises(ConfigError, match=r"c.json: colour: "):
        read_run_config(unknown)
    with pytest.raises(ConfigError, match="no such file"):
        read_run_config(tmp_path / "none.json")
