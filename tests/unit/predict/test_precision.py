"""Precisions: what is computed in them, what their report says, and what is refused."""

import io

import numpy as np
import pytest
import torch
from toys import toy_run

from umbel.cli.loading import load_model
from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import describe, hf_tokenizer
from umbel.errors import BackendError, ConfigError
from umbel.model.checkpoint import save_checkpoint
from umbel.model.hf import new_model
from umbel.model.int8 import Int8MoE
from umbel.model.tuned import save_tuned, with_head
from umbel.predict.head import Head
from umbel.predict.precision import PrecisionReport, compare
from umbel.predict.predictor import Predictor
from umbel.progress import Reporter


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "checkpoint"
    torch.manual_seed(0)
    save_checkpoint(
        folder, new_model(toy_run().model, 256, 0, describe(KmerTokens(1))), hf_tokenizer(KmerTokens(1), 256)
    )
    return folder


def sequences(lengths=(40, 27, 33, 61), seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 5, n).astype(np.uint8) for n in lengths]


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_answers_are_near_those_of_float32(checkpoint, precision):
    plain, other = Predictor.load(checkpoint, "cpu"), Predictor.load(checkpoint, "cpu", precision)
    assert (plain.precision, other.precision, other.source) == ("fp32", precision, checkpoint)
    assert plain.weights_hash == other.weights_hash
    codes = sequences()
    hidden = [sequence == 1 for sequence in codes]
    for a, b in zip(plain.masked_log_probs(codes, hidden), other.masked_log_probs(codes, hidden), strict=True):
        assert b.dtype == np.float32
        np.testing.assert_allclose(np.exp(b).sum(1), 1, atol=1e-5)
        assert 0 < np.abs(a - b).max() < 0.3
    a, b = plain.embed(codes), other.embed(codes)
    assert 0 < np.linalg.norm(a - b) / np.linalg.norm(a) < 0.05


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_the_report_is_what_the_two_models_say(checkpoint, precision):
    codes = sequences((64, 80))
    predictor = Predictor.load(checkpoint, "cpu", precision)
    report = predictor.precision_report(codes)
    plain = Predictor.load(checkpoint, "cpu")
    hidden = [(np.arange(len(s)) % 7 == 3) & (s < 4) for s in codes]
    losses, biggest, same, n = {}, 0.0, 0, 0
    for name, model in (("here", predictor), ("fp32", plain)):
        logs = [row for part in model.masked_log_probs(codes, hidden) for row in part]
        truth = [base for s, mask in zip(codes, hidden, strict=True) for base in s[mask]]
        losses[name] = -sum(float(row[base]) for row, base in zip(logs, truth, strict=True)) / len(truth)
        if name == "here":
            mine = logs
    for a, b in zip(mine, logs, strict=True):
        biggest, same, n = max(biggest, np.abs(a - b).max()), same + (a.argmax() == b.argmax()), n + 1
    assert report.loss == pytest.approx(losses["here"], abs=1e-6)
    assert report.loss_fp32 == pytest.approx(losses["fp32"], abs=1e-6)
    assert report.max_log_prob_difference == pytest.approx(biggest)
    assert report.argmax_agreement == pytest.approx(same / n)
    assert (report.n_sequences, report.n_bases, report.random) == (2, 144, False)
    assert report.speed_ratio > 0 and report.is_faster == (report.speed_ratio > 1)
    assert report.as_dict()["device"] == "cpu"


def test_a_precision_that_is_no_faster_says_so():
    report = PrecisionReport("int8", "cpu", 8, 4096, True, 0.71, 0.012, 1.331, 1.33, 0.21, 0.99)
    assert report.in_words() == (
        "int8 on cpu: 0.71 x the speed of fp32, so it is no faster for this model: use fp32; masked loss 1.3310 "
        "against 1.3300 (+0.0010 nats a base), log-probabilities differ by 0.21 at most, 99.0% of the most probable "
        "bases are the same, embeddings differ by 1.20% (8 random sequences, 4,096 bases)"
    )


def test_a_command_says_what_a_precision_costs(checkpoint):
    said = io.StringIO()
    predictor = load_model(checkpoint, "cpu", "int8", Reporter(said))
    assert predictor.precision == "int8"
    assert "int8 on cpu: " in said.getvalue() and "(8 random sequences, 2,048 bases)" in said.getvalue()
    said = io.StringIO()
    assert load_model(checkpoint, "cpu", "fp32", Reporter(said)).precision == "fp32"
    assert not said.getvalue()


def test_other_weights_keep_the_precision(checkpoint):
    predictor = Predictor.load(checkpoint, "cpu", "int8")
    drawn = predictor.with_random_weights(3)
    assert drawn.precision == "int8" and drawn.source is None
    assert any(isinstance(module, Int8MoE) for module in drawn.backbone.modules())
    # Somebody else's backbone is not rounded.
    backbone = new_model(toy_run().model, 256, 5).backbone
    assert predictor.with_backbone(backbone, "other").precision == "fp32"
    assert not any(isinstance(module, Int8MoE) for module in backbone.modules())


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_head_stands_on_a_backbone_of_fewer_bits(tmp_path, precision):
    torch.manual_seed(0)
    tuned = with_head(
        new_model(toy_run().model, 256, 0), {"kind": "bins", "names": ["a"], "bin_bp": 4}, output_mean=[50]
    )
    save_tuned(tmp_path, tuned, hf_tokenizer(KmerTokens(1), 256))
    plain, other = Head.load(tmp_path, "cpu"), Head.load(tmp_path, "cpu", precision=precision)
    for a, b in zip(plain.outputs(sequences(), "both"), other.outputs(sequences(), "both"), strict=True):
        assert b.dtype == np.float32 and 0 < np.abs(a - b).max() < 0.05


def test_refusals(checkpoint):
    with pytest.raises(ConfigError, match="precision fp8: use fp32, bf16 or int8"):
        Predictor.load(checkpoint, "cpu", "fp8")
    plain = Predictor.load(checkpoint, "cpu")
    with pytest.raises(ConfigError, match="this model computes in fp32: there is nothing to compare"):
        plain.precision_report()
    rounded = Predictor.load(checkpoint, "cpu", "int8")
    with pytest.raises(ConfigError, match="no sequence has A, C, G or T"):
        compare(rounded, [np.full(9, 4, np.uint8)])
    with pytest.raises(ConfigError, match="this model was made in memory"):
        rounded.with_random_weights(0).precision_report()


def test_int8_on_a_gpu_is_refused(checkpoint, monkeypatch):
    monkeypatch.setattr("umbel.predict.loaded.resolve_device", lambda name: torch.device("cuda:0"))
    monkeypatch.setattr("umbel.model.hf.UmbelForMaskedLM.to", lambda self, device: self)
    with pytest.raises(BackendError, match="precision int8 is for CPUs, and the device is cuda:0: use precision bf16"):
        Predictor.load(checkpoint, "cuda:0", "int8")
