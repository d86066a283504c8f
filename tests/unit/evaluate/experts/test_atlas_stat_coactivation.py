from itertools import combinations

import numpy as np
import pytest

from umbel.evaluate.experts.statistics.coactivation import coactivation


def pairs_of(sets, weights, n_experts):
    """Counts of sets of experts that items took."""
    table = np.zeros((n_experts, n_experts), np.int64)
    for experts, weight in zip(sets, weights, strict=True):
        for a in experts:
            for b in experts:
                table[a, b] += weight
    return table


def test_pairs_drawn_by_their_loads_have_lift_one():
    # Sets {a, b} with probability in proportion to w_a w_b: nothing joins two experts but their weights.
    weights = [1, 2, 3, 5, 8]
    sets = list(combinations(range(5), 2))
    numbers = [100 * weights[a] * weights[b] for a, b in sets]
    found = coactivation(pairs_of(sets, numbers, 5), sum(numbers))
    off = ~np.eye(5, dtype=bool)
    np.testing.assert_allclose(found.lift[off], 1, atol=1e-6)
    np.testing.assert_allclose(found.observed[off], found.expected[off], atol=1e-6)
    assert np.isnan(np.diagonal(found.lift)).all()


def test_planted_partners_are_found_among_others():
    rng = np.random.default_rng(0)
    sets = [(3, 8) if rng.random() < 0.04 else tuple(rng.choice(12, 2, replace=False)) for _ in range(8000)]
    found = coactivation(pairs_of(sets, [1] * 8000, 12), 8000)
    np.testing.assert_array_equal(found.lift, found.lift.T)
    assert np.unravel_index(np.nanargmax(found.lift), (12, 12)) == (3, 8)
    assert found.lift[3, 8] > 2 > 1.5 > np.sort(found.lift[np.triu_indices(12, 1)])[-2]


@pytest.mark.parametrize("top_k", [2, 3, 4])
def test_rows_add_up_to_the_other_experts_of_an_item(top_k):
    rng = np.random.default_rng(top_k)
    keys = rng.random((3000, 7)) ** (1 / np.arange(1, 8))
    keys[:, 3] = -1
    sets = [tuple(row) for row in keys.argsort(1)[:, -top_k:]]
    table = pairs_of(sets, [1] * 3000, 7)
    found = coactivation(table, 3000)
    alive = [0, 1, 2, 4, 5, 6]
    np.testing.assert_allclose(np.nansum(found.observed, 1)[alive], top_k - 1)
    np.testing.assert_allclose(np.nansum(found.expected, 1)[alive], top_k - 1, rtol=1e-6)
    assert np.isnan(found.lift[3]).all() and np.isnan(found.lift[:, 3]).all()
    counted = sum(1 for experts in sets if {0, 5} <= set(experts))
    assert found.n[0, 5] == counted
    assert found.observed[0, 5] == pytest.approx(counted / sum(0 in experts for experts in sets))


def test_counts_that_are_not_of_these_items_are_refused():
    table = np.array([[4, 2, 2], [2, 4, 2], [2, 2, 4]])
    with pytest.raises(ValueError, match="not those of items that all take the same number"):
        coactivation(table, 12)
    with pytest.raises(ValueError, match="not those of items that all take the same number"):
        coactivation(table + np.diag([2, 2, 2]), 9)
    with pytest.raises(ValueError, match="not symmetric"):
        coactivation(np.triu(table), 6)
