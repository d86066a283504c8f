import dataclasses
import math

import pytest
import torch

from umbel.config import ModelConfig
from umbel.errors import ConfigError, ShapeError
from umbel.model.attention import Attention, rotary_table, rotate
from umbel.model.backbone import Backbone

CONFIG = ModelConfig(pattern="Ad", n_layers=2, d_model=12, n_heads=3, ffn_hidden=16)


def by_loops(attention, x):
    """Attention of one sequence from its definition, in Python's own numbers; rotations as complex products."""
    length, width = x.shape
    half = width // attention.n_heads // 2
    out = torch.zeros(length, width, dtype=torch.float64)
    q, k, v = (attention.in_proj.weight.double() @ x.double().T).T.chunk(3, dim=1)

    def turned(row, head, t):
        pairs = [(head * 2 * half + i, head * 2 * half + half + i) for i in range(half)]
        angles = [t * attention.base ** (-2 * i / (2 * half)) for i in range(half)]
        return [
            complex(row[a], row[b]) * complex(math.cos(w), math.sin(w)) for (a, b), w in zip(pairs, angles, strict=True)
        ]

    for head in range(attention.n_heads):
        columns = slice(head * 2 * half, (head + 1) * 2 * half)
        for t in range(length):
            mine = turned(q[t].tolist(), head, t)
            scores = [
                sum((a * b.conjugate()).real for a, b in zip(mine, turned(k[s].tolist(), head, s), strict=True))
                for s in range(length)
            ]
            weights = torch.tensor(scores, dtype=torch.float64).div(math.sqrt(2 * half)).softmax(0)
            out[t, columns] = weights @ v[:, columns]
    return out @ attention.out_proj.weight.double().T


def test_agrees_with_loops():
    attention, x = Attention(CONFIG), torch.randn(1, 7, 12)
    torch.testing.assert_close(attention(x)[0].double(), by_loops(attention, x[0]).detach(), atol=1e-6, rtol=1e-5)


def test_order_comes_in_by_positions_alone():
    """Without the rotation a permutation of tokens would be a permutation of outputs."""
    attention, x = Attention(CONFIG), torch.randn(1, 6, 12)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert not torch.allclose(attention(x[:, order]), attention(x)[:, order], atol=1e-4)


def test_angles_stay_exact_at_far_positions():
    cos, sin = rotary_table(131_073, 8, 1e4, torch.device("cpu"))
    t, i = 131_072, 1
    angle = t * 1e4 ** (-2 * i / 8)
    assert float(cos[t, i]) == pytest.approx(math.cos(angle), abs=1e-6)
    assert float(sin[t, i]) == pytest.approx(math.sin(angle), abs=1e-6)
    x = torch.randn(1, 1, 131_073, 8)
    torch.testing.assert_close(rotate(x, cos, sin).norm(dim=-1), x.norm(dim=-1))


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_not_seen_whatever_it_holds(side):
    attention, x = Attention(CONFIG), torch.randn(1, 5, 12)
    rubbish = torch.full((1, 3, 12), torch.nan)
    start = 3 if side == "left" else 0
    padded = torch.cat([rubbish, x] if side == "left" else [x, rubbish], 1).repeat(2, 1, 1)
    spans = torch.tensor([[start, start + 5], [0, 0]])
    y = attention(padded, spans)
    torch.testing.assert_close(y[0, start : start + 5], attention(x)[0], atol=1e-6, rtol=1e-5)
    assert torch.isfinite(y).all()


def test_a_sequence_longer_than_attention_takes_is_refused():
    backbone = Backbone(dataclasses.replace(CONFIG, max_tokens=8))
    ids = torch.full((1, 9), 7)
    with pytest.raises(ShapeError, match=r"a sequence of 9 tokens, and this model's attention takes at most 8"):
        backbone(ids)
    assert backbone(ids[:, :8]).hidden.shape == (1, 8, 12)
    # Two sequences of one row are short enough, each for itself.
    packed = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1, 1]])
    assert backbone(ids, segment_ids=packed).hidden.shape == (1, 9, 12)
    assert Backbone(dataclasses.replace(CONFIG, max_tokens=8, pattern="Md"))(ids).hidden.shape == (1, 9, 12)


def test_heads_must_divide_the_width_evenly():
    with pytest.raises((ValueError, ConfigError), match=r"must be n_heads \(5\) times an even number"):
        dataclasses.replace(CONFIG, n_heads=5)
    with pytest.raises((ValueError, ConfigError), match="even number"):
        dataclasses.replace(CONFIG, n_heads=4)
