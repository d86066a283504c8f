import itertools
import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from umbel.data.labelled.task import IGNORED, Task
from umbel.evaluate.scores.definitions import metric_names, score, why_collapsed
from umbel.evaluate.scores.predictions import Predictions
from umbel.evaluate.scores.weighted import confusion, correlation, rank_correlation, ranking

BINARY = Task("binary", ("0", "1"))
FOUR = Task("multiclass", tuple("abcd"))


def probabilities(n, n_classes, seed, decimals=None):
    said = np.random.default_rng(seed).dirichlet(np.ones(n_classes), n)
    if decimals is not None:
        said = np.round(said, decimals)
        said /= said.sum(1, keepdims=True)
    return said


@pytest.mark.parametrize("decimals", [None, 1, 0])
@pytest.mark.parametrize("seed", range(4))
def test_binary_metrics_are_scikit_learns(seed, decimals):
    n = (7, 40, 300, 300)[seed]
    truth = np.random.default_rng(seed + 50).integers(0, 2, n)
    said = probabilities(n, 2, seed, decimals)
    found, chosen = score(BINARY, truth, said), said.argmax(1)
    assert found == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(truth, chosen),
            "macro_f1": metrics.f1_score(truth, chosen, average="macro"),
            "f1": metrics.f1_score(truth, chosen),
            "mcc": metrics.matthews_corrcoef(truth, chosen),
            "auroc": metrics.roc_auc_score(truth, said[:, 1]),
            "auprc": metrics.average_precision_score(truth, said[:, 1]),
        },
        abs=1e-12,
    )


@pytest.mark.parametrize("decimals", [None, 1])
def test_metrics_of_several_classes_are_scikit_learns(decimals):
    truth = np.random.default_rng(1).choice(4, 200, p=(0.6, 0.2, 0.15, 0.05))
    said = probabilities(200, 4, 2, decimals)
    found, chosen = score(FOUR, truth, said), said.argmax(1)
    one_hot = np.eye(4)[truth]
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, chosen))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(truth, chosen, average="macro"))
    assert found["mcc"] == pytest.approx(metrics.matthews_corrcoef(truth, chosen))
    assert found["auroc"] == pytest.approx(metrics.roc_auc_score(truth, said, multi_class="ovr", average="macro"))
    assert found["auprc"] == pytest.approx(metrics.average_precision_score(one_hot, said, average="macro"))


def test_a_class_that_is_not_there_is_left_out_of_the_mean():
    truth = np.random.default_rng(1).integers(0, 3, 60)
    said = probabilities(60, 4, 2)
    each = [metrics.roc_auc_score(truth == i, said[:, i]) for i in range(3)]
    assert score(FOUR, truth, said)["auroc"] == pytest.approx(np.mean(each))


@pytest.mark.parametrize("decimals", [None, 1])
def test_label_metrics_are_scikit_learns_from_scores_never_thresholded(decimals):
    rng = np.random.default_rng(3)
    truth = (rng.random((80, 4)) < (0.5, 0.2, 0.0, 0.4)).astype(np.float32)
    said = rng.random((80, 4)) if decimals is None else np.round(rng.random((80, 4)), decimals)
    found = score(Task("multilabel", tuple("abcd")), truth, said)
    chosen, usable = said > 0.5, [0, 1, 3]
    aurocs = [metrics.roc_auc_score(truth[:, i], said[:, i]) for i in usable]
    assert found["auroc"] == pytest.approx(np.mean(aurocs))
    assert found["auprc"] == pytest.approx(metrics.average_precision_score(truth[:, usable], said[:, usable]))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(truth, chosen, average="macro", zero_division=0))
    assert found["accuracy"] == pytest.approx((truth == chosen).mean())
    mccs = [metrics.matthews_corrcoef(truth[:, i], chosen[:, i]) for i in range(4)]
    assert found["mcc"] == pytest.approx(np.mean(mccs))
    assert [found[f"auroc:{name}"] for name in "abd"] == pytest.approx(aurocs)
    assert found["auroc:c"] is None and found["auprc:c"] is None
    thresholded = [metrics.roc_auc_score(truth[:, i], chosen[:, i]) for i in usable]
    assert found["auroc"] != pytest.approx(np.mean(thresholded))


@pytest.mark.parametrize("decimals", [None, 0])
def test_number_metrics_are_scipys(decimals):
    rng = np.random.default_rng(4)
    truth = rng.normal(size=(90, 2)).astype(np.float32)
    said = (0.5 * truth + rng.normal(size=(90, 2)) + 3).astype(np.float32)
    if decimals is not None:
        truth, said = np.round(truth, decimals), np.round(said, decimals)
    found = score(Task("regression", ("leaf", "root")), truth, said)
    rho = [stats.spearmanr(truth[:, i], said[:, i]).statistic for i in range(2)]
    r = [stats.pearsonr(truth[:, i].astype(float), said[:, i].astype(float)).statistic for i in range(2)]
    assert [found["spearman:leaf"], found["spearman:root"]] == pytest.approx(rho)
    assert [found["pearson:leaf"], found["pearson:root"]] == pytest.approx(r)
    assert found["spearman"] == pytest.approx(np.mean(rho))
    assert found["pearson2"] == pytest.approx(np.mean(np.square(r)))
    assert found["r2"] == pytest.approx(metrics.r2_score(truth, said))
    assert found["r2"] < 0 < found["pearson2"]
    assert found["mse"] == pytest.approx(metrics.mean_squared_error(truth, said))


def test_small_cases_are_plain_loops():
    rng = np.random.default_rng(6)
    for _ in range(200):
        n = int(rng.integers(2, 8))
        truth, said = rng.integers(0, 2, n), rng.integers(0, 3, n) / 4
        found = score(BINARY, truth, np.column_stack([1 - said, said]))
        pairs = [
            1.0 if said[i] > said[j] else 0.5 if said[i] == said[j] else 0.0
            for i, j in itertools.product(np.flatnonzero(truth), np.flatnonzero(truth == 0))
        ]
        assert found["auroc"] == (pytest.approx(np.mean(pairs)) if pairs else None)
        if not pairs:
            assert found["auprc"] is None
            continue
        precision, recall = 0.0, 0.0
        for cut in sorted(set(said.tolist()), reverse=True):
            above = said >= cut
            hits = truth[above].sum()
            precision += (hits / truth.sum() - recall) * hits / above.sum()
            recall = hits / truth.sum()
        assert found["auprc"] == pytest.approx(precision)


def test_a_constant_scorer_gets_the_prevalence():
    truth = np.repeat([1, 0], [307, 693])
    for order in (slice(None), slice(None, None, -1)):
        found = score(BINARY, truth[order], np.tile([0.6, 0.4], (1000, 1)))
        assert (found["auprc"], found["auroc"], found["mcc"]) == (pytest.approx(0.307), 0.5, 0)


def test_what_is_not_defined_is_none_or_zero_and_never_nan():
    one_class = score(BINARY, np.ones(5, int), probabilities(5, 2, 0))
    assert one_class["auroc"] is None and one_class["auprc"] is None and one_class["mcc"] == 0
    task = Task("regression", ("y",))
    rising = np.arange(6.0)[:, None]
    said_one = score(task, rising, np.full((6, 1), 0.1))
    assert (said_one["spearman"], said_one["pearson"], said_one["pearson2"]) == (0, 0, 0)
    assert said_one["r2"] == pytest.approx(1 - ((rising - 0.1) ** 2).sum() / ((rising - 2.5) ** 2).sum())
    true_one = score(task, np.full((6, 1), 0.1), rising)
    assert [true_one[name] for name in metric_names(task)[:4]] == [None] * 4
    assert true_one["mse"] == pytest.approx(((rising - 0.1) ** 2).mean())
    for found in (one_class, said_one, true_one):
        assert not any(value is not None and math.isnan(value) for value in found.values())


def test_huge_offsets_do_not_cost_precision():
    rng = np.random.default_rng(0)
    truth, said = rng.normal(size=(50, 1)), rng.normal(size=(50, 1))
    task = Task("regression", ("y",))
    plain = score(task, truth, said)["pearson"]
    assert score(task, truth + 1e8, said * 1e-9)["pearson"] == pytest.approx(plain, abs=1e-6)


def test_rows_without_target_change_nothing():
    rng = np.random.default_rng(1)
    bases = Task("bases", ("a", "b", "c"))
    truth, said = rng.integers(0, 3, 50), probabilities(50, 3, 0)
    hidden = truth.copy()
    hidden[::5] = IGNORED
    assert score(bases, hidden, said) == score(bases, truth[hidden >= 0], said[hidden >= 0])
    bins = Task("bins", ("x", "y"), 16)
    values, guesses = rng.normal(size=(40, 2)), rng.normal(size=(40, 2))
    values[:7, 1] = np.nan
    found = score(bins, values, guesses)
    assert found["spearman:y"] == pytest.approx(stats.spearmanr(values[7:, 1], guesses[7:, 1]).statistic)
    assert found["spearman:x"] == pytest.approx(stats.spearmanr(values[:, 0], guesses[:, 0]).statistic)
    assert found["mse"] == pytest.approx((found["mse:x"] + found["mse:y"]) / 2)


def test_weights_are_repeated_rows():
    rng = np.random.default_rng(8)
    n, n_units = 60, 20
    units = np.sort(rng.integers(0, n_units, n))
    weights = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=25).astype(float)
    truth, said = rng.integers(0, 3, n), rng.integers(0, 3, n)
    x, y = np.round(rng.normal(size=n), 1), np.round(rng.normal(size=n), 1)
    counts = confusion(truth, said, 3, weights, units)
    curves = ranking(truth == 1, x, weights, units)
    plain, rho = correlation(x, y, weights, units), rank_correlation(x, y, weights, units)
    for draw, weight in enumerate(weights):
        rows = np.repeat(np.arange(n), weight[units].astype(int))
        np.testing.assert_array_equal(counts[draw], metrics.confusion_matrix(truth[rows], said[rows], labels=range(3)))
        assert curves[draw, 0] == pytest.approx(metrics.roc_auc_score(truth[rows] == 1, x[rows]))
        assert curves[draw, 1] == pytest.approx(metrics.average_precision_score(truth[rows] == 1, x[rows]))
        assert plain[draw, 0] == pytest.approx(stats.pearsonr(x[rows], y[rows]).statistic)
        assert plain[draw, 1] == pytest.approx(metrics.mean_squared_error(x[rows], y[rows]))
        assert plain[draw, 2] == pytest.approx(metrics.r2_score(x[rows], y[rows]))
        assert rho[draw] == pytest.approx(stats.spearmanr(x[rows], y[rows]).statistic)


def test_names_of_metrics_are_those_given():
    truth, said = np.array([0, 1, 2, 3]), probabilities(4, 4, 0)
    assert tuple(score(FOUR, truth, said)) == metric_names(FOUR)
    assert tuple(score(BINARY, np.array([0, 1]), said[:2, :2])) == metric_names(BINARY)
    one = Task("regression", ("y",))
    assert tuple(score(one, said[:, :1], said[:, 1:2])) == metric_names(one)


def made(task, targets, scores):
    n = len(targets)
    return Predictions(task, tuple(map(str, range(n))), targets, scores.astype(np.float32), np.arange(n))


def test_collapse_is_told_in_words():
    rng = np.random.default_rng(0)
    truth = np.arange(1000) % 2
    one_sided = np.column_stack([rng.uniform(0.5, 1, 1000), np.zeros(1000)])
    one_sided[:, 1] = 1 - one_sided[:, 0]
    assert why_collapsed(made(BINARY, truth, one_sided)) == "all 1000 predictions are of class '0'"
    blind = np.eye(2)[np.arange(1000) // 2 % 2]
    assert why_collapsed(made(BINARY, truth, blind)) == "MCC is 0.000"
    assert why_collapsed(made(BINARY, truth, np.eye(2)[truth])) is None
    assert why_collapsed(made(BINARY, truth, np.eye(2)[1 - truth])) is None
    assert why_collapsed(made(BINARY, np.zeros(1000, int), one_sided)) is None


def test_collapsed_numbers_and_labels_are_told_in_words():
    rng = np.random.default_rng(0)
    task = Task("regression", ("y",))
    truth = rng.normal(size=(400, 1)).astype(np.float32)
    assert why_collapsed(made(task, truth, 3 + 1e-5 * truth)) == "all predictions are the same"
    assert why_collapsed(made(task, truth, -truth)) is None
    centred = truth - truth.mean()
    noise = rng.normal(size=truth.shape)
    blind = noise - centred * (noise * centred).sum() / (centred**2).sum()
    assert str(why_collapsed(made(task, truth, blind))).startswith("Pearson's correlation is ")
    assert why_collapsed(made(task, np.ones_like(truth), blind)) is None
    labels = Task("multilabel", ("a", "b"))
    truth = (rng.random((400, 2)) < 0.05).astype(np.float32)
    # Rare labels are rightly never called likely: that is no collapse.
    assert why_collapsed(made(labels, truth, 0.1 + 0.2 * truth)) is None
    assert why_collapsed(made(labels, truth, np.full((400, 2), 0.05))) == "all predictions of each output are the same"
    half = np.zeros((400, 2))
    half[:, 0] = half[:, 1] = np.arange(400) % 2
    even = np.repeat([0, 1], 200).astype(np.float32)[:, None].repeat(2, 1)
    assert why_collapsed(made(labels, even, half)) == "the mean AUROC of the labels is 0.500"
