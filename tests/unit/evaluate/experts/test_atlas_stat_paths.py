import math

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from umbel.evaluate.experts.statistics.paths import expert_paths


def test_a_permutation_of_experts_is_a_full_tie():
    found = expert_paths(np.array([[0, 10, 0], [0, 0, 10], [10, 0, 0]]))
    assert found.mi == pytest.approx(math.log(3)) and found.share == pytest.approx(1)
    assert found.lift.max() == pytest.approx(3)


def test_independent_choices_have_lift_one_and_no_information():
    found = expert_paths(np.outer([10, 20, 30], [5, 7]))
    assert found.mi == pytest.approx(0, abs=1e-12) and found.corrected < 0
    np.testing.assert_allclose(found.lift, 1)
    np.testing.assert_allclose(found.following.sum(1), 1)


def test_numbers_are_those_of_another_library():
    table = np.random.default_rng(0).integers(0, 50, (4, 6))
    table[2] = 0
    found = expert_paths(table)
    assert found.mi == pytest.approx(mutual_info_score(None, None, contingency=table))
    assert found.share == pytest.approx(found.mi / math.log(4))
    assert np.isnan(found.following[2]).all()


def test_one_expert_has_no_share_and_no_items_no_paths():
    assert expert_paths(np.array([[3, 4]])).share is None
    with pytest.raises(ValueError, match="no item passed"):
        expert_paths(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="no item passed"):
        expert_paths(np.zeros((0, 0)))
