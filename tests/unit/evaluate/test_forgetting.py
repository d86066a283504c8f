"""Forgetting against closed forms, plain sums, and real tuned networks."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from adapted import adapted, small_config
from evaluation_fakes import FakeCorpus, FixedScorer, draw_bases

from umbel.data.kmers import KmerTokens
from umbel.errors import ConfigError, CorpusError
from umbel.evaluate.forgetting import ALL, forgetting, forgetting_lines
from umbel.evaluate.masked_loss import score_windows
from umbel.model.adapters.merge import merge
from umbel.model.hf import new_model
from umbel.predict.predictor import Predictor

RICH, POOR = (0.4, 0.1, 0.1, 0.4), (0.1, 0.4, 0.4, 0.1)


class TwoSpecies(FakeCorpus):
    """Half of the windows of one composition and species, half of another."""

    species = (
        SimpleNamespace(name="Planta dives"),
        SimpleNamespace(name="Planta egens"),
        SimpleNamespace(name="absens"),
    )

    def __init__(self, n_bp=20_000):
        contigs = {"rich": ("test", draw_bases(RICH, n_bp, 0), None, None)}
        super().__init__(contigs | {"poor": ("test", draw_bases(POOR, n_bp, 1), None, None)})

    def window_species(self, ids):
        return np.array([int(self.window(i).contig == "poor") for i in ids.tolist()])


class Base(FixedScorer):
    def with_random_weights(self, seed):
        return FixedScorer((0.25, 0.25, 0.25, 0.25))


def cross_entropy(truth, said):
    return -sum(p * math.log(q) for p, q in zip(truth, said, strict=True))


def test_losses_are_cross_entropies_and_differences_are_theirs():
    """A model of one composition, tuned into a model of another."""
    report = forgetting(Base(RICH), FixedScorer(POOR), TwoSpecies(), seed=0, n_draws=200)
    assert list(report["species"]) == [ALL, "Planta dives", "Planta egens"]
    for species, truth in (("Planta dives", RICH), ("Planta egens", POOR)):
        table = report["species"][species]
        assert list(table["rows"]) == ["base", "random", "tuned"]
        for row, said in (("base", RICH), ("tuned", POOR), ("random", (0.25,) * 4)):
            assert table["rows"][row]["all"]["loss"]["value"] == pytest.approx(cross_entropy(truth, said), abs=0.03)
        change = table["differences"]["base"]["all"]["loss"]
        wanted = cross_entropy(truth, POOR) - cross_entropy(truth, RICH)
        assert change["low"] < wanted < change["high"]
        assert set(table["differences"]) == {"base", "random"}
    assert report["species"]["Planta dives"]["differences"]["base"]["all"]["loss"]["low"] > 0.5
    assert report["species"]["Planta egens"]["differences"]["base"]["all"]["loss"]["high"] < -0.5
    lines = forgetting_lines(report)
    assert lines[1].startswith("Planta dives: 1.1") and "random weights 1.3863 nats a base" in lines[1]


def test_sums_over_species_are_those_of_all():
    corpus = TwoSpecies(3_000)
    report = forgetting(Base(RICH), FixedScorer(POOR), corpus, seed=2, n_draws=100)
    sums = score_windows(FixedScorer(POOR), corpus, corpus.window_ids("test"), seed=2, mask_frac=0.15)
    tables = report["species"]
    assert tables[ALL]["rows"]["tuned"]["all"]["loss"]["value"] == pytest.approx(
        sums.loss[0].sum() / sums.n_bases[0].sum()
    )
    for count in ("n_bases", "n_windows"):
        assert tables[ALL][count]["all"] == sum(tables[s.name][count]["all"] for s in corpus.species[:2])
    assert (report["role"], report["seed"], report["mask_frac"], report["n_draws"]) == ("test", 2, 0.15, 100)


def test_the_same_model_has_forgotten_nothing():
    report = forgetting(Base(RICH), FixedScorer(RICH), TwoSpecies(2_000), n_draws=100)
    for table in report["species"].values():
        assert table["differences"]["base"]["all"]["loss"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_nothing_held_out_is_refused():
    with pytest.raises(CorpusError, match="no valid windows to measure forgetting on"):
        forgetting(Base(RICH), FixedScorer(RICH), TwoSpecies(2_000), role="valid")
    with pytest.raises(
        CorpusError, match="no base of the chosen test windows was hidden: raise mask_frac or n_windows"
    ):
        forgetting(Base(RICH), FixedScorer(RICH), TwoSpecies(2_000), n_windows=1, mask_frac=1e-9)


@pytest.fixture
def base():
    return Predictor(new_model(small_config(), 64, 0), "base", torch.device("cpu"), KmerTokens(1))


def hidden_logs(predictor):
    codes = draw_bases(RICH, 60, 3)
    return predictor.masked_log_probs([codes], [np.arange(60) % 5 == 0])[0]


def test_a_tuned_backbone_gets_the_bases_head(base):
    """Also where the tuned embedding, to which the base's head is tied, has moved away from it."""
    before = hidden_logs(base)
    tuned = copy.deepcopy(base.backbone)
    with torch.no_grad():
        for p in tuned.parameters():
            p.add_(0.05 * torch.randn_like(p))
    moved = base.with_backbone(tuned, "tuned")
    assert moved.weights_hash == "tuned" and moved.backbone is tuned
    ids = torch.tensor([[0, 7, 3, 9, 10, 1]])
    with torch.no_grad():
        logits = moved._model(ids).logits
        wanted = tuned(ids).hidden @ base.backbone.embedding.weight.T
    torch.testing.assert_close(logits, wanted, atol=1e-6, rtol=0)
    assert not np.allclose(hidden_logs(moved), before, atol=1e-3)
    assert np.array_equal(hidden_logs(base), before)


def test_adapters_within_and_merged_are_scored_alike_and_can_be_trained_on(base, species_corpus):
    adapter = adapted(copy.deepcopy(base._model))
    inner = adapter.model.get_base_model().backbone
    apart, plain = base.with_backbone(inner, "apart"), base.with_backbone(merge(adapter).backbone, "merged")
    np.testing.assert_allclose(hidden_logs(apart), hidden_logs(plain), atol=1e-5)
    ids = torch.tensor([[0, 7, 3, 9, 10, 1]])
    adapter.model(input_ids=ids, labels=ids).loss.backward()
    assert all(part.gradients[1].any() for part in adapter.parts() if part.expert is None)
    report = forgetting(base, plain, species_corpus, n_windows=6, n_draws=100)
    assert set(report["species"]) <= {ALL, *(species.name for species in species_corpus.species)}
    table = report["species"][ALL]
    assert table["differences"]["base"]["all"]["loss"]["value"] == pytest.approx(
        table["rows"]["tuned"]["all"]["loss"]["value"] - table["rows"]["base"]["all"]["loss"]["value"]
    )


def test_another_shape_is_refused(base):
    other = new_model(small_config("Md"), 64, 0).backbone
    with pytest.raises(ConfigError, match="another shape than the model, whose language head cannot stand on it"):
        base.with_backbone(other, "other")
