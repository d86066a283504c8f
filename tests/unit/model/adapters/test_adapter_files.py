"""Adapters on disk: written by us, read by us and by PEFT; everything that does not fit is refused."""

import json
import shutil

import peft
import pytest
import torch
from adapted import EVERYTHING, adapted, small_config, some_ids
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import hf_tokenizer
from umbel.errors import AdapterError
from umbel.files import sha256_file
from umbel.model.adapters.attach import expected_warnings
from umbel.model.adapters.files import AdapterCard, load_adapter, open_adapter, read_card, save_adapter
from umbel.model.adapters.merge import merge
from umbel.model.checkpoint import load_checkpoint, save_checkpoint, weights_hash
from umbel.model.hf import UmbelForMaskedLM, UmbelForSequenceClassification, new_model

CONFIG = small_config(n_shared_experts=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "checkpoint"
    save(folder, seed=0)
    return folder


def save(folder, seed, config=CONFIG):
    save_checkpoint(folder, new_model(config, 64, seed), hf_tokenizer(KmerTokens(1), 64))


def card_of(base, **changes):
    facts = {"species": "Oryza sativa", "base": "a | base", "base_hash": weights_hash(base), "data_hash": "d" * 64}
    return AdapterCard(**{**facts, "taxid": 4530, "task": {"kind": "multiclass"}, "metrics": {"mcc": 0.5}, **changes})


def classifier_on(base, n_classes=3):
    torch.manual_seed(1)
    model = UmbelForSequenceClassification.from_pretrained(base, num_labels=n_classes)
    return model.eval()


@pytest.fixture(scope="module")
def saved(base, tmp_path_factory):
    """A folder with an adapter and a head, and what both give."""
    folder = tmp_path_factory.mktemp("adapters") / "one"
    adapter = adapted(classifier_on(base), (*EVERYTHING[:2], "experts:0,3", "router"))
    with torch.no_grad():
        adapter.model.get_base_model().score.weight.normal_(std=0.5)
    save_adapter(folder, adapter, card_of(base))
    return folder, adapter, adapter.model.eval()(input_ids=some_ids()).logits.detach()


def test_it_comes_back_with_its_head(base, saved):
    folder, adapter, wanted = saved
    torch.manual_seed(9)
    plain, apart = load_adapter(base, folder), load_adapter(base, folder, merged=False)
    assert type(plain) is UmbelForSequenceClassification
    assert type(apart) is peft.PeftModel
    assert not plain.training and not apart.training
    torch.testing.assert_close(plain(some_ids()).logits, wanted, atol=1e-5, rtol=0)
    assert torch.equal(apart(input_ids=some_ids()).logits, wanted)
    again = open_adapter(base, folder)
    assert (again.rank, again.n_parameters, again.share) == (adapter.rank, adapter.n_parameters, adapter.share)
    assert again.targets == adapter.targets
    for mine, read in zip(adapter.parts(), again.parts(), strict=True):
        assert torch.equal(mine.a, read.a) and torch.equal(mine.b, read.b)
    assert all(
        p.requires_grad == (".lora_" in n or ".modules_to_save." in n) for n, p in again.model.named_parameters()
    )


def test_peft_reads_it(base, saved):
    folder, _, wanted = saved
    assert {path.name for path in folder.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "adapter_card.json",
        "README.md",
    }
    with expected_warnings():
        model = peft.PeftModel.from_pretrained(classifier_on(base), folder).eval()
    assert torch.equal(model(input_ids=some_ids()).logits, wanted)


def test_peft_reads_it_onto_a_model_of_transformers_auto_classes(base, saved):
    folder, _, wanted = saved
    with expected_warnings():
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
        model = peft.PeftModel.from_pretrained(model, folder).eval()
    assert torch.equal(model(input_ids=some_ids()).logits, wanted)


def test_the_base_on_disk_is_byte_for_byte_what_it_was(base, tmp_path):
    before = {path.name: sha256_file(path) for path in base.iterdir()}
    adapter = adapted(classifier_on(base))
    optimizer = torch.optim.SGD([p for p in adapter.model.parameters() if p.requires_grad], lr=0.1)
    adapter.model(input_ids=some_ids(), labels=torch.tensor([0, 1, 2])).loss.backward()
    optimizer.step()
    save_adapter(tmp_path / "a", adapter, card_of(base))
    merge(adapter)
    load_adapter(base, tmp_path / "a")
    assert {path.name: sha256_file(path) for path in base.iterdir()} == before


def test_a_language_models_adapter(base, tmp_path):
    adapter = adapted(load_checkpoint(base), ("mixers",))
    save_adapter(tmp_path / "a", adapter, card_of(base, task={}))
    plain = load_adapter(base, tmp_path / "a")
    assert type(plain) is UmbelForMaskedLM
    torch.testing.assert_close(plain(some_ids()).logits, adapter.model(input_ids=some_ids()).logits, atol=1e-5, rtol=0)
    assert not any(
        "lm_head" in key or "embedding" in key for key in load_file(tmp_path / "a/adapter_model.safetensors")
    )
    # The merged model is a checkpoint like any other.
    save_checkpoint(tmp_path / "merged", plain, hf_tokenizer(KmerTokens(1), 64))
    assert torch.equal(load_checkpoint(tmp_path / "merged")(some_ids()).logits, plain(some_ids()).logits)


def test_the_card_tells_what_it_is(base, saved):
    folder, adapter, _ = saved
    assert read_card(folder) == card_of(base)
    facts = json.loads((folder / "adapter_card.json").read_text())
    assert facts["adapter"]["n_parameters"] == adapter.n_parameters
    assert facts["adapter"]["share_of_base"] == adapter.share
    assert facts["adapter"]["targets"] == ["mixers", "ffn", "experts:0,3", "router"]
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "a | base"
    text = (folder / "README.md").read_text()
    assert text.startswith('---\nlibrary_name: peft\nbase_model: "a | base"\ntags:')
    for told in ("Oryza sativa (NCBI taxon 4530)", weights_hash(base), f"{100 * adapter.share:.3f} %", "| mcc | 0.5 |"):
        assert told in text
    assert "a \\| base" in text
    assert str(base) not in text + (folder / "adapter_card.json").read_text()


def test_another_base_is_refused(saved, base, tmp_path):
    folder = saved[0]
    save(tmp_path / "other", seed=1)
    problem = (
        f"base .a . base. with weights {weights_hash(base)}, and .* has weights {weights_hash(tmp_path / 'other')}"
    )
    with pytest.raises(AdapterError, match=problem):
        load_adapter(tmp_path / "other", folder)


def spoilt(saved, tmp_path):
    return shutil.copytree(saved[0], tmp_path / "spoilt")


@pytest.mark.parametrize("name", ["adapter_card.json", "adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_refused(name, base, saved, tmp_path):
    folder = spoilt(saved, tmp_path)
    (folder / name).unlink()
    with pytest.raises(AdapterError, match=f"no adapter of umbel's there, {name} is missing"):
        load_adapter(base, folder)


def test_cut_weights_are_refused(base, saved, tmp_path):
    folder = spoilt(saved, tmp_path)
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors: cannot be read"):
        load_adapter(base, folder)


def test_other_weights_than_the_cards_are_refused(base, saved, tmp_path):
    folder = spoilt(saved, tmp_path)
    path = folder / "adapter_model.safetensors"
    save_file({key: value + 1 for key, value in load_file(path).items()}, path)
    with pytest.raises(AdapterError, match=r"not the weights that adapter_card\.json describes"):
        load_adapter(base, folder)


def test_missing_and_foreign_keys_and_shapes_are_listed(base, saved, tmp_path):
    folder = spoilt(saved, tmp_path)
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    gone, changed = sorted(tensors)[:2]
    tensors["foreign.weight"] = tensors.pop(gone)
    tensors[changed] = tensors[changed][:1].clone()
    save_file(tensors, path)
    change(folder, lambda facts: facts.update(weights_sha256=sha256_file(path)))
    with pytest.raises(AdapterError) as caught:
        load_adapter(base, folder)
    text = str(caught.value)
    assert "3 keys do not fit" in text
    assert f"missing {gone}" in text and "unexpected foreign.weight" in text and f"{changed} has shape" in text


def change(folder, how):
    path = folder / "adapter_card.json"
    facts = json.loads(path.read_text())
    how(facts)
    path.write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        (lambda facts: facts.update(format="another"), "not the card of an umbel adapter"),
        (lambda facts: facts.update(format_version=9), "written in adapter format 9, and this umbel reads 1"),
        (lambda facts: facts["card"].pop("species"), "adapter_card.json: damaged"),
        (lambda facts: facts["adapter"].pop("rank"), "adapter_card.json: damaged"),
        (lambda facts: facts["model"].update({"class": "Other"}), "this umbel has no model 'Other'"),
        (lambda facts: facts["model"]["config"]["shape"].update(d_model=32), "another shape than the base"),
    ],
)
def test_a_damaged_card_is_refused(how, problem, base, saved, tmp_path):
    folder = spoilt(saved, tmp_path)
    change(folder, how)
    with pytest.raises(AdapterError, match=problem):
        load_adapter(base, folder)


def test_a_card_that_is_no_json_is_refused(saved, tmp_path):
    folder = spoilt(saved, tmp_path)
    (folder / "adapter_card.json").write_text("{")
    with pytest.raises(AdapterError, match=r"adapter_card\.json: damaged"):
        read_card(folder)
    with pytest.raises(AdapterError, match="no adapter of umbel's there"):
        read_card(tmp_path)


def test_an_old_folder_is_replaced_whole_or_stays(base, saved, tmp_path, monkeypatch):
    folder = spoilt(saved, tmp_path)
    (folder / "left over").write_text("x")
    before = sha256_file(folder / "adapter_model.safetensors")
    adapter = adapted(classifier_on(base), ("mixers",))
    with monkeypatch.context() as patch:
        patch.setattr("umbel.model.adapters.files._readme", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            save_adapter(folder, adapter, card_of(base))
    assert sha256_file(folder / "adapter_model.safetensors") == before and (folder / "left over").is_file()
    save_adapter(folder, adapter, card_of(base))
    assert not (folder / "left over").exists()
    assert list(tmp_path.iterdir()) == [folder]
