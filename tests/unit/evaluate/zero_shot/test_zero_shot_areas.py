"""Areas within strata against scikit-learn and plain loops, and their intervals against drawing rows by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from umbel.evaluate.metrics import Resamples
from umbel.evaluate.zero_shot.auroc import Comparison, stratified_auroc


def table(n=60, seed=0):
    rng = np.random.default_rng(seed)
    is_positive = rng.random(n) < 0.4
    # Whole numbers, so that there are ties.
    scores = (rng.integers(0, 6, n) + is_positive).astype(float)
    return is_positive, scores, rng.integers(0, 4, n), rng.integers(0, 9, n)


def plain(is_positive, scores, strata, weight):
    """Every pair of a positive and a negative row of one stratum."""
    won = pairs = 0.0
    for i in np.flatnonzero(is_positive):
        for j in np.flatnonzero(~is_positive):
            if strata[i] == strata[j]:
                each = weight[i] * weight[j]
                pairs += each
                won += each * ((scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]))
    return won / pairs if pairs else np.nan


@pytest.mark.parametrize("seed", range(3))
def test_areas_are_those_of_pairs(seed):
    is_positive, scores, strata, units = table(seed=seed)
    weights = np.random.default_rng(seed).integers(0, 3, (4, 9)).astype(float)
    found = stratified_auroc(is_positive, scores, strata, weights, units)
    np.testing.assert_allclose(found, [plain(is_positive, scores, strata, w[units]) for w in weights])
    one = stratified_auroc(is_positive, scores, np.zeros(60, int), np.ones((1, 9)), units)[0]
    assert one == pytest.approx(roc_auc_score(is_positive, scores))


def test_a_draw_without_pairs_has_no_area():
    found = stratified_auroc(np.array([True, False]), np.ones(2), np.array([0, 1]), np.ones((1, 2)), np.arange(2))
    assert np.isnan(found).all()


def test_what_differs_between_strata_only_says_nothing_within():
    is_positive, _, strata, units = table(200)
    assert Comparison(is_positive, strata, units, 10, 0).area([strata.astype(float)]).value == 0.5


def test_intervals_draw_whole_clusters():
    is_positive, scores, strata, clusters = table()
    names = clusters * 7 + 3
    area = Comparison(is_positive, strata, names, 200, 5).area([scores]).to_dict()
    drawn = []
    for weights in Resamples(len(np.unique(clusters)), 200, 5).weights():
        for weight in weights:
            rows = np.concatenate([np.repeat(np.flatnonzero(clusters == c), int(w)) for c, w in enumerate(weight)])
            drawn.append(plain(is_positive[rows], scores[rows], strata[rows], np.ones(len(rows))))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    assert (area["low"], area["high"]) == pytest.approx((low, high))
    assert area["value"] == pytest.approx(plain(is_positive, scores, strata, np.ones(60)))


def test_several_networks_are_averaged_and_differences_are_paired():
    is_positive, scores, strata, clusters = table(120)
    comparison = Comparison(is_positive, strata, clusters, 50, 0)
    one, two = comparison.area([scores]), comparison.area([-scores])
    both = comparison.area([scores, -scores])
    assert both.values == pytest.approx((one.value, two.value))
    np.testing.assert_allclose(both.draws, (one.draws + two.draws) / 2)
    assert both.value == pytest.approx(0.5)
    same = one.minus(one)
    assert (same["value"], same["low"], same["high"]) == (0, 0, 0)


def test_rows_that_have_a_partner_are_counted():
    is_positive = np.array([True, True, False, False, False])
    assert Comparison(is_positive, np.array([0, 1, 0, 0, 2]), np.arange(5), 1, 0).n_usable() == (1, 2)


def test_permuted_labels_are_a_coin():
    """The mean over many permutations is 0.5, and one of them lies where its interval says."""
    rng = np.random.default_rng(0)
    is_positive, scores, strata, clusters = table(300, seed=4)
    found = [Comparison(rng.permutation(is_positive), strata, clusters, 1, 0).area([scores]).value for _ in range(200)]
    assert abs(np.mean(found) - 0.5) < 0.01
