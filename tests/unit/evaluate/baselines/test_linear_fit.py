import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score, log_loss

from umbel.data.labelled.task import IGNORED, Task
from umbel.evaluate.baselines.linear import PENALTIES, dev_score, fit_linear

NUMBERS, BINARY = Task("regression", ("x", "y")), Task("binary", ("0", "1"))
THREE, LABELS = Task("multiclass", ("a", "b", "c")), Task("multilabel", ("p", "q"))


@pytest.fixture
def made():
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(150, 6)) * (0.1, 1, 10, 1, 1, 1) + 5).astype(np.float32)
    features[:, 5] = 3
    hidden = features @ rng.normal(size=(6, 3)) / 5
    hidden = (hidden - hidden.mean(0)) / hidden.std(0)
    return features[:100], features[100:], hidden[:100], hidden[100:]


def standard(features, of):
    spread = of.std(0)
    return (features - of.mean(0)) / np.where(spread > 0, spread, 1)


@pytest.mark.parametrize("kind", [np.asarray, csr_matrix])
def test_ridge_is_scikit_learns_and_the_best_on_dev(made, kind):
    train, dev, y_train, y_dev = made
    noise = np.random.default_rng(1).normal(size=y_train[:, :2].shape)
    y = (y_train[:, :2] + noise).astype(np.float32)
    fit = fit_linear(NUMBERS, kind(train), y, kind(dev), y_dev[:, :2].astype(np.float32))
    losses = {}
    for penalty in PENALTIES:
        ridge = Ridge(alpha=penalty * 100).fit(standard(train.astype(float), train.astype(float)), y)
        said = ridge.predict(standard(dev.astype(float), train.astype(float)))
        losses[penalty] = (((said - y_dev[:, :2]) ** 2) / y.var(0)).mean()
        if penalty == fit.penalty:
            np.testing.assert_allclose(fit.scores(kind(dev)), said, atol=1e-3)
    assert fit.penalty == min(losses, key=losses.get)
    assert fit.dev_score == pytest.approx(-min(losses.values()), rel=1e-4)
    assert fit.n_parameters == 14 and fit.is_converged


def test_outputs_that_were_not_measured_everywhere(made):
    train, dev, y, y_dev = made
    targets = y[:, :2].astype(np.float32)
    targets[::3, 1] = np.nan
    both = fit_linear(NUMBERS, train, targets, dev, y_dev[:, :2].astype(np.float32), penalties=(0.1,))
    known = ~np.isnan(targets[:, 1])
    for i, rows in enumerate((slice(None), known)):
        one = fit_linear(
            Task("regression", ("z",)),
            train[rows],
            targets[rows, i : i + 1],
            dev,
            y_dev[:, i : i + 1].astype(np.float32),
            penalties=(0.1,),
        )
        np.testing.assert_allclose(both.scores(dev)[:, i], one.scores(dev)[:, 0], rtol=1e-5)


@pytest.mark.parametrize("balanced", [None, "balanced"])
def test_classes_are_scikit_learns(made, balanced):
    train, dev, hidden, hidden_dev = made
    rng = np.random.default_rng(2)
    truth, truth_dev = ((h + rng.normal(size=h.shape)).argmax(1) for h in (hidden, hidden_dev))
    inverse = (0.001, 0.1, 10.0)
    fit = fit_linear(
        THREE, train, truth, dev, truth_dev, inverse_strengths=inverse, class_weight=balanced, select="macro_f1"
    )
    x, x_dev = standard(train, train), standard(dev, train)
    scores = []
    for C in inverse:
        model = LogisticRegression(C=C, class_weight=balanced, max_iter=2000, tol=1e-6).fit(x, truth)
        scores.append(f1_score(truth_dev, model.predict(x_dev), average="macro"))
        if fit.penalty == C:
            np.testing.assert_allclose(fit.scores(dev), model.predict_proba(x_dev), atol=0.01)
    # Scikit-learn's optimum to the last digit; ours stops a little earlier, which may turn one answer of fifty.
    assert fit.dev_score == pytest.approx(max(scores), abs=0.03)
    assert scores[inverse.index(fit.penalty)] == pytest.approx(max(scores), abs=0.03)


def test_sparse_features_give_the_optimum_of_dense_ones(made):
    train, dev, hidden, hidden_dev = made
    labels, labels_dev = ((h[:, :2] > h[:, :2].mean(0)).astype(np.float32) for h in (hidden, hidden_dev))
    dense, sparse = (
        fit_linear(LABELS, kind(train), labels, kind(dev), labels_dev, penalties=(0.1,))
        for kind in (np.asarray, csr_matrix)
    )
    np.testing.assert_allclose(dense.scores(dev), sparse.scores(csr_matrix(dev)), atol=0.05)
    assert dense.dev_score == pytest.approx(-log_loss(labels_dev.ravel(), dense.scores(dev).ravel()), rel=1e-4)


def test_a_class_or_label_that_train_does_not_have(made):
    train, dev, hidden, _ = made
    two = (hidden[:, 0] > hidden[:, 1]).astype(int) * 2
    scores = fit_linear(THREE, train, two, dev, two[:50], penalties=(1.0,)).scores(dev)
    assert not scores[:, 1].any() and scores.sum(1) == pytest.approx(np.ones(50))
    only = fit_linear(BINARY, train, np.ones(100, int), dev, np.ones(50, int))
    assert only.scores(dev).tolist() == [[0, 1]] * 50
    labels = np.column_stack([np.zeros(100), hidden[:, 0] > 0]).astype(np.float32)
    assert not fit_linear(LABELS, train, labels, dev, labels[:50]).scores(dev)[:, 0].any()


def test_bases_without_class_change_nothing(made):
    train, dev, hidden, _ = made
    task = Task("bases", ("a", "b"))
    truth = (hidden[:, 0] > hidden[:, 0].mean()).astype(int)
    holes = np.where(np.arange(100) % 4 == 0, IGNORED, truth)
    found = fit_linear(task, train, holes, dev, holes[:50]).scores(dev)
    known = holes >= 0
    same = fit_linear(task, train[known], holes[known], dev[known[:50]], holes[:50][known[:50]]).scores(dev)
    np.testing.assert_array_equal(found, same)


def test_errors_are_selected_downwards():
    truth = np.array([[1.0], [2.0]])
    one = Task("regression", ("y",))
    assert dev_score(one, truth, truth + 1, "mse", np.ones(1)) == -1
    assert dev_score(one, truth, truth + 1, "loss", np.full(1, 4.0)) == -0.25
    assert dev_score(one, np.ones((2, 1)), truth, "pearson", np.ones(1)) == -np.inf
