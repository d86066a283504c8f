"""Models from folders: checkpoints, tuned ones, adapters, states of a run; and twins with random weights."""

import json
import shutil

import pytest
import torch
from adapted import adapted, classifier, small_config
from hooked_families import tiny_config, word_tokenizer, words
from transformers import AutoModelForCausalLM

from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import describe, hf_tokenizer
from umbel.errors import AdapterError, CheckpointError, RunError
from umbel.evaluate.experts.compare.agreement import agreement_rows
from umbel.evaluate.experts.compare.checkpoints import RANDOM_SEED, of_predictor, random_twins
from umbel.evaluate.experts.compare.counting import choose_pairs, count
from umbel.evaluate.experts.compare.drift import drift_rows
from umbel.evaluate.experts.compare.opening import kind_of, open_checkpoint, read_state
from umbel.evaluate.experts.source import Stretch
from umbel.model.adapters.files import AdapterCard, save_adapter
from umbel.model.adapters.merge import merge
from umbel.model.checkpoint import save_checkpoint, weights_hash
from umbel.model.hf import new_model
from umbel.model.tuned import save_tuned, with_head
from umbel.predict.predictor import Predictor

TASK = {"kind": "binary", "names": ["no", "yes"]}


def language_model(seed=0):
    return new_model(small_config(vocab_size=12), 64, seed, describe(KmerTokens(1)))


def save(folder, model):
    save_checkpoint(folder, model, hf_tokenizer(KmerTokens(1), 64))
    return folder


def card(base):
    return AdapterCard(species="Zea mays", base=str(base), base_hash=weights_hash(base), data_hash="0" * 64)


def frozen(rows):
    return {row["group"]: row["is_frozen"] for row in rows if row["layer"] is None}


def test_a_checkpoint_is_opened_with_its_backbone_and_no_step(tmp_path):
    model = language_model()
    found, predictor = open_checkpoint("base", save(tmp_path / "base", model), "cpu")
    assert isinstance(predictor, Predictor)
    assert kind_of(tmp_path / "base") == "checkpoint" and found.step is None
    assert [site.layer for site in found.sites] == [1]
    assert all(torch.equal(x, model.backbone.state_dict()[name]) for name, x in found.weights.items())
    assert found.facts == {"source": "base", "weights": weights_hash(tmp_path / "base")}


def test_a_tuned_model_is_its_backbone(tmp_path):
    base = language_model()
    tuned = with_head(language_model(), TASK)
    with torch.no_grad():
        tuned.backbone.layers[1].ffn.up[2] += 0.1
    save(tmp_path / "base", base)
    save_tuned(tmp_path / "run" / "model", tuned, hf_tokenizer(KmerTokens(1), 64))
    for path in (tmp_path / "run", tmp_path / "run" / "model"):
        assert kind_of(path) == "tuned"
        a, _ = open_checkpoint("base", tmp_path / "base", "cpu")
        b, _ = open_checkpoint("tuned", path, "cpu")
        rows = drift_rows(a.weights, b.weights, a.sites)
        assert [r["expert"] for r in rows if r["expert"] is not None and not r["is_frozen"]] == [2]
        assert frozen(rows) == {name: name != "experts" for name in frozen(rows)}


@pytest.mark.parametrize("is_task", [True, False])
def test_an_adapter_counts_as_the_weights_that_it_makes(tmp_path, is_task):
    base = save(tmp_path / "base", language_model())
    wrapped = with_head(language_model(), TASK) if is_task else language_model()
    adapter = adapted(wrapped, targets=("experts", "router"))
    save_adapter(tmp_path / "adapter", adapter, card(base))
    assert kind_of(tmp_path / "adapter") == "tuned"
    a, _ = open_checkpoint("base", base, "cpu")
    b, _ = open_checkpoint("tuned", tmp_path / "adapter", "cpu", base=base)
    want = merge(adapter).backbone.state_dict()
    assert all(torch.allclose(x, want[name], atol=1e-6) for name, x in b.weights.items())
    assert {name for name, is_still in frozen(drift_rows(a.weights, b.weights)).items() if not is_still} == {
        "experts",
        "router",
    }


def test_an_adapter_without_its_base_is_refused(tmp_path):
    base = save(tmp_path / "base", language_model())
    save_adapter(tmp_path / "adapter", adapted(with_head(language_model(), TASK)), card(base))
    with pytest.raises(AdapterError, match="this adapter belongs to a base"):
        open_checkpoint("tuned", tmp_path / "adapter", "cpu")


def test_a_state_has_the_weights_of_its_step(toy_training):
    states = sorted((toy_training / "state").iterdir())
    assert kind_of(states[-1]) == "state"
    last, predictor = open_checkpoint("last", states[-1], "cpu")
    end, _ = open_checkpoint("end", toy_training, "cpu")
    assert last.step == end.step == 12
    assert last.weights.keys() == end.weights.keys()
    assert all(torch.equal(x, end.weights[name]) for name, x in last.weights.items())
    # The head is tied to the embedding, as in the checkpoint.
    codes = [torch.arange(40).remainder(4).numpy().astype("uint8")]
    mask = [codes[0] == 2]
    ours, theirs = (p.masked_log_probs(codes, mask)[0] for p in (predictor, Predictor.load(toy_training, "cpu")))
    assert (ours == theirs).all()
    if len(states) > 1:
        first, _ = open_checkpoint("first", states[0], "cpu")
        assert first.step < 12 and not frozen(drift_rows(first.weights, last.weights))["router"]


def test_damaged_and_stray_states_are_refused(toy_training, tmp_path):
    newest = sorted((toy_training / "state").iterdir())[-1]
    stray = tmp_path / "stray" / "state" / newest.name
    shutil.copytree(newest, stray)
    with pytest.raises(RunError, match=r"run\.json is not there, which tells the network's shape"):
        read_state(stray)
    shutil.copy(toy_training / "run.json", tmp_path / "stray" / "run.json")
    assert read_state(stray, "cpu")[1] == 12
    shard = next(stray.glob("__0_*"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(RunError, match=r"this state is damaged \(.* does not agree with its checksum\); take another"):
        read_state(stray)
    told = json.loads((stray / "state.json").read_text())
    (stray / "state.json").write_text(json.dumps(told | {"step": 7}))
    with pytest.raises(RunError, match=r"this state is damaged \(it does not agree with its checksum\)"):
        read_state(stray)


def test_a_folder_with_nothing_in_it_and_a_broken_config(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        open_checkpoint("a", tmp_path, "cpu")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        kind_of(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "mixtral"}')
    assert kind_of(tmp_path) == "other"


def test_a_model_of_others_is_compared_by_choices_and_weights(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(tiny_config("mixtral")).save_pretrained(tmp_path / name)
        word_tokenizer().save_pretrained(tmp_path / name)
    opened = [open_checkpoint(name, tmp_path / name, "cpu") for name in "abc"]
    assert [predictor for _, predictor in opened] == [None] * 3
    checkpoints = [checkpoint for checkpoint, _ in opened]

    class Prompts:
        labellings, n_units, facts = (), 4, {}

        def __len__(self):
            return 8

        def stretch(self, i):
            return Stretch(f"p{i}", 0, words(12, seed=i), i % 4)

    sums = count(checkpoints, choose_pairs(checkpoints, match=False), Prompts(), seed=0)
    found = {(r["first"], r["second"]): r["agreement"] for r in agreement_rows(checkpoints, sums, n_draws=20)}
    assert found["a", "b"] == 1.0 > found["a", "c"]
    assert all(row["is_frozen"] for row in drift_rows(checkpoints[0].weights, checkpoints[1].weights))
    rows = drift_rows(checkpoints[0].weights, checkpoints[2].weights, checkpoints[0].sites)
    groups = {row["group"]: row["n_parameters"] for row in rows if row["layer"] is None}
    config = tiny_config("mixtral")
    layers = config.num_hidden_layers
    assert groups["router"] == layers * config.hidden_size * config.num_local_experts
    assert groups["experts"] == layers * 3 * config.num_local_experts * config.hidden_size * config.intermediate_size
    assert {row["expert"] for row in rows if row["group"] == "experts"} == {None, *range(config.num_local_experts)}


def test_twins_are_no_ones_beginning():
    predictor = Predictor(language_model(3), "toy", torch.device("cpu"), KmerTokens(1))
    twins = random_twins(predictor, 2)
    assert [twin.name for twin in twins] == ["random 1", "random 2"] and all(twin.is_control for twin in twins)
    assert [twin.facts["weights"] for twin in twins] == [f"random-{RANDOM_SEED}", f"random-{RANDOM_SEED + 1}"]
    own = of_predictor("own", predictor)
    assert not frozen(drift_rows(own.weights, twins[0].weights))["router"]
    assert not frozen(drift_rows(twins[0].weights, twins[1].weights))["router"]


def test_a_classifier_of_an_adapter_is_what_it_says(tmp_path):
    # A model without a task is no tuned model, and is not taken for one.
    model = classifier(small_config(vocab_size=12))
    save_checkpoint(tmp_path / "c", model, hf_tokenizer(KmerTokens(1), 64))
    assert kind_of(tmp_path / "c") == "checkpoint"
