"""Footprints of fake passes against what real passes of whole networks really save."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from umbel.config import ModelConfig
from umbel.model import activations
from umbel.model.activations import BatchShape, measure_block, measure_head
from umbel.model.heads import label_losses
from umbel.model.hf import new_model

CPU = torch.device("cpu")
SMALL = ModelConfig(n_layers=4, d_model=48, d_state=8, ffn_hidden=80, n_heads=4, n_experts=4, top_k=2, expert_hidden=32)
PATTERNS = {
    "mamba": replace(SMALL, pattern="Md Me"),
    "mamba, gated, untied": replace(SMALL, pattern="Md", fusion="gate", tie_projections=False),
    "hyena and attention": replace(SMALL, pattern="Hd Ae"),
    "shared experts": replace(SMALL, pattern="Ae He", n_shared_experts=1, gating="normalised"),
}


def really_held(config, ids, segment_ids=None):
    """Bytes of storages that a forward pass and the loss save, and of those in its outputs: parameters apart."""
    model = new_model(config, 64, 0)
    foreign = {x.untyped_storage()._cdata for x in [*model.parameters(), *model.buffers(), ids]}
    held = {}

    def keep(x):
        if x.untyped_storage()._cdata not in foreign:
            held[x.untyped_storage()._cdata] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        output = model(input_ids=ids, segment_ids=segment_ids)
        label_losses(output.logits, ids).sum()
    for routing in output.routings:
        for x in (routing.logits, routing.experts, routing.weights):
            keep(x)
    keep(output.logits)
    return sum(x.untyped_storage().nbytes() for x in held.values())


def estimated(config, shape):
    return (
        sum(measure_block(shape, config, kind).kept for kind in config.layer_kinds) + measure_head(shape, config).kept
    )


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("shape", [(2, 64), (3, 320)])
def test_the_parts_add_up_to_what_the_whole_network_keeps(name, shape):
    """The second shape is longer than any that is measured: what is kept grows evenly with the tokens."""
    config, (rows, tokens) = PATTERNS[name], shape
    real = really_held(config, torch.randint(7, 11, (rows, tokens)))
    assert estimated(config, BatchShape(rows, tokens, CPU)) == pytest.approx(real, rel=0.01)


def test_packed_rows_keep_what_their_sequences_do():
    config = PATTERNS["mamba"]
    shape = BatchShape(3, 100, CPU, packed_tokens=70)
    real = really_held(config, torch.randint(7, 11, (3, 100)), shape.segment_ids)
    found = estimated(config, shape)
    # The two numbers that say where sequences stand are kept once, and are none of a layer's.
    assert found == pytest.approx(real, rel=0.02)
    assert found > 1.2 * estimated(config, BatchShape(3, 100, CPU))


def test_numbers_change_nothing(monkeypatch):
    config, shape = PATTERNS["hyena and attention"], BatchShape(2, 64, CPU)
    fake = [measure_block(shape, config, kind) for kind in ("Hd", "Ae")]
    monkeypatch.setattr(activations, "_numberless", lambda shape: nullcontext())
    measure_block.cache_clear()
    real = [measure_block(shape, config, kind) for kind in ("Hd", "Ae")]
    measure_block.cache_clear()
    assert [(x.kept, x.inputs) for x in fake] == [(x.kept, x.inputs) for x in real]


def test_half_precision_on_a_cpu_is_measured_too():
    """Per token: copies of the weights, which autocast keeps too, are the same at both lengths."""
    found = {}
    for dtype in (None, torch.bfloat16):
        one, two = (measure_block(BatchShape(1, n, CPU, dtype), SMALL, "Ad") for n in (64, 128))
        found[dtype] = two.kept - one.kept
        assert one.inputs == 64 * SMALL.d_model * (8 if dtype is None else 6)
    assert 0.5 * found[None] <= found[torch.bfloat16] < found[None]


def test_working_memory_by_hand():
    """A tensor that is made and let go, beside one that stays."""
    with activations._Living([]) as living:
        stays = torch.zeros(100)
        passing = torch.zeros(1_000)
        view = passing[:500].add_(1)
        del passing
        assert living.now == 4 * 1_100
        del view
        assert living.now == 4 * 100
        del stays
    assert (living.now, living.peak) == (0, 4 * 1_100)
