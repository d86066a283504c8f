"""The Hugging Face outer shape: Auto classes, strictness, ties, Trainer-like use."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from toys import toy_run
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import hf_tokenizer
from umbel.errors import CheckpointError
from umbel.model.checkpoint import save_checkpoint
from umbel.model.hf import UmbelConfig, UmbelForMaskedLM, UmbelForSequenceClassification, UmbelModel, new_model


def shaped(**changes):
    from dataclasses import replace

    return replace(toy_run().model, **changes)


@pytest.fixture
def saved(tmp_path):
    model = new_model(shaped(), 256, seed=3).eval()
    save_checkpoint(tmp_path / "ckpt", model, hf_tokenizer(KmerTokens(1), 256))
    return tmp_path / "ckpt", model


@pytest.mark.parametrize("change", [{}, {"tie_head": False}, {"tie_projections": False}, {"fusion": "gate"}])
def test_every_auto_class_gives_the_saved_weights(change, tmp_path):
    model = new_model(shaped(**change), 256, seed=3).eval()
    save_checkpoint(tmp_path, model, hf_tokenizer(KmerTokens(1), 256))
    batch = AutoTokenizer.from_pretrained(tmp_path)(["ACGTTGCA", "ACN"], padding=True, return_tensors="pt")
    masked, backbone = AutoModelForMaskedLM.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=2)
    kinds = [type(m) for m in (masked, backbone, classifier)]
    assert kinds == [UmbelForMaskedLM, UmbelModel, UmbelForSequenceClassification]
    assert isinstance(AutoConfig.from_pretrained(tmp_path), UmbelConfig)
    with torch.no_grad():
        torch.testing.assert_close(masked(**batch).logits, model(**batch).logits, atol=1e-6, rtol=0)
        wanted = model.backbone(batch["input_ids"]).hidden
        torch.testing.assert_close(backbone(**batch).last_hidden_state, wanted, atol=1e-6, rtol=0)
    for other in (masked, backbone, classifier):
        ours = model.backbone.state_dict()
        assert all(torch.equal(value, ours[key]) for key, value in other.backbone.state_dict().items())
    assert (masked.lm_head.weight is masked.backbone.embedding.weight) == model.config.model.tie_head


def test_a_tied_head_is_stored_once(saved):
    keys = load_file(saved[0] / "model.safetensors").keys()
    assert "backbone.embedding.weight" in keys
    assert "lm_head.weight" not in keys


def test_keys_that_do_not_fit_are_all_listed(saved):
    folder, _ = saved
    weights = load_file(folder / "model.safetensors")
    del weights["backbone.norm.weight"]
    weights["backbone.petal"] = torch.ones(2)
    weights["backbone.layers.0.mixer.along.D"] = torch.ones(3)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for auto in (AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification):
        with pytest.raises(CheckpointError) as caught:
            auto.from_pretrained(folder)
        for part in (
            "missing backbone.norm.weight",
            "unexpected backbone.petal",
            "along.D has shape (3,), must be (32,)",
        ):
            assert part in str(caught.value)


def test_a_masked_lm_is_not_made_from_a_classifier_with_an_untied_head(tmp_path):
    config = UmbelConfig(shape=new_model(shaped(tie_head=False), 256, 0).config.shape, num_labels=2)
    UmbelForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"1 keys do not fit: missing lm_head.weight"):
        AutoModelForMaskedLM.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("labels", "num_labels", "problem"),
    [
        (torch.tensor([1, 0]), 2, "single_label_classification"),
        (torch.tensor([0.3, -1.0]), 1, "regression"),
        (torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]), 3, "multi_label_classification"),
    ],
)
def test_classifier_losses_by_definition_and_for_a_batch_of_one(saved, labels, num_labels, problem):
    folder, _ = saved
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=num_labels, problem_type=problem
    ).eval()
    batch = AutoTokenizer.from_pretrained(folder)(["ACGTTGCA", "ACNNT"], padding=True, return_tensors="pt")
    output = model(**batch, labels=labels)
    if problem == "regression":
        wanted = (output.logits[:, 0] - labels).square().mean()
    elif problem == "single_label_classification":
        wanted = -output.logits.log_softmax(-1)[torch.arange(2), labels].mean()
    else:
        p = torch.sigmoid(output.logits)
        wanted = -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()
    torch.testing.assert_close(output.loss, wanted)
    one = model(**{key: value[:1] for key, value in batch.items()}, labels=labels[:1])
    assert torch.isfinite(one.loss)
    one.loss.backward()
    assert float(model.backbone.layers[1].ffn.router.weight.grad.abs().sum()) > 0


def test_hidden_states_tuples_and_routings(saved):
    _, model = saved
    ids = torch.tensor([[0, 7, 8, 9, 1]])
    output = model(ids, output_hidden_states=True)
    assert len(output.hidden_states) == 3
    assert output.routings[0].experts.shape == (1, 5, 1)
    as_tuple = model(ids, return_dict=False)
    assert torch.equal(as_tuple[0], output.logits)


def test_making_a_model_depends_on_its_seed_only():
    torch.manual_seed(1)
    first, state = new_model(shaped(), 256, seed=5), torch.get_rng_state()
    torch.manual_seed(2)
    second = new_model(shaped(), 256, seed=5)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    third = new_model(shaped(), 256, seed=6)
    assert not torch.equal(first.backbone.embedding.weight, third.backbone.embedding.weight)
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("order", ["import umbel, transformers", "import transformers, umbel"])
def test_import_umbel_is_enough_in_either_order_and_light(order, saved):
    code = (
        f"{order}\nimport sys\nfrom transformers import AutoModel\n"
        f"print(type(AutoModel.from_pretrained({str(saved[0])!r})).__name__)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "UmbelModel\n"
    )
    light = "import umbel, sys; print('torch' in sys.modules, 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", light], capture_output=True, text=True).stdout == "False False\n"
