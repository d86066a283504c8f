"""A finished run becomes the model of the package: rounded, whole, and nothing else is touched."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toys import toy_run

from umbel.errors import CheckpointError
from umbel.files import sha256_file
from umbel.train.pretrain import pretrain

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "mini" / "ship.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("ship", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(toy_corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shipped") / "run"
    pretrain(toy_run(steps=4), toy_corpus.path, folder, device="cpu")
    return folder


@pytest.mark.parametrize("kind", ["checkpoint", "best"])
def test_weights_are_those_of_the_run_to_the_nearest_bf16(script, run, tmp_path, kind):
    told = script.ship(run, kind, tmp_path / "mini")
    shipped, trained = (load_file(x / "model.safetensors") for x in (tmp_path / "mini", run / kind))
    assert shipped.keys() == trained.keys()
    for name, weights in trained.items():
        assert shipped[name].dtype == torch.bfloat16
        # The 16 upper bits, to the nearest and to even: by integers, not by torch's own cast.
        bits = weights.contiguous().view(torch.int32).to(torch.int64) & 0xFFFFFFFF
        nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        assert torch.equal(shipped[name].view(torch.int16).to(torch.int64) & 0xFFFF, nearest & 0xFFFF), name
    facts = json.loads((tmp_path / "mini" / "run.json").read_text())["shipped"]
    assert facts == told["shipped"]
    assert facts["weights_sha256"] == sha256_file(tmp_path / "mini" / "model.safetensors")
    assert facts["trained_weights_sha256"] == sha256_file(run / kind / "model.safetensors")
    assert {x.name for x in (tmp_path / "mini").iterdir()} == {
        *("README.md", "config.json", "model.safetensors", "run.json", "tokenizer.json", "tokenizer_config.json")
    }


def test_what_is_refused_leaves_the_folder_as_it_was(script, run, tmp_path, monkeypatch):
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "old").write_text("old")
    monkeypatch.setattr(script, "MOST_BYTES", 1_000)
    with pytest.raises(CheckpointError, match=r"would take [\d,]+ bytes in the package, and 1,000 are the most"):
        script.ship(run, "checkpoint", tmp_path / "mini")
    with pytest.raises(CheckpointError, match="no checkpoint there; finish the run"):
        script.ship(run, "checkpoint_ema", tmp_path / "mini")
    assert [x.name for x in (tmp_path / "mini").iterdir()] == ["old"]
    assert (tmp_path / "mini" / "old").read_text() == "old"
