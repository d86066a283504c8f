import errno
import json
import shutil
from dataclasses import replace

import pytest
import torch
from toys import toy_run
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from umbel.config import TokensConfig
from umbel.errors import OutputError, RunError
from umbel.model import checkpoint as checkpoint_module
from umbel.train.pretrain import pretrain
from umbel.train.state import read_metrics


def test_a_run_folder_has_everything(toy_training):
    names = {path.name for path in toy_training.iterdir()}
    assert names == {"run.json", "metrics.jsonl", "tensorboard", "state", "checkpoint"}
    records = read_metrics(toy_training / "metrics.jsonl")
    assert [r["step"] for r in records if r["kind"] == "train"] == list(range(1, 13))
    assert [r["step"] for r in records if r["kind"] == "valid"] == [6, 12]
    valid = records[-1]
    assert {"load", "max_over_mean", "cv", "n_dead", "entropy", "layer"} == set(valid["experts"][0])
    facts = json.loads((toy_training / "run.json").read_text())
    assert facts["config"]["train"]["steps"] == 12


def test_tensorboard_has_the_curves(toy_training):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(toy_training / "tensorboard"))
    board.Reload()
    records = read_metrics(toy_training / "metrics.jsonl")
    steps = [r for r in records if r["kind"] == "train"]
    events = board.Scalars("train/loss")
    assert [event.step for event in events] == [r["step"] for r in steps]
    assert [event.value for event in events] == pytest.approx([r["loss"] for r in steps])
    assert [event.step for event in board.Scalars("experts/layer_1/cv")] == [6, 12]


def test_the_checkpoint_loads_in_transformers(toy_training):
    folder = toy_training / "checkpoint"
    batch = AutoTokenizer.from_pretrained(folder)(["ACGTN"], return_tensors="pt")
    whole = AutoModelForMaskedLM.from_pretrained(folder)
    backbone = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        hidden = backbone(**batch).last_hidden_state
        torch.testing.assert_close(hidden @ whole.backbone.embedding.weight.T, whole(**batch).logits)


def test_a_finished_run_is_left_as_it_is(toy_corpus, toy_training):
    before = (toy_training / "metrics.jsonl").read_bytes()
    result = pretrain(toy_run(), toy_corpus.path, toy_training)
    assert (toy_training / "metrics.jsonl").read_bytes() == before
    assert result.train["step"] == 12
    assert result.checkpoint == toy_training / "checkpoint"


def test_another_run_in_the_folder_is_refused_by_setting(toy_corpus, toy_training):
    with pytest.raises(RunError, match=r"holds another run \(config.optim.lr: 0.01 -> 0.5\)"):
        run = toy_run()
        pretrain(replace(run, optim=replace(run.optim, lr=0.5)), toy_corpus.path, toy_training)


def test_a_run_from_before_a_setting_existed_goes_on(toy_corpus, toy_training, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(toy_training, folder)
    facts = json.loads((folder / "run.json").read_text())
    del facts["config"]["tokens"], facts["config"]["model"]["gating"]
    (folder / "run.json").write_text(json.dumps(facts))
    assert pretrain(toy_run(), toy_corpus.path, folder).train["step"] == 12
    with pytest.raises(RunError, match=r"holds another run \(config\.tokens\.row_tokens: 0 -> 64\)"):
        pretrain(replace(toy_run(), tokens=TokensConfig(row_tokens=64)), toy_corpus.path, folder)


def test_a_run_of_a_newer_umbel_is_refused(toy_corpus, toy_training, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(toy_training, folder)
    facts = json.loads((folder / "run.json").read_text())
    facts["config"]["model"]["colour"] = "green"
    (folder / "run.json").write_text(json.dumps(facts))
    with pytest.raises(RunError, match=r"not a run that this umbel knows \(config: model.colour: .*choose another"):
        pretrain(toy_run(), toy_corpus.path, folder)


def test_a_folder_that_is_no_run_is_refused(toy_corpus, tmp_path):
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(RunError, match="not empty, and no run of ours"):
        pretrain(toy_run(), toy_corpus.path, tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_a_corpus_cut_otherwise_is_refused_with_the_remedy(toy_corpus, tmp_path):
    run = toy_run()
    wide = replace(run, corpus=replace(run.corpus, window_bp=300))
    with pytest.raises(RunError, match=r"window_bp: 256 -> 300.*--recipe toy, or repeat its settings with --set"):
        pretrain(wide, toy_corpus.path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_at_the_end_keeps_the_states_and_the_same_call_finishes(toy_corpus, tmp_path, monkeypatch):
    def full(self, folder, **kwargs):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module.UmbelForMaskedLM, "save_pretrained", full)
        with pytest.raises(OutputError, match="the disk is full"):
            pretrain(toy_run(), toy_corpus.path, tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["metrics.jsonl", "run.json", "state", "tensorboard"]
    assert pretrain(toy_run(), toy_corpus.path, tmp_path / "run").checkpoint.is_dir()


def test_other_threads_are_told(toy_corpus, toy_training, capsys, monkeypatch):
    import sys

    from umbel.progress import Reporter

    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    pretrain(toy_run(), toy_corpus.path, toy_training, reporter=Reporter(stream=sys.stderr))
    assert "began with threads 1 and goes on with 7" in capsys.readouterr().err
