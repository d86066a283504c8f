"""The statistics recover what was planted in a real model and a real genome file."""

import math

import numpy as np
import pytest
from planted_experts import (
    CLASSES,
    DEAD,
    EXPERT_OF_CLASS,
    N_EXPERTS,
    SPECIAL,
    choices_of,
    planted_genome,
    planted_model,
    planted_routes,
    planted_scores,
)
from scipy.stats import kstest

from umbel.evaluate.experts.statistics.coactivation import coactivation
from umbel.evaluate.experts.statistics.divergence import describe_divergences
from umbel.evaluate.experts.statistics.enrichment import benjamini_hochberg, enrichment
from umbel.evaluate.experts.statistics.information import (
    describe_information,
    explained_by_context,
    information_by_chance,
)
from umbel.evaluate.experts.statistics.load import describe_load
from umbel.evaluate.experts.statistics.matching import match_experts
from umbel.genome.annotation import CDS, read_gff3
from umbel.genome.fasta import read_fasta
from umbel.predict.gates import read_gates
from umbel.predict.predictor import Predictor

STRETCH = 1_000
N_SHIFTS = 199
C, E = len(CLASSES), N_EXPERTS


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    return planted_genome(tmp_path_factory.mktemp("genome"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return planted_model(tmp_path_factory.mktemp("model") / "planted")


@pytest.fixture(scope="module")
def stretches(genome):
    """Letters and classes of every kilobase."""
    truth = genome[2]
    return [
        (truth.letters[name][start : start + STRETCH], truth.classes[name][start : start + STRETCH])
        for name in truth.letters
        for start in range(0, len(truth.letters[name]), STRETCH)
    ]


@pytest.fixture(scope="module")
def routes(checkpoint, stretches):
    """First choices of both layers, ``(2, L)`` a stretch."""
    predictor = Predictor.load(checkpoint, "cpu")
    return [found[..., 0].astype(int) for found in predictor.routes([encode(letters) for letters, _ in stretches])]


def encode(letters):
    return np.array(["ACGTN".index(letter) for letter in letters], np.uint8)


def sums(labels, experts):
    table = np.zeros((C, E), int)
    used = labels >= 0
    np.add.at(table, (labels[used].astype(int), experts[used]), 1)
    return table


@pytest.fixture(scope="module")
def joint(stretches, routes):
    """``(2, U, C, E)``"""
    return np.array(
        [
            [sums(labels, found[layer]) for (_, labels), found in zip(stretches, routes, strict=True)]
            for layer in range(2)
        ]
    )


@pytest.fixture(scope="module")
def shifted(stretches, routes):
    """``(2, S, C, E)``"""
    rng = np.random.default_rng(0)
    tables = np.zeros((2, N_SHIFTS, C, E), int)
    for (_, labels), found in zip(stretches, routes, strict=True):
        for s, by in enumerate(rng.integers(1, STRETCH, N_SHIFTS)):
            for layer in range(2):
                tables[layer, s] += sums(np.roll(labels, by), found[layer])
    return tables


def contexts(stretches, routes, layer, n_letters):
    """``(C, X)`` and ``(X, E)`` of the words that begin at each base, cut off at the end of a stretch."""
    words: dict[str, int] = {}
    by_class, by_expert = np.zeros((C, 6_000), int), np.zeros((6_000, E), int)
    for (letters, labels), found in zip(stretches, routes, strict=True):
        for i, label in enumerate(labels):
            if label >= 0:
                # The last bases of a stretch, and those before N, have the routing of the last whole word.
                x = words.setdefault(letters[i : i + n_letters], len(words))
                by_class[label, x] += 1
                by_expert[x, found[layer, i]] += 1
    return by_class[:, : len(words)], by_expert[: len(words)]


def test_the_model_routes_as_planted(stretches, routes, checkpoint, tmp_path):
    for (letters, _), found in zip(stretches, routes, strict=True):
        np.testing.assert_array_equal(found, planted_routes(letters)[..., 0])
    twice = Predictor.load(planted_model(tmp_path / "two", top_k=2), "cpu")
    some = [stretches[0][0], stretches[5][0], "ACGNNACGGTCANACGTACG"]
    for letters, found in zip(some, twice.routes([encode(letters) for letters in some]), strict=True):
        np.testing.assert_array_equal(found, planted_routes(letters, top_k=2))


def test_router_scores_are_those_of_the_closed_form(checkpoint, stretches):
    predictor = Predictor.load(checkpoint, "cpu")
    entropy, margin = planted_scores()
    for layer in range(2):
        (gates,) = read_gates(predictor, [encode(stretches[0][0])], layer)
        np.testing.assert_allclose(gates.entropy * math.log(2), entropy, rtol=1e-5)
    assert 0 < margin < 1


def test_the_annotation_says_where_planted_words_begin(genome):
    fasta, gff3, truth = genome
    lengths = {name: len(letters) for name, letters in truth.letters.items()}
    coding = {name: np.zeros(n, bool) for name, n in lengths.items()}
    for feature in read_gff3(gff3, lengths).features:
        if feature.region == CDS:
            coding[feature.contig][feature.start : feature.end] = True
    for record in read_fasta(fasta):
        letters = truth.letters[record.name]
        np.testing.assert_array_equal(record.codes, encode(letters))
        np.testing.assert_array_equal(record.soft_mask, truth.classes[record.name] == CLASSES.index("repeat"))
    for name, letters in truth.letters.items():
        classes = truth.classes[name]
        np.testing.assert_array_equal(coding[name], classes >= CLASSES.index("codon 1"))
        for i in range(len(letters) - 5):
            if letters[i] != "N":
                planted = SPECIAL.get(letters[i : i + 6])
                assert planted == EXPERT_OF_CLASS.get(CLASSES[classes[i]])
                assert planted in (None, choices_of(letters[i : i + 6])[0][0])


def test_labels_that_have_nothing_to_do_with_it_give_uniform_p_values(routes):
    rng = np.random.default_rng(5)
    some = [found[0] for found in routes[:18:3]]
    tests = []
    for _ in range(150):
        observed, moved = np.zeros((1, C, E), int), np.zeros((99, C, E), int)
        for experts in some:
            # Runs as long as those of repeats.
            cuts = rng.random(len(experts)) < 1 / 150
            labels = rng.integers(0, C, cuts.sum() + 1)[np.cumsum(cuts)]
            observed[0] += sums(labels, experts)
            for s, by in enumerate(rng.integers(1, len(experts), 99)):
                moved[s] += np.bincount(np.roll(labels, by) * E + experts, minlength=C * E).reshape(C, E)
        tests.append(enrichment(observed, moved, n_draws=2).p)
    for expert in (0, 1, 4):
        assert kstest([p[1, expert] for p in tests], "uniform").pvalue > 0.01


def test_load_finds_the_dead(joint):
    for layer in range(2):
        counts = joint[layer].sum((0, 1))
        found = describe_load(counts, 1, int(counts.sum()))
        assert found.dead == DEAD[layer] and found.is_enough
    # Second layer: four letters, all but evenly.
    assert found.effective_experts == pytest.approx(4, abs=0.1)
    assert found.max_over_mean == pytest.approx(2, abs=0.4)


def test_enrichment_finds_every_planted_class_and_its_expert(joint, shifted):
    found = enrichment(joint[0], shifted[0], n_draws=200)
    q = benjamini_hochberg(found.p)
    for name, expert in EXPERT_OF_CLASS.items():
        c = CLASSES.index(name)
        assert np.nanargmax(found.log2_odds[c]) == expert
        assert found.share_in_class[c, expert] > 0.95 and found.low[c, expert] > 5
        assert found.p[c, expert] == pytest.approx(2 / (1 + N_SHIFTS)) and q[c, expert] < 0.05
        others = [other for other in EXPERT_OF_CLASS.values() if other != expert]
        assert (found.log2_odds[c, others] < 0).all()
    assert set(found.reason[:, 3]) == {"no item chose this expert"} and np.isnan(found.p[:, 3]).all()


def test_information_is_that_of_the_plan_and_not_of_chance(joint, shifted):
    found = describe_information(joint[0], n_draws=100)
    # Experts 1, 2, 4 and 5 name their classes, the others name "other": H(class) is told, but for ends of stretches.
    share = joint[0].sum((0, 2)) / joint[0].sum()
    entropy = -(share * np.log(share)).sum()
    assert found.mi.value == pytest.approx(entropy, rel=0.02) and found.mi.value <= entropy
    assert found.js.value == pytest.approx(math.log(5), rel=0.03)
    by_chance = information_by_chance(joint[0].sum(0), shifted[0])
    assert by_chance.p == 1 / (1 + N_SHIFTS) and by_chance.floor < 0.05 * found.mi.value


def test_divergence_of_planted_classes_is_full_and_far_above_the_floor(joint):
    found = describe_divergences(joint[0], n_draws=50)
    apart = [CLASSES.index(name) for name in EXPERT_OF_CLASS]
    for i in apart:
        for j in apart:
            if i != j:
                assert found.js.value[i, j] == pytest.approx(math.log(2), rel=0.06)
                assert found.js.value[i, j] > 50 * found.floor[i, j]


def test_the_letters_explain_what_follows_from_letters(joint, stretches, routes):
    by_base = explained_by_context(joint[1].sum(0), *contexts(stretches, routes, 1, 1))
    # The second layer goes by the first letter, but for the ends of stretches.
    assert by_base.share == pytest.approx(1, abs=0.01)
    first = explained_by_context(joint[0].sum(0), *contexts(stretches, routes, 0, 1))
    by_three = explained_by_context(joint[0].sum(0), *contexts(stretches, routes, 0, 3))
    by_word = explained_by_context(joint[0].sum(0), *contexts(stretches, routes, 0, 6))
    assert first.share < 0.5 < by_three.share < 0.97 < by_word.share <= 1 + 1e-9
    assert first.items_per_context > 1_000 > by_word.items_per_context


def test_partners_of_the_second_choice_are_found(stretches):
    chosen = np.concatenate([planted_routes(letters, top_k=2)[0] for letters, _ in stretches])
    pairs = np.zeros((E, E), int)
    for a, b in chosen:
        pairs[a, a] += 1
        pairs[b, b] += 1
        pairs[a, b] += 1
        pairs[b, a] += 1
    found = coactivation(pairs, len(chosen))
    # Expert 4 is followed by 5, and 5 by 6; nothing takes 4 with 6.
    assert found.n[4, 5] > 0 and found.n[4, 6] == 0 and found.lift[4, 5] > 1
    assert np.isnan(found.lift[3]).all()


def test_experts_of_a_model_under_other_names_are_matched(joint):
    found = enrichment(joint[0], joint[0].sum(0)[None], n_draws=2)
    profile = found.log2_odds.T
    order = np.random.default_rng(1).permutation(E)
    matched = match_experts(profile, profile[order])
    planted = list(EXPERT_OF_CLASS.values())
    assert matched.partner[planted].tolist() == np.argsort(order)[planted].tolist()
    assert matched.left_out == (3,) and matched.mean == pytest.approx(1)
