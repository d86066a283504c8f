"""A planted law comes back; a straight line and too few points are told."""

import numpy as np
import pytest

from umbel.evaluate.power_law import fit_power_law

X = np.geomspace(1e6, 1e8, 40)


def test_a_planted_law_lies_in_its_interval() -> None:
    truth = 1.25 + 0.1 * (X / 1e7) ** -0.4
    found = fit_power_law(X, truth + np.random.default_rng(0).normal(0, 0.001, len(X)))
    scale = 0.1 * (found.x_unit / 1e7) ** -0.4
    for estimate, value in ((found.floor, 1.25), (found.scale, scale), (found.exponent, 0.4)):
        assert estimate.low is not None and estimate.high is not None
        assert estimate.low <= value <= estimate.high
    np.testing.assert_allclose(found.at(X), truth, atol=0.002)
    assert found.r2 > 0.99 and found.rmse < found.log_rmse and not found.at_bound


def test_a_straight_line_in_log_bases_is_told_to_be_at_a_bound() -> None:
    found = fit_power_law(X, 2 - 0.1 * np.log10(X), n_draws=50)
    assert found.at_bound and found.log_rmse < 1e-9


def test_wrong_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="5 points, and a curve of three numbers needs 6"):
        fit_power_law(X[:5], X[:5])
    with pytest.raises(ValueError, match="above 0"):
        fit_power_law(X - X[0], X)
