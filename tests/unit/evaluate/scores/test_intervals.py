from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from umbel.data.labelled.task import IGNORED, Task
from umbel.errors import RunError
from umbel.evaluate.scores.comparisons import bootstrap_p, example_losses, holm, paired_difference
from umbel.evaluate.scores.intervals import bootstrap, intervals, percentile_interval
from umbel.evaluate.scores.predictions import Predictions

BINARY = Task("binary", ("0", "1"))
NUMBER = Task("regression", ("y",))


def classifier(truth, right_frac, seed, task=BINARY, units=None):
    rng = np.random.default_rng(seed)
    chosen = np.where(rng.random(len(truth)) < right_frac, truth, 1 - truth)
    said = rng.uniform(0.5, 1, len(truth))
    units = np.arange(len(truth)) if units is None else units
    scores = np.where(np.arange(2) == chosen[:, None], said[:, None], 1 - said[:, None]).astype(np.float32)
    return Predictions(task, tuple(f"s{i}" for i in range(units[-1] + 1)), truth, scores, units)


def numbers(truth, said):
    n = len(truth)
    truth, said = (np.asarray(x, np.float32).reshape(n, 1) for x in (truth, said))
    return Predictions(NUMBER, tuple(f"s{i}" for i in range(n)), truth, said, np.arange(n))


@pytest.fixture(scope="module")
def truth():
    return np.random.default_rng(0).integers(0, 2, 200)


def test_draws_are_metrics_of_resampled_examples(truth):
    one = classifier(truth, 0.8, 1)
    drawn = bootstrap([one], n_draws=20, seed=7)
    weights = np.random.default_rng(7).multinomial(200, np.full(200, 1 / 200), size=20)
    for draw in range(20):
        rows = np.repeat(np.arange(200), weights[draw])
        chosen = one.scores[rows].argmax(1)
        assert drawn.draws["accuracy"][draw] == pytest.approx(metrics.accuracy_score(truth[rows], chosen))
        assert drawn.draws["auprc"][draw] == pytest.approx(
            metrics.average_precision_score(truth[rows], one.scores[rows, 1])
        )


def test_whole_examples_are_drawn_along_sequences():
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 30, 25)
    units = np.repeat(np.arange(25), lengths)
    truth = rng.integers(0, 2, len(units))
    truth[::9] = IGNORED
    one = classifier(np.maximum(truth, 0), 0.8, 1, Task("bases", ("x", "y")), units)
    one = Predictions(one.task, one.ids, truth, one.scores, units)
    drawn = bootstrap([one], n_draws=10, seed=7)
    weights = np.random.default_rng(7).multinomial(25, np.full(25, 1 / 25), size=10)
    for draw in range(10):
        rows = np.concatenate(
            [np.tile(np.flatnonzero((units == u) & (truth >= 0)), weights[draw, u]) for u in range(25)]
        )
        assert drawn.draws["mcc"][draw] == pytest.approx(
            metrics.matthews_corrcoef(truth[rows], one.scores[rows].argmax(1))
        )


def test_chunks_of_draws_change_nothing(truth, monkeypatch):
    seeds = [classifier(truth, 0.8, 1), classifier(truth, 0.7, 2)]
    whole = intervals(seeds, n_draws=33)
    monkeypatch.setattr("umbel.evaluate.metrics._CHUNK_ENTRIES", 1000)
    assert intervals(seeds, n_draws=33) == whole


def test_accuracy_interval_has_the_width_of_theory(truth):
    found = intervals([classifier(truth, 0.8, 1)], n_draws=4000)["accuracy"]
    half = NormalDist().inv_cdf(0.975) * np.sqrt(found.value * (1 - found.value) / 200)
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.15 * half)
    assert found.sd is None and found.by_seed == (found.value,)


def test_value_is_the_mean_over_seeds_and_the_interval_knows_of_them(truth):
    rows = [classifier(truth, frac, i) for i, frac in enumerate((0.95, 0.8, 0.6))]
    found = intervals(rows)["accuracy"]
    each = [metrics.accuracy_score(truth, row.scores.argmax(1)) for row in rows]
    assert found.by_seed == pytest.approx(each) and found.value == pytest.approx(np.mean(each))
    assert found.sd == pytest.approx(np.std(each, ddof=1))
    same = intervals([rows[1]] * 3)["accuracy"]
    assert found.high - found.low > 2 * (same.high - same.low)
    # Three copies of one seed say as much as the one.
    one = intervals([rows[1]])["accuracy"]
    assert (same.value, same.low, same.high) == pytest.approx((one.value, one.low, one.high))


def test_seed_level_has_the_variance_of_theory():
    # Without error from examples (one answer for all), draws are means of three of three values.
    truth = np.random.default_rng(0).normal(size=50)
    rows = [numbers(truth, truth + shift) for shift in (0.0, 1.0, 2.0)]
    draws = bootstrap(rows, n_draws=8000).draws["mse"]
    values = np.array([0.0, 1.0, 4.0])
    assert draws.std() == pytest.approx(values.std() / np.sqrt(3), rel=0.05)


def test_undefined_draws_give_no_interval():
    truth = np.array([1] + [0] * 29)
    found = intervals([classifier(truth, 0.9, 0)])
    assert found["auroc"].value is not None and found["auroc"].low is None
    assert found["accuracy"].low is not None
    none = intervals([classifier(np.zeros(30, int), 0.9, 0)])["auroc"]
    assert (none.value, none.low, none.sd) == (None, None, None)
    few = np.append(np.full(3, np.nan), np.arange(97.0))
    assert percentile_interval(few, 9) == pytest.approx((2.4, 93.6))
    assert percentile_interval(np.arange(9.0), 1) == (None, None)


def test_difference_with_itself_is_exactly_nothing(truth):
    one = [classifier(truth, 0.8, 1)]
    found = paired_difference(one, one, "mcc")
    assert (found.value, found.low, found.high, found.p, found.p_test) == (0, 0, 0, 1, 1)
    assert (found.n_better, found.n_worse) == (0, 0)


def test_pairs_see_the_same_draws(truth):
    a, b = classifier(truth, 0.9, 1), classifier(truth, 0.7, 2)
    drawn_a, drawn_b = bootstrap([a]), bootstrap([b])
    found = paired_difference(drawn_a, drawn_b, "accuracy")
    low, high = np.percentile(drawn_a.draws["accuracy"] - drawn_b.draws["accuracy"], [2.5, 97.5])
    assert (found.low, found.high) == (low, high)
    assert found == paired_difference([a], [b], "accuracy")
    assert found.low > 0 and found.p == pytest.approx(2 / 1001)
    assert found.value == -paired_difference([b], [a], "accuracy").value


def test_mcnemar_is_the_binomial_of_discordant_examples(truth):
    a, b = classifier(truth, 0.85, 1), classifier(truth, 0.8, 2)
    right_a, right_b = (row.scores.argmax(1) == truth for row in (a, b))
    n_better, n_worse = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    found = paired_difference([a], [b], "auroc")
    assert found.test == "McNemar exact" and (found.n_better, found.n_worse) == (n_better, n_worse)
    n = n_better + n_worse
    tail = sum(stats.binom.pmf(i, n, 0.5) for i in range(min(n_better, n_worse) + 1))
    assert found.p_test == pytest.approx(min(1, 2 * tail))


def test_squared_errors_are_compared_in_pairs():
    rng = np.random.default_rng(5)
    truth = rng.normal(size=80)
    a, b = numbers(truth, truth + rng.normal(size=80)), numbers(truth, truth + 1.3 * rng.normal(size=80))
    found = paired_difference([a], [b], "r2")
    errors = [((row.scores - row.targets).astype(float) ** 2)[:, 0] for row in (a, b)]
    assert found.p_test == pytest.approx(stats.ttest_rel(*errors).pvalue, rel=1e-4)
    assert found.n_better == (errors[0] < errors[1]).sum()


def test_p_of_no_difference_is_even():
    rng = np.random.default_rng(9)
    below, below_test = 0, 0
    for trial in range(200):
        truth = rng.integers(0, 2, 120)
        found = paired_difference(
            [classifier(truth, 0.75, 2 * trial)], [classifier(truth, 0.75, 2 * trial + 1)], "accuracy", n_draws=300
        )
        below += found.p <= 0.1
        below_test += found.p_test <= 0.1
    assert 0.04 <= below / 200 <= 0.19 and below_test / 200 <= 0.15


def test_losses_of_examples_are_plain_loops():
    rng = np.random.default_rng(2)
    units = np.array([0, 0, 0, 1, 1, 2])
    targets = rng.normal(size=(6, 2)).astype(np.float32)
    targets[1, 0] = targets[5] = np.nan
    scores = rng.normal(size=(6, 2)).astype(np.float32)
    found = example_losses(Predictions(Task("bins", ("x", "y"), 8), tuple("abc"), targets, scores, units))
    for unit in range(3):
        errors = [
            (float(targets[i, j]) - float(scores[i, j])) ** 2
            for i in np.flatnonzero(units == unit)
            for j in range(2)
            if not np.isnan(targets[i, j])
        ]
        assert found[unit] == pytest.approx(np.mean(errors) if errors else np.nan, nan_ok=True)


def test_several_seeds_are_tested_on_their_mean(truth):
    a = [classifier(truth, 0.9, i) for i in range(3)]
    b = [classifier(truth, 0.7, i + 9) for i in range(2)]
    found = paired_difference(a, b, "mcc")
    right_a, right_b = (np.mean([row.scores.argmax(1) == truth for row in rows], axis=0) for rows in (a, b))
    assert found.test == "sign test" and found.n_better == (right_a > right_b + 1e-9).sum()
    assert found.p_test < 0.01 and found.low > 0


def test_holm_is_a_plain_loop():
    p = {"a": 0.02, "b": 0.001, "c": 0.5, "d": 0.04, "e": None}
    assert holm(p) == pytest.approx({"a": 0.06, "b": 0.004, "c": 0.5, "d": 0.08, "e": None})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_p_counts_both_sides():
    assert bootstrap_p(np.array([-1.0, 1.0] * 50)) == 1
    assert bootstrap_p(np.append(np.ones(97), [-1.0, -1.0])) == pytest.approx(2 * 3 / 100)


def test_what_is_no_pair_is_refused(truth):
    a = classifier(truth, 0.8, 1)
    other_ids = Predictions(BINARY, ("x", *a.ids[1:]), a.targets, a.scores, a.units)
    other_truth = Predictions(BINARY, a.ids, 1 - a.targets, a.scores, a.units)
    other_task = Predictions(Task("binary", ("n", "y")), a.ids, a.targets, a.scores, a.units)
    for other, text in (
        (other_ids, "example 1 is 's0' and 'x'"),
        (other_truth, "same 200 examples have other targets"),
        (other_task, "predictions of two tasks"),
        (classifier(truth[:9], 0.8, 1), "of 200 and of 9 examples"),
    ):
        with pytest.raises(RunError, match=text):
            paired_difference([a], [other], "mcc")
        with pytest.raises(RunError, match=text):
            bootstrap([a, other])
    with pytest.raises(RunError, match="no metric 'r2'; there are: accuracy, macro_f1"):
        paired_difference([a], [a], "r2")
    with pytest.raises(RunError, match="their draws are no pairs"):
        paired_difference(bootstrap([a], seed=1), bootstrap([a], seed=2), "mcc")
    with pytest.raises(RunError, match="at least one seed"):
        bootstrap([])
