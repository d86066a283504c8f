"""Runs that begin with the weights of a checkpoint."""

import json
from dataclasses import replace

import pytest
import torch
from calling import umbel
from safetensors.torch import load_file
from toys import toy_placement_run, toy_run

from umbel.config import RunConfig, TokensConfig, to_dict
from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import hf_tokenizer
from umbel.errors import CheckpointError, RunError
from umbel.model.checkpoint import load_checkpoint, save_checkpoint, weights_hash
from umbel.train import loop
from umbel.train.learner import untrained_model
from umbel.train.pretrain import pretrain
from umbel.train.starting import first_model

ONE = KmerTokens(1)


def more(**train: object) -> RunConfig:
    return toy_run(steps=6, seed=7, **train)


@pytest.fixture(scope="module")
def further(toy_training, toy_corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("further") / "run"
    pretrain(more(), toy_corpus.path, folder, weights=toy_training)
    return folder


def test_the_first_model_has_the_weights_of_the_checkpoint_and_not_those_of_the_seed(toy_training):
    wanted = load_file(toy_training / "checkpoint" / "model.safetensors")
    model = first_model(more(), ONE, toy_training)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in wanted.items())
    drawn = untrained_model(more(), ONE).state_dict()
    assert not torch.equal(model.state_dict()["backbone.embedding.weight"], drawn["backbone.embedding.weight"])
    assert all(torch.equal(value, drawn[name]) for name, value in first_model(more(), ONE, None).state_dict().items())


def test_a_run_from_weights_starts_at_their_loss_and_says_where_they_are_from(further, toy_training):
    train = [json.loads(line) for line in (further / "metrics.jsonl").read_text().splitlines()]
    losses = {(record["kind"], record["step"]): record.get("loss") for record in train}
    before = [json.loads(line) for line in (toy_training / "metrics.jsonl").read_text().splitlines()]
    first = next(record["loss"] for record in before if (record["kind"], record["step"]) == ("train", 1))
    assert losses["train", 1] < first - 0.01
    facts = json.loads((further / "run.json").read_text())
    assert facts["weights"] == {"path": str(toy_training), "hash": weights_hash(toy_training)}
    assert json.loads((toy_training / "run.json").read_text())["weights"] is None


def test_bf16_weights_are_trained_in_float32(toy_training, toy_corpus, tmp_path):
    save_checkpoint(tmp_path / "half", load_checkpoint(toy_training), hf_tokenizer(ONE, 256), dtype=torch.bfloat16)
    pretrain(toy_run(steps=1), toy_corpus.path, tmp_path / "run", weights=tmp_path / "half")
    trained = load_file(tmp_path / "run" / "checkpoint" / "model.safetensors")
    assert {value.dtype for value in trained.values()} == {torch.float32}
    rounded = load_file(tmp_path / "half" / "model.safetensors")
    # A step is finer than bf16: rounding it away would leave most weights as they were.
    moved = [not torch.equal(value.bfloat16(), value) for name, value in trained.items() if name in rounded]
    assert sum(moved) > 0.9 * len(moved)


def test_stopped_and_continued_is_never_stopped(further, toy_training, toy_corpus, tmp_path, monkeypatch):
    whole = loop.train_step

    def failing(learner, batches, **told):
        if learner.step == 5:
            raise MemoryError
        return whole(learner, batches, **told)

    monkeypatch.setattr(loop, "train_step", failing)
    with pytest.raises(MemoryError):
        pretrain(more(), toy_corpus.path, tmp_path / "run", weights=toy_training)
    monkeypatch.undo()
    pretrain(more(), toy_corpus.path, tmp_path / "run", weights=toy_training)
    name = "checkpoint/model.safetensors"
    assert (tmp_path / "run" / name).read_bytes() == (further / name).read_bytes()


def test_other_weights_are_another_run(further, toy_corpus):
    with pytest.raises(RunError, match=r"holds another run \(weights: [0-9a-f]{64} -> random\)"):
        pretrain(more(), toy_corpus.path, further)


def test_another_network_is_refused_and_every_setting_named(toy_training, toy_corpus, tmp_path):
    run = toy_run()
    wider = replace(run, model=replace(run.model, d_model=32, top_k=2))
    with pytest.raises(RunError, match=r"network is not that of recipe toy \(d_model: 16 -> 32; top_k: 1 -> 2\)"):
        pretrain(wider, toy_corpus.path, tmp_path / "run", weights=toy_training)
    assert not (tmp_path / "run").exists()
    # How first weights are drawn is no part of the network.
    first_model(replace(run, model=replace(run.model, rescale="none")), ONE, toy_training)


def test_other_tokens_are_refused(toy_training):
    run = toy_run()
    words = replace(run, tokens=TokensConfig(k=3), model=replace(run.model, vocab_size=12))
    with pytest.raises(RunError, match=r"its tokens are others than those of recipe toy \(k: 1 -> 3\)"):
        first_model(replace(words, tokens=TokensConfig()), KmerTokens(3), toy_training)


def test_weights_that_are_not_there_are_refused(toy_corpus, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        pretrain(toy_run(), toy_corpus.path, tmp_path / "run", weights=tmp_path / "nowhere")
    assert not (tmp_path / "run").exists()


def test_a_head_that_the_checkpoint_lacks_is_drawn_from_the_seed(toy_training):
    run = toy_placement_run()
    model = first_model(run, ONE, toy_training)
    drawn = untrained_model(run, ONE).state_dict()
    heads = [name for name in drawn if name.startswith("placement.")]
    assert heads and all(torch.equal(model.state_dict()[name], drawn[name]) for name in heads)


def test_a_checkpoint_with_a_head_starts_a_run_without_one(tmp_path):
    model = untrained_model(toy_placement_run(), ONE)
    save_checkpoint(tmp_path / "ckpt", model, hf_tokenizer(ONE, 256))
    found = first_model(toy_run(), ONE, tmp_path / "ckpt")
    assert found.placement is None
    assert torch.equal(found.backbone.embedding.weight, model.backbone.embedding.weight)


def test_the_command_takes_weights(toy_training, toy_corpus, tmp_path, monkeypatch, capsys):
    recipe = tmp_path / "toy.json"
    recipe.write_text(json.dumps(to_dict(toy_run(steps=1))))
    words = ["pretrain", recipe, "--corpus", toy_corpus.path, "-o", tmp_path / "run", "--weights", toy_training]
    code, _, err = umbel(monkeypatch, capsys, *words)
    assert code == 0 and f"beginning with the weights of {toy_training}" in err
