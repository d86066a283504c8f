"""The vector type's functions against float64, over the ranges they promise."""

import numpy as np
import pytest
import torch

from umbel.ops.threads import COUNTER, FIRST, TASKS, launch
from umbel.ops.vectors import (
    LANES,
    exp,
    exp2,
    exp2_of_product,
    fetch_add,
    kernel,
    least,
    load,
    load_part,
    log1p,
    put,
    store,
    store_part,
    total,
)


@kernel
def _functions(a):
    while True:
        i = fetch_add(a, COUNTER) * 16
        if i >= a[TASKS] * 16:
            return
        store(a[FIRST + 1], i, exp2(load(a[FIRST], i)))
        store(a[FIRST + 2], i, exp(load(a[FIRST], i)))
        store(a[FIRST + 3], i, log1p(exp2(load(a[FIRST], i))))


@kernel
def _products(a):
    while True:
        i = fetch_add(a, COUNTER) * 16
        if i >= a[TASKS] * 16:
            return
        store(a[FIRST + 2], i, exp2_of_product(load(a[FIRST], i), load(a[FIRST + 1], i)))
        put(a[FIRST + 3], i // 16, least(load(a[FIRST + 1], i)))


@kernel
def _parts(a):
    count = a[FIRST + 2]
    store_part(a[FIRST + 1], 0, load_part(a[FIRST], 0, count), count)
    put(a[FIRST + 1], 20, total(load_part(a[FIRST], 0, count)))


def evaluate(x):
    outputs = [torch.empty_like(x) for _ in range(3)]
    launch(_functions, len(x) // LANES, 0, x.data_ptr(), *(y.data_ptr() for y in outputs))
    return [y.double() for y in outputs]


def test_accuracy():
    x = -torch.cat([torch.zeros(16), torch.rand(16_000) * 80, torch.rand(16_000), torch.logspace(-30, 0, 16_000)])
    d = x.double()
    two, e, log = evaluate(x)
    assert float((two / torch.exp2(d) - 1).abs().max()) < 2e-7
    assert float((e / torch.exp(d) - 1).abs().max()) < 2e-7
    assert float((log / torch.log1p(two) - 1).abs().max()) < 3e-7
    assert (two[:16] == 1).all()


def test_powers_of_products():
    x, y = torch.rand(16_000) * 10, -torch.rand(16_000) * 12
    out, lowest = torch.empty(16_000), torch.empty(1000)
    launch(_products, 1000, 0, *(v.data_ptr() for v in (x, y, out, lowest)))
    assert float((out / torch.exp2(x.double() * y.double()) - 1).abs().max()) < 2e-7
    assert torch.equal(lowest, y.view(1000, 16).min(1).values)


def test_far_ends_stay_finite():
    two, e, _ = evaluate(torch.tensor([-1e30, -126.0, -127.0, -1000.0] * 4))
    assert two[[0, 2, 3]].tolist() == [2.0**-126] * 3
    assert torch.isfinite(e).all()


@pytest.mark.parametrize("count", [1, 7, 15, 16, 40])
def test_parts_touch_nothing_else(count):
    source = torch.arange(1.0, 17.0)
    target = torch.full((24,), -1.0)
    launch(_parts, 1, 0, source.data_ptr(), target.data_ptr(), count)
    n = min(count, 16)
    assert target[:n].tolist() == source[:n].tolist()
    assert (target[n:20] == -1).all()
    assert float(target[20]) == float(np.arange(1, n + 1).sum())
