import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import mutual_info_score

from umbel.evaluate.experts.statistics.divergence import generalised_js
from umbel.evaluate.experts.statistics.information import (
    describe_information,
    explained_by_context,
    information_by_chance,
    miller_madow,
    mutual_information,
)
from umbel.evaluate.metrics import Estimate


@settings(max_examples=50, deadline=None, derandomize=True)
@given(arrays(np.int64, (3, 4), elements=st.integers(0, 200)))
def test_information_is_that_of_another_library_and_within_its_bound(table):
    found = float(mutual_information(table))
    if not table.any():
        assert math.isnan(found)
        return
    assert 0 <= found <= math.log(3) + 1e-12
    assert found == pytest.approx(mutual_info_score(None, None, contingency=table), abs=1e-12)


def test_information_of_equally_frequent_classes_is_the_generalised_divergence():
    table = np.random.default_rng(0).multinomial(500, [0.1, 0.2, 0.3, 0.4], size=3)
    assert float(mutual_information(table)) == pytest.approx(float(generalised_js(table)))


def test_miller_madow_takes_the_bias_of_independent_choices_off():
    rng = np.random.default_rng(1)
    p = np.outer([0.5, 0.3, 0.2], [0.4, 0.3, 0.2, 0.1]).flatten()
    tables = rng.multinomial(400, p, size=2000).reshape(-1, 3, 4)
    plain, found = mutual_information(tables), miller_madow(tables)
    # Six degrees of freedom over twice 400.
    assert plain.mean() == pytest.approx(6 / 800, rel=0.05)
    assert abs(found.mean()) < 3.5 * found.std() / math.sqrt(2000)


def test_the_jackknife_over_units_takes_off_what_like_neighbours_add():
    rng = np.random.default_rng(2)
    found, by_items = [], []
    for trial in range(60):
        # A unit's items are of one make: independent items would be far less noisy.
        own = rng.dirichlet(5 * np.array([0.4, 0.3, 0.2, 0.1]), (30, 2))
        joint = np.stack([[rng.multinomial(60, row) for row in rows] for rows in own])
        found.append(describe_information(joint, n_draws=20, seed=trial).corrected.value)
        by_items.append(float(miller_madow(joint.sum(0))))
    error = np.std(found) / math.sqrt(60)
    assert abs(np.mean(found)) < 3.5 * error
    assert np.mean(by_items) > 8 * error


def test_information_says_what_it_counted():
    joint = np.zeros((5, 4, 3), int)
    joint[:, 0, 0] = joint[:, 2, 1] = 9
    found = describe_information(joint, n_draws=30)
    assert found.n_classes == 2
    assert found.bound == pytest.approx(math.log(2)) == pytest.approx(found.mi.value)
    assert found.mi.low == pytest.approx(math.log(2)) and found.js.value == pytest.approx(math.log(2))
    with pytest.raises(ValueError, match="no item has one"):
        describe_information(np.zeros((5, 4, 3)))


def test_chance_counts_moved_labels_that_reach_the_value():
    moved = np.array([[[5, 5], [5, 5]], [[9, 1], [1, 9]], [[10, 0], [0, 10]]])
    found = information_by_chance(np.array([[9, 1], [1, 9]]), moved)
    assert found.p == pytest.approx((1 + 2) / 4)
    assert found.floor == pytest.approx(mutual_information(moved).mean())


def routed(rng, n_contexts, n_experts, contexts_of_class, n_items):
    """Items of classes that differ in contexts, and the table of a router that looks up an expert for each context."""
    table = rng.integers(0, n_experts, n_contexts)
    contexts = np.stack([rng.choice(n_contexts, n_items, p=p) for p in contexts_of_class])
    by_class = np.stack([np.bincount(row, minlength=n_contexts) for row in contexts])
    joint = np.stack([np.bincount(table[row], minlength=n_experts) for row in contexts])
    per_context = np.zeros((n_contexts, n_experts), int)
    np.add.at(per_context, (contexts.flatten(), table[contexts].flatten()), 1)
    return joint, by_class, per_context


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 10_000))
def test_a_hash_router_is_explained_by_its_token_alone(seed):
    rng = np.random.default_rng(seed)
    joint, by_class, per_context = routed(rng, 16, 4, rng.dirichlet(np.ones(16), 3), 200)
    found = explained_by_context(joint, by_class, per_context)
    if found.divergence > 1e-6:
        assert found.share == pytest.approx(1, abs=1e-9)
        assert found.explained == pytest.approx(found.divergence, abs=1e-9)


def test_a_router_that_sees_the_class_and_not_the_token_is_not_explained():
    # Both classes have the same tokens; expert 0 takes 3 of 4 in the first, 1 of 4 in the second.
    by_class = np.array([[40, 80, 40], [40, 80, 40]])
    joint = np.array([[120, 40], [40, 120]])
    per_context = np.array([[40, 40], [80, 80], [40, 40]])
    found = explained_by_context(joint, by_class, per_context)
    assert found.share == pytest.approx(0, abs=1e-9)
    assert found.divergence == pytest.approx(math.log(2) - (-0.75 * math.log(0.75) - 0.25 * math.log(0.25)), abs=1e-9)
    assert found.items_per_context == pytest.approx(320 / 3)


def test_a_half_explained_router_has_its_closed_form():
    # One token for each class. The router heeds the token of 1 in 2 items, in which the other half is by the class:
    # with all tokens in both classes but at shares 3/4 and 1/4, p(e | x) mixes the two.
    by_class = np.array([[30, 10], [10, 30]])
    joint = np.array([[40, 0], [0, 40]])
    per_context = np.array([[30, 10], [10, 30]])
    found = explained_by_context(joint, by_class, per_context)
    # Explained: class 0 goes to expert 0 in 3/4 3/4 + 1/4 1/4 = 5/8 of its items.
    entropy = -(5 / 8 * math.log(5 / 8) + 3 / 8 * math.log(3 / 8))
    assert found.share == pytest.approx((math.log(2) - entropy) / math.log(2), abs=1e-9)


def test_there_is_no_share_of_what_may_be_nothing():
    tables = np.array([[9, 1], [1, 9]]), np.array([[9, 1], [1, 9]]), np.diag([10, 10])
    found = explained_by_context(*tables, measured=Estimate(0.01, -0.001, 0.02))
    assert found.share is None and "holds 0" in found.reason
    assert explained_by_context(*tables, measured=Estimate(0.01, None, None)).share is None
    assert explained_by_context(*tables, measured=Estimate(0.3, 0.2, 0.4)).share == pytest.approx(1)
    alone = explained_by_context(np.array([[9, 1], [0, 0]]), np.array([[9, 1], [0, 0]]), np.diag([9, 1]))
    assert (alone.share, alone.reason) == (None, "fewer than two classes have items")
    alike = explained_by_context(np.array([[5, 5], [1, 1]]), np.array([[5, 5], [1, 1]]), np.diag([6, 6]))
    assert (alike.share, alike.reason) == (None, "the classes are routed alike")


def test_counts_of_two_recordings_are_refused():
    with pytest.raises(ValueError, match="in which no expert was ever chosen"):
        explained_by_context(np.ones((2, 2)), np.array([[1, 1], [1, 1]]), np.array([[2, 2], [0, 0]]))
