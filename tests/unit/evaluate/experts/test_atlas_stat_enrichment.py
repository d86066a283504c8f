import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import false_discovery_control
from scipy.stats.contingency import odds_ratio

from umbel.evaluate.experts.statistics.enrichment import benjamini_hochberg, enrichment, log_odds, permutation


def test_log_odds_are_those_of_the_table_of_four():
    joint = np.random.default_rng(0).integers(1, 50, (3, 4))
    found = log_odds(joint)
    for c in range(3):
        for e in range(4):
            a, in_class, of_expert = joint[c, e], joint[c].sum(), joint[:, e].sum()
            four = np.array([[a, in_class - a], [of_expert - a, joint.sum() - in_class - of_expert + a]])
            assert found[c, e] == pytest.approx(math.log(odds_ratio(2 * four + 1, kind="sample").statistic))


def test_log_odds_of_what_is_not_there_or_is_all_there_is():
    found = log_odds(np.array([[5, 0, 3], [0, 0, 0], [2, 0, 4]]))
    assert np.isnan(found[1]).all() and np.isnan(found[:, 1]).all()
    assert np.isfinite(found[[0, 2]][:, [0, 2]]).all()
    assert np.isnan(log_odds(np.array([[5, 3], [0, 0]]))).all()
    assert np.isnan(log_odds(np.array([[5, 0], [3, 0]]))).all()


def test_p_and_z_are_those_of_loops_over_moved_labels(monkeypatch):
    rng = np.random.default_rng(1)
    joint, moved = rng.integers(0, 9, (5, 2, 3)), rng.integers(0, 40, (37, 2, 3))
    for chunk in (10**6, 30):
        monkeypatch.setattr("umbel.evaluate.experts.statistics.enrichment._CHUNK_ENTRIES", chunk)
        found = enrichment(joint, moved, n_draws=20)
        odds = log_odds(joint.sum(0))
        for c in range(2):
            for e in range(3):
                by_chance = np.array([log_odds(table)[c, e] for table in moved])
                above, below = (by_chance >= odds[c, e]).sum(), (by_chance <= odds[c, e]).sum()
                assert found.p[c, e] == pytest.approx(min(1, 2 * (1 + min(above, below)) / 38))
                assert found.z[c, e] == pytest.approx((odds[c, e] - by_chance.mean()) / by_chance.std())
    np.testing.assert_allclose(found.log2_odds, odds / math.log(2))
    np.testing.assert_allclose(found.share_in_class.sum(1), 1)
    np.testing.assert_allclose(found.share_overall, joint.sum((0, 1)) / joint.sum())
    assert (found.low <= found.high).all()


def test_where_there_is_no_p_there_is_a_reason():
    joint = np.zeros((6, 4, 3), int)
    joint[:, 0] = [5, 0, 2]
    joint[:, 1] = [3, 0, 4]
    joint[0, 3] = [1, 0, 1]
    moved = np.tile(joint.sum(0), (9, 1, 1))
    moved[:, 1, 0] += np.arange(9)
    moved[:, 3] = 0
    found = enrichment(joint, moved, n_draws=20)
    assert set(found.reason[2]) == {"no items of this class"}
    assert found.reason[0, 1] == found.reason[1, 1] == "no item chose this expert"
    assert found.reason[3, 0] == "moved labels leave no items of this class"
    assert found.reason[0, 0] == ""
    assert (np.isnan(found.p) == (found.reason != "")).all()
    # An odds ratio, and no interval, where a single unit has the class.
    assert np.isfinite(found.log2_odds[3, 0]) and np.isnan(found.low[3, 0]) and np.isfinite(found.low[0, 0])
    fixed = enrichment(joint, np.tile(joint.sum(0), (9, 1, 1)), n_draws=20)
    assert fixed.reason[0, 0] == "moving the labels changes nothing here" and np.isnan(fixed.p).all()
    one_class = enrichment(joint[:, :1], moved[:, :1], n_draws=20)
    assert one_class.reason[0].tolist() == [
        "all items are of this class",
        "no item chose this expert",
        "all items are of this class",
    ]
    one_expert = enrichment(joint[:, :2, :1], moved[:, :2, :1], n_draws=20)
    assert set(one_expert.reason.flatten()) == {"every choice is this expert"}


def test_moved_labels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"moved labels of shape \(3, 2\) beside counts of \(3, 2\)"):
        enrichment(np.ones((4, 3, 2)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="S >= 1"):
        enrichment(np.ones((4, 3, 2)), np.ones((0, 3, 2)))


def test_intervals_hold_the_truth_of_scattered_units():
    rng = np.random.default_rng(2)
    p = np.array([[0.6, 0.3, 0.1], [0.3, 0.3, 0.4]])
    # Classes have equal budgets, so that the truth is that of p.
    truth = log_odds(1e9 * p) / math.log(2)
    held = np.zeros((2, 3))
    for trial in range(100):
        own = np.stack([rng.dirichlet(20 * row, 50) for row in p], axis=1)
        joint = np.stack([[rng.multinomial(40, row) for row in rows] for rows in own])
        found = enrichment(joint, joint[:2], n_draws=200, seed=trial)
        held += (found.low <= truth) & (truth <= found.high)
    assert (held >= 87).all() and held.mean() < 99


def test_permutations_are_those_of_a_loop():
    rng = np.random.default_rng(3)
    classes = np.array([0, 1, 1, 2, -1])
    joint = np.zeros((5, 3, 2), int)
    choices = rng.integers(1, 99, (5, 2))
    for unit, c in enumerate(classes):
        if c >= 0:
            joint[unit, c] = choices[unit]
    possible = set()
    for order in permutations(classes[:4].tolist()):
        table = np.zeros((3, 2), int)
        for unit, c in enumerate(order):
            table[c] += choices[unit]
        possible.add(tuple(table.flatten().tolist()))
    found = permutation(joint, 600, seed=1)
    seen, numbers = np.unique(found.reshape(600, -1), axis=0, return_counts=True)
    assert {tuple(row) for row in seen.tolist()} == possible and len(possible) == 12
    assert numbers.min() > 25 and numbers.max() < 85
    np.testing.assert_array_equal(permutation(joint, 600, seed=1), found)


def test_permutation_in_chunks_keeps_its_sums(monkeypatch):
    joint = np.zeros((9, 2, 3), int)
    joint[np.arange(9), np.arange(9) % 2] = np.random.default_rng(0).integers(0, 9, (9, 3)) + 1
    monkeypatch.setattr("umbel.evaluate.experts.statistics.enrichment._CHUNK_ENTRIES", 40)
    found = permutation(joint, 11)
    np.testing.assert_array_equal(found.sum(1), np.tile(joint.sum((0, 1)), (11, 1)))


def test_units_of_two_classes_cannot_be_permuted():
    joint = np.zeros((3, 3, 2), int)
    joint[0, 0], joint[1, :2], joint[2, 1] = 1, 1, 1
    with pytest.raises(ValueError, match="unit 1 has items of 2 classes"):
        permutation(joint, 5)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(arrays(np.float64, (3, 5), elements=st.floats(0, 1)))
def test_q_values_are_those_of_another_library(p):
    np.testing.assert_allclose(benjamini_hochberg(p).flatten(), false_discovery_control(p.flatten()), atol=1e-12)


def test_missing_p_values_are_no_tests():
    p = np.array([0.001, 0.2, np.nan, 0.03, np.nan])
    found = benjamini_hochberg(p)
    assert np.isnan(found[[2, 4]]).all()
    np.testing.assert_allclose(found[[0, 1, 3]], false_discovery_control(p[[0, 1, 3]]))
    assert np.isnan(benjamini_hochberg(np.array([np.nan]))).all()
    with pytest.raises(ValueError, match="from 0 to 1"):
        benjamini_hochberg(np.array([1.5]))
