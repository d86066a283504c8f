"""Heads for sequences, bases and tracks as Hugging Face classes: what they compute, and what they refuse."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from toys import enlarge, toy_run
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer, pipeline

from umbel.data.bpe import FIXED, BpeTokens
from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import describe, hf_tokenizer
from umbel.errors import CheckpointError, ConfigError
from umbel.model.bases import Bases
from umbel.model.checkpoint import save_checkpoint
from umbel.model.hf import (
    UmbelConfig,
    UmbelForSequenceClassification,
    UmbelForTokenClassification,
    UmbelForTracks,
    new_model,
)

PAD = 4
SHAPE = dataclasses.asdict(dataclasses.replace(toy_run().model, vocab_size=92))
IDS = torch.tensor([[0, 7, 8, 9, 10, 11, 7, 1], [0, 9, 9, 1, PAD, PAD, PAD, PAD]])


def made(kind, **settings):
    torch.manual_seed(3)
    return enlarge(kind(UmbelConfig(shape=SHAPE, **settings))).eval()


def hidden_of(model, ids):
    with torch.no_grad():
        return model.backbone(ids).hidden


@pytest.mark.parametrize("pooling", ["mean", "max", "first", "last", "attention"])
def test_a_sequence_is_its_pooled_bases(pooling):
    model = made(UmbelForSequenceClassification, num_labels=3, pooling=pooling)
    hidden = hidden_of(model, IDS)
    for row, real in enumerate([[1, 2, 3, 4, 6], [1, 2]]):
        states = hidden[row, real]
        if pooling == "attention":
            weights = (states @ model.pool.query / states.shape[1] ** 0.5).softmax(0)
            pooled = (weights[:, None] * states).sum(0)
        else:
            pooled = {"mean": states.mean(0), "max": states.amax(0), "first": states[0], "last": states[-1]}[pooling]
        wanted = torch.nn.functional.linear(pooled, model.score.weight, model.score.bias)
        torch.testing.assert_close(model(IDS).logits[row], wanted, atol=1e-5, rtol=0)


def test_class_weights_count_in_the_loss_only():
    plain = made(UmbelForSequenceClassification, num_labels=3, problem_type="single_label_classification")
    weighted = made(
        UmbelForSequenceClassification,
        num_labels=3,
        problem_type="single_label_classification",
        class_weights=[1.0, 2.0, 7.0],
    )
    labels = torch.tensor([2, 1])
    output = weighted(IDS, labels=labels)
    assert torch.equal(output.logits, plain(IDS).logits)
    logs = -output.logits.log_softmax(-1)
    torch.testing.assert_close(output.loss, (7 * logs[0, 2] + 2 * logs[1, 1]) / 9)
    assert output.losses.weights.tolist() == [7.0, 2.0]


def test_numbers_come_in_the_units_of_the_target_and_missing_ones_are_left_out():
    model = made(UmbelForSequenceClassification, num_labels=2, problem_type="regression")
    raw = model(IDS).logits
    model.score.set_units([100.0, -3.0], [10.0, 0.5])
    labels = torch.tensor([[120.0, -2.0], [torch.nan, -3.0]])
    output = model(IDS, labels=labels)
    torch.testing.assert_close(output.logits, raw * torch.tensor([10.0, 0.5]) + torch.tensor([100.0, -3.0]))
    error = (output.logits - labels) / torch.tensor([10.0, 0.5])
    torch.testing.assert_close(output.loss, (error[0, 0] ** 2 + error[0, 1] ** 2 + error[1, 1] ** 2) / 3)
    output.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_one_number_has_labels_of_either_shape(shape):
    model = made(UmbelForSequenceClassification, num_labels=1)
    output = model(IDS, labels=torch.tensor([1.0, 3.0]).view(shape))
    torch.testing.assert_close(output.loss, ((output.logits[:, 0] - torch.tensor([1.0, 3.0])) ** 2).mean())
    assert model.config.problem_type == "regression"
    assert torch.isfinite(model(IDS[:1], labels=torch.tensor([2.0]).view(shape[:0] + (1,) * len(shape))).loss)
    with pytest.raises(ValueError, match="row 1, output 0: the label is nan"):
        model(IDS, labels=torch.tensor([1.0, torch.nan]))


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (torch.tensor([1, 2]), "single_label_classification"),
        (torch.tensor([[1.0, 0, 1], [0, 0, 0]]), "multi_label_classification"),
    ],
)
def test_labels_decide_where_the_config_leaves_it_open(labels, problem):
    model = made(UmbelForSequenceClassification, num_labels=3)
    assert torch.isfinite(model(IDS, labels=labels).loss)
    assert model.config.problem_type == problem


def test_a_problem_that_comes_too_late_is_refused():
    model = made(UmbelForSequenceClassification, num_labels=3)
    model.config.problem_type = "regression"
    with pytest.raises(ConfigError, match="became regression after the model was made: set it in the config before"):
        model(IDS, labels=torch.zeros(2, 3))


def test_a_mask_is_honoured_where_ids_say_otherwise():
    model = made(UmbelForSequenceClassification, num_labels=3)
    mask, garbage = (IDS != PAD).long(), IDS.masked_fill(IDS == PAD, 9)
    torch.testing.assert_close(model(garbage, mask).logits, model(IDS).logits, atol=1e-5, rtol=0)
    assert not torch.allclose(model(garbage).logits, model(IDS).logits, atol=1e-5)


def test_each_nucleotide_has_its_class():
    model = made(UmbelForTokenClassification, num_labels=4, class_weights=[1.0, 2.0, 3.0, 4.0])
    labels = torch.full((2, 8), -100)
    labels[0, 1:7], labels[1, 1:3] = torch.tensor([0, 3, 2, 1, -100, 0]), torch.tensor([2, 2])
    output = model(IDS, labels=labels)
    wanted = torch.nn.functional.linear(hidden_of(model, IDS), model.classifier.weight, model.classifier.bias)
    torch.testing.assert_close(output.logits[IDS != PAD], wanted[IDS != PAD], atol=1e-5, rtol=0)
    logs, total, weight = -output.logits.log_softmax(-1), 0.0, 0.0
    for row, place in (labels != -100).nonzero().tolist():
        label = int(labels[row, place])
        total, weight = total + (1 + label) * logs[row, place, label], weight + 1 + label
    torch.testing.assert_close(output.loss, total / weight)
    bases = Bases(
        torch.tensor([[1, 2, 3, 4, 5, 6], [1, 2, -1, -1, -1, -1]]), torch.tensor([[0] * 6, [0] * 2 + [-1] * 4])
    )
    per_base = model(IDS, labels=bases.take(labels[:, :, None])[:, :, 0].masked_fill(~bases.exist, -100), bases=bases)
    torch.testing.assert_close(per_base.logits[0], output.logits[0, 1:7])
    torch.testing.assert_close(per_base.loss, output.loss)


@pytest.mark.parametrize("overlapping", [False, True])
def test_each_base_of_a_word_has_its_slice(overlapping):
    tokens = KmerTokens(3, overlapping)
    model = made(UmbelForTokenClassification, num_labels=2, tokens=describe(tokens))
    assert model.classifier.out_features == 6
    codes = np.array([0, 1, 2, 3, 0, 4, 2, 2, 1, 0, 3, 3, 1])
    encoding = tokens.encode(codes)
    ids = torch.from_numpy(encoding.ids)[None]
    labels = torch.arange(13)[None] % 2
    output, hidden = model(ids, labels=labels), hidden_of(model, ids)[0]
    assert output.logits.shape == (1, 13, 2)
    losses = []
    for base, token in enumerate(encoding.token_of_base(13)):
        first = 2 * (base - int(encoding.starts[token]))
        wanted = hidden[token] @ model.classifier.weight[first : first + 2].T + model.classifier.bias[first : first + 2]
        torch.testing.assert_close(output.logits[0, base], wanted, atol=1e-5, rtol=0)
        losses.append(-wanted.log_softmax(-1)[base % 2])
    torch.testing.assert_close(output.loss, torch.stack(losses).mean(), atol=1e-5, rtol=0)


def test_labels_at_padding_are_refused():
    labels = torch.full((2, 8), -100)
    labels[1, 5] = 0
    with pytest.raises(ValueError, match="row 1: a label at 5, which is padding; it must be -100 there"):
        made(UmbelForTokenClassification, num_labels=2)(IDS, labels=labels)
    words = made(UmbelForTokenClassification, num_labels=2, tokens=describe(KmerTokens(3)))
    ids, labels = torch.tensor([[0, 33, 8, 1], [0, 33, 1, PAD]]), torch.zeros(2, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="row 1: a label at 3, which is padding; it must be -100 there"):
        words(ids, labels=labels)
    with pytest.raises(ValueError, match=r"labels have shape \(2, 5\), must be \(2, 4\)"):
        words(ids, labels=torch.zeros(2, 5, dtype=torch.long))


@pytest.mark.parametrize("tokens", [KmerTokens(1), KmerTokens(3), KmerTokens(3, True)], ids=["1", "3", "3+"])
@pytest.mark.parametrize("bin_bp", [1, 4, 100])
def test_tracks_are_means_over_the_bases_of_bins(tokens, bin_bp):
    model = made(UmbelForTracks, num_labels=2, bin_bp=bin_bp, tokens=describe(tokens))
    model.tracks.set_units([50.0, 0.0], [5.0, 1.0])
    codes = np.array([0, 1, 2, 3, 0, 4, 4, 4, 4, 4, 4, 4, 2, 1, 0, 3, 3])
    encoding = tokens.encode(codes)
    ids = torch.from_numpy(encoding.ids)[None]
    n_bins = -(-17 // bin_bp)
    labels = torch.randn(1, n_bins, 2)
    labels[0, 0, 1] = torch.nan
    output, hidden, token = model(ids, labels=labels), hidden_of(model, ids)[0], encoding.token_of_base(17)
    assert output.logits.shape == (1, n_bins, 2)
    for number in range(n_bins):
        inside = [i for i in range(number * bin_bp, min(17, (number + 1) * bin_bp)) if codes[i] < 4]
        mean = sum((hidden[token[i]] for i in inside), torch.zeros(hidden.shape[1])) / max(1, len(inside))
        wanted = torch.nn.functional.linear(mean, model.tracks.weight, model.tracks.bias)
        wanted = wanted * torch.tensor([5.0, 1.0]) + torch.tensor([50.0, 0.0])
        torch.testing.assert_close(output.logits[0, number], wanted, atol=2e-5, rtol=0)
    error = ((output.logits - labels) / torch.tensor([5.0, 1.0]))[~labels.isnan()]
    torch.testing.assert_close(output.loss, error.square().mean())


def test_targets_after_the_end_of_a_sequence_are_refused():
    model = made(UmbelForTracks, num_labels=1, bin_bp=2)
    labels = torch.full((2, 3), torch.nan)
    labels[1, 0] = labels[0, 2] = 1.0
    assert torch.isfinite(model(IDS, labels=labels).loss)
    labels[1, 1] = 1.0
    with pytest.raises(ValueError, match="row 1: a label at 1, which is padding; it must be NaN there"):
        model(IDS, labels=labels)


def test_learnt_words_have_tracks_and_no_classes_of_bases():
    tokens = BpeTokens([*FIXED, "AC"], [("A", "C")])
    with pytest.raises(
        ConfigError, match=r"learnt words \(BPE\), which have no fixed number of bases: a class per base"
    ):
        made(UmbelForTokenClassification, num_labels=2, tokens=describe(tokens))
    model = made(UmbelForTracks, num_labels=1, bin_bp=2, tokens=describe(tokens))
    ids = torch.tensor([[0, 12, 7, 1]])
    with pytest.raises(ConfigError, match="give bases"):
        model(ids)
    output = model(ids, bases=Bases(torch.tensor([[1, 1, 2]]), torch.tensor([[0, 1, 0]])))
    wanted = torch.nn.functional.linear(hidden_of(model, ids)[0, 1:3], model.tracks.weight, model.tracks.bias)
    torch.testing.assert_close(output.logits[0], wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("kind", "settings", "text"),
    [
        (UmbelForSequenceClassification, {"pooling": "cls"}, "pooling is 'cls', and there are mean, max, first, last"),
        (UmbelForTracks, {"bin_bp": 0}, "bin_bp is 0: a bin has 1 base or more"),
        (UmbelForTracks, {"class_weights": [1.0, 1.0]}, "class_weights are for classes, and tracks are numbers"),
        (
            UmbelForSequenceClassification,
            {"class_weights": [1.0]},
            "class_weights has 1 numbers, and there are 2 classes",
        ),
        (UmbelForTokenClassification, {"class_weights": [1.0, -1.0]}, r"class_weights is \[1.0, -1.0\]: give finite"),
        (UmbelForTokenClassification, {"class_weights": [0.0, 0.0]}, "and not all 0"),
        (
            UmbelForSequenceClassification,
            {"class_weights": [1.0, 1.0], "problem_type": "regression"},
            "class_weights are for classes, and problem_type is regression",
        ),
    ],
)
def test_impossible_settings_are_refused(kind, settings, text):
    with pytest.raises(ConfigError, match=text):
        made(kind, **settings)


def test_logits_are_float32_under_autocast():
    for kind in (UmbelForSequenceClassification, UmbelForTokenClassification, UmbelForTracks):
        with torch.autocast("cpu", torch.bfloat16):
            logits = made(kind, num_labels=2)(IDS).logits
        assert logits.dtype == torch.float32
        assert torch.isfinite(logits).all()


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "ckpt"
    save_checkpoint(folder, new_model(toy_run().model, 256, seed=3), hf_tokenizer(KmerTokens(1), 256))
    return folder


def test_a_config_from_before_there_were_heads_still_loads(saved):
    values = json.loads((saved / "config.json").read_text())
    for key in ("pooling", "task", "bin_bp", "class_weights"):
        values.pop(key, None)
    (saved / "config.json").write_text(json.dumps(values))
    config = AutoModelForSequenceClassification.from_pretrained(saved).config
    assert (config.pooling, config.task, config.bin_bp, config.class_weights) == ("mean", None, 1, None)


def test_auto_classes_put_a_fresh_head_on_a_masked_language_model(saved):
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(
        saved, num_labels=2, pooling="attention", problem_type="regression"
    )
    assert model.pool.query.eq(0).all()
    assert (model.score.output_mean.tolist(), model.score.output_scale.tolist()) == ([0.0, 0.0], [1.0, 1.0])
    assert model.score.bias.eq(0).all()
    assert 0.005 < model.score.weight.std() < 0.05
    per_base = AutoModelForTokenClassification.from_pretrained(saved, num_labels=5)
    assert isinstance(per_base, UmbelForTokenClassification)
    assert 0.005 < per_base.classifier.weight.std() < 0.05
    tracks = UmbelForTracks.from_pretrained(saved, num_labels=3, bin_bp=4)
    assert tracks(IDS).logits.shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("kind", "auto"),
    [
        (UmbelForSequenceClassification, AutoModelForSequenceClassification),
        (UmbelForTokenClassification, AutoModelForTokenClassification),
        (UmbelForTracks, UmbelForTracks),
    ],
)
def test_a_saved_head_comes_back_and_may_not_be_lost(kind, auto, saved, tmp_path):
    from safetensors.torch import load_file, save_file

    torch.manual_seed(3)
    model = kind.from_pretrained(saved, num_labels=1, pooling="attention", bin_bp=3)
    if kind is not UmbelForTokenClassification:
        model._head.set_units([4.0], [2.0])
    enlarge(model).eval().save_pretrained(tmp_path / "tuned")
    again = auto.from_pretrained(tmp_path / "tuned", local_files_only=True).eval()
    assert type(again) is kind
    ours = model.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in again.state_dict().items())
    with torch.inference_mode():
        torch.testing.assert_close(again(IDS).logits, model(IDS).logits, atol=1e-6, rtol=0)
    weights = load_file(tmp_path / "tuned" / "model.safetensors")
    name = next(name for name in weights if name.endswith("weight") and not name.startswith("backbone"))
    del weights[name]
    save_file(weights, tmp_path / "tuned" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=f"1 keys do not fit: missing {name}"):
        auto.from_pretrained(tmp_path / "tuned")


def test_pipelines_run_on_a_saved_folder(saved, tmp_path):
    names = {0: "intron", 1: "exon"}
    tokenizer = AutoTokenizer.from_pretrained(saved)
    for kind, task in ((UmbelForSequenceClassification, "text-classification"), (UmbelForTokenClassification, "ner")):
        torch.manual_seed(3)
        model = enlarge(kind.from_pretrained(saved, id2label=names, label2id={v: k for k, v in names.items()})).eval()
        model.save_pretrained(tmp_path / task)
        tokenizer.save_pretrained(tmp_path / task)
        run = pipeline(task, model=str(tmp_path / task), device="cpu")
        assert type(run.model) is kind
        texts = ["ACGTTGCA", "AC", "ACGGNNNNTT"]
        together, alone = run(texts, batch_size=3), [run([text])[0] for text in texts]
        for text, a, b in zip(texts, together, alone, strict=True):
            with torch.inference_mode():
                p = model(**tokenizer(text, return_tensors="pt")).logits[0].softmax(-1)
            if task == "ner":
                assert [found["entity"] for found in a] == [names[int(i)] for i in p[1:-1].argmax(-1)]
                assert [found["start"] for found in a] == list(range(len(text)))
            else:
                assert a["label"] == b["label"] == names[int(p.argmax())]
                assert a["score"] == pytest.approx(float(p.max()), abs=1e-5) == b["score"]
