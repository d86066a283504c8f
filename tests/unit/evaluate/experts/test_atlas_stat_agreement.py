import numpy as np
import pytest

from umbel.evaluate.experts.statistics.agreement import overlap, saturation, transitions


def draws(rng, n_items, n_experts, top_k, uneven=False):
    keys = rng.random((n_items, n_experts))
    if uneven:
        keys **= 1 / np.arange(1, n_experts + 1)
    return keys.argsort(1)[:, -top_k:].astype(np.int16)


def test_overlap_is_that_of_sets():
    rng = np.random.default_rng(0)
    a, b = draws(rng, 50, 7, 3), draws(rng, 50, 7, 3)
    assert overlap(a, b).tolist() == [len(set(x) & set(y)) / 3 for x, y in zip(a.tolist(), b.tolist(), strict=True)]


@pytest.mark.parametrize("top_k", [1, 2, 5])
def test_a_router_agrees_with_itself_and_at_random_to_k_over_e(top_k):
    rng = np.random.default_rng(top_k)
    a, b = draws(rng, 20_000, 8, top_k), draws(rng, 20_000, 8, top_k)
    assert saturation(a, a, n_experts=8).overlap.value == 1
    assert saturation(a, a[:, ::-1], n_experts=8).overlap.value == 1
    found = saturation(a, b, n_experts=8)
    assert found.overlap.value == pytest.approx(top_k / 8, abs=0.01) == pytest.approx(found.at_random, abs=0.01)
    assert found.first.value == pytest.approx(1 / 8, abs=0.01)
    assert found.overlap.low is None


def test_uneven_loads_agree_by_chance():
    rng = np.random.default_rng(1)
    found = saturation(draws(rng, 20_000, 8, 2, True), draws(rng, 20_000, 8, 2, True), n_experts=8)
    assert found.overlap.value > found.at_random + 0.02
    assert found.overlap.value == pytest.approx(found.by_load, abs=0.01)


def test_intervals_are_over_units():
    rng = np.random.default_rng(2)
    units = np.repeat([3, 7, 9, 11, 20, 21, 22, 23], 100)
    agree = (units > 9) & (rng.random(800) < 0.5)
    a = np.zeros((800, 1), int)
    b = np.where(agree, 0, 1)[:, None]
    found = saturation(a, b, n_experts=2, units_T=units)
    alone = saturation(a, b, n_experts=2, units_T=np.arange(800))
    assert found.overlap.low < found.overlap.value == agree.mean() < found.overlap.high
    assert found.overlap.high - found.overlap.low > 2 * (alone.overlap.high - alone.overlap.low)


def test_transitions_are_counted():
    a, b = np.array([[0, 1], [2, 1], [0, 2]]), np.array([[1], [0], [3]])
    assert transitions(a, b, 3, 4).tolist() == [[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    with pytest.raises(ValueError, match="3 items here and 2 there"):
        transitions(a, b[:2], 3, 4)


def test_other_items_are_refused():
    with pytest.raises(ValueError, match=r"choices of shape \(3, 1\) and \(2, 1\)"):
        saturation(np.zeros((3, 1)), np.zeros((2, 1)), n_experts=2)
    with pytest.raises(ValueError, match="no items"):
        saturation(np.zeros((0, 1)), np.zeros((0, 1)), n_experts=2)
