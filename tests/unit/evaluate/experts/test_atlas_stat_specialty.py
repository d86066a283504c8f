import math

import numpy as np
import pytest

from umbel.evaluate.experts.statistics.specialty import purity, specialty


def test_specialty_is_its_formula():
    joint = np.array([[80, 10, 10, 0], [1, 1, 2, 0], [30, 0, 10, 0]])
    p = joint / joint.sum(1, keepdims=True)
    found = specialty(joint)
    for c in range(3):
        for e in range(4):
            assert found[c, e] == pytest.approx(math.log((p[c, e] + 0.125) / (p[:, e].mean() + 0.125)))
    assert (found[:, 3] == 0).all()


def test_purity_is_that_of_equal_budgets():
    joint = np.array([[80, 20, 0], [1, 1, 0], [0, 0, 0]])
    found = purity(joint)
    # The second class as often as the first: 50 choices of each expert.
    np.testing.assert_allclose(found[:2, :2], [[80 / 130, 20 / 70], [50 / 130, 50 / 70]])
    assert np.isnan(found[:, 2]).all() and np.isnan(found[2]).all()


def test_empty_classes_change_nothing():
    joint = np.random.default_rng(0).integers(1, 9, (3, 4))
    more = np.insert(joint, 1, 0, axis=0)
    for measure in (specialty, purity):
        found = measure(more)
        assert np.isnan(found[1]).all()
        np.testing.assert_allclose(found[[0, 2, 3]], measure(joint))
