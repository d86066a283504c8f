"""Pooling over real bases, against plain loops; nothing else in a row is seen, forwards or backwards."""

import math

import pytest
import torch

from umbel.errors import ConfigError
from umbel.model.pooling import POOLINGS, Pool, mean_over_bases

CLS, SEP, MASK, PAD, N = 0, 1, 3, 4, 11


def made_pool(kind, width=5):
    pool = Pool(kind, width)
    if pool.query is not None:
        with torch.no_grad():
            pool.query.normal_(generator=torch.Generator().manual_seed(7))
    return pool


def by_loop(kind, hidden, ids, query):
    """Pool one row: ``hidden`` (L, D) and ``ids`` (L,) as lists of numbers."""
    rows = [state for state, token in zip(hidden.tolist(), ids.tolist(), strict=True) if token >= 7 and token != N]
    width = hidden.shape[1]
    if not rows:
        return [0.0] * width
    if kind == "first":
        return rows[0]
    if kind == "last":
        return rows[-1]
    if kind == "max":
        return [max(row[d] for row in rows) for d in range(width)]
    weights = [1.0] * len(rows)
    if kind == "attention":
        weights = [math.exp(sum(q * x for q, x in zip(query, row, strict=True)) / math.sqrt(width)) for row in rows]
    return [sum(w * row[d] for w, row in zip(weights, rows, strict=True)) / sum(weights) for d in range(width)]


IDS = torch.tensor(
    [
        [CLS, 7, 8, N, 9, SEP, PAD, PAD],
        [PAD, PAD, CLS, N, 10, MASK, 20, SEP],
        [CLS, N, N, N, SEP, PAD, PAD, PAD],
        [PAD, PAD, PAD, PAD, PAD, PAD, PAD, PAD],
    ]
)


@pytest.mark.parametrize("kind", POOLINGS)
def test_real_bases_alone_are_pooled(kind):
    pool, hidden = made_pool(kind), torch.randn(4, 8, 5)
    query = [] if pool.query is None else pool.query.tolist()
    wanted = [by_loop(kind, hidden[i], IDS[i], query) for i in range(4)]
    torch.testing.assert_close(pool(hidden, IDS), torch.tensor(wanted), atol=1e-6, rtol=0)
    assert pool(hidden, IDS)[2:].eq(0).all()


@pytest.mark.parametrize("kind", POOLINGS)
def test_what_is_no_base_has_no_gradient_and_leaks_nothing(kind):
    pool, hidden = made_pool(kind), torch.randn(4, 8, 5)
    real = (IDS >= 7) & (IDS != N)
    spoilt = hidden.clone()
    spoilt[~real] = torch.nan
    spoilt.requires_grad_()
    pooled = pool(spoilt, IDS)
    assert torch.equal(pooled.detach(), pool(hidden, IDS).detach())
    pooled.square().sum().backward()
    assert spoilt.grad[~real].eq(0).all()
    assert torch.isfinite(spoilt.grad).all()
    assert spoilt.grad[:2][real[:2]].ne(0).any()
    assert all(torch.isfinite(p.grad).all() and p.grad.ne(0).any() for p in pool.parameters())


@pytest.mark.parametrize("kind", POOLINGS)
def test_gradients_by_finite_differences(kind):
    pool = made_pool(kind).double()
    hidden = torch.randn(4, 8, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: pool(x, IDS), (hidden, *pool.parameters()))


def test_a_new_query_is_the_mean_and_learns():
    pool, hidden = Pool("attention", 5), torch.randn(4, 8, 5)
    pooled = pool(hidden, IDS)
    torch.testing.assert_close(pooled, mean_over_bases(hidden, IDS))
    pooled[:, 0].sum().backward()
    assert pool.query.grad.ne(0).any()


@pytest.mark.parametrize("kind", POOLINGS)
def test_half_precision_is_pooled_in_float32(kind):
    pool, hidden = made_pool(kind), torch.randn(1, 4_000, 5).bfloat16()
    ids = torch.full((1, 4_000), 8)
    wanted = pool(hidden.float(), ids)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(pool(hidden, ids), wanted)


def test_another_pooling_is_refused():
    with pytest.raises(ConfigError, match="pooling is 'cls', and there are mean, max, first, last, attention"):
        Pool("cls", 4)


def test_mean_is_over_acgt_only():
    hidden = torch.arange(16.0).reshape(1, 8, 2)
    ids = torch.tensor([[0, 7, 10, 11, 3, 8, 1, 4]])
    wanted = hidden[0, [1, 2, 5]].mean(0)
    assert torch.equal(mean_over_bases(hidden, ids)[0], wanted)


def test_mean_over_no_base_is_zero():
    assert torch.equal(mean_over_bases(torch.ones(1, 2, 3), torch.tensor([[0, 11]])), torch.zeros(1, 3))
