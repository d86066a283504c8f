import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon

from umbel.evaluate.experts.statistics.divergence import (
    bits,
    describe_divergences,
    generalised_js,
    js_divergence,
    normalised,
    pairwise_js,
    shares_of,
    split_half_floor,
)

counts = arrays(np.int64, 6, elements=st.integers(0, 1000))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(counts, counts)
def test_divergence_is_between_0_and_ln_2_and_symmetric(p, q):
    found = float(js_divergence(p, q))
    if p.any() and q.any():
        assert 0 <= found <= math.log(2)
        assert found == float(js_divergence(q, p))
        assert found == pytest.approx(jensenshannon(p, q) ** 2, abs=1e-12)
    else:
        assert math.isnan(found)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(arrays(np.int64, (4, 3), elements=st.integers(0, 50)))
def test_generalised_divergence_is_within_its_bound(table):
    n_classes = int(table.any(1).sum())
    found = float(generalised_js(table))
    if n_classes:
        assert 0 <= found <= math.log(max(1, min(n_classes, 3))) + 1e-12
    else:
        assert math.isnan(found)


def test_generalised_divergence_of_two_is_the_divergence_and_of_many_the_sum_of_kl():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(5), 4)
    assert float(generalised_js(p[:2])) == pytest.approx(float(js_divergence(p[0], p[1])))
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    mixed = weights @ p
    by_kl = sum(w * (row * np.log(row / mixed)).sum() for w, row in zip(weights, p, strict=True))
    assert float(generalised_js(p, weights)) == pytest.approx(by_kl)
    assert float(generalised_js(p, 7 * weights)) == pytest.approx(by_kl)


def test_units_of_divergence():
    assert bits([math.log(2), 0]).tolist() == [1.0, 0.0]
    assert float(normalised(math.log(3), 3)) == pytest.approx(1)
    with pytest.raises(ValueError, match="among 1 has no bound above 0"):
        normalised(0.1, 1)


def test_shares_of_nothing_are_nan():
    np.testing.assert_array_equal(shares_of(np.array([[2, 2], [0, 0]])), [[0.5, 0.5], [np.nan, np.nan]])


def test_pairs_of_classes_are_the_loop():
    joint = np.random.default_rng(1).integers(0, 9, (7, 4, 5))
    joint[:, 2] = 0
    found = pairwise_js(joint)
    total = joint.sum(0)
    for a in range(4):
        for b in range(4):
            np.testing.assert_allclose(
                found[a, b],
                jensenshannon(total[a], total[b]) ** 2
                if a != b and 2 not in (a, b)
                else (np.nan if 2 in (a, b) else 0.0),
                atol=1e-12,
            )


def test_floor_is_the_mean_over_random_halves():
    joint = np.random.default_rng(2).integers(0, 20, (4, 1, 3))
    joint[3] = 0
    # Of three units a half is one: three ways to split.
    total = joint.sum(0)[0]
    ways = [float(js_divergence(joint[u, 0], total - joint[u, 0])) for u in range(3)]
    found = float(split_half_floor(joint, n_splits=5000, seed=1)[0])
    assert found == pytest.approx(np.mean(ways), abs=0.05 * np.std(ways))


def test_classes_that_do_not_differ_lie_at_their_floor_and_others_above():
    rng = np.random.default_rng(3)
    p, q = np.array([0.5, 0.3, 0.1, 0.1]), np.array([0.1, 0.1, 0.3, 0.5])
    joint = np.stack([[rng.multinomial(40, each) for each in (p, p, q)] for _ in range(40)])
    found = describe_divergences(joint, n_draws=400)
    assert found.js.value[0, 1] <= found.floor[0, 1]
    assert found.js.value[0, 2] > 20 * found.floor[0, 2]
    assert found.corrected.low[0, 1] <= 0 <= found.corrected.high[0, 1]
    truth = float(js_divergence(p, q))
    assert found.corrected.low[0, 2] < truth < found.corrected.high[0, 2]
    assert found.floor[0, 1] == pytest.approx(found.class_floor[:2].mean())
    for each in (found.js, found.corrected):
        for table in (each.value, each.low, each.high):
            np.testing.assert_array_equal(table, table.T)
            np.testing.assert_allclose(np.diagonal(table), 0, atol=1e-15)


def test_a_class_in_one_unit_has_no_floor_and_no_correction():
    joint = np.random.default_rng(4).integers(1, 9, (5, 2, 3))
    joint[1:, 1] = 0
    found = describe_divergences(joint, n_draws=50)
    assert np.isfinite(found.js.value[0, 1])
    assert (
        np.isnan(found.corrected.value[0, 1]) and np.isnan(found.class_floor[1]) and np.isfinite(found.class_floor[0])
    )
