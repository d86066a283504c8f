import errno
import json
import shutil

import pytest
import torch
from toys import toy_run

from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import hf_tokenizer
from umbel.errors import CheckpointError, OutputError
from umbel.model.checkpoint import checkpoint_folder, load_checkpoint, save_checkpoint, weights_hash
from umbel.model.hf import UmbelForMaskedLM, new_model


@pytest.fixture
def saved(tmp_path):
    save_checkpoint(tmp_path / "ckpt", new_model(toy_run().model, 256, 0), hf_tokenizer(KmerTokens(1), 256))
    return tmp_path / "ckpt"


def test_a_run_folder_stands_for_its_checkpoint(toy_training):
    assert checkpoint_folder(toy_training) == toy_training / "checkpoint"
    assert weights_hash(toy_training) == weights_hash(toy_training / "checkpoint")
    assert load_checkpoint(toy_training).config.window_bp == 256


def test_no_checkpoint_is_told_apart_from_an_unfinished_run(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint there \(no config.json\)"):
        load_checkpoint(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(CheckpointError, match="this run has no checkpoint yet; run the same umbel pretrain command"):
        load_checkpoint(tmp_path)


def test_another_architecture_is_refused_by_name(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 8}))
    with pytest.raises(
        CheckpointError, match=r"config.json: model_type is 'bert', and umbel loads 'umbel' and 'plantb"
    ):
        load_checkpoint(tmp_path)


def test_damaged_files_are_named(saved):
    weights = saved / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    with pytest.raises(CheckpointError, match="the weights cannot be read"):
        load_checkpoint(saved)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"model.safetensors: not there; the checkpoint is not complete"):
        load_checkpoint(saved)
    (saved / "config.json").write_text("{nonsense")
    with pytest.raises(CheckpointError, match=r"config.json: not readable as JSON"):
        load_checkpoint(saved)


def test_a_full_disk_leaves_the_old_checkpoint(saved, monkeypatch):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def full(self, folder, **kwargs):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(UmbelForMaskedLM, "save_pretrained", full)
    with pytest.raises(OutputError, match="ckpt: could not be written, the disk is full"):
        save_checkpoint(saved, new_model(toy_run().model, 256, 1), hf_tokenizer(KmerTokens(1), 256))
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir()] == ["ckpt"]


def test_saving_replaces_the_whole_folder(saved):
    (saved / "stale.txt").write_text("old")
    save_checkpoint(saved, new_model(toy_run().model, 256, 1), hf_tokenizer(KmerTokens(1), 256))
    assert not (saved / "stale.txt").exists()
    wanted = new_model(toy_run().model, 256, 1).state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in load_checkpoint(saved).state_dict().items())


def test_a_moved_checkpoint_still_loads(saved, tmp_path):
    shutil.move(saved, tmp_path / "elsewhere")
    assert load_checkpoint(tmp_path / "elsewhere").config.model == toy_run().model
