"""The sampler against points laid by a plain loop, its own expectation, and every offset there is."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from umbel.data import draws as module
from umbel.data.draws import SpeciesDraws, least_species, species_edges
from umbel.errors import ConfigError, RunError

CHANCES = np.array([0.5, 0.2, 0.0, 0.15, 0.1, 0.04, 0.01])


def counts_of(draws, steps):
    return np.array([np.bincount(draws.samples(step).species, minlength=len(CHANCES)) for step in steps])


def test_points_fall_on_species_as_laid_by_hand():
    draws = SpeciesDraws(CHANCES, 32, seed=5)
    for step in (0, 1, 1023, 1024, 3000):
        block, place = divmod(step, 1024)
        bits = np.random.Philox(key=[5, 101], counter=[0, 0, 0, block]).random_raw(1024)
        offset = int(bits[place] >> np.uint64(32)) / 2**32
        counts = [0] * len(CHANCES)
        for i in range(32):
            point, species = (i + offset) / 32, 0
            while point >= CHANCES[: species + 1].sum():
                species += 1
            counts[species] += 1
        assert counts_of(draws, [step])[0].tolist() == counts


def test_a_step_has_every_species_its_due_times_rounded_up_or_down():
    counts = counts_of(SpeciesDraws(CHANCES, 32, seed=0), range(300))
    assert (counts >= np.floor(32 * CHANCES)).all() and (counts <= np.ceil(32 * CHANCES)).all()
    assert (counts[:, CHANCES >= 1 / 32] >= 1).all()
    assert not counts[:, 2].any()


def test_species_come_as_often_as_their_chances_say():
    """The chi-square test of independent draws, for what stands at one place of a step."""
    drawn, statistics = CHANCES > 0, []
    for seed in range(6):
        draws = SpeciesDraws(CHANCES, 8, seed=seed)
        counts = np.bincount([draws.samples(s).species[3] for s in range(1500)], minlength=len(CHANCES))[drawn]
        expected = 1500 * CHANCES[drawn]
        statistics.append(((counts - expected) ** 2 / expected).sum())
    freedom = drawn.sum() - 1
    # Neither too far from expectation nor, as samples of one step are, too near.
    assert chi2.ppf(0.001, 6 * freedom) < sum(statistics) < chi2.ppf(0.999, 6 * freedom)
    wrong = 1500 * np.array([0.45, 0.25, 0.15, 0.1, 0.04, 0.01])
    assert ((counts - wrong) ** 2 / wrong).sum() > chi2.ppf(0.999, freedom)


def test_over_a_run_the_counts_are_nearer_to_expectation_than_by_chance_alone():
    total = SpeciesDraws(CHANCES, 8, seed=3).n_before(20_000)
    expected = 160_000 * CHANCES
    assert total.sum() == 160_000
    drawn = CHANCES > 0
    assert ((total - expected)[drawn] ** 2 / expected[drawn]).sum() < chi2.ppf(0.999, drawn.sum() - 1)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(weights=st.lists(st.integers(0, 40), min_size=1, max_size=9).filter(any), n_samples=st.integers(1, 6))
def test_the_least_number_of_species_is_that_of_all_offsets(weights, n_samples):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_POINT", 48)
        starts, ends = species_edges(np.array(weights) / sum(weights), n_samples)
        assert ends.max() == 48 * n_samples and (ends - starts).sum() == 48 * n_samples
        seen = []
        for offset in range(48):
            points = offset + 48 * np.arange(n_samples)
            seen.append(sum(((points >= a) & (points < b)).any() for a, b in zip(starts, ends, strict=True)))
        assert least_species(starts, ends) == min(seen)


def test_the_least_number_holds_at_the_real_fineness():
    rng = np.random.default_rng(0)
    for n_species, n_samples in ((3, 2), (20, 8), (60, 16)):
        draws = SpeciesDraws(rng.dirichlet(np.full(n_species, 0.5)), n_samples, seed=1)
        shown = [len(set(draws.samples(step).species.tolist())) for step in range(400)]
        assert draws.least_species <= min(shown) <= draws.least_species + 1


def test_even_chances_of_one_sample_each_are_all_in_every_step():
    for n in (3, 7, 10, 49, 729):
        assert least_species(*species_edges(np.full(n, 1 / n), n)) == n


def test_a_family_that_is_due_a_sample_gets_one_wherever_its_species_stand():
    chances, families = np.array([0.1, 0.4, 0.1, 0.3, 0.1]), ["A", "B", "A", "", "A"]
    draws = SpeciesDraws(chances, 4, seed=0, families=families)
    for step in range(200):
        assert set(draws.samples(step).species.tolist()) & {0, 2, 4}
    apart = SpeciesDraws(chances, 4, seed=0)
    assert not all(set(apart.samples(step).species.tolist()) & {0, 2, 4} for step in range(200))


def test_numbers_count_on_without_gap_over_the_run():
    draws = SpeciesDraws(CHANCES, 16, seed=2)
    seen = [[] for _ in CHANCES]
    for step in range(1020, 1030):
        before = draws.n_before(step)
        found = draws.samples(step)
        assert found.sample.tolist() == list(range(16))
        for species in range(len(CHANCES)):
            numbers = sorted(found.number[found.species == species].tolist())
            assert numbers == list(range(before[species], before[species] + len(numbers)))
            seen[species] += numbers
    for species, numbers in enumerate(seen):
        first = draws.n_before(1020)[species]
        assert numbers == list(range(first, draws.n_before(1030)[species])) and len(numbers) == len(set(numbers))


def test_counts_before_a_step_are_the_sum_of_the_steps():
    draws = SpeciesDraws(CHANCES, 8, seed=9)
    walked = np.concatenate(([np.zeros(7, int)], counts_of(draws, range(2100)).cumsum(0)))
    for step in (0, 1, 1023, 1024, 1025, 2048, 2100):
        assert SpeciesDraws(CHANCES, 8, seed=9).n_before(step).tolist() == walked[step].tolist()
    assert draws.n_before(500).tolist() == walked[500].tolist()


def test_a_step_is_the_same_from_wherever_one_comes():
    walked = SpeciesDraws(CHANCES, 8, seed=1)
    found = {step: walked.samples(step) for step in range(1500)}
    for step in (1499, 3, 1024):
        fresh = SpeciesDraws(CHANCES, 8, seed=1).samples(step)
        assert fresh.species.tolist() == found[step].species.tolist()
        assert fresh.number.tolist() == found[step].number.tolist()
    other = SpeciesDraws(CHANCES, 8, seed=2)
    assert any(other.samples(s).species.tolist() != found[s].species.tolist() for s in range(5))


def test_a_far_step_is_quick():
    draws = SpeciesDraws(np.random.default_rng(0).dirichlet(np.ones(700)), 256, seed=0)
    began = time.perf_counter()
    draws.samples(100_000)
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7, 16, 20])
def test_ranks_together_are_the_step(world_size):
    draws = SpeciesDraws(CHANCES, 16, seed=4)
    whole = draws.samples(11)
    parts = [draws.rank_samples(11, rank, world_size) for rank in range(world_size)]
    assert sorted(np.concatenate([part.sample for part in parts]).tolist()) == list(range(16))
    for part in parts:
        assert part.species.tolist() == whole.species[part.sample].tolist()
        assert part.number.tolist() == whole.number[part.sample].tolist()
    assert max(len(p.sample) for p in parts) - min(len(p.sample) for p in parts) <= 1


def test_there_is_no_other_rank():
    for rank in (-1, 2):
        with pytest.raises(ValueError, match=f"rank {rank} is none of 0 to 1"):
            SpeciesDraws([1.0], 4, 0).rank_samples(0, rank, 2)


def test_parts_of_a_step_see_a_mix():
    draws = SpeciesDraws([0.5, 0.5], 16, seed=0)
    halves = [draws.samples(step).species[:8].sum() for step in range(200)]
    assert 3.5 < np.mean(halves) < 4.5 and len(set(halves)) > 3


def test_one_species_comes_in_the_order_of_its_numbers():
    assert SpeciesDraws([0, 1.0], 4, seed=0).samples(6).number.tolist() == [24, 25, 26, 27]


def test_too_few_species_in_a_step_are_refused_before_the_run_with_what_would_help():
    even = np.full(10, 0.1)
    with pytest.raises(
        ConfigError,
        match=r"balance\.min_species is 5, and a step of 4 windows can have as few as 4 species: raise "
        r"train\.batch_windows \(8 would do with the same chances\), or lower balance\.alpha and balance\.beta",
    ):
        SpeciesDraws(even, 4, seed=0, min_species=5)
    assert SpeciesDraws(even, 8, seed=0, min_species=5).least_species == 8
    with pytest.raises(ConfigError, match=r"this run draws from 10 species: set it to 10 or less, or raise balance"):
        SpeciesDraws(even, 64, seed=0, min_species=11)
    with pytest.raises(ConfigError, match=r"raise train\.batch_windows, or lower"):
        SpeciesDraws([1 - 1e-7, 1e-7], 4, seed=0, min_species=2)


def test_a_step_that_breaks_the_promise_stops_the_run(monkeypatch):
    draws = SpeciesDraws(np.full(4, 0.25), 4, seed=0, min_species=4)
    whole = draws._drawn
    monkeypatch.setattr(draws, "_drawn", lambda offsets: whole(offsets) * [4, 0, 0, 0])
    with pytest.raises(RunError, match=r"step 17 shows 1 species, fewer than the 4 of balance\.min_species"):
        draws.samples(17)
