"""The invariance contract: padding, batch-mates and chunking of the batch change nothing at real positions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import toy_run

from umbel.data.kmers import KmerTokens
from umbel.data.placement import cut_spans
from umbel.model.hf import UmbelConfig, UmbelForSequenceClassification, new_model
from umbel.predict.phases import strided
from umbel.predict.predictor import Predictor

PAD, CLS, SEP = 4, 0, 1
VARIANTS = {
    "published": {},
    "top2-untied-multiply": {"top_k": 2, "tie_projections": False, "fusion": "multiply"},
    "gate": {"fusion": "gate"},
    "concat-all-experts": {"fusion": "concat", "pattern": "Me"},
    "hyenamoe": {"pattern": "Hd Ae", "gating": "normalised", "top_k": 2, "n_shared_experts": 1, "n_heads": 2},
    "hyena-both-ways": {"pattern": "He", "hyena_bidirectional": True, "hyena_taps": 3, "gating": "plain"},
}
TOLERANCE = {"atol": 1e-5, "rtol": 0}


def make_model(variant="published", seed=1):
    changes = VARIANTS.get(variant, {"vocab_size": 92})
    model = new_model(replace(toy_run().model, **changes), 256, seed, placement=variant == "placing").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)  # away from the small initial outputs, so that a leak would show
    return model


MODELS = {variant: make_model(variant) for variant in VARIANTS}
bases = st.lists(st.integers(7, 11), min_size=1, max_size=60)


def frame(sequence):
    return [CLS, *sequence, SEP]


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(sequences=st.lists(bases, min_size=1, max_size=3), left=st.booleans(), extra=st.integers(0, 70), data=st.data())
def test_padding_and_batch_mates_change_nothing(variant, sequences, left, extra, data):
    model = MODELS[variant]
    rows = [frame(sequence) for sequence in sequences]
    width = max(map(len, rows)) + extra
    ids = torch.full((len(rows), width), PAD)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    places = []
    for i, row in enumerate(rows):
        start = width - len(row) if left else 0
        ids[i, start : start + len(row)] = torch.tensor(row)
        mask[i, start : start + len(row)] = 1
        places.append(slice(start, start + len(row)))
    if data.draw(st.booleans(), label="garbage under the mask"):
        ids[mask == 0] = 9
    with torch.inference_mode():
        together = model(ids, attention_mask=mask)
        for i, row in enumerate(rows):
            alone = model(torch.tensor([row]))
            torch.testing.assert_close(together.logits[i, places[i]], alone.logits[0], **TOLERANCE)
            for a, b in zip(together.routings, alone.routings, strict=True):
                assert torch.equal(a.experts[i, places[i]], b.experts[0])
                torch.testing.assert_close(a.weights[i, places[i]], b.weights[0], **TOLERANCE)
    for routing in together.routings:
        assert (routing.experts[mask == 0] == -1).all()
        assert int(routing.counts().sum()) == int(mask.sum()) * routing.experts.shape[-1]


PLACING = make_model("placing")


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    n_gaps=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    left=st.booleans(),
    extra=st.integers(0, 70),
    seed=st.integers(0, 99),
)
def test_span_placement_sees_neither_padding_nor_batch_mates(n_gaps, left, extra, seed):
    draws, rows = np.random.default_rng(seed), []
    for n in n_gaps:
        ids = np.array(frame(draws.integers(7, 11, int(draws.integers(40, 60)))))
        rows.append(cut_spans(ids, n, 5, 1, draws) if n else (ids, np.zeros_like(ids)))
    width = max(len(ids) for ids, _ in rows) + extra
    batch, placement = np.full((len(rows), width), PAD), np.zeros((len(rows), width), np.int64)
    for i, (ids, belongs) in enumerate(rows):
        here = slice(width - len(ids), width) if left else slice(0, len(ids))
        batch[i, here], placement[i, here] = ids, belongs
    with torch.inference_mode():
        together = PLACING(torch.from_numpy(batch), placement=torch.from_numpy(placement)).placed
        assert len(together.losses) == sum(n_gaps)
        places = np.cumsum([0, *n_gaps])
        for i, (ids, belongs) in enumerate(rows):
            alone = PLACING(torch.from_numpy(ids)[None], placement=torch.from_numpy(belongs)[None]).placed
            of_row = slice(places[i], places[i + 1])
            torch.testing.assert_close(together.losses[of_row], alone.losses, **TOLERANCE)
            assert torch.equal(together.is_right[of_row], alone.is_right)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(sequence=bases, extra=st.integers(1, 200), left=st.booleans())
def test_pooled_outputs_do_not_see_padding(sequence, extra, left):
    torch.manual_seed(0)
    config = UmbelConfig(shape=MODELS["published"].config.shape, num_labels=3)
    model = UmbelForSequenceClassification(config).eval()
    row = frame(sequence)
    pads = [PAD] * extra
    padded = torch.tensor([pads + row if left else row + pads])
    with torch.inference_mode():
        wanted = model(torch.tensor([row])).logits
        torch.testing.assert_close(model(padded).logits, wanted, **TOLERANCE)
        garbage = torch.where(padded == PAD, 8, padded)
        masked = model(garbage, attention_mask=(padded != PAD).long()).logits
        torch.testing.assert_close(masked, wanted, **TOLERANCE)


@pytest.mark.parametrize("rows_equal", [(0, 1), (0, 1, 2)])
def test_tied_experts_go_to_the_lower_index_whatever_the_padding(rows_equal):
    model = make_model(seed=2)
    with torch.no_grad():
        for block in model.backbone.layers:
            if hasattr(block.ffn, "router"):
                block.ffn.router.weight[list(rows_equal)] = block.ffn.router.weight[0].clone() * 3
    row = frame([7, 8, 9, 10] * 8)
    with torch.inference_mode():
        alone = model(torch.tensor([row]))
        for extra in range(1, 40):
            padded = model(torch.tensor([row + [PAD] * extra] * 2))
            for a, b in zip(padded.routings, alone.routings, strict=True):
                assert torch.equal(a.experts[1, : len(row)], b.experts[0])
                assert not np.isin(b.experts.numpy(), rows_equal[1:]).any()


PREDICTORS = {
    "single bases": Predictor(MODELS["published"], "toy", torch.device("cpu"), KmerTokens(1)),
    "3-mers": Predictor(make_model("words"), "toy", torch.device("cpu"), KmerTokens(3)),
    "overlapping 3-mers": Predictor(make_model("words"), "toy", torch.device("cpu"), KmerTokens(3, overlapping=True)),
}


@pytest.mark.parametrize("name", PREDICTORS)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    sequences=st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=80), min_size=2, max_size=7),
    budget=st.integers(1, 400),
)
def test_embeddings_do_not_depend_on_how_the_batch_is_cut(name, sequences, budget):
    codes = [np.array(sequence, np.uint8) for sequence in sequences]
    predictor = PREDICTORS[name]
    alone = np.concatenate([predictor.embed([sequence]) for sequence in codes])
    hidden = [sequence % 2 == 0 for sequence in codes]
    phases = [strided(len(sequence), 3) for sequence in codes]
    predictor.tokens_per_batch = budget
    try:
        together = predictor.embed(codes)
        scores = predictor.masked_log_probs(codes, hidden)
        pseudo = predictor.pseudo_log_probs(codes, phases, "both")
        routes = predictor.routes(codes)
    finally:
        predictor.tokens_per_batch = None
    np.testing.assert_allclose(together, alone, atol=1e-5)
    for i, sequence in enumerate(codes):
        single = predictor.masked_log_probs([sequence], [hidden[i]])[0]
        np.testing.assert_allclose(scores[i], single, atol=1e-5)
        assert (routes[i] == predictor.routes([sequence])[0]).all()
        one = predictor.pseudo_log_probs([sequence], [phases[i]], "both")[0]
        np.testing.assert_allclose(pseudo[i], one, atol=1e-5)
