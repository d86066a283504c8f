"""Heads drawn from a seed on a shared backbone; folders of tuned models, there and back, and those refused."""

import json
import re
from dataclasses import asdict
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file, save_file
from toys import enlarge, toy_run
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from umbel.data.bpe import FIXED, BpeTokens
from umbel.data.kmers import KmerTokens
from umbel.data.labelled.task import Kind, Task
from umbel.data.tokenizers import describe, hf_tokenizer
from umbel.errors import CheckpointError, ConfigError
from umbel.model import tuned
from umbel.model.checkpoint import load_checkpoint, save_checkpoint
from umbel.model.hf import (
    UmbelForMaskedLM,
    UmbelForSequenceClassification,
    UmbelForTokenClassification,
    UmbelForTracks,
    new_model,
)
from umbel.model.released import write_released
from umbel.model.tuned import load_tuned, save_tuned, with_head

TASKS = {
    "binary": Task("binary", ("no", "yes")),
    "multiclass": Task("multiclass", ("leaf", "root", "stem")),
    "multilabel": Task("multilabel", ("a", "b", "c")),
    "regression": Task("regression", ("height",)),
    "bases": Task("bases", ("exon", "intron")),
    "bins": Task("bins", ("rna", "atac"), bin_bp=3),
}
TOKENIZER = hf_tokenizer(KmerTokens(1), 256)
IDS = torch.tensor([[0, 7, 8, 9, 10, 11, 7, 1], [0, 9, 9, 1, 4, 4, 4, 4]])


def base(seed=3, **changes):
    return enlarge(new_model(toy_run().model, 256, seed, **changes)).eval()


def made(kind, model=None, **settings):
    return with_head(model or base(), asdict(TASKS[kind]), **settings)


def test_every_kind_of_task_has_a_head():
    assert list(TASKS) == list(get_args(Kind)) == list(tuned._CLASS_OF)


@pytest.mark.parametrize("kind", TASKS)
def test_a_head_knows_its_task_and_shares_the_backbone(kind):
    model = base(placement=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with_it = made(kind, model)
    task, config = TASKS[kind], with_it.config
    assert with_it.backbone is model.backbone
    assert not with_it.training
    assert config.task == {"kind": kind, "names": list(task.names), "bin_bp": task.bin_bp}
    assert [config.id2label[i] for i in range(config.num_labels)] == list(task.names)
    assert config.label2id == {name: i for i, name in enumerate(task.names)}
    assert (config.bin_bp, config.window_bp, config.placement) == (task.bin_bp, 256, False)
    assert with_it(IDS).logits.shape[-1] == task.n_outputs
    assert (model.config.task, model.config.problem_type) == (None, None)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def head_of(model):
    return {name: value for name, value in model.state_dict().items() if not name.startswith("backbone.")}


@pytest.mark.parametrize("kind", ["multiclass", "bases", "bins"])
def test_a_head_depends_on_its_seed_only(kind):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = made(kind, seed=5)
    torch.manual_seed(2)
    second, third = made(kind, base(seed=4), seed=5), made(kind, seed=6)
    assert head_of(first).keys() == head_of(second).keys()
    assert all(torch.equal(value, head_of(second)[name]) for name, value in head_of(first).items())
    weight = next(name for name in head_of(first) if name.endswith("weight"))
    assert not torch.equal(head_of(first)[weight], head_of(third)[weight])
    assert head_of(first)[weight.replace("weight", "bias")].eq(0).all()
    assert 0.01 < head_of(first)[weight].std() < 0.03
    torch.manual_seed(1)
    made(kind, seed=9)
    assert torch.equal(state, torch.get_rng_state())


def test_a_head_does_not_depend_on_the_pooling():
    heads = [made("multiclass", pooling=pooling, seed=1) for pooling in ("mean", "attention")]
    assert torch.equal(heads[0].score.weight, heads[1].score.weight)
    # A new query is zero, where attention is the mean.
    torch.testing.assert_close(heads[0](IDS).logits, heads[1](IDS).logits)


@pytest.mark.parametrize("kind", ["regression", "bins"])
def test_numbers_begin_at_the_mean_of_the_targets(kind):
    n = TASKS[kind].n_outputs
    mean, scale = [1000.0, -5.0][:n], [20.0, 0.1][:n]
    plain, model = made(kind), made(kind, output_mean=mean, output_scale=scale)
    wanted = plain(IDS).logits * torch.tensor(scale) + torch.tensor(mean)
    torch.testing.assert_close(model(IDS).logits, wanted)
    only_n = model(torch.tensor([[0, 11, 11, 1]])).logits
    torch.testing.assert_close(only_n.flatten(), torch.tensor(mean).expand_as(only_n).flatten())


def test_labels_in_other_units_give_the_same_gradients():
    mean, scale, labels = [300.0], [40.0], torch.tensor([[310.0], [250.0]])
    losses, grads = [], []
    for model, targets in (
        (made("regression"), (labels - 300) / 40),
        (made("regression", output_mean=mean, output_scale=scale), labels),
    ):
        output = model(IDS, labels=targets)
        output.loss.backward()
        losses.append(output.loss.detach())
        grads.append(model.score.weight.grad)
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*grads)


def assert_same(again, model):
    """Weights to the last bit; results may depend on where in memory they were read to."""
    ours = model.state_dict()
    assert again.state_dict().keys() == ours.keys()
    assert all(torch.equal(value, ours[name]) for name, value in again.state_dict().items())
    with torch.inference_mode():
        torch.testing.assert_close(again(IDS).logits, model(IDS).logits, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", TASKS)
def test_a_tuned_folder_comes_back_whole(kind, tmp_path):
    settings = {"pooling": "attention", "seed": 2}
    if TASKS[kind].is_numbers:
        settings |= {"output_mean": [7.0] * TASKS[kind].n_outputs, "output_scale": [3.0] * TASKS[kind].n_outputs}
    if TASKS[kind].is_classes:
        settings["class_weights"] = list(range(1, 1 + TASKS[kind].n_outputs))
    model = enlarge(made(kind, **settings))
    if kind not in ("bases", "bins"):
        with torch.no_grad():
            model.pool.query.normal_()
    save_tuned(tmp_path / "tuned", model, TOKENIZER)
    autos = {"bases": AutoModelForTokenClassification, "bins": UmbelForTracks}
    others = autos.get(kind, AutoModelForSequenceClassification).from_pretrained(
        tmp_path / "tuned", local_files_only=True
    )
    for again in (load_tuned(tmp_path / "tuned"), others.eval()):
        assert type(again) is type(model)
        assert again.config.task == model.config.task
        assert again.config.class_weights == model.config.class_weights
        assert_same(again, model)
    assert AutoTokenizer.from_pretrained(tmp_path / "tuned")("ACGT").input_ids == [0, 7, 8, 9, 10, 1]
    # Its backbone is a masked language model's still, whose head is tied to it.
    back = load_checkpoint(tmp_path / "tuned")
    assert torch.equal(back.backbone.embedding.weight, model.backbone.embedding.weight)


def test_a_tuned_model_can_be_tuned_again(tmp_path):
    save_tuned(tmp_path / "tuned", made("binary", class_weights=[1.0, 2.0]), TOKENIZER)
    again = made("bins", load_checkpoint(tmp_path / "tuned"))
    assert isinstance(again, UmbelForTracks)
    assert (again.config.class_weights, again.config.problem_type) == (None, None)


def test_words_of_three_bases(tmp_path):
    from dataclasses import replace

    tokens = KmerTokens(3, True)
    model = new_model(replace(toy_run().model, vocab_size=92), 256, 0, describe(tokens))
    with_it = made("bases", model)
    assert isinstance(with_it, UmbelForTokenClassification)
    assert with_it.classifier.out_features == 6
    save_tuned(tmp_path / "tuned", with_it, hf_tokenizer(tokens, 256))
    assert load_tuned(tmp_path / "tuned").k == 3
    learnt = new_model(toy_run().model, 256, 0, describe(BpeTokens([*FIXED, "AC"], [("A", "C")])))
    with pytest.raises(ConfigError, match=r"learnt words \(BPE\), which have no fixed number of bases"):
        made("bases", learnt)


@pytest.mark.parametrize(
    ("task", "settings", "text"),
    [
        (
            {"kind": "petals", "names": ["a"]},
            {},
            "task: kind is 'petals', and there are binary, multiclass, multilabel",
        ),
        ({"kind": "binary", "names": []}, {}, "task: names must be texts, one for each class"),
        ({"kind": "binary", "names": ["a", 2]}, {}, "task: names must be texts"),
        ({"kind": "binary", "names": ["a", "b"], "colour": 1}, {}, "task: colour is no part of a task"),
        (asdict(TASKS["bins"]) | {"bin_bp": 0}, {}, "bin_bp is 0: a bin has 1 base or more"),
        (asdict(TASKS["binary"]), {"pooling": "cls"}, "pooling is 'cls', and there are mean, max"),
        (asdict(TASKS["binary"]), {"class_weights": [1.0]}, "class_weights has 1 numbers, and there are 2 classes"),
        (asdict(TASKS["bins"]), {"class_weights": [1.0, 1.0]}, "class weights are .* and this is a bins task"),
        (
            asdict(TASKS["multilabel"]),
            {"class_weights": [1.0] * 3},
            "class weights are .* and this is a multilabel task",
        ),
        (asdict(TASKS["bases"]), {"output_mean": [1.0, 1.0]}, "output_mean and output_scale are for numbers, .* bases"),
        (asdict(TASKS["regression"]), {"output_scale": [0.0]}, r"output_scale\[0\] is 0.0, must be finite and above 0"),
    ],
)
def test_what_does_not_fit_the_task_is_refused(task, settings, text):
    with pytest.raises(ConfigError, match=text):
        with_head(base(), task, **settings)


def changed(folder, **values):
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | values))


def test_folders_that_hold_no_tuned_model_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint there \(no config.json\)"):
        load_tuned(tmp_path)
    save_checkpoint(tmp_path / "base", base(), TOKENIZER)
    with pytest.raises(CheckpointError, match="tells no task, so this is not a tuned model: fine-tune it first"):
        load_tuned(tmp_path / "base")
    changed(tmp_path / "base", model_type="bert")
    with pytest.raises(CheckpointError, match="model_type is 'bert', and umbel loads tuned models of 'umbel'"):
        load_tuned(tmp_path / "base")
    model = base()
    write_released(tmp_path / "released", model.state_dict(), model.config.model)
    with pytest.raises(
        CheckpointError, match="a released PlantBiMoE, which has no head for a task: fine-tune it first"
    ):
        load_tuned(tmp_path / "released")
    plain = UmbelForSequenceClassification(model.config)
    with pytest.raises(
        ConfigError, match=re.escape("config.task is None: make the model with umbel.model.tuned.with_head")
    ):
        save_tuned(tmp_path / "plain", plain, TOKENIZER)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"task": {"kind": "petals", "names": ["a"]}}, "the task is damaged .*kind is 'petals'"),
        ({"task": "binary"}, "the task is damaged"),
        (
            {"task": {"kind": "binary", "names": ["yes", "no"]}},
            r"id2label names \['no', 'yes'\], and the task \['yes', 'no'\]",
        ),
        ({"architectures": ["UmbelForTracks"]}, "a binary task belongs to UmbelForSequenceClassification"),
        ({"architectures": None}, r"architectures is \[\], and a binary task"),
        ({"pooling": "cls"}, "pooling is 'cls'"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(values, text, tmp_path):
    save_tuned(tmp_path, made("binary"), TOKENIZER)
    changed(tmp_path, **values)
    with pytest.raises((CheckpointError, ConfigError), match=text):
        load_tuned(tmp_path)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    save_tuned(tmp_path, made("regression", pooling="attention"), TOKENIZER)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    for name in ("score.bias", "pool.query", "score.output_mean", "backbone.norm.weight"):
        save_file({key: value for key, value in weights.items() if key != name}, path, metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match=f"1 keys do not fit: missing {name}"):
            load_tuned(tmp_path)
    save_file(weights | {"score.bias": torch.zeros(2)}, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"score.bias has shape \(2,\), must be \(1,\)"):
        load_tuned(tmp_path)
    path.write_bytes(b"half")
    with pytest.raises(CheckpointError, match="the weights cannot be read"):
        load_tuned(tmp_path)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"model.safetensors: not there; the checkpoint is not complete"):
        load_tuned(tmp_path)


def test_a_classifier_from_before_there_were_units_still_loads(tmp_path):
    made("regression").save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = {name: value for name, value in load_file(path).items() if ".output_" not in name}
    save_file(weights, path, metadata={"format": "pt"})
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert (again.score.output_mean.tolist(), again.score.output_scale.tolist()) == ([0.0], [1.0])
    assert torch.equal(again.score.weight, weights["score.weight"])


def test_a_head_stays_in_single_precision_on_a_half_precision_backbone():
    model = UmbelForMaskedLM(base().config).bfloat16()
    assert made("regression", model).score.weight.dtype == torch.float32
    assert made("regression", base().double())(IDS).logits.dtype == torch.float64
