"""A tuned model: its outputs against the backbone's states and plain loops, and the folders that it comes from."""

import json
import shutil

import numpy as np
import pytest
import torch
from adapted import adapted, small_config

from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import describe, hf_tokenizer
from umbel.errors import AdapterError, CheckpointError, ConfigError
from umbel.genome.sequence import revcomp
from umbel.model.adapters.files import AdapterCard, save_adapter
from umbel.model.adapters.merge import merge
from umbel.model.checkpoint import save_checkpoint, weights_hash
from umbel.model.hf import new_model
from umbel.model.tuned import save_tuned, with_head
from umbel.predict.head import Head

TASKS = {
    "binary": {"kind": "binary", "names": ["no", "yes"]},
    "multilabel": {"kind": "multilabel", "names": ["a", "b", "c"]},
    "regression": {"kind": "regression", "names": ["leaf", "root"]},
    "bases": {"kind": "bases", "names": ["out", "in"]},
    "bins": {"kind": "bins", "names": ["leaf", "root"], "bin_bp": 4},
}
LENGTHS = (31, 12, 40, 9, 27, 30)


def sequences(lengths=LENGTHS, seed=0):
    """Sequences, the first with an N."""
    rng = np.random.default_rng(seed)
    codes = [rng.integers(0, 4, n).astype(np.uint8) for n in lengths]
    codes[0][5] = 4
    return codes


def language_model(k=1):
    config = small_config(vocab_size=KmerTokens(k).size)
    return new_model(config, 64, 0, describe(KmerTokens(k)))


def tuned(kind, k=1, units=None):
    """A model with a head whose weights are not near zero."""
    model = with_head(language_model(k), TASKS[kind], **(units or {})).eval()
    with torch.no_grad():
        for name, part in model.named_parameters():
            if not name.startswith("backbone"):
                part.copy_(torch.randn(part.shape, generator=torch.Generator().manual_seed(3)))
    return model


def head(kind, k=1, **units):
    return Head(tuned(kind, k, units), "toy", torch.device("cpu"), KmerTokens(k), "toy")


def states(found, codes):
    """States of single bases, from a pass of its own."""
    with torch.no_grad():
        return found._model.backbone(torch.from_numpy(KmerTokens(1).encode(codes).ids)[None]).hidden[0, 1:-1].numpy()


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("strand", ["forward", "revcomp", "both"])
def test_outputs_do_not_depend_on_the_batch(kind, k, strand):
    found, codes = head(kind, k), sequences()
    alone = [found.outputs([one], strand)[0] for one in codes]
    for tokens in (1, 70, 10_000):
        found.tokens_per_batch = tokens
        for one, other in zip(alone, found.outputs(codes, strand), strict=True):
            assert one.dtype == np.float32
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_numbers_are_in_the_units_of_the_target():
    found, codes = head("regression", output_mean=[100.0, -5.0], output_scale=[20.0, 3.0]), sequences()
    weight, bias = (x.detach().numpy() for x in (found._model.score.weight, found._model.score.bias))
    for sequence, output in zip(codes, found.outputs(codes), strict=True):
        pooled = states(found, sequence)[sequence < 4].mean(0)
        np.testing.assert_allclose(output, (weight @ pooled + bias) * [20, 3] + [100, -5], rtol=1e-4)
    assert found.output_names == ("leaf", "root") and found.task.kind == "regression"


def test_a_row_is_its_base_on_either_strand():
    found, codes = head("bases"), sequences()
    weight, bias = (x.detach().numpy() for x in (found._model.classifier.weight, found._model.classifier.bias))
    outputs = {strand: found.outputs(codes, strand) for strand in ("forward", "revcomp", "both")}
    for i, sequence in enumerate(codes):
        forward = states(found, sequence) @ weight.T + bias
        turned = (states(found, revcomp(sequence)) @ weight.T + bias)[::-1]
        np.testing.assert_allclose(outputs["forward"][i], forward, atol=1e-5)
        np.testing.assert_allclose(outputs["revcomp"][i], turned, atol=1e-5)
        np.testing.assert_allclose(outputs["both"][i], (forward + turned) / 2, atol=1e-5)


def test_bins_are_the_same_stretches_on_both_strands():
    found, codes = head("bins", output_mean=[1.0, 2.0], output_scale=[3.0, 4.0]), sequences()
    weight, bias = (x.detach().numpy() for x in (found._model.tracks.weight, found._model.tracks.bias))
    outputs = {strand: found.outputs(codes, strand) for strand in ("forward", "revcomp")}
    for i, sequence in enumerate(codes):
        each = {"forward": states(found, sequence), "revcomp": states(found, revcomp(sequence))[::-1]}
        for strand, hidden in each.items():
            for row, start in enumerate(range(0, len(sequence), 4)):
                here = slice(start, min(start + 4, len(sequence)))
                known = hidden[here][sequence[here] < 4]
                wanted = (weight @ known.mean(0) + bias) * [3, 4] + [1, 2]
                np.testing.assert_allclose(outputs[strand][i][row], wanted, rtol=1e-4, atol=1e-4)
        assert outputs["revcomp"][i].shape == (-(-len(sequence) // 4), 2)


def test_probabilities():
    codes = sequences()
    for output, said in zip(head("binary").outputs(codes), head("binary").probabilities(codes), strict=True):
        np.testing.assert_allclose(said, np.exp(output) / np.exp(output).sum(), rtol=1e-5)
    for output, said in zip(head("multilabel").outputs(codes), head("multilabel").probabilities(codes), strict=True):
        np.testing.assert_allclose(said, 1 / (1 + np.exp(-output)), rtol=1e-5)
    with pytest.raises(ConfigError, match="toy: a bins task has numbers and no probabilities: use outputs"):
        head("bins").probabilities(codes)


def test_what_cannot_be_is_refused():
    found = head("binary", 3)
    with pytest.raises(ValueError, match="sequence 1 has 2 bases, and this model's tokens have 3"):
        found.outputs([np.zeros(3, np.uint8), np.zeros(2, np.uint8)])
    with pytest.raises(ValueError, match="strand is 'reverse': use forward, revcomp or both"):
        found.outputs([np.zeros(3, np.uint8)], "reverse")
    assert found.outputs([]) == []


@pytest.fixture
def result(tmp_path):
    """What umbel finetune leaves: a run with a model, one with an adapter, which is better; and the base."""
    base = tmp_path / "base"
    save_checkpoint(base, language_model(), hf_tokenizer(KmerTokens(1), 64))
    out = tmp_path / "out"
    save_tuned(out / "runs" / "full" / "model", tuned("binary"), hf_tokenizer(KmerTokens(1), 64))
    adapter = adapted(with_head(language_model(), TASKS["binary"], seed=9))
    card = AdapterCard("Zea mays", "base", weights_hash(base), "data", task=TASKS["binary"])
    save_adapter(out / "runs" / "low" / "adapter", adapter, card)
    (out / "finetune.json").write_text(json.dumps({"best_run": "low", "base": {"path": str(base)}}))
    return out, merge(adapter)


def test_any_folder_of_a_result_is_found(result, tmp_path):
    out, merged = result
    codes = sequences()
    want = {"full": tuned("binary"), "low": merged}
    places = {out: "low", out / "runs" / "low": "low", out / "runs" / "low" / "adapter": "low"}
    places |= {out / "runs" / "full": "full", out / "runs" / "full" / "model": "full"}
    hashes = set()
    for place, name in places.items():
        found = Head.load(place, "cpu")
        hashes.add(found.weights_hash)
        for sequence, output in zip(codes, found.outputs(codes), strict=True):
            with torch.no_grad():
                logits = want[name](torch.from_numpy(KmerTokens(1).encode(sequence).ids)[None]).logits[0]
            np.testing.assert_allclose(output, logits.numpy(), atol=1e-5)
        assert (found.window_bp, found.min_bases, found.source) == (64, 1, place)
    assert len(hashes) == 2


def test_an_adapter_needs_its_own_base(result, tmp_path):
    out, _ = result
    adapter = out / "runs" / "low" / "adapter"
    moved = tmp_path / "moved"
    shutil.copytree(adapter, moved)
    with pytest.raises(
        AdapterError, match=r"moved: this adapter belongs to a base \(base\) with weights .*: say where"
    ):
        Head.load(moved, "cpu")
    assert Head.load(moved, "cpu", base=tmp_path / "base").task.kind == "binary"
    other = tmp_path / "other"
    save_checkpoint(other, new_model(small_config(), 64, 1), hf_tokenizer(KmerTokens(1), 64))
    with pytest.raises(AdapterError, match="give the base that it was trained on"):
        Head.load(adapter, "cpu", base=other)
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(AdapterError, match=r"base, which finetune\.json names, is not there: say where it is"):
        Head.load(adapter, "cpu")


def test_what_is_no_tuned_model_is_refused(result, tmp_path):
    with pytest.raises(CheckpointError, match=r"no tuned model there\. Name what umbel finetune wrote"):
        Head.load(tmp_path, "cpu")
    with pytest.raises(CheckpointError, match="tells no task, so this is not a tuned model"):
        Head.load(tmp_path / "base", "cpu")
    (tmp_path / "out" / "finetune.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"finetune.json: damaged"):
        Head.load(tmp_path / "out", "cpu")
    adapter = adapted(language_model())
    save_adapter(tmp_path / "plain", adapter, AdapterCard("x", "base", weights_hash(tmp_path / "base"), "data"))
    with pytest.raises(AdapterError, match="this adapter has no head for a task"):
        Head.load(tmp_path / "plain", "cpu", base=tmp_path / "base")
