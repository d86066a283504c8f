import errno
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import toy_packed_run, toy_run
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from umbel.config import TokensConfig, read_run_config
from umbel.data.bpe import FIXED, BpeTokens
from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import hf_tokenizer, make_tokens
from umbel.errors import ConfigError, OutputError, RunError
from umbel.genome.sequence import decode
from umbel.model import checkpoint as checkpoint_module
from umbel.predict.predictor import Predictor
from umbel.train.pretrain import pretrain
from umbel.train.state import read_metrics
from umbel.train.validation import validation_batches


def test_a_run_folder_has_everything(toy_training):
    names = {path.name for path in toy_training.iterdir()}
    assert names == {"run.json", "metrics.jsonl", "tensorboard", "state", "checkpoint", "best", "run.html"}
    records = read_metrics(toy_training / "metrics.jsonl")
    assert [r["step"] for r in records if r["kind"] == "train"] == list(range(1, 13))
    assert [r["step"] for r in records if r["kind"] == "valid"] == [6, 12]
    valid = records[-1]
    names = {"max_over_mean", "cv", "n_dead", "entropy", "routing_entropy", "layer"}
    assert set(valid["experts"][0]) == names | {"load"}
    assert set(records[0]["experts"][0]) == names
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
    assert [event.step for event in board.Scalars("experts_valid/layer_1/cv")] == [6, 12]


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


def test_packed_rows_and_their_fill_are_told(toy_corpus, toy_packed_training, capsys):
    import sys

    from umbel.progress import Reporter

    pretrain(toy_packed_run(), toy_corpus.path, toy_packed_training, reporter=Reporter(stream=sys.stderr))
    n_tokens = 0
    for i in toy_corpus.window_ids("train"):
        codes, _ = toy_corpus.read_window(int(i))
        n_tokens += 2 + sum(-(-len(run) // 3) for run in re.split("N", decode(codes))) + int((codes == 4).sum())
    n_rows = -(-n_tokens // 100)
    told = f"packed into {n_rows} rows of 100 tokens an epoch, {n_tokens / n_rows / 100:.2%} of them filled"
    assert told in capsys.readouterr().err


def learnt_words(folder, words=("AC", "ACG"), merges=(("A", "C"), ("AC", "G"))):
    folder.mkdir()
    hf_tokenizer(BpeTokens([*FIXED, *words], list(merges)), 256).save_pretrained(folder)
    return str(folder / "tokenizer.json")


@pytest.mark.parametrize("kind", ["overlapping", "bpe"])
def test_other_words_train_and_their_tokenizer_is_saved(kind, toy_corpus, tmp_path):
    tokens = TokensConfig(k=2, overlapping=True, row_tokens=64)
    if kind == "bpe":
        tokens = TokensConfig(kind="bpe", file=learnt_words(tmp_path / "words"), row_tokens=64)
    run = toy_run(steps=2)
    run = replace(run, tokens=tokens, model=replace(run.model, vocab_size=28))
    result = pretrain(run, toy_corpus.path, tmp_path / "run")
    assert result.train["step"] == 2 and result.valid["loss"] > 0
    codes, _ = toy_corpus.read_window(0)
    predictor = Predictor.load(tmp_path / "run", device="cpu")
    assert type(predictor.tokens) is type(make_tokens(tokens))
    saved = AutoTokenizer.from_pretrained(result.checkpoint)
    assert saved(decode(codes)).input_ids == make_tokens(tokens).encode(codes).ids.tolist()


def test_a_vocabulary_that_changed_under_its_name_is_refused(toy_corpus, tmp_path):
    file = learnt_words(tmp_path / "words")
    run = toy_run(steps=1)
    run = replace(run, tokens=TokensConfig(kind="bpe", file=file), model=replace(run.model, vocab_size=14))
    pretrain(run, toy_corpus.path, tmp_path / "run")
    learnt_words(tmp_path / "other", ("TC", "TCG"), (("T", "C"), ("TC", "G")))
    shutil.copy(tmp_path / "other" / "tokenizer.json", file)
    with pytest.raises(RunError, match=r"holds another run \(vocabulary: [0-9a-f]{64} -> [0-9a-f]{64}\)"):
        pretrain(run, toy_corpus.path, tmp_path / "run")


def test_a_model_too_small_for_its_tokens_is_refused_before_anything_is_written(toy_corpus, tmp_path):
    with pytest.raises(ConfigError, match=r"the tokens are 92: --set model\.vocab_size=92"):
        pretrain(replace(toy_run(), tokens=TokensConfig(k=3)), toy_corpus.path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "tokens", [KmerTokens(3), KmerTokens(3, overlapping=True)], ids=["side by side", "overlapping"]
)
def test_validation_hides_the_share_of_tokens_that_training_does(tokens, toy_corpus):
    run = toy_run(eval_windows=1000)
    batches = validation_batches(toy_corpus, run, tokens)
    real = np.concatenate([(b.labels >= 0)[(b.input_ids >= 7) | (b.input_ids == 3)] for b in batches])
    assert abs(real.mean() - 0.15) < 0.02
    for batch in batches:
        assert (batch.input_ids[batch.labels >= 0] == 3).all()
        assert batch.segment_ids is None
    again = validation_batches(toy_corpus, run, tokens)
    assert all((a.input_ids == b.input_ids).all() for a, b in zip(batches, again, strict=True))


def test_run_json_repeats_the_run(toy_corpus, toy_training, tmp_path):
    facts = json.loads((toy_training / "run.json").read_text())
    assert {"commit", "umbel", "torch", "device", "processes", "threads", "n_parameters", "vocabulary"} <= facts.keys()
    assert facts["corpus"]["hash"] == toy_corpus.hash
    again = pretrain(read_run_config(toy_training / "run.json"), facts["corpus"]["path"], tmp_path / "again")
    weights = [folder / "checkpoint" / "model.safetensors" for folder in (toy_training, again.folder)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
