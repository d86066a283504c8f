"""Heads see their own sequence only: no padding, no batch-mate, whatever the pooling and the tokens."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import enlarge, toy_run

from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import describe
from umbel.model.hf import new_model
from umbel.model.pooling import POOLINGS
from umbel.model.tuned import with_head

PAD = 4
TOLERANCE = {"atol": 2e-5, "rtol": 0}
TOKENS = {"1": KmerTokens(1), "3": KmerTokens(3), "3 overlapping": KmerTokens(3, overlapping=True)}
TASKS = {
    "multiclass": {"kind": "multiclass", "names": ["a", "b", "c"]},
    "multilabel": {"kind": "multilabel", "names": ["a", "b", "c"]},
    "regression": {"kind": "regression", "names": ["a", "b", "c"]},
    "bases": {"kind": "bases", "names": ["a", "b", "c"]},
    "bins": {"kind": "bins", "names": ["a", "b", "c"], "bin_bp": 4},
}
HEADS = [("multiclass", pooling) for pooling in POOLINGS] + [(kind, "mean") for kind in list(TASKS)[1:]]


def make_model(name, kind, pooling):
    shape = dataclasses.replace(toy_run().model, vocab_size=92)
    base = new_model(shape, 256, 1, describe(TOKENS[name]))
    units = {"output_mean": [3.0] * 3, "output_scale": [2.0] * 3} if kind in ("regression", "bins") else {}
    model = enlarge(with_head(base, TASKS[kind], pooling=pooling, seed=2, **units)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "pool.query":
                parameter.normal_(generator=torch.Generator().manual_seed(3))
            elif not name.startswith("backbone."):
                parameter.mul_(20)  # away from the small initial outputs, so that a leak would show
    return model


MODELS = {(name, *head): make_model(name, *head) for name in TOKENS for head in HEADS}


def made_labels(kind, codes, draws):
    if kind == "multiclass":
        return torch.tensor(int(draws.integers(3)))
    if kind == "bases":
        return torch.from_numpy(draws.choice([-100, 0, 1, 2], len(codes)))
    rows = (-(-len(codes) // 4), 3) if kind == "bins" else (3,)
    values = torch.from_numpy(draws.random(rows, np.float32))
    return values if kind == "multilabel" else values.masked_fill(values < 0.3, torch.nan)


def stacked(labels):
    """Stack the rows' labels, with nothing to predict after the end of the shorter ones."""
    nothing = torch.nan if labels[0].is_floating_point() else -100
    if not labels[0].ndim:
        return torch.stack(labels)
    return torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=nothing)


def labels_for(model, labels, shifts, width):
    """Give labels as the model wants them: those of single nucleotides stand in the columns of their tokens."""
    if model.config.task["kind"] != "bases" or model.k > 1:
        return stacked(labels)
    columns = torch.full((len(labels), width), -100)
    for row, (label, shift) in enumerate(zip(labels, shifts, strict=True)):
        columns[row, shift + 1 : shift + 1 + len(label)] = label
    return columns


def of_row(values, model, row, n_tokens, shift, n_bases):
    """Cut from a batch what belongs to one row."""
    kind = model.config.task["kind"]
    if kind == "bases" and model.k == 1:
        return values[row, shift : shift + n_tokens]
    return values[row, : {"bases": n_bases, "bins": -(-n_bases // 4)}.get(kind)]


@pytest.mark.parametrize("case", MODELS, ids=" ".join)
@settings(max_examples=5, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(3, 50), min_size=1, max_size=3),
    left=st.booleans(),
    extra=st.integers(0, 40),
    garbage=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_head_sees_neither_padding_nor_batch_mates(case, lengths, left, extra, garbage, seed):
    model, tokens, kind, draws = MODELS[case], TOKENS[case[0]], case[1], np.random.default_rng(seed)
    codes = [draws.choice(5, n, p=[0.24, 0.24, 0.24, 0.24, 0.04]) for n in lengths]
    rows = [tokens.encode(sequence).ids for sequence in codes]
    labels = [made_labels(kind, sequence, draws) for sequence in codes]
    width = max(map(len, rows)) + extra
    ids, mask = np.full((len(rows), width), 9 if garbage else PAD), np.zeros((len(rows), width), np.int64)
    shifts = [width - len(row) if left else 0 for row in rows]
    for i, row in enumerate(rows):
        ids[i, shifts[i] : shifts[i] + len(row)], mask[i, shifts[i] : shifts[i] + len(row)] = row, 1
    batch = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    with torch.inference_mode():
        together = model(**batch, labels=labels_for(model, labels, shifts, width))
        assert torch.isfinite(together.logits).all()
        for i, row in enumerate(rows):
            alone = model(torch.from_numpy(row)[None], labels=labels_for(model, labels[i : i + 1], [0], len(row)))
            place = (model, i, len(row), shifts[i], len(codes[i]))
            torch.testing.assert_close(of_row(together.logits, *place), alone.logits[0], **TOLERANCE)
            for part in ("values", "weights"):
                found = of_row(
                    getattr(together.losses, part)[:, None] if kind == "multiclass" else getattr(together.losses, part),
                    *place,
                )
                torch.testing.assert_close(found.flatten(), getattr(alone.losses, part).flatten(), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("case", MODELS, ids=" ".join)
def test_padding_adds_nothing_to_gradients(case):
    model, tokens, kind, draws = MODELS[case], TOKENS[case[0]], case[1], np.random.default_rng(5)
    codes = draws.integers(0, 4, 23)
    row = torch.from_numpy(tokens.encode(codes).ids)
    labels = made_labels(kind, codes, draws)
    found = []
    for shift, width in ((0, len(row)), (0, len(row) + 31), (17, len(row) + 17)):
        ids = torch.full((1, width), PAD)
        ids[0, shift : shift + len(row)] = row
        model.zero_grad()
        model(ids, labels=labels_for(model, [labels], [shift], width)).loss.backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name, gradient in other.items():
            torch.testing.assert_close(gradient, found[0][name], atol=1e-4, rtol=1e-3)
    assert found[0]["backbone.embedding.weight"].ne(0).any()
    assert found[1]["backbone.embedding.weight"][PAD].eq(0).all()
