"""Experts paired up: planted permutations are found, what chance gives stands beside, and seeds are averaged."""

import itertools

import numpy as np
import pytest
from comparison_fakes import MemorySource, by_letter, by_pair, checkpoint, noisy, permuted

from umbel.evaluate.experts.compare.counting import choose_pairs, count
from umbel.evaluate.experts.compare.match import (
    assign,
    match_all,
    match_by_items,
    match_by_profiles,
    matching_rows,
    partner_rows,
    profiles_of,
    seed_rows,
)

SETTINGS = {"n_draws": 100, "n_permutations": 99, "seed": 0}


def matched(*checkpoints, labellings=("half", "group"), source=None):
    source = source or MemorySource(n=24, n_units=8)
    sums = count(checkpoints, choose_pairs(checkpoints, match=True), source, seed=0)
    return match_all(checkpoints, sums, labellings, **SETTINGS), sums


def test_the_assignment_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for n, m in ((4, 4), (3, 5)):
        table = rng.random((n, m))
        best = max(sum(table[i, order[i]] for i in range(n)) for order in itertools.permutations(range(m), n))
        partner = assign(table)
        assert table[np.arange(n), partner].sum() == pytest.approx(best)
    assert sorted(assign(rng.random((5, 3))).tolist())[:2] == [-1, -1]


@pytest.mark.parametrize("top_k", [1, 2])
def test_permuted_experts_agree_wholly_once_paired(top_k):
    rule = by_letter if top_k == 1 else by_pair
    order = [2, 0, 3, 1]
    found, _ = matched(checkpoint("a", rule, top_k=top_k), checkpoint("b", permuted(rule, order), top_k=top_k))
    one = found[0, 1, 0, "items"]
    assert one.partner.tolist() == order
    assert one.value == one.low == one.high == one.held_out == 1.0
    assert one.raw < 0.7
    assert one.chance < 0.6 and one.chance < one.value
    np.testing.assert_allclose(one.similarity[np.arange(4), order], 1.0)


def test_items_of_which_a_share_goes_anywhere_agree_that_much_less():
    found, _ = matched(
        checkpoint("a", by_letter),
        checkpoint("b", permuted(noisy(by_letter, 0.4, 1), [1, 2, 3, 0])),
        source=MemorySource(n=60, n_units=20),
    )
    one = found[0, 1, 1, "items"]
    # Of those that go anywhere a quarter comes back.
    assert one.value == pytest.approx(1 - 0.4 * 0.75, abs=0.02)
    assert one.low < one.value < one.high and one.held_out == pytest.approx(one.value)


def test_routers_that_know_nothing_of_each_other_agree_as_by_chance():
    def at_random(seed):
        def route(codes, site):
            rng = np.random.default_rng([seed, site, len(codes), *codes[:20].tolist()])
            return rng.integers(0, 4, (len(codes), 1))

        return route

    found, _ = matched(
        checkpoint("a", at_random(1)), checkpoint("b", at_random(2)), source=MemorySource(60, n_units=20)
    )
    one = found[0, 1, 0, "items"]
    assert one.value == pytest.approx(one.chance, abs=0.02)
    # Paired on the same items it flatters; on others it does not.
    assert one.held_out < one.value


def test_jaccard_of_two_routers_by_hand():
    taken = np.array([[[3, 1], [0, 4]]])
    one = match_by_items(taken, taken[0])
    np.testing.assert_allclose(one.similarity, [[3 / 4, 1 / 8], [0, 4 / 5]])
    assert one.value == one.raw == pytest.approx(7 / 8)
    assert one.low is None and one.held_out is None


def test_profiles_find_the_planted_permutation_and_shuffled_ones_do_not():
    rng = np.random.default_rng(1)
    profile = rng.normal(size=(5, 12))
    order = np.array([3, 1, 0, 4, 2])
    one = match_by_profiles(profile, (profile + 0.1 * rng.normal(size=(5, 12)))[order], n_permutations=199)
    assert (order[one.partner] == np.arange(5)).all()
    assert one.value > 0.95 > one.chance_high > one.chance and one.p == 1 / 200
    other = match_by_profiles(profile, rng.normal(size=(5, 12)), n_permutations=199)
    assert other.p > 0.01 and other.value < 0.8


def test_a_dead_expert_has_no_profile_and_no_partner():
    rng = np.random.default_rng(1)
    profile = rng.normal(size=(3, 6))
    dead = profile.copy()
    dead[1] = np.nan
    one = match_by_profiles(profile, dead, n_permutations=9)
    assert 1 not in one.partner.tolist() and (one.partner == -1).sum() == 1
    assert np.isnan(one.similarity[:, 1]).all()


def test_two_classes_are_too_few_for_profiles():
    assert match_by_profiles(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([[1.0, 3.0], [2.0, 0.0]])) is None
    found, sums = matched(checkpoint("a", by_letter), checkpoint("b", by_letter), labellings=("half",))
    assert {key[3] for key in found} == {"items"}
    assert profiles_of(sums, 0, 0, ("half", "group")).shape == (4, 5)


def test_profiles_of_a_permuted_model_are_paired_as_its_items_are():
    def places(codes, site):
        # By place in the stretch and by letter, so that halves and groups have profiles.
        return (np.minimum(codes, 3)[:, None] // 2 + 2 * (np.arange(len(codes)) % 3 == 0)[:, None]) % 4

    order = [1, 3, 0, 2]
    found, _ = matched(checkpoint("a", places), checkpoint("b", permuted(places, order)))
    for by in ("items", "profiles"):
        assert found[0, 1, 0, by].partner.tolist() == order
    assert found[0, 1, 0, "profiles"].value == pytest.approx(1.0)


def test_seeds_are_averaged_over_pairs_and_random_networks_stand_beside():
    shares = (0.0, 0.2, 0.6)
    models = [
        checkpoint(f"seed{i}", noisy(permuted(by_letter, np.roll(range(4), i)), s, i)) for i, s in enumerate(shares)
    ]
    controls = [checkpoint(f"random {i}", noisy(by_letter, 1.0, 50 + i), is_control=True) for i in range(2)]
    found, _ = matched(*models, *controls, labellings=())
    rows = matching_rows([*models, *controls], found)
    assert [row["n_controls"] for row in rows if row["site"] == 0] == [0, 0, 0, *[1] * 6, 2]
    trained = {(r["first"], r["second"]): r["matched"] for r in rows if r["site"] == 0 and r["n_controls"] == 0}
    one = next(row for row in seed_rows(rows) if row["site"] == 0)
    assert one["n_seeds"] == one["n_pairs"] == 3
    assert one["matched"] == pytest.approx(sum(trained.values()) / 3)
    means = [np.mean([value for pair, value in trained.items() if f"seed{i}" in pair]) for i in range(3)]
    assert one["sd"] == pytest.approx(np.std(means, ddof=1))
    assert one["random"] < 0.5 < one["matched"] and one["trained_to_random"] < 0.5
    assert one["control_high"] == max(r["matched"] for r in rows if r["site"] == 0 and r["n_controls"])
    assert one["n_control_pairs"] == 7
    partners = partner_rows([*models, *controls], found)
    first = [r["expert_second"] for r in partners if (r["first"], r["second"], r["site"]) == ("seed0", "seed1", 0)]
    assert first == np.roll(range(4), 1).tolist()
