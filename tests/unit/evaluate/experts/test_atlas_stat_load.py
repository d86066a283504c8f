import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.evaluate.experts.statistics.load import describe_load, load_intervals
from umbel.model.routing import expert_load


def choices(rng, n_items, n_experts, top_k):
    """Counts of items that each take ``top_k`` different experts, unevenly."""
    keys = rng.random((n_items, n_experts)) ** (1 / np.arange(1, n_experts + 1))
    return np.bincount(keys.argsort(1)[:, -top_k:].flatten(), minlength=n_experts)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 4), st.integers(0, 999))
def test_bounds_hold_for_items_that_take_no_expert_twice(n_items, n_experts, top_k, seed):
    top_k = min(top_k, n_experts)
    found = describe_load(choices(np.random.default_rng(seed), n_items, n_experts, top_k), top_k, n_items)
    assert found.load.sum() == pytest.approx(1)
    assert 1 - 1e-9 <= found.max_over_mean <= found.max_over_mean_bound + 1e-9
    assert found.cv <= found.cv_bound + 1e-9
    assert top_k - 1e-9 <= found.effective_experts <= n_experts + 1e-9
    assert -1e-9 <= found.gini <= (n_experts - top_k) / n_experts + 1e-9
    assert set(found.dead) <= set(found.starving)


def test_bounds_are_reached():
    found = describe_load(np.array([50, 50, 0, 0, 0]), top_k=2, n_items=50)
    assert found.max_over_mean == pytest.approx(2.5) == pytest.approx(found.max_over_mean_bound)
    assert found.cv == pytest.approx(math.sqrt(1.5)) == pytest.approx(found.cv_bound)
    assert found.gini == pytest.approx(3 / 5)
    assert found.effective_experts == pytest.approx(2)
    assert found.max_vio == pytest.approx(1.5)


def test_agrees_with_the_numbers_of_training_and_with_loops():
    counts = np.array([70, 10, 0, 25, 1, 2])
    found, other = describe_load(counts, 1, 108), expert_load(counts)
    assert found.load.tolist() == other.load
    assert (found.max_over_mean, found.cv) == pytest.approx((other.max_over_mean, other.cv))
    assert found.entropy == pytest.approx(other.entropy)
    f = counts / counts.sum()
    assert found.gini == pytest.approx(sum(abs(a - b) for a in f for b in f) / (2 * 6))
    assert found.dead == (2,)
    # 0.05 / 6 of 108 is 0.9.
    assert found.starving == (2,)


def test_a_starving_expert_is_not_dead():
    found = describe_load(np.array([500, 500, 10, 0]), 1, 1010)
    assert (found.dead, found.starving) == ((3,), (2, 3))


def test_too_few_items_are_said():
    assert not describe_load(np.array([39, 0]), 1, 39).is_enough
    assert describe_load(np.array([40, 0]), 1, 40).is_enough


def test_lost_rows_are_refused():
    with pytest.raises(ValueError, match="7 choices, at most 4 of one expert, by 4 items that take 2 different"):
        describe_load(np.array([4, 3]), 2, 4)
    with pytest.raises(ValueError, match="lost, or counted twice"):
        describe_load(np.array([6, 2]), 2, 4)
    with pytest.raises(ValueError, match="saw no items"):
        describe_load(np.array([0, 0]), 1, 0)


def test_a_single_expert_is_even():
    found = describe_load(np.array([5]), 1, 5)
    assert (found.entropy, found.cv, found.gini) == (1.0, 0.0, 0.0)


def test_intervals_hold_the_load_and_shrink_with_units():
    rng = np.random.default_rng(0)
    counts = rng.multinomial(100, [0.5, 0.3, 0.2], size=100)
    wide, narrow = load_intervals(counts[:10]), load_intervals(counts)
    np.testing.assert_allclose(narrow.value, counts.sum(0) / counts.sum())
    assert (narrow.low < narrow.value).all() and (narrow.value < narrow.high).all()
    assert (wide.high - wide.low > 2 * (narrow.high - narrow.low)).all()
