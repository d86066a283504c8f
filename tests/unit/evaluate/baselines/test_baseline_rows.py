"""What is asked of every baseline alike."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from baseline_examples import TASKS, drawn, with_other_targets

from umbel.errors import ConfigError, LabelError
from umbel.evaluate.baselines.cnn import Cnn
from umbel.evaluate.baselines.kmer import Kmer
from umbel.evaluate.baselines.majority import Majority
from umbel.evaluate.baselines.probe import Probe
from umbel.evaluate.scores.definitions import score
from umbel.evaluate.scores.predictions import Predictions

torch.set_num_threads(1)


class Composition:
    """Embeds by share of bases, and says so."""

    weights_hash = "composition"

    def __init__(self):
        self.asked = []

    def embed(self, codes, strand):
        self.asked.append((len(codes), strand))
        return np.array([np.bincount(c, minlength=5)[:4] / len(c) for c in codes], np.float32)


def rows(kind):
    made = [Majority(), Kmer(word_sizes=(1, 2)), Cnn(width=8, epochs=3, lr=0.01)]
    return made if TASKS[kind].is_along_sequence else [*made, Probe(Composition())]


CASES = [(kind, row) for kind in TASKS for row in rows(kind)]


@pytest.mark.parametrize(("kind", "row"), CASES, ids=[f"{kind}-{row.name}" for kind, row in CASES])
def test_every_row_fits_every_task(kind, row):
    train, dev, test = (drawn(kind, n, seed) for seed, n in enumerate((120, 40, 30)))
    fitted = row.fit(train, dev, seed=1)
    scores = fitted.scores(test)
    assert scores.dtype == np.float32
    found = Predictions.of_examples(test, scores)
    assert found.n_examples == 30
    assert {"chosen", "n_parameters", "seconds"} <= set(fitted.facts)
    json.dumps(fitted.facts, allow_nan=False)
    # Deterministic, and whoever else is asked about changes nothing.
    np.testing.assert_array_equal(row.fit(train, dev, seed=1).scores(test), scores)
    alone = np.concatenate([fitted.scores(test.take([i])) for i in range(len(test))])
    np.testing.assert_allclose(alone, scores, atol=2e-5)
    np.testing.assert_array_equal(fitted.scores(with_other_targets(test)), scores)


@pytest.mark.parametrize("kind", TASKS)
def test_kmers_and_networks_find_what_is_planted(kind):
    train, dev, test = (drawn(kind, n, seed) for seed, n in enumerate((200, 60, 60)))
    metric = {"regression": "r2", "bins": "r2"}.get(kind, "auroc")
    for row in rows(kind)[1:]:
        if row.name == "cnn":
            row = dataclasses.replace(row, epochs=10, width=16)
        predictions = Predictions.of_examples(test, row.fit(train, dev, seed=0).scores(test))
        value = score(test.task, predictions.targets, predictions.scores)[metric]
        assert value > {"r2": 0.6}.get(metric, 0.85), (row.name, value)


@pytest.mark.parametrize("row", rows("binary"), ids=lambda row: row.name)
def test_test_labels_and_dev_labels_as_they_should(row):
    train, dev, test = (drawn("binary", n, seed) for seed, n in enumerate((120, 40, 30)))
    scores = row.fit(train, dev, seed=0).scores(test)
    np.testing.assert_array_equal(row.fit(train, dev, seed=0).scores(with_other_targets(test)), scores)
    # Dev chooses among fits, and is not fitted: with one thing to choose from it changes nothing.
    if row.name == "majority":
        np.testing.assert_array_equal(row.fit(train, with_other_targets(dev)).scores(test), scores)


@pytest.mark.parametrize("row", rows("binary"), ids=lambda row: row.name)
def test_what_cannot_be_fitted_is_refused(row):
    train, dev = drawn("binary", 20), drawn("binary", 10, 1)
    with pytest.raises(LabelError, match=r"made.csv: there are no train examples"):
        row.fit(train.take([]), dev)
    with pytest.raises(LabelError, match="there are no dev examples"):
        row.fit(train, dev.take([]))
    with pytest.raises(LabelError, match="dev examples are of another task"):
        row.fit(train, drawn("multiclass", 10))
    if row.name != "majority":
        with pytest.raises(ConfigError, match="no metric 'r2' to select by; there are: loss, accuracy"):
            dataclasses.replace(row, select="r2").fit(train, dev)


def test_majority_says_what_is_common():
    task_of = {kind: drawn(kind, 50) for kind in TASKS}
    fitted = {kind: Majority().fit(each, each) for kind, each in task_of.items()}
    counts = np.bincount(task_of["multiclass"].targets, minlength=3) / 50
    assert fitted["multiclass"].answer.tolist() == counts.tolist()
    assert fitted["multilabel"].answer == pytest.approx(task_of["multilabel"].targets.mean(0))
    assert fitted["regression"].answer == pytest.approx(task_of["regression"].targets.mean(0), rel=1e-5)
    bases = np.concatenate(task_of["bases"].targets)
    assert fitted["bases"].answer[1] == pytest.approx((bases == 1).sum() / (bases >= 0).sum())
    assert fitted["bins"].answer == pytest.approx(np.nanmean(np.concatenate(task_of["bins"].targets), axis=0), rel=1e-5)
    test = drawn("binary", 40, 3)
    found = score(test.task, test.targets, fitted["binary"].scores(test))
    assert found["auroc"] == 0.5 and found["auprc"] == pytest.approx(test.targets.mean())
