import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, matthews_corrcoef

from umbel.evaluate.metrics import (
    Resamples,
    bootstrap_ratio,
    classification,
    macro_f1_of,
    mcc_of,
    paired_difference,
    perplexity,
)


def test_perplexity_of_a_fair_die() -> None:
    assert perplexity(math.log(4)) == pytest.approx(4)


def test_sums_are_those_of_drawn_units() -> None:
    values = np.random.default_rng(0).normal(size=(7, 2, 3))
    sums = Resamples(7, 50, seed=3).sums(values)
    drawn = np.random.default_rng(3).multinomial(7, np.full(7, 1 / 7), size=50)
    for row in range(50):
        loop = sum(drawn[row, unit] * values[unit] for unit in range(7))
        np.testing.assert_allclose(sums[row], loop)


def test_chunks_of_draws_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(10.0)
    whole = Resamples(10, 33, seed=1).sums(values)
    monkeypatch.setattr("umbel.evaluate.metrics._CHUNK_ENTRIES", 20)
    np.testing.assert_array_equal(Resamples(10, 33, seed=1).sums(values), whole)


def test_wrong_number_of_units_is_refused() -> None:
    with pytest.raises(ValueError, match="3 values for 2 units"):
        Resamples(2, 10, 0).sums(np.ones(3))


def test_ratio_interval_has_the_width_of_theory() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(2.0, 1.0, 400)
    found = bootstrap_ratio(values, np.ones(400), n_draws=4000, seed=0)
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_intervals_cover_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(300):
        sizes = rng.integers(5, 50, 80)
        found = bootstrap_ratio(rng.binomial(sizes, 0.3), sizes, n_draws=400, seed=trial)
        assert found.low is not None and found.high is not None
        covered += found.low <= 0.3 <= found.high
    assert 0.90 <= covered / 300 <= 0.99


def test_units_with_nothing_to_measure_change_nothing() -> None:
    loss, n_bases = np.array([3.0, 5.0, 2.0]), np.array([2, 4, 1])
    with_empty = bootstrap_ratio(np.insert(loss, 1, 0.0), np.insert(n_bases, 1, 0))
    assert with_empty == bootstrap_ratio(loss, n_bases)


def test_one_unit_has_no_interval() -> None:
    found = bootstrap_ratio(np.array([3.0]), np.array([2]))
    assert found.to_dict() == {"value": 1.5, "low": None, "high": None}


@pytest.mark.parametrize(
    ("numerators", "denominators", "text"),
    [([1.0], [0.0], "nothing in the denominator"), ([math.nan], [1.0], "not finite"), ([], [], "nothing in the")],
)
def test_ratios_without_meaning_are_refused(numerators: list[float], denominators: list[float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        bootstrap_ratio(np.array(numerators), np.array(denominators))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_confusion_formulas_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    true, said = np.array(pairs).T
    confusion = np.zeros((3, 3))
    np.add.at(confusion, (true, said), 1)
    f1 = f1_score(true, said, labels=[0, 1, 2], average="macro", zero_division=0)
    assert macro_f1_of(confusion) == pytest.approx(f1)
    if len(set(true)) > 1 or len(set(said)) > 1:
        assert mcc_of(confusion) == pytest.approx(matthews_corrcoef(true, said), abs=1e-9)


def test_classification_draws_are_resampled_blocks() -> None:
    rng = np.random.default_rng(5)
    labels, said, blocks = rng.integers(0, 3, 60), rng.integers(0, 3, 60), np.repeat(np.arange(6) * 7, 10)
    found = classification(labels, said, blocks, 3, n_draws=20, seed=9)
    drawn = np.random.default_rng(9).multinomial(6, np.full(6, 1 / 6), size=20)
    for draw in range(20):
        rows = np.concatenate([np.tile(np.arange(10) + 10 * block, drawn[draw, block]) for block in range(6)])
        f1 = f1_score(labels[rows], said[rows], labels=[0, 1, 2], average="macro", zero_division=0)
        assert found.macro_f1_draws[draw] == pytest.approx(f1)
        assert found.mcc_draws[draw] == pytest.approx(matthews_corrcoef(labels[rows], said[rows]))
    assert found.n_blocks == 6


def test_difference_with_itself_is_exactly_nothing() -> None:
    rng = np.random.default_rng(2)
    labels, said, blocks = rng.integers(0, 3, 50), rng.integers(0, 3, 50), np.arange(50) // 5
    one = classification(labels, said, blocks, 3)
    difference = paired_difference(one, one)
    assert difference["macro_f1"].to_dict() == difference["mcc"].to_dict() == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_better_classifier_has_an_interval_above_zero() -> None:
    rng = np.random.default_rng(3)
    labels, blocks = rng.integers(0, 3, 600), np.arange(600) // 10
    good = np.where(rng.random(600) < 0.9, labels, rng.integers(0, 3, 600))
    difference = paired_difference(
        classification(labels, good, blocks, 3), classification(labels, rng.integers(0, 3, 600), blocks, 3)
    )
    assert difference["mcc"].low is not None and difference["mcc"].low > 0.5
