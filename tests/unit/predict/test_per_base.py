"""Probabilities of single bases from k-mers, against plain loops over all words."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import toy_run

from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import describe
from umbel.genome.sequence import encode
from umbel.model.hf import new_model
from umbel.predict import sequences as sequences_module
from umbel.predict.per_base import read_hidden_bases
from umbel.predict.predictor import Predictor

VOCABULARIES = {
    "k1": KmerTokens(1), "k2": KmerTokens(2), "k3": KmerTokens(3), "k4": KmerTokens(4),
    "k2-overlapping": KmerTokens(2, True), "k3-overlapping": KmerTokens(3, True),
}  # fmt: skip


def make_predictor(tokens, seed=1):
    model = new_model(replace(toy_run().model, vocab_size=tokens.size), 256, seed, describe(tokens))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)  # so that the words differ clearly in probability
    return Predictor(model, "toy", torch.device("cpu"), tokens)


PREDICTORS = {name: make_predictor(tokens) for name, tokens in VOCABULARIES.items()}


def by_plain_loops(predictor, codes, hidden):
    """One base after another, each word spelled out as letters."""
    tokens = predictor.tokens
    encoding = tokens.encode(codes)
    covers = [range(s, e) for s, e in zip(encoding.starts, encoding.ends, strict=True)]
    ids = [3 if any(hidden[b] for b in cover) else i for i, cover in zip(encoding.ids.tolist(), covers, strict=True)]
    with torch.no_grad():
        logits = predictor._model(torch.tensor([ids])).logits[0].double().numpy()
    rows = []
    for base in np.flatnonzero(hidden):
        around = [t for t, cover in enumerate(covers) if base in cover]
        token = min(around, key=lambda t: (abs(base - (covers[t][0] + covers[t][-1]) / 2), t))
        sums = dict.fromkeys("ACGT", 0.0)
        for letters in itertools.product("ACGT", repeat=len(covers[token])):
            fits = all(hidden[b] or "ACGTN"[codes[b]] == x for b, x in zip(covers[token], letters, strict=True))
            if fits:
                word = tokens.words.index("".join(letters))
                sums[letters[base - covers[token][0]]] += math.exp(logits[token, word])
        rows.append([math.log(sums[x] / sum(sums.values())) for x in "ACGT"])
    return np.array(rows).reshape(-1, 4)


@pytest.mark.parametrize("name", VOCABULARIES)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(codes=st.lists(st.sampled_from([0, 1, 2, 3] * 5 + [4]), min_size=4, max_size=24), data=st.data())
def test_masked_log_probs_by_plain_loops_over_words(name, codes, data):
    codes = np.array(codes, np.uint8)
    hidden = np.array(data.draw(st.lists(st.booleans(), min_size=len(codes), max_size=len(codes))))
    hidden &= codes < 4
    got = PREDICTORS[name].masked_log_probs([codes], [hidden])[0]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, by_plain_loops(PREDICTORS[name], codes, hidden), atol=2e-5)
    np.testing.assert_allclose(np.exp(got).sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_neither_the_hidden_base_nor_its_token_can_be_seen(name):
    codes = np.random.default_rng(0).integers(0, 4, 40).astype(np.uint8)
    hidden = np.zeros(40, bool)
    hidden[[3, 4, 20]] = True
    scores = []
    for shift in range(4):
        other = codes.copy()
        other[hidden] = (codes[hidden] + shift) % 4
        scores.append(PREDICTORS[name].masked_log_probs([other], [hidden])[0])
    for other in scores[1:]:
        assert (scores[0] == other).all()


@pytest.mark.parametrize("name", ["k1", "k3", "k3-overlapping"])
def test_neither_batch_mates_nor_chunks_matter(name, monkeypatch):
    rng = np.random.default_rng(1)
    codes = [rng.integers(0, 5, n).astype(np.uint8) for n in (30, 9, 100, 4)]
    hidden = [(rng.random(len(sequence)) < 0.3) & (sequence < 4) for sequence in codes]
    hidden[1][:] = False
    together = PREDICTORS[name].masked_log_probs(codes, hidden)
    monkeypatch.setattr(sequences_module, "LOGITS_AT_ONCE", 200)
    in_pieces = PREDICTORS[name].masked_log_probs(codes, hidden)
    for i, sequence in enumerate(codes):
        alone = PREDICTORS[name].masked_log_probs([sequence], [hidden[i]])[0]
        assert alone.shape == (hidden[i].sum(), 4)
        np.testing.assert_allclose(together[i], alone, atol=1e-5)
        np.testing.assert_allclose(in_pieces[i], alone, atol=1e-5)


def test_single_bases_get_the_softmax_over_four_to_the_bit():
    predictor = PREDICTORS["k1"]
    codes = encode(b"ACGTTGCANACGT")[0]
    hidden = np.arange(13) % 3 == 0
    ids = np.concatenate([[0], np.where(hidden, 3, codes + 7), [1]])
    with torch.inference_mode():
        states = predictor._model.backbone(torch.tensor(ids)[None]).hidden[0, 1:-1][torch.from_numpy(hidden)]
        wanted = predictor._model.lm_head(states).float()[:, 7:11].log_softmax(-1).numpy()
    assert (predictor.masked_log_probs([codes], [hidden])[0] == wanted).all()


def test_of_overlapping_words_the_one_around_the_base_is_read():
    codes = encode(b"ACGTNACGTACG")[0]
    tokens = KmerTokens(4, overlapping=True)
    reading = read_hidden_bases(tokens.encode(codes), codes, codes < 4, 4)
    # Tokens: 1 is ACGT, 2 is N, 3 to 6 begin at bases 5 to 8; of two that are equally near it is the earlier.
    assert reading.token.tolist() == [1, 1, 1, 1, 3, 3, 3, 4, 5, 6, 6]
    assert reading.place.tolist() == [0, 1, 2, 3, 0, 1, 2, 2, 2, 2, 3]
