"""Laws of the expert atlas: names of experts do not matter, empty classes do not, and chance looks like chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, kstest

from umbel.evaluate.experts.statistics.coactivation import coactivation
from umbel.evaluate.experts.statistics.divergence import describe_divergences, generalised_js, pairwise_js
from umbel.evaluate.experts.statistics.enrichment import enrichment, permutation
from umbel.evaluate.experts.statistics.information import (
    describe_information,
    explained_by_context,
    information_by_chance,
    mutual_information,
)
from umbel.evaluate.experts.statistics.load import describe_load
from umbel.evaluate.experts.statistics.matching import match_experts
from umbel.evaluate.experts.statistics.specialty import purity, specialty
from umbel.evaluate.experts.statistics.stages import split_stages

LENGTH = 1_000
N_SHIFTS = 99


def tables(seed, n_units=6, n_classes=3, n_experts=5, n_shifts=19):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(n_experts), n_classes)
    joint = np.stack([rng.multinomial(30, p) for _ in range(n_units)])
    shifted = np.stack([rng.multinomial(30 * n_units, p.mean(0), size=n_classes) for _ in range(n_shifts)])
    return joint, shifted


def same(found, wanted):
    np.testing.assert_allclose(np.asarray(found, float), np.asarray(wanted, float), atol=1e-10, rtol=1e-8)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(order=st.permutations(range(5)), seed=st.integers(0, 1000))
def test_permuting_experts_permutes_the_answers(order, seed):
    joint, shifted = tables(seed)
    a, b = enrichment(joint, shifted, n_draws=20), enrichment(joint[..., order], shifted[..., order], n_draws=20)
    for name in ("n_joint", "share_in_class", "log2_odds", "low", "high", "p", "z"):
        same(getattr(b, name), getattr(a, name)[:, order])
    total = joint.sum(0)
    for of_experts in (specialty, purity):
        same(of_experts(total[:, order]), of_experts(total)[:, order])
    for of_classes in (pairwise_js, lambda x: describe_divergences(x, n_draws=10).corrected.value):
        same(of_classes(joint[..., order]), of_classes(joint))
    for of_all in (generalised_js, mutual_information):
        same(of_all(total[:, order]), of_all(total))
    load, other = (describe_load(x, 1, int(total.sum())) for x in (total.sum(0), total.sum(0)[order]))
    assert other.load.tolist() == load.load[order].tolist()
    same([other.gini, other.cv, other.entropy], [load.gini, load.cv, load.entropy])
    profile = np.random.default_rng(seed).normal(size=(5, 8))
    assert match_experts(profile, profile[list(order)]).partner.tolist() == np.argsort(order).tolist()


@settings(max_examples=15, deadline=None, derandomize=True)
@given(order=st.permutations(range(4)), seed=st.integers(0, 1000))
def test_permuting_experts_permutes_pairs(order, seed):
    sets = np.random.default_rng(seed).random((60, 4)).argsort(1)[:, :2]
    pairs = np.zeros((4, 4), int)
    for a, b in sets:
        pairs[a, a] += 1
        pairs[b, b] += 1
        pairs[a, b] += 1
        pairs[b, a] += 1
    found, other = coactivation(pairs, 60), coactivation(pairs[np.ix_(order, order)], 60)
    np.testing.assert_allclose(other.lift, found.lift[np.ix_(order, order)], atol=1e-6)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(at=st.integers(0, 3), seed=st.integers(0, 1000))
def test_an_empty_class_changes_nothing(at, seed):
    joint, shifted = tables(seed)
    more, moved = np.insert(joint, at, 0, axis=1), np.insert(shifted, at, 0, axis=1)
    others = [c for c in range(4) if c != at]
    a, b = enrichment(joint, shifted, n_draws=20), enrichment(more, moved, n_draws=20)
    for name in ("log2_odds", "low", "high", "p", "z"):
        same(getattr(b, name)[others], getattr(a, name))
    assert np.isnan(b.p[at]).all() and set(b.reason[at]) == {"no items of this class"}
    same(pairwise_js(more)[np.ix_(others, others)], pairwise_js(joint))
    a, b = describe_information(joint, n_draws=20), describe_information(more, n_draws=20)
    assert a.n_classes == b.n_classes and a.bound == b.bound
    for name in ("mi", "corrected", "js"):
        same(list(getattr(b, name).to_dict().values()), list(getattr(a, name).to_dict().values()))
    same(information_by_chance(more.sum(0), moved).p, information_by_chance(joint.sum(0), shifted).p)
    contexts, by_class = np.full((4, 5), 9), np.random.default_rng(seed).integers(1, 9, (3, 4))
    same(
        explained_by_context(more.sum(0), np.insert(by_class, at, 0, axis=0), contexts).explained,
        explained_by_context(joint.sum(0), by_class, contexts).explained,
    )


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_merging_units_changes_nothing_but_intervals(seed):
    joint, shifted = tables(seed)
    merged = joint[0::2] + joint[1::2]
    a, b = enrichment(joint, shifted, n_draws=20), enrichment(merged, shifted, n_draws=20)
    for name in ("log2_odds", "p", "z", "share_in_class"):
        same(getattr(b, name), getattr(a, name))
    same(pairwise_js(merged), pairwise_js(joint))
    same(
        describe_information(merged, n_draws=20).mi.value,
        describe_information(joint, n_draws=20).mi.value,
    )


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), copies=st.integers(2, 5))
def test_measures_do_not_depend_on_how_much_there_is(seed, copies):
    joint, _ = tables(seed)
    same(pairwise_js(copies * joint), pairwise_js(joint))
    same(mutual_information(copies * joint.sum(0)), mutual_information(joint.sum(0)))
    same(specialty(copies * joint.sum(0)), specialty(joint.sum(0)))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_names_of_stages_do_not_matter_and_their_parts_add_up(seed):
    measured = {key: tables(seed + n)[0] for n, key in enumerate([(), ("x",), ("y",), ("x", "y")])}
    renamed = {tuple({"x": "b", "y": "a"}[name] for name in key): table for key, table in measured.items()}
    a, b = split_stages(measured, n_draws=20), split_stages(renamed, n_draws=20)
    same([stage.change.value for stage in a.stages], [stage.change.value for stage in b.stages][::-1])
    same(sum(stage.change.value for stage in a.stages), a.total.value)


def runs(rng, n_kinds, mean_run, length=LENGTH):
    """A track whose neighbours are alike: kinds in runs of random length."""
    cuts = rng.random(length) < 1 / mean_run
    cuts[0] = True
    return rng.integers(0, n_kinds, cuts.sum())[np.cumsum(cuts) - 1]


def counted(labels, experts, n_classes=3, n_experts=4):
    return np.bincount(labels * n_experts + experts, minlength=n_classes * n_experts).reshape(n_classes, n_experts)


def a_genome(rng, n_stretches, link):
    """Joint counts of stretches, and the same with labels turned; experts follow the label in ``link`` of the runs."""
    joint, shifted = [], np.zeros((N_SHIFTS, 3, 4), int)
    for _ in range(n_stretches):
        labels, experts = runs(rng, 3, 60), runs(rng, 4, 25)
        follows = runs(rng, 1000, 25) < 1000 * link
        experts = np.where(follows, labels, experts)
        joint.append(counted(labels, experts))
        for s, by in enumerate(rng.integers(1, LENGTH, N_SHIFTS)):
            shifted[s] += counted(np.roll(labels, by), experts)
    return np.stack(joint), shifted


def naive_p(table, c, e):
    """What a chi-square test of the table of four says, as if bases were independent."""
    a, in_class, of_expert = table[c, e], table[c].sum(), table[:, e].sum()
    four = [[a, in_class - a], [of_expert - a, table.sum() - in_class - of_expert + a]]
    return chi2_contingency(four).pvalue


def test_p_values_of_turned_labels_are_uniform_where_naive_ones_are_not():
    rng = np.random.default_rng(0)
    found, by_mi, naive = [], [], []
    for _ in range(300):
        joint, shifted = a_genome(rng, n_stretches=4, link=0)
        found.append(enrichment(joint, shifted, n_draws=2).p[1, 2])
        by_mi.append(information_by_chance(joint.sum(0), shifted).p)
        naive.append(naive_p(joint.sum(0), 1, 2))
    assert kstest(found, "uniform").pvalue > 0.01
    assert kstest(by_mi, "uniform").pvalue > 0.01
    assert np.mean(np.array(found) <= 0.05) < 0.09
    # The same tracks, bases taken for independent: most of what it finds at 5 % is not there.
    assert np.mean(np.array(naive) <= 0.05) > 0.5
    assert kstest(naive, "uniform").pvalue < 1e-20


def test_p_values_of_turned_labels_are_small_where_experts_follow_labels():
    rng = np.random.default_rng(1)
    for _ in range(10):
        joint, shifted = a_genome(rng, n_stretches=12, link=0.4)
        found = enrichment(joint, shifted, n_draws=2)
        # Experts 0 to 2 follow the labels of their number; expert 3 follows none, and is rarer in none.
        assert np.diagonal(found.p[:, :3]) == pytest.approx(2 / (1 + N_SHIFTS))
        assert (np.diagonal(found.log2_odds[:, :3]) > 0.5).all() and (np.diagonal(found.z[:, :3]) > 2).all()
        assert information_by_chance(joint.sum(0), shifted).p == 1 / (1 + N_SHIFTS)


def sequences(rng, n_units, link):
    """Units of one class each, unequal in size, that scatter more than their items alone would."""
    classes = rng.integers(0, 3, n_units)
    p = np.where(np.arange(4) == classes[:, None], 1 + link, 1.0)
    own = np.stack([rng.dirichlet(3 * row) for row in p])
    joint = np.zeros((n_units, 3, 4), int)
    for unit, c in enumerate(classes):
        joint[unit, c] = rng.multinomial(rng.integers(20, 400), own[unit])
    return joint


def test_p_values_of_permuted_units_are_uniform_where_naive_ones_are_not():
    rng = np.random.default_rng(2)
    found, by_mi, naive = [], [], []
    for trial in range(400):
        joint = sequences(rng, 24, link=0)
        moved = permutation(joint, 199, seed=trial)
        found.append(enrichment(joint, moved, n_draws=2).p[0, 0])
        by_mi.append(information_by_chance(joint.sum(0), moved).p)
        naive.append(naive_p(joint.sum(0), 0, 0))
    assert kstest(found, "uniform").pvalue > 0.01
    assert kstest(by_mi, "uniform").pvalue > 0.01
    assert np.mean(np.array(found) <= 0.05) < 0.08
    assert np.mean(np.array(naive) <= 0.05) > 0.5


def test_p_values_of_permuted_units_are_small_where_classes_differ():
    rng = np.random.default_rng(3)
    found = []
    for trial in range(20):
        joint = sequences(rng, 60, link=4)
        found.append(enrichment(joint, permutation(joint, 199, seed=trial), n_draws=2).p)
    diagonal = np.stack([np.diagonal(p[:, :3]) for p in found])
    assert np.mean(diagonal <= 0.01) > 0.95
