"""The model that comes with the package: the rule of its name, its files, and that it computes in float32."""

import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file
from toys import toy_run
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

import umbel
from umbel.config import read_run_config
from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import hf_tokenizer
from umbel.errors import CheckpointError
from umbel.files import sha256_file
from umbel.model import shipped
from umbel.model.backbone import count_parameters
from umbel.model.checkpoint import checkpoint_folder, load_checkpoint, save_checkpoint, weights_hash
from umbel.model.hf import new_model
from umbel.model.shipped import SHIPPED, model_path, model_text, shipped_folder
from umbel.model.tuned import load_tuned, save_tuned, with_head

ROOT = Path(__file__).parents[3]
MINI = shipped_folder("mini")
MOST_BYTES = 16_000_000


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_text_alone_is_the_model_and_everything_else_is_a_path(here):
    assert model_path("mini") == checkpoint_folder("mini") == MINI
    for other in ("./mini", "runs/mini", "mini/", str(here / "mini"), Path("mini"), "Mini"):
        assert model_path(other) == Path(other)
    assert umbel.load("mini", "cpu").weights_hash == weights_hash("mini") == sha256_file(MINI / "model.safetensors")


@pytest.mark.parametrize("mark", ["config.json", "run.json", "checkpoint/config.json"])
def test_a_name_that_could_mean_two_things_is_refused_with_both_ways_out(here, mark):
    (here / "mini").mkdir()
    (here / "mini" / "notes.txt").touch()
    assert model_path("mini") == MINI  # no model in it, so nothing to mistake
    (here / "mini" / mark).parent.mkdir(exist_ok=True)
    (here / "mini" / mark).touch()
    with pytest.raises(CheckpointError) as error:
        model_path("mini")
    assert "Write ./mini for the folder" in str(error.value) and str(MINI) in str(error.value)
    assert model_path("./mini") == Path("mini") and model_path(str(MINI)) == MINI


def test_what_is_written_down_is_understood_again(here):
    for named in ("mini", "./mini", "runs/a", str(here / "mini")):
        assert model_path(model_text(model_path(named))) == model_path(named)


def test_a_wrong_name_is_told_which_there_are(here):
    with pytest.raises(CheckpointError, match=r"^maxi: no checkpoint there \(no config.json\). With umbel come: mini$"):
        load_checkpoint("maxi")
    with pytest.raises(CheckpointError, match=r"come: mini. As a text, 'mini', it is the one$"):
        load_checkpoint(Path("mini"))
    with pytest.raises(CheckpointError, match=r"no config.json\)$"):
        load_checkpoint("runs/maxi")
    with pytest.raises(CheckpointError, match="maxi: no model of that name comes with umbel, which has mini"):
        shipped_folder("maxi")


def test_a_broken_installation_says_what_is_missing_and_what_to_do(here, monkeypatch):
    monkeypatch.setattr(shipped, "__file__", str(here / "__init__.py"))
    with pytest.raises(CheckpointError, match=r"lacks config.json, model.safetensors.*pip install --force-reinstall"):
        umbel.load("mini")


def stored() -> dict[str, torch.Tensor]:
    return load_file(MINI / "model.safetensors")


def test_a_wheel_holds_every_file_and_they_are_small():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = told["tool"]["setuptools"]["package-data"]["umbel"]
    package = Path(umbel.__file__).parent
    for name in SHIPPED:
        files = [file for file in shipped_folder(name).rglob("*") if file.is_file()]
        assert sum(file.stat().st_size for file in files) <= MOST_BYTES
        for file in files:
            # As setuptools matches them: a star does not cross a slash.
            parts = file.relative_to(package).parts
            matches = [p.split("/") for p in patterns if len(p.split("/")) == len(parts)]
            assert any(all(map(fnmatch, parts, match)) for match in matches), file


def test_weights_are_bf16_and_their_number_is_that_of_the_settings():
    weights = stored()
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    assert all(value.isfinite().all() for value in weights.values())
    run = json.loads((MINI / "run.json").read_text())
    total, active = count_parameters(read_run_config(MINI / "run.json").model)
    assert sum(value.numel() for value in weights.values()) == total == run["n_parameters"]
    assert active == run["n_active_parameters"]


def test_run_json_config_json_and_weights_are_of_one_run():
    run = json.loads((MINI / "run.json").read_text())
    config, told = read_run_config(MINI / "run.json"), load_checkpoint("mini").config
    assert told.model == config.model and told.window_bp == config.corpus.window_bp
    assert run["shipped"]["weights_sha256"] == weights_hash("mini")
    assert 0 < run["shipped"]["step"] <= config.train.steps


def test_the_card_is_of_these_weights():
    text = (MINI / "README.md").read_text(encoding="utf-8")
    n_parameters = json.loads((MINI / "run.json").read_text())["n_parameters"]
    assert weights_hash("mini") in text
    assert re.search(rf"\b({n_parameters}|{n_parameters:,})\b", text)


def test_no_file_tells_of_folders_of_the_machine_that_made_it():
    def texts(value):
        if isinstance(value, dict):
            value = [*value.values()]
        return [text for one in value for text in texts(one)] if isinstance(value, list) else [value]

    for name in ("run.json", "config.json", "tokenizer_config.json"):
        found = texts(json.loads((MINI / name).read_text()))
        assert not [text for text in found if isinstance(text, str) and text.startswith(("/", "~"))]


def test_rounding_is_to_the_nearest_and_nothing_else(tmp_path):
    """Against the bits: add half of what is cut off, ties to even, and cut off."""
    model, tokenizer = new_model(toy_run().model, 256, 0), hf_tokenizer(KmerTokens(1), 256)
    save_checkpoint(tmp_path / "whole", model, tokenizer)
    save_checkpoint(tmp_path / "half", model, tokenizer, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    halves = load_file(tmp_path / "half" / "model.safetensors")
    whole = load_arrays(tmp_path / "whole" / "model.safetensors")
    assert halves.keys() == whole.keys()
    for name, value in whole.items():
        bits = value.view(np.uint32).astype(np.uint64)
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)
        np.testing.assert_array_equal(halves[name].float().numpy(), rounded)


@pytest.mark.parametrize("kind", [AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification])
def test_hugging_face_loads_it_in_float32_with_the_stored_values(kind):
    model = kind.from_pretrained(MINI)
    assert {p.dtype for p in model.parameters()} == {torch.float32} == {model.config.dtype}
    weights = {name.removeprefix("backbone."): value for name, value in stored().items()}
    for name, value in model.state_dict().items():
        if name.removeprefix("backbone.") in weights:
            assert torch.equal(value, weights[name.removeprefix("backbone.")].float())
    ids = AutoTokenizer.from_pretrained(MINI)(["ACGTN"], return_tensors="pt")
    assert next(iter(model(**ids).values())).dtype == torch.float32


def test_another_dtype_is_given_where_it_is_asked_for():
    assert AutoModel.from_pretrained(MINI, dtype="auto").dtype == torch.bfloat16
    assert AutoModel.from_pretrained(MINI, dtype=torch.float64).dtype == torch.float64


def test_what_is_tuned_from_it_is_float32_and_loads_so(tmp_path):
    tuned = with_head(load_checkpoint("mini"), {"kind": "binary", "names": ["a", "b"]})
    assert {p.dtype for p in tuned.parameters()} == {torch.float32}
    save_tuned(tmp_path / "tuned", tuned, hf_tokenizer(KmerTokens(1), tuned.config.window_bp))
    on_disk = load_file(tmp_path / "tuned" / "model.safetensors")
    assert {value.dtype for value in on_disk.values()} == {torch.float32}
    assert {p.dtype for p in load_tuned(tmp_path / "tuned").parameters()} == {torch.float32}
