import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.evaluate.experts.statistics.divergence import js_divergence
from umbel.evaluate.experts.statistics.units import corrected, effective_units, jackknife, percentiles, resampled
from umbel.evaluate.metrics import Resamples


def between_two(tables):
    """Divergence of the two classes of ``(n, 2, E)``."""
    return js_divergence(tables[..., 0, :], tables[..., 1, :])


def planted(rng, p, n_units, n_choices, spread):
    """Units that scatter around two true distributions, with unequal numbers of choices."""
    own = np.stack([rng.dirichlet(spread * row, n_units) for row in p], axis=1)
    sizes = rng.integers(n_choices // 2, 2 * n_choices, n_units)
    return np.stack([[rng.multinomial(n, row) for row in rows] for n, rows in zip(sizes, own, strict=True)])


P = np.array([[0.4, 0.3, 0.1, 0.1, 0.05, 0.05], [0.3, 0.3, 0.2, 0.1, 0.05, 0.05]])


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20))
def test_effective_units_are_at_most_the_units_with_items(items):
    found = effective_units(np.array(items))
    assert found <= np.count_nonzero(items) * (1 + 1e-12)
    assert found >= (1 if any(items) else 0)


def test_equal_units_all_count():
    assert effective_units(np.full(7, 13)) == pytest.approx(7)
    # One half in a single unit: (2n)^2 / (n^2 + n) = 4n / (n + 1).
    assert effective_units(np.array([10, *[1] * 10])) == pytest.approx(400 / 110)


@pytest.mark.parametrize("entries", [None, 1_000_000])
def test_resampled_is_the_statistic_of_sums_of_drawn_units(entries):
    tables = np.random.default_rng(0).integers(0, 9, (5, 2, 3))
    found = resampled(between_two, tables, Resamples(5, 30, seed=2), entries=entries)
    drawn = np.random.default_rng(2).multinomial(5, np.full(5, 0.2), size=30)
    for row, weights in enumerate(drawn):
        loop = sum(int(weight) * table for weight, table in zip(weights, tables, strict=True))
        np.testing.assert_allclose(found[row], between_two(loop), atol=1e-12)


def test_draws_of_other_units_are_refused():
    with pytest.raises(ValueError, match="4 units in the table, and draws of 5"):
        resampled(between_two, np.ones((4, 2, 2)), Resamples(5, 3, 0))


def test_jackknife_is_the_loop_over_units():
    tables = np.random.default_rng(1).integers(1, 9, (6, 2, 4)).astype(float)
    found = jackknife(between_two, tables)
    without = np.array([between_two(np.delete(tables, u, 0).sum(0)) for u in range(6)])
    value = between_two(tables.sum(0))
    assert found.value == pytest.approx(value)
    assert found.corrected == pytest.approx(6 * value - 5 * without.mean())
    assert found.bias == pytest.approx(5 * (without.mean() - value))
    assert found.std_error == pytest.approx(math.sqrt(5 / 6 * ((without - without.mean()) ** 2).sum()))


def test_units_without_items_are_no_units():
    tables = np.random.default_rng(1).integers(1, 9, (6, 2, 4)).astype(float)
    more = np.concatenate([tables, np.zeros((50, 2, 4))])
    assert jackknife(between_two, more).corrected == pytest.approx(jackknife(between_two, tables).corrected)


def test_a_class_in_one_unit_has_a_value_and_no_correction():
    tables = np.zeros((4, 2, 2))
    tables[:, 0] = [3, 1]
    tables[2, 1] = [1, 1]
    found = jackknife(between_two, tables)
    assert np.isfinite(found.value) and np.isnan(found.corrected)
    alone = jackknife(between_two, tables[2:3])
    assert np.isfinite(alone.value) and np.isnan(alone.corrected) and np.isnan(alone.std_error)


@pytest.mark.parametrize("same", [True, False])
def test_on_planted_distributions_the_corrected_divergence_is_right_on_average_and_the_plain_one_too_large(same):
    rng = np.random.default_rng(5)
    p = P[[0, 0]] if same else P
    truth = float(js_divergence(p[0], p[1]))
    found = [jackknife(between_two, planted(rng, p, 24, 12, spread=30.0)) for _ in range(300)]
    plain, right = np.array([each.value for each in found]), np.array([each.corrected for each in found])
    error = right.std() / math.sqrt(len(found))
    assert abs(right.mean() - truth) < 3.5 * error
    assert plain.mean() - truth > 8 * error


@pytest.mark.parametrize("same", [True, False])
def test_corrected_intervals_hold_the_truth_where_plain_ones_never_hold_zero(same):
    rng = np.random.default_rng(6)
    p = P[[0, 0]] if same else P
    truth = float(js_divergence(p[0], p[1]))
    held = plain_held = 0
    for trial in range(120):
        tables = planted(rng, p, 40, 12, spread=30.0)
        draws = resampled(between_two, tables, Resamples(40, 300, trial))
        found = corrected(between_two, tables, Resamples(40, 300, trial), draws=draws).estimate()
        held += found.low <= truth <= found.high
        plain = percentiles(between_two(tables.sum(0)), draws, 40).estimate()
        plain_held += plain.low <= truth <= plain.high
    assert held >= 0.9 * 120
    if same:
        assert plain_held == 0


def test_percentiles_leave_out_draws_without_the_class():
    draws = np.array([[1.0, 5.0], [2.0, np.nan], [3.0, 7.0]])
    found = percentiles(np.array([2.0, 6.0]), draws, n_units=3)
    np.testing.assert_allclose(found.low, [1.05, 5.05])
    np.testing.assert_allclose(found.high, [2.95, 6.95])
    assert found.part(1).estimate().value == 6.0


def test_one_unit_has_no_interval():
    found = percentiles(np.array(2.0), np.array([2.0, 2.0]), n_units=1).estimate()
    assert (found.value, found.low, found.high) == (2.0, None, None)
