"""Chances, caps and pools against plain loops and what they promise."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.config import BalanceConfig
from umbel.data.balance import balance_text, cap_chances, effective_species, fill, pool_shares, species_chances
from umbel.errors import ConfigError

FAMILIES = ["Poaceae", "", "Fabaceae", "Poaceae", "", "Fabaceae", "Poaceae"]
BASES = [900, 400, 0, 100, 7, 250, 5_000]
sizes = st.lists(st.integers(0, 10**12), min_size=7, max_size=7).filter(any)


def chances_by_loops(bases, families, alpha, beta):
    """The definition, with a family of its own for each unknown one."""
    families = [family or f"unknown {i}" for i, family in enumerate(families)]
    total = {}
    for family, n in zip(families, bases, strict=True):
        total[family] = total.get(family, 0) + n
    of_family = {family: n**beta if n else 0.0 for family, n in total.items()}
    found = []
    for family, n in zip(families, bases, strict=True):
        within = sum(m**alpha for g, m in zip(families, bases, strict=True) if g == family and m)
        found.append(of_family[family] / sum(of_family.values()) * n**alpha / within if n else 0.0)
    return found


@settings(max_examples=60, deadline=None, derandomize=True)
@given(bases=sizes, alpha=st.sampled_from([0.0, 0.3, 1.0, 2.0]), beta=st.sampled_from([0.0, 0.5, 1.0]))
def test_chances_are_those_of_the_definition(bases, alpha, beta):
    found = species_chances(bases, FAMILIES, BalanceConfig(alpha=alpha, beta=beta))
    assert found == pytest.approx(chances_by_loops(bases, FAMILIES, alpha, beta), rel=1e-9, abs=1e-15)
    assert found.sum() == pytest.approx(1)


def test_with_both_powers_one_chances_are_in_proportion_to_bases():
    assert species_chances(BASES, FAMILIES, BalanceConfig()) == pytest.approx(np.array(BASES) / sum(BASES))


def test_with_both_powers_nought_families_are_even_and_so_are_their_species():
    found = species_chances(BASES, FAMILIES, BalanceConfig(alpha=0, beta=0))
    assert found == pytest.approx([1 / 12, 1 / 4, 0, 1 / 12, 1 / 4, 1 / 4, 1 / 12])


def test_no_power_overflows():
    found = species_chances([10**11, 10**11, 1], ["", "", ""], BalanceConfig(alpha=300, beta=300))
    assert found.tolist() == [0.5, 0.5, 0]


def test_the_largest_species_are_taken_and_of_equals_the_first():
    found = species_chances([5, 9, 5, 1], [""] * 4, BalanceConfig(alpha=0, beta=0, n_species=2))
    assert found.tolist() == [0.5, 0.5, 0, 0]
    with pytest.raises(ConfigError, match=r"balance\.n_species asks for 7 species and 6 have windows.*set it to 6"):
        species_chances(BASES, FAMILIES, BalanceConfig(n_species=7))


def test_effective_species_by_hand():
    assert effective_species([1.0]) == 1
    assert effective_species(np.full(50, 0.02)) == pytest.approx(50)
    assert effective_species([0.7, 0.2, 0.1, 0]) == pytest.approx(0.7**-0.7 * 0.2**-0.2 * 0.1**-0.1)


def fill_by_bisection(weights, limits, total):
    low, high = 0.0, 1e30
    for _ in range(160):
        level = (low + high) / 2
        low, high = (level, high) if np.minimum(limits, level * weights).sum() < total else (low, level)
    return np.minimum(limits, high * weights)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 20)), min_size=1, max_size=8), part=st.floats(0.01, 1))
def test_filling_is_found_by_bisection_too(data, part):
    weights, limits = np.array(data, float).T
    there = limits[weights > 0].sum()
    found = fill(weights, limits, part * there)
    assert found.sum() == pytest.approx(part * there)
    assert (found <= limits * (1 + 1e-12)).all() and not found[weights == 0].any()
    if part < 1:
        assert found == pytest.approx(fill_by_bisection(weights, limits, part * there), rel=1e-6, abs=1e-9)
    assert fill(weights, limits, 2 * there + 1) == pytest.approx(np.where(weights > 0, limits, 0))


def test_no_species_is_passed_over_more_often_than_allowed_and_the_others_take_the_rest():
    chances, n_windows = np.array([0.6, 0.3, 0.1, 0.0]), np.array([10, 100, 1000, 1000])
    capped = cap_chances(chances, n_windows, 2.0, steps=50, batch_windows=8)
    epochs = 400 * capped / n_windows
    # 0.05 of 400 draws are two passes over 10 windows; what is left is shared 3 to 1 until 200 draws are reached.
    assert epochs[0] == pytest.approx(2) and epochs[1] == pytest.approx(2)
    assert capped == pytest.approx([0.05, 0.5, 0.45, 0])
    loose = cap_chances(chances, n_windows, 3.0, steps=50, batch_windows=8)
    assert loose == pytest.approx([0.075, 0.925 * 0.75, 0.925 * 0.25, 0])
    assert cap_chances(chances, n_windows, 0.0, steps=50, batch_windows=8) is chances


def test_a_run_longer_than_all_caps_is_refused_and_the_advice_holds():
    chances, n_windows = np.array([0.6, 0.4, 0.0]), np.array([10, 31, 500])
    with pytest.raises(ConfigError, match=r"balance\.max_epochs is 1\.5, and 12 steps of 8 windows") as found:
        cap_chances(chances, n_windows, 1.5, steps=12, batch_windows=8)
    steps, epochs = re.search(
        r"train\.steps to at most (\d+), or set .* to at least ([\d.]+),", str(found.value)
    ).groups()
    assert int(steps) == math.floor(1.5 * 41 / 8)
    for given_steps, given_epochs in ((int(steps), 1.5), (12, float(epochs))):
        capped = cap_chances(chances, n_windows, given_epochs, steps=given_steps, batch_windows=8)
        assert capped.sum() == pytest.approx(1)
        assert (8 * given_steps * capped <= given_epochs * n_windows * (1 + 1e-9)).all()
    with pytest.raises(ConfigError, match="at most"):
        cap_chances(chances, n_windows, 1.5, steps=int(steps) + 1, batch_windows=8)


def test_a_batch_larger_than_all_caps_is_not_told_to_take_no_step():
    with pytest.raises(ConfigError, match=r"every species: set balance\.max_epochs to at least 2,"):
        cap_chances(np.array([1.0]), np.array([4]), 1.0, steps=1, batch_windows=8)


def test_a_run_that_just_fits_its_caps_is_let_through():
    n_windows = np.array([3, 7, 11])
    capped = cap_chances(np.full(3, 1 / 3), n_windows, 0.1, steps=21, batch_windows=1 / 10)
    assert capped == pytest.approx(n_windows / 21)


def test_a_pool_is_shared_by_chances_and_nobody_gives_more_than_it_has():
    shares = pool_shares(np.array([0.5, 0.25, 0.25, 0]), np.array([1_000, 100, 5_000, 9_000]), 1_100)
    assert shares == pytest.approx([1_000 * 2 / 3, 100, 1_000 / 3, 0])
    with pytest.raises(ConfigError, match=r"pool_bp asks for 6,101 .* have 6,100 in windows: set it to 6100 or less"):
        pool_shares(np.array([0.5, 0.25, 0.25, 0]), np.array([1_000, 100, 5_000, 9_000]), 6_101)


def test_the_text_names_the_largest_and_counts_the_rest():
    chances = np.linspace(0.19, 0.01, 10)
    text = balance_text([f"s{i}" for i in range(10)], chances, np.full(10, 2.0), 3)
    assert text.startswith("species: 10, effective 8.3, at least 3 in every step: s0 19.00 % (0.38 epochs), s1 17.00 %")
    assert text.endswith("s4 11.00 % (0.22 epochs), and 5 more of at most 9.00 %")
    assert balance_text(["one", "none"], np.array([1.0, 0]), np.array([3.0, 9]), 1) == (
        "species: 1, effective 1.0: one 100.00 % (3.00 epochs)"
    )
