"""Sequences that share a row never see each other: each gets what it gets alone."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import enlarge

from umbel.config import ModelConfig
from umbel.model.hf import new_model

PAD = 4
CONFIG = ModelConfig(
    n_layers=2, d_model=16, d_state=4, n_heads=2, ffn_hidden=24, expert_hidden=8, n_experts=3, n_shared_experts=1
)
VARIANTS = {
    "plantbimoe": {"pattern": "Md Me"},
    "hyenamoe": {"pattern": "Hd Ae", "gating": "normalised", "top_k": 2},
    "attention": {"pattern": "Ae"},
    "hyena both ways": {"pattern": "He Hd", "hyena_bidirectional": True, "hyena_taps": 3},
}


def make_model(variant):
    return enlarge(new_model(replace(CONFIG, **VARIANTS[variant]), 256, 3).eval())


MODELS = {variant: make_model(variant) for variant in VARIANTS}
sequences_of_a_row = st.lists(st.lists(st.integers(7, 11), min_size=1, max_size=20), min_size=1, max_size=4)


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=10, deadline=None, derandomize=True)
@given(rows=st.lists(sequences_of_a_row, min_size=1, max_size=3), extra=st.integers(0, 9))
def test_packing_gives_each_sequence_what_it_gets_alone(variant, gradients, rows, extra):
    model = MODELS[variant]
    width = max(sum(map(len, row)) for row in rows) + extra
    ids = torch.full((len(rows), width), PAD)
    segment_ids = torch.zeros_like(ids)
    places = []
    for b, row in enumerate(rows):
        start = 0
        for number, sequence in enumerate(row):
            places.append((b, slice(start, start + len(sequence)), sequence))
            ids[b, places[-1][1]] = torch.tensor(sequence)
            segment_ids[b, places[-1][1]] = number
            start += len(sequence)
    with torch.set_grad_enabled(gradients):
        packed = model(ids, segment_ids=segment_ids)
        for b, place, sequence in places:
            alone = model(torch.tensor([sequence]))
            torch.testing.assert_close(packed.logits[b, place], alone.logits[0], atol=1e-5, rtol=0)
            for there, here in zip(packed.routings, alone.routings, strict=True):
                assert torch.equal(there.experts[b, place], here.experts[0])


def test_without_segment_ids_neighbours_do_see_each_other():
    """The law above would hold for a model that mixes nothing; this one mixes."""
    for model in MODELS.values():
        ids = torch.tensor([[7, 8, 9, 10, 7, 9]])
        together, packed = model(ids), model(ids, segment_ids=torch.tensor([[0, 0, 0, 1, 1, 1]]))
        assert (together.logits - packed.logits).abs().max() > 1e-3


def test_gradients_stay_within_a_sequence():
    for model in MODELS.values():
        embedded = {}
        hook = model.backbone.embedding.register_forward_hook(
            lambda module, args, out, kept=embedded: kept.update(out=out) or out.retain_grad()
        )
        model(torch.tensor([[7, 8, 9, 10, 7, 9]]), segment_ids=torch.tensor([[0, 0, 0, 1, 1, 1]])).logits[
            0, :3
        ].square().sum().backward()
        hook.remove()
        gradient = embedded["out"].grad[0].abs().sum(-1)
        assert (gradient[:3] > 0).all()
        assert not gradient[3:].any()
