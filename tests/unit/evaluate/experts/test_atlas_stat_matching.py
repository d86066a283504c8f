from itertools import permutations

import numpy as np
import pytest
from scipy.stats import kstest

from umbel.evaluate.experts.statistics.matching import correlations, match_experts


def test_the_best_of_all_pairings_is_found():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
        alike = np.corrcoef(a, b)[:5, 5:]
        best = max(np.mean([alike[i, j] for i, j in enumerate(order)]) for order in permutations(range(5)))
        assert match_experts(a, b, n_relabellings=0).mean == pytest.approx(best)
    np.testing.assert_allclose(correlations(a, b), alike)


def test_the_same_experts_under_noise_and_other_names_are_found():
    rng = np.random.default_rng(1)
    a, order = rng.normal(size=(8, 15)), rng.permutation(8)
    found = match_experts(a, (a + 0.3 * rng.normal(size=a.shape))[order])
    assert found.partner.tolist() == np.argsort(order).tolist()
    assert found.mean > 0.9 > found.chance_high > found.chance > found.unpaired
    assert found.p == pytest.approx(1 / 201)


def test_models_that_share_nothing_are_at_chance():
    rng = np.random.default_rng(2)
    found = [match_experts(rng.normal(size=(6, 10)), rng.normal(size=(6, 10)), n_relabellings=99) for _ in range(150)]
    # Paired as well as can be, they look alike; the relabellings say that this is nothing.
    assert np.mean([each.mean for each in found]) > 0.25
    assert np.mean([each.mean - each.chance for each in found]) == pytest.approx(0, abs=0.02)
    assert kstest([each.p for each in found], "uniform").pvalue > 0.01


def test_dead_experts_and_empty_classes_are_left_out():
    rng = np.random.default_rng(3)
    a = rng.normal(size=(4, 30))
    b = a[[1, 2, 3, 0]].copy()
    a[1], b[:, 4], b[3] = np.nan, np.nan, 0.5
    found = match_experts(a, b)
    # Of a the second is dead, of b the fourth (a's first) constant.
    assert found.left_out == (1,) and found.others_left_out == (3,) and found.n_features == 29
    assert found.partner[2:].tolist() == [1, 2] and found.partner[0] == 0 and found.partner[1] == -1
    assert np.isnan(found.similarity[1]) and found.similarity[2] == pytest.approx(1)


def test_models_of_unequal_size_are_matched_as_far_as_it_goes():
    a = np.random.default_rng(4).normal(size=(5, 9))
    found = match_experts(a, a[[4, 0]])
    assert found.partner.tolist() == [1, -1, -1, -1, 0]
    back = match_experts(a[[4, 0]], a)
    assert back.partner.tolist() == [4, 0] and back.mean == pytest.approx(1)


def test_any_similarity_can_be_used():
    a = np.array([[0.0, 1.0], [1.0, 0.0]])
    found = match_experts(a, a, similarity=lambda x, y: -np.abs(x[:, None] - y).sum(-1))
    assert (found.partner.tolist(), found.mean, found.unpaired) == ([0, 1], 0.0, -1.0)


def test_what_cannot_be_matched_is_refused():
    with pytest.raises(ValueError, match="give the same features"):
        match_experts(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(ValueError, match="0 and 0 experts with a profile, of 3 features"):
        match_experts(np.ones((2, 3)), np.ones((2, 3)))
