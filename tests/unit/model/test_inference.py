"""Piece by piece without gradients must be what the layers give with them."""

import dataclasses

import pytest
import torch
from toys import toy_run

from umbel.model import inference
from umbel.model.backbone import Backbone, Block
from umbel.ops import backends

VARIANTS = {
    "published": {},
    "top-2 of 8": {"n_experts": 8, "top_k": 2},
    "multiply untied": {"fusion": "multiply", "tie_projections": False},
    "add untied": {"tie_projections": False},
    "gate": {"fusion": "gate"},
    "concat": {"fusion": "concat"},
    "dense only": {"pattern": "Md"},
    "experts only": {"pattern": "Me"},
}


def make(variant):
    torch.manual_seed(3)
    backbone = Backbone(dataclasses.replace(toy_run().model, **VARIANTS[variant])).eval()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.mul_(1.5)
    return backbone


@pytest.mark.parametrize("piece", [1, 7, 64, 2048])
@pytest.mark.parametrize("variant", VARIANTS)
def test_agrees_with_the_layers(monkeypatch, variant, piece):
    monkeypatch.setattr(inference, "PIECE", piece)
    backbone = make(variant)
    ids = torch.randint(5, 11, (3, 40))
    ids[0, 33:] = 4
    ids[1, :11] = 4
    real = ids != 4
    wanted = backbone(ids, keep_stream=True)
    with torch.no_grad():
        got = backbone(ids, keep_stream=True)
    torch.testing.assert_close(got.hidden[real], wanted.hidden[real], atol=1e-5, rtol=0)
    assert not got.hidden[~real].any()
    for a, b in zip(got.stream, wanted.stream, strict=True):
        torch.testing.assert_close(a[real], b[real], atol=1e-5, rtol=0)
    assert [r.layer for r in got.routings] == [r.layer for r in wanted.routings]
    for a, b in zip(got.routings, wanted.routings, strict=True):
        assert torch.equal(a.experts, b.experts)
        torch.testing.assert_close(a.logits, b.logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(a.weights, b.weights, atol=1e-6, rtol=0)
    for n in (1, len(backbone.layers)):
        with torch.no_grad():
            cut = backbone(ids, n_layers=n)
        torch.testing.assert_close(cut.hidden[real], wanted.stream[n][real], atol=1e-5, rtol=0)
        assert not cut.hidden[~real].any()
        assert [r.layer for r in cut.routings] == [r.layer for r in wanted.routings if r.layer < n]


def test_padding_and_batch_mates_change_no_bit():
    backbone = make("published")
    row = torch.randint(5, 11, (1, 50))
    batch = torch.full((3, 90), 4)
    batch[0, :50] = batch[1, 40:] = row[0]
    batch[2] = torch.randint(5, 11, (90,))
    with torch.no_grad():
        alone, together = backbone(row), backbone(batch)
    assert torch.equal(together.hidden[0, :50], alone.hidden[0])
    assert torch.equal(together.hidden[1, 40:], alone.hidden[0])
    assert torch.equal(together.routings[0].logits[1, 40:], alone.routings[0].logits[0])


def test_an_empty_row_gives_zeros():
    with torch.no_grad():
        output = make("published")(torch.full((2, 5), 4))
    assert not output.hidden.any()
    assert (output.routings[0].experts == -1).all()


def test_it_stands_aside_where_it_cannot_be_used(monkeypatch):
    backbone = make("published")
    assert not inference.is_possible(backbone)
    with torch.no_grad():
        assert inference.is_possible(backbone)
        with torch.autocast("cpu", torch.bfloat16):
            assert not inference.is_possible(backbone)
        assert not inference.is_possible(make("published").double())
        monkeypatch.setitem(backends.INSTALLED, "numba", False)
        assert not inference.is_possible(backbone)
        hidden = backbone(torch.randint(5, 11, (1, 9))).hidden
    assert hidden.shape == (1, 9, backbone.config.d_model)


class _Doubled(torch.nn.Module):
    """An adapter of sorts: something else where a linear layer was."""

    def __init__(self, linear):
        super().__init__()
        self.linear, self.weight = linear, linear.weight

    def forward(self, x):
        return 2 * self.linear(x)


class _OtherBlock(Block):
    def forward(self, *inputs):
        stream, branch, routing = super().forward(*inputs)
        return stream, 2 * branch, routing


WAYS = ["hook on a block", "hook on a part", "another module", "another forward", "another block"]


@pytest.mark.parametrize("way", WAYS)
def test_hooks_and_adapters_are_not_passed_by(way):
    backbone, ids, seen = make("published"), torch.randint(5, 11, (1, 9)), []
    with torch.no_grad():
        plain = backbone(ids).hidden
        block = backbone.layers[1]
        if way == "hook on a block":
            block.register_forward_hook(lambda *_: seen.append(1))
        elif way == "hook on a part":
            block.mixer.out_proj.register_forward_pre_hook(lambda *_: seen.append(1))
        elif way == "another module":
            block.mixer.out_proj = _Doubled(block.mixer.out_proj)
        elif way == "another block":
            block.__class__ = _OtherBlock
        else:
            forward = block.mixer.forward
            block.mixer.forward = lambda *a: seen.append(1) or forward(*a)
        hidden = backbone(ids).hidden
    assert seen or not torch.allclose(hidden, plain)


def test_buffers_as_long_as_the_sequence_are_few():
    """The residual stream and branch, in_proj's output and one direction: 6 times the width for the published shape."""
    config = toy_run().model
    short, long = (inference.Workspace(config, length) for length in (3000, 5000))

    def floats(workspace):
        return sum(x.numel() for x in vars(workspace).values() if isinstance(x, torch.Tensor))

    assert floats(long) - floats(short) == 2000 * (2 * config.d_model + 3 * config.d_inner)
