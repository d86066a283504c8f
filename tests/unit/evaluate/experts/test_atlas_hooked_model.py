"""A hooked model: DNA and text items, limits, capacity, what identifies it, and loading from a folder."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from hooked_families import tiny_config, tiny_model, word_tokenizer, words
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from umbel.config import ModelConfig
from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import describe, hf_tokenizer
from umbel.errors import CheckpointError, ConfigError
from umbel.evaluate.experts.hooked.model import HookedModel
from umbel.files import sha256_file
from umbel.genome.sequence import encode
from umbel.model.hf import new_model
from umbel.predict.predictor import Predictor

WITH_N = "ACGTTNNACGATTACAGGA"


def codes(letters):
    return encode(letters.encode())[0]


def hooked(tokenizer=None, family="mixtral", changes=None, **options):
    return HookedModel(tiny_model(family, **(changes or {})), tokenizer or word_tokenizer(), **options)


@pytest.mark.parametrize("tokens", [KmerTokens(1), KmerTokens(3), KmerTokens(3, overlapping=True)])
def test_each_base_has_the_routes_of_the_last_token_to_begin_that_covers_it(tokens):
    model = hooked(hf_tokenizer(tokens, 40))
    sequence = codes(WITH_N)
    (routed,) = model.route([sequence])
    np.testing.assert_array_equal(routed.tokens, sequence)
    np.testing.assert_array_equal(routed.counted, sequence < 4)
    encoding = tokens.encode(sequence)
    ids = torch.from_numpy(encoding.ids)[None]
    with torch.inference_mode():
        chosen = model._model(ids, output_router_logits=True).router_logits[0].topk(3).indices.numpy()
    wanted = chosen[encoding.token_of_base(len(sequence))]
    np.testing.assert_array_equal(routed.sites[0].experts, wanted)
    assert all(len(site.experts) == len(sequence) for site in routed.sites)


@pytest.mark.parametrize(("gating", "scores"), [("softmax", "softmax"), ("normalised", "sigmoid"), ("bias", "sigmoid")])
def test_our_own_model_says_the_same_of_itself(gating, scores):
    config = ModelConfig(n_layers=4, d_model=32, d_state=4, ffn_hidden=48, n_experts=8, top_k=2, gating=gating)
    network = new_model(config, 64, 0, describe(KmerTokens(1)))
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 5, n).astype(np.uint8) for n in (20, 33, 50)]
    told = Predictor(network, "random-0", torch.device("cpu"), KmerTokens(1)).routes(sequences)
    model = HookedModel(network, hf_tokenizer(KmerTokens(1), 64))
    assert [(site.layer, site.scores) for site in model.sites] == [(1, scores), (3, scores)]
    for routed in model.route(sequences):
        for site, wanted in zip(routed.sites, told[routed.index], strict=True):
            np.testing.assert_array_equal(site.experts, wanted)


def test_dna_is_read_as_upper_case_letters_of_words_of_any_length():
    words_of = {"<pad>": 0, "<unk>": 1, "ACG": 2, "AC": 3, "A": 4, "C": 5, "G": 6, "T": 7, "TT": 8, "N": 9}
    tokenizer = Tokenizer(models.BPE(words_of, [("A", "C"), ("AC", "G"), ("T", "T")], unk_token="<unk>"))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")
    (routed,) = hooked(fast).route([codes("ACGTTAC")])
    experts = routed.sites[0].experts
    assert len(experts) == 7
    # ACG, TT and AC are one token each.
    for word in (slice(0, 3), slice(3, 5), slice(5, 7)):
        assert (experts[word] == experts[word][:1]).all()
    assert (experts[0] != experts[3]).any() or (experts[3] != experts[5]).any()


class SlowTokenizer:
    """One that does not tell which letters a token stands for."""

    is_fast = False
    all_special_ids = (0, 1)
    unk_token_id = None
    pad_token_id = 0
    model_max_length = 10**30

    def __init__(self, k, step):
        self.k, self.step = k, step
        letters = [""]
        for _ in range(k):
            letters = [word + base for word in letters for base in "ACGTN"]
        self.words = ["<pad>", "<cls>", *letters]

    def get_vocab(self):
        return {word: i for i, word in enumerate(self.words)}

    def __call__(self, text, **options):
        starts = range(0, max(0, len(text) - self.k + 1), self.step)
        return {"input_ids": [1, *(self.words.index(text[i : i + self.k]) for i in starts)]}

    def convert_ids_to_tokens(self, ids):
        return [self.words[i] for i in ids]


@pytest.mark.parametrize(("k", "step"), [(1, 1), (2, 2), (2, 1)])
def test_a_tokenizer_that_tells_no_offsets(k, step):
    model = hooked(SlowTokenizer(k, step))
    (routed,) = model.route([codes("ACGTAC")])
    (text,) = model.route(["ACGTAC"])
    for base in range(6):
        token = 1 + (min(base, 6 - k) if step == 1 else base // k)
        np.testing.assert_array_equal(routed.sites[2].experts[base], text.sites[2].experts[token])


def test_a_tokenizer_whose_words_are_unclear_is_refused():
    with pytest.raises(ConfigError, match="does not tell which letters each token stands for"):
        list(hooked(SlowTokenizer(2, 3)).route([codes("ACGTACGT")]))


def test_a_tokenizer_that_knows_no_bases_is_refused():
    with pytest.raises(ConfigError, match="gives its unknown token for base 1 of a sequence, which is A"):
        list(hooked().route([codes("ACGT")]))
    silent = Tokenizer(models.BPE({"A": 5, "<pad>": 0, "<s>": 1}, []))
    silent.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=silent, pad_token="<pad>", bos_token="<s>")
    with pytest.raises(ConfigError, match="has no token for base 3 of a sequence, which is A"):
        list(hooked(fast).route([codes("ACA")]))


def test_text_items_are_tokens_and_the_tokenizers_own_are_not_counted():
    (routed,) = hooked().route(["w9 w10 never w11"])
    assert routed.tokens.tolist() == [1, 9, 10, 3, 11, 2]
    # A word that is not in the vocabulary is still a word.
    assert routed.counted.tolist() == [False, True, True, True, True, False]


def test_nothing_is_cut_off():
    model = hooked(changes={"max_position_embeddings": 32})
    assert model.window == 30
    list(model.route([words(30)]))
    with pytest.raises(ConfigError, match="sequence 1 has 33 tokens, and this model reads 32 at once, of which 2 are"):
        next(model.route([words(3), words(31)]))
    assert hooked(window=10).window == 8
    with pytest.raises(ConfigError, match="cut it into windows of at most 8; nothing is left out here"):
        next(hooked(window=10).route([words(9)]))


def test_a_limit_that_only_the_tokenizer_tells():
    tokenizer = word_tokenizer()
    model = tiny_model("switch_transformers")
    assert HookedModel(model, tokenizer).window == 4096 - 2
    tokenizer.model_max_length = 20
    assert HookedModel(model, tokenizer).window == 18


def test_empty_sequences_have_no_items():
    model = hooked(hf_tokenizer(KmerTokens(1), 40))
    found = {each.index: each for each in model.route([codes("ACG"), codes("")])}
    assert [len(found[i].tokens) for i in (0, 1)] == [3, 0]
    assert all(site.experts.shape == (0, 3) for site in found[1].sites)
    bare = PreTrainedTokenizerFast(tokenizer_object=word_tokenizer().backend_tokenizer, pad_token="<pad>")
    bare.backend_tokenizer.post_processor = None
    (routed,) = hooked(bare).route([""])
    assert routed.tokens.shape == (0,) and len(routed.sites) == 4


def test_order_and_batch_size_change_nothing():
    texts = [words(n, n) for n in (3, 25, 8, 8, 14, 1)]
    model = tiny_model("qwen3_moe")
    one = {x.index: x for x in HookedModel(model, word_tokenizer(), tokens_per_batch=1).route(texts)}
    many = {x.index: x for x in HookedModel(model, word_tokenizer(), tokens_per_batch=4096).route(texts)}
    assert sorted(one) == sorted(many) == list(range(6))
    for i in one:
        for a, b in zip(one[i].sites, many[i].sites, strict=True):
            np.testing.assert_array_equal(a.experts, b.experts)
            np.testing.assert_allclose(a.margin, b.margin, atol=1e-5)


def test_tokens_that_no_expert_had_room_for_are_told_and_never_counted_as_the_first():
    model = hooked(family="switch_transformers", changes={"expert_capacity": 2})
    assert model.facts["batching"] == "single"
    (routed,) = model.route([words(30)])
    for site, spec in zip(routed.sites, model.sites, strict=True):
        counts = np.bincount(site.experts[site.experts >= 0], minlength=spec.n_experts)
        assert counts.max() <= 2
        assert (site.weights[site.experts < 0] == 0).all()
    dropped = [int((site.experts[routed.counted] < 0).sum()) for site in routed.sites]
    assert min(dropped) > 0
    np.testing.assert_array_equal(model.n_dropped, dropped)


def test_a_batch_of_one_where_batch_mates_share_the_room():
    model = hooked(family="nllb-moe", changes={"moe_eval_capacity_token_fraction": 0.2})
    assert model.facts["batching"] == "single"
    texts = [words(20, 1), words(20, 2)]
    together = {each.index: each for each in model.route(texts)}
    for i, text in enumerate(texts):
        (alone,) = model.route([text])
        for a, b in zip(alone.sites, together[i].sites, strict=True):
            np.testing.assert_array_equal(a.experts, b.experts)
    assert model.n_dropped.sum() > 0


def test_experts_that_run_otherwise_than_they_were_chosen_are_told():
    # NLLB-MoE of transformers 5 reads the mask of the chosen as their numbers, and runs the first two experts.
    model = hooked(family="nllb-moe")
    assert all("does not run what its router chooses, and the record is of the choice" in x for x in model.notes[:-1])
    assert not any("does not run" in note for note in hooked(family="switch_transformers").notes)
    (routed,) = model.route([words(12)])
    gate = dict(model._model.named_modules())[model.sites[0].name]
    seen = []
    handle = gate.register_forward_hook(lambda module, args, output: seen.append(args[0].clone()))
    list(model.route([words(12)]))
    handle.remove()
    with torch.inference_mode():
        logits = seen[0] @ gate.classifier.weight.T
    for t, row in enumerate(logits.tolist()):
        assert routed.sites[0].experts[t].tolist() == sorted(range(8), key=lambda e: -row[e])[:2]


def test_padding_that_disturbs_is_noticed():
    model = tiny_model("mixtral")
    blind = model.forward
    # A model that does not look at the mask reads pads on its left as words.
    model.forward = lambda input_ids, use_cache=None: blind(input_ids=input_ids, use_cache=False)
    assert HookedModel(model, word_tokenizer()).facts["batching"] == "padded"
    left = HookedModel(model, word_tokenizer(), padding_side="left")
    assert left.facts["batching"] == "equal"
    assert "in a trial padding changed the routes" in left.notes[-1]
    texts = [words(n, n) for n in (5, 5, 9)]
    for each in left.route(texts):
        (alone,) = left.route([texts[each.index]])
        np.testing.assert_array_equal(each.sites[3].experts, alone.sites[3].experts)


def test_facts_tell_what_the_model_is():
    model = hooked()
    assert model.facts["model_type"] == "mixtral" and model.facts["class"] == "MixtralModel"
    assert model.facts["dtype"] == "float32" and model.facts["quantisation"] is None and model.facts["adapters"] == {}
    assert model.facts["versions"]["transformers"] == transformers.__version__
    assert model.facts["hooked"] == list(model.notes)
    assert model.notes[0] == (
        "layers.0.mlp.gate: declared by MixtralModel; it returns the experts that it chose; softmax by its weights."
    )
    assert json.loads(json.dumps(model.facts)) == model.facts


def test_low_precision_is_recorded_with_the_data():
    model = HookedModel(tiny_model("olmoe").to(torch.bfloat16), word_tokenizer())
    assert model.facts["dtype"] == "bfloat16"
    (routed,) = model.route([words(5)])
    assert routed.sites[0].weights.dtype == np.float32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model")
    AutoModelForCausalLM.from_config(tiny_config("olmoe")).save_pretrained(path)
    word_tokenizer().save_pretrained(path)
    return path


def test_a_folder_is_loaded_with_its_tokenizer_and_hash(folder):
    model = HookedModel.load(folder, "cpu")
    assert model.facts["weights_hash"] == sha256_file(folder / "model.safetensors")
    assert len(model.sites) == 4 and model.window == 62
    (routed,) = model.route(["w5 w6"])
    whole = AutoModelForCausalLM.from_pretrained(folder).eval()
    # With its head it is the same model; the head is not run.
    (again,) = HookedModel(whole, word_tokenizer()).route(["w5 w6"])
    for a, b in zip(routed.sites, again.sites, strict=True):
        np.testing.assert_array_equal(a.experts, b.experts)


def test_a_folder_with_an_adapter(folder, tmp_path):
    peft = pytest.importorskip("peft")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformers.PreTrainedModel, "is_gradient_checkpointing", False)
        base = AutoModelForCausalLM.from_pretrained(folder).model
        wrapped = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
        wrapped.save_pretrained(tmp_path)
        model = HookedModel.load(folder, "cpu", adapter=tmp_path)
    assert model.facts["adapter"]["weights_hash"] == sha256_file(tmp_path / "adapter_model.safetensors")
    assert model.facts["adapters"] == {"default": "LORA"}
    (tuned,), (plain,) = (m.route([words(20)]) for m in (model, HookedModel.load(folder, "cpu")))
    assert any((a.experts != b.experts).any() for a, b in zip(tuned.sites, plain.sites, strict=True))
    with pytest.raises(CheckpointError, match=r"this is an adapter\. Name its base model"):
        HookedModel.load(tmp_path)


def test_a_tokenizer_of_another_model_is_refused():
    empty = Tokenizer(models.WordLevel({"<pad>": 0, "high": 500}, unk_token="<pad>"))
    with pytest.raises(ConfigError, match="has no token of its own that this model has an embedding of"):
        hooked(PreTrainedTokenizerFast(tokenizer_object=empty, pad_token="<pad>"))


def test_refusals_of_folders(folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"no config\.json. Name a folder with a model of Hugging Face; none is"):
        HookedModel.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "modeling_x.XModel"}}))
    with pytest.raises(ConfigError, match=r"brings code of its own \(modeling_x\.XModel\), which would run here"):
        HookedModel.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "olmoe"}))
    with pytest.raises(CheckpointError, match="transformers cannot load it"):
        HookedModel.load(tmp_path)
    with pytest.raises(ConfigError, match="dtype float8: no such precision"):
        HookedModel.load(folder, dtype="float8")
    with pytest.raises(ConfigError, match="padding_side 'up': left or right"):
        hooked(padding_side="up")


def test_a_folder_without_all_weights_is_refused_and_loading_is_silent(folder, tmp_path, capfd):
    weights = load_file(folder / "model.safetensors")
    gate = next(name for name in weights if name.endswith("gate.weight"))
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    save_file({name: w for name, w in weights.items() if name != gate}, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights are not in the files, or have another shape, and would be"):
        HookedModel.load(broken, "cpu")
    told = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(told | {"num_experts": told["num_experts"] + 1}))
    shutil.copy(folder / "model.safetensors", broken / "model.safetensors")
    with pytest.raises(CheckpointError, match="or have another shape"):
        HookedModel.load(broken, "cpu")
    HookedModel.load(folder, "cpu")
    assert capfd.readouterr() == ("", "")
