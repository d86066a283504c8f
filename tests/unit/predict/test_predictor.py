import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import toy_run

from umbel.data.bpe import FIXED, BpeTokens
from umbel.data.tokenizers import describe
from umbel.errors import BackendError, CheckpointError, ConfigError
from umbel.genome.sequence import revcomp
from umbel.model.hf import new_model
from umbel.predict.phases import strided
from umbel.predict.predictor import Predictor, load


@pytest.fixture(scope="module")
def predictor(toy_training):
    return load(toy_training, device="cpu")


def sequences(seed=0, lengths=(30, 7, 100)):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 5, n).astype(np.uint8) for n in lengths]


def test_facts(predictor, toy_training):
    assert (predictor.window_bp, predictor.n_experts, predictor.moe_layers) == (256, 3, (1,))
    assert len(predictor.weights_hash) == 64
    assert predictor.n_parameters > predictor.n_active_parameters


def test_embedding_by_hand(predictor):
    codes = np.array([0, 1, 4, 3], np.uint8)
    with torch.no_grad():
        hidden = predictor._model.backbone(torch.tensor([[0, 7, 8, 11, 10, 1]])).hidden[0].numpy()
    np.testing.assert_allclose(predictor.embed([codes], "forward")[0], hidden[[1, 2, 4]].mean(0), atol=1e-6)


def test_letters_and_codes_are_the_same(predictor):
    letters = predictor.embed(["ACGTNacgt"], "forward")
    np.testing.assert_array_equal(
        letters, predictor.embed([np.array([0, 1, 2, 3, 4, 0, 1, 2, 3], np.uint8)], "forward")
    )
    with pytest.raises(ValueError, match="E"):
        predictor.embed(["ACGE"])


def test_strands(predictor):
    codes = sequences()
    turned = [revcomp(sequence) for sequence in codes]
    np.testing.assert_allclose(predictor.embed(codes, "revcomp"), predictor.embed(turned, "forward"), atol=1e-6)
    both = predictor.embed(codes, "both")
    np.testing.assert_allclose(both, predictor.embed(turned, "both"), atol=1e-6)
    mean = (predictor.embed(codes, "forward") + predictor.embed(codes, "revcomp")) / 2
    np.testing.assert_allclose(both, mean, atol=1e-6)
    assert np.abs(both - predictor.embed(codes, "forward")).max() > 1e-4


def test_states_of_single_bases_by_hand(predictor):
    rng = np.random.default_rng(4)
    codes = [rng.integers(0, 4, n).astype(np.uint8) for n in (30, 90, 31)]
    places = [(0, 29), (89, 3), (7, 7)]
    found = predictor.embed_bases(codes, places)
    assert found.shape == (3, 2, predictor.config.d_model)
    for sequence, own, rows in zip(codes, places, found, strict=True):
        ids = torch.tensor(predictor.tokens.encode(sequence).ids)[None]
        with torch.inference_mode():
            hidden = predictor.backbone(ids).hidden[0].numpy()
        np.testing.assert_allclose(rows, hidden[[place + 1 for place in own]], atol=1e-5)
    turned = predictor.embed_bases(
        [revcomp(s) for s in codes],
        [[len(s) - 1 - p for p in own] for s, own in zip(codes, places, strict=True)],
        "revcomp",
    )
    np.testing.assert_allclose(turned, found, atol=1e-5)
    both = predictor.embed_bases(codes, places, "both")
    np.testing.assert_allclose(both, (found + predictor.embed_bases(codes, places, "revcomp")) / 2, atol=1e-6)
    with pytest.raises(ValueError, match="sequence 1 has 90 bases, and none at"):
        predictor.embed_bases(codes, [(0, 1), (90, 1), (0, 1)])


def test_masked_log_probs_by_hand(predictor):
    codes = np.array([0, 1, 2, 3], np.uint8)
    hidden = np.array([False, True, False, True])
    with torch.no_grad():
        logits = predictor._model(torch.tensor([[0, 7, 3, 9, 3, 1]])).logits[0, [2, 4], 7:11]
    got = predictor.masked_log_probs([codes], [hidden])[0]
    np.testing.assert_allclose(got, logits.log_softmax(-1).numpy(), atol=1e-6)
    np.testing.assert_allclose(np.exp(got).sum(1), 1, atol=1e-6)


def test_the_hidden_base_cannot_be_seen(predictor):
    codes = sequences()[0]
    hidden = np.zeros(30, bool)
    hidden[[4, 20]] = True
    other = codes.copy()
    other[hidden] = (codes[hidden] + 1) % 4
    a, b = (predictor.masked_log_probs([c], [hidden])[0] for c in (codes, other))
    assert (a == b).all()


def test_nothing_hidden_gives_no_rows(predictor):
    assert predictor.masked_log_probs([np.zeros(5, np.uint8)], [np.zeros(5, bool)])[0].shape == (0, 4)


def test_routes_are_those_of_the_routing(predictor):
    codes = sequences()
    for sequence, route in zip(codes, predictor.routes(codes), strict=True):
        ids = torch.tensor(np.concatenate([[0], sequence + 7, [1]])[None].astype(np.int64))
        with torch.no_grad():
            wanted = predictor._model.backbone(ids).routings[0].experts[0, 1:-1]
        assert route.shape == (1, len(sequence), 1)
        assert (route[0] == wanted.numpy()).all()


def test_random_weights_are_another_network_of_the_same_shape(predictor):
    random = predictor.with_random_weights(3)
    assert random.weights_hash == "random-3"
    assert random.n_parameters == predictor.n_parameters
    codes = sequences()
    assert np.abs(random.embed(codes) - predictor.embed(codes)).max() > 1e-3
    np.testing.assert_array_equal(random.embed(codes), predictor.with_random_weights(3).embed(codes))


@pytest.fixture(scope="module")
def words(toy_packed_training):
    return load(toy_packed_training, device="cpu")


def test_a_checkpoint_remembers_its_tokens(words, predictor):
    assert (words.tokens.k, words.tokens.size, words.min_bases) == (3, 92, 3)
    assert (predictor.tokens.k, predictor.min_bases) == (1, 1)
    random = words.with_random_weights(0)
    assert random.tokens is words.tokens
    assert random._model.config.tokens == words._model.config.tokens == {"kind": "kmer", "k": 3, "overlapping": False}


def test_embedding_and_routes_of_words_by_hand(words):
    codes = np.array([0, 1, 4, 3, 3, 2, 0], np.uint8)  # AC N TTG A
    names = ["[CLS]", "AC", "N", "TTG", "A", "[SEP]"]
    ids = torch.tensor([[words.tokens.words.index(name) for name in names]])
    with torch.no_grad():
        output = words._model.backbone(ids)
    wanted = output.hidden[0].numpy()[[1, 3, 4]].mean(0)
    np.testing.assert_allclose(words.embed([codes], "forward")[0], wanted, atol=1e-6)
    of_token = output.routings[0].experts[0].numpy()
    route = words.routes([codes])[0]
    assert route.shape == (1, 7, of_token.shape[-1])
    assert (route[0] == of_token[[1, 1, 2, 3, 3, 3, 4]]).all()


def test_sequences_shorter_than_a_token_are_told_by_number(words):
    codes = [np.zeros(3, np.uint8)] * 3 + [np.zeros(2, np.uint8)]
    text = "sequence 3 has 2 bases, and this model's tokens have 3"
    with pytest.raises(ValueError, match=text):
        words.embed(codes)
    with pytest.raises(ValueError, match=text):
        words.routes(codes)
    with pytest.raises(ValueError, match=text):
        words.masked_log_probs(codes, [sequence == 0 for sequence in codes])


@pytest.fixture(scope="module")
def learnt():
    tokens = BpeTokens([*FIXED, "AC", "ACG"], [("A", "C"), ("AC", "G")])
    model = new_model(replace(toy_run().model, vocab_size=tokens.size), 256, 0, describe(tokens))
    return Predictor(model, "toy", torch.device("cpu"), tokens)


def test_learnt_words_embed_and_route_and_have_no_probability_of_a_base(learnt):
    codes = np.array([0, 1, 2, 0, 1, 4, 3], np.uint8)  # ACG AC N T
    with torch.no_grad():
        output = learnt._model.backbone(torch.tensor([[0, 13, 12, 11, 10, 1]]))
    wanted = output.hidden[0].numpy()[[1, 2, 4]].mean(0)
    np.testing.assert_allclose(learnt.embed([codes], "forward")[0], wanted, atol=1e-6)
    of_token = output.routings[0].experts[0].numpy()
    assert (learnt.routes([codes])[0][0] == of_token[[1, 1, 1, 2, 2, 3, 4]]).all()
    with pytest.raises(ConfigError, match=r"where a hidden word ends would give its bases away.*umbel embed and umbel"):
        learnt.masked_log_probs([codes], [codes == 0])


def test_a_model_with_fewer_tokens_than_it_tells_of_is_refused(toy_training, tmp_path):
    folder = tmp_path / "ckpt"
    shutil.copytree(toy_training / "checkpoint", folder)
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | {"tokens": {"kind": "kmer", "k": 3, "overlapping": False}}))
    with pytest.raises(CheckpointError, match="tells of 92 tokens, and the model has fewer"):
        load(folder, device="cpu")


def test_refusals(predictor, toy_training):
    with pytest.raises(ValueError, match="sequence 1 has no A, C, G or T"):
        predictor.embed([np.zeros(3, np.uint8), np.full(3, 4, np.uint8)])
    with pytest.raises(ValueError, match="strand is 'sideways': use forward, revcomp or both"):
        predictor.embed([np.zeros(3, np.uint8)], "sideways")
    with pytest.raises(BackendError, match="no such device"):
        Predictor.load(toy_training, device="abacus")


def test_the_other_strand_by_hand(predictor):
    codes = sequences(4)
    hidden = [np.arange(len(sequence)) % 5 == 1 for sequence in codes]
    forward = predictor.masked_log_probs(codes, hidden)
    other = predictor.masked_log_probs(codes, hidden, "revcomp")
    both = predictor.masked_log_probs(codes, hidden, "both")
    for i, sequence in enumerate(codes):
        length = len(sequence)
        turned = [[3, 2, 1, 0, 4][base] for base in sequence[::-1]]
        mask = np.array([hidden[i][length - 1 - j] for j in range(length)])
        told = predictor.masked_log_probs([np.array(turned, np.uint8)], [mask])[0]
        # Row by row back to the base as given, column by column to the letter as given.
        expected = np.array([[told[len(told) - 1 - row][3 - base] for base in range(4)] for row in range(len(told))])
        np.testing.assert_allclose(other[i], expected, atol=1e-5)
        np.testing.assert_allclose(both[i], (forward[i] + expected) / 2, atol=1e-5)
    assert np.abs(forward[2] - other[2]).max() > 1e-4


@pytest.mark.parametrize("kind", ["single", "words"])
def test_pseudo_log_probs_hide_phase_by_phase(predictor, words, kind):
    model = predictor if kind == "single" else words
    codes = sequences(5, (31, 64))
    phases = [strided(31, 4), np.repeat(np.array([3, 0], np.uint8), 32)]
    found = model.pseudo_log_probs(codes, phases, "both")
    for i, sequence in enumerate(codes):
        assert np.isnan(found[i][sequence == 4]).all()
        for number in set(phases[i].tolist()):
            mask = (phases[i] == number) & (sequence < 4)
            alone = model.masked_log_probs([sequence], [mask], "both")[0]
            np.testing.assert_allclose(found[i][mask], alone, atol=1e-5)
    with pytest.raises(ValueError, match="sequence 0 has 31 bases, and its phases are 30"):
        model.pseudo_log_probs(codes, [strided(30), strided(64)])
    with pytest.raises(ValueError, match="n_passes is 0"):
        strided(3, 0)


@pytest.mark.parametrize("pooling", ["mean", "max", "first", "last"])
@pytest.mark.parametrize("layer", [-1, 0, 1])
def test_layers_and_poolings_by_hand(predictor, layer, pooling):
    codes = [np.array([4, 0, 1, 4, 3, 4], np.uint8), np.array([3, 3, 0], np.uint8)]
    found = predictor.embed(codes, "forward", layer, pooling)
    for sequence, vector in zip(codes, found, strict=True):
        ids = torch.from_numpy(predictor.tokens.encode(sequence).ids)[None]
        with torch.no_grad():
            output = predictor.backbone(ids, keep_stream=True)
        states = (output.hidden if layer == -1 else output.stream[layer + 1])[0, 1:-1].numpy()[sequence < 4]
        wanted = {"mean": states.mean(0), "max": states.max(0), "first": states[0], "last": states[-1]}[pooling]
        np.testing.assert_allclose(vector, wanted, atol=1e-6)


def test_layers_and_poolings_that_are_not_there(predictor):
    codes = [np.zeros(3, np.uint8)]
    with pytest.raises(
        ConfigError, match="layer 2: this model has layers 0 to 1, and -1 is the last one after the fin"
    ):
        predictor.embed(codes, layer=2)
    with pytest.raises(ConfigError, match="pooling none: a row for every base takes 4 x D bytes a base"):
        predictor.embed(codes, pooling="none")
    with pytest.raises(ConfigError, match="pooling attention: use mean, max, first or last"):
        predictor.embed(codes, pooling="attention")
    assert predictor.embed_tokens([np.array([0, 11, 1])]).tolist() == [[0.0] * 16]
    assert predictor.embed_tokens([]).shape == (0, 16)
