import math
from typing import Any

import numpy as np
import pytest
from evaluation_fakes import ChainScorer, FakeCorpus, FixedScorer, draw_bases, draw_chain

from umbel.data.masking import hidden_positions
from umbel.errors import CheckpointError
from umbel.evaluate.markov import FlankModel, choose_order, count_flanks
from umbel.evaluate.masked_loss import RowSums, choose_windows, read_hidden, score_windows, summarise_rows

SEEDED = {"seed": 3, "mask_frac": 0.15}
MIX = (0.4, 0.1, 0.2, 0.3)


def corpus_of(codes: Any, soft_mask: Any = None) -> Any:
    return FakeCorpus({"t": ("test", codes, soft_mask, None)})


def test_composition_reaches_its_entropy() -> None:
    corpus = corpus_of(draw_bases(MIX, 100_000, 0))
    sums = score_windows(FixedScorer(MIX), corpus, corpus.window_ids("test"), **SEEDED)
    table = summarise_rows({"model": sums}, n_draws=300, seed=0)
    found = table["rows"]["model"]["all"]
    entropy = -sum(p * math.log(p) for p in MIX)
    assert found["loss"]["value"] == pytest.approx(entropy, abs=0.01)
    assert found["loss"]["low"] < entropy < found["loss"]["high"]
    assert found["perplexity"]["value"] == pytest.approx(math.exp(found["loss"]["value"]))
    assert found["perplexity"]["low"] == pytest.approx(math.exp(found["loss"]["low"]))
    assert found["accuracy"]["value"] == pytest.approx(0.4, abs=0.01)


def test_a_model_that_is_the_chain_reaches_the_chains_entropy() -> None:
    """With 1 in 20 bases hidden most flanks are known: H(x | left, right), in closed form, is the floor."""
    transitions = np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1], [0.2, 0.2, 0.2, 0.4], [0.1, 0.6, 0.1, 0.2]])
    chain = ChainScorer(transitions)
    corpus = FakeCorpus(
        {
            "a": ("train", draw_chain(transitions, 200_000, 0), None, None),
            "v": ("valid", draw_chain(transitions, 20_000, 1), None, None),
            "t": ("test", draw_chain(transitions, 40_000, 2), None, None),
        }
    )
    seeded: Any = {"seed": 0, "mask_frac": 0.05}
    ids = corpus.window_ids("test")
    sums = score_windows(chain, corpus, ids, **seeded)  # type: ignore[arg-type]
    joint = chain.stationary[:, None, None] * transitions[:, :, None] * transitions[None]
    entropy = float(-(joint * np.log(joint / joint.sum(axis=1, keepdims=True))).sum())
    loss = sums.loss[0].sum() / sums.n_bases[0].sum()
    assert loss == pytest.approx(entropy, abs=0.05) and loss > entropy - 0.02

    # And a fitted Markov model cannot beat the chain itself.
    counts = count_flanks(corpus, 3)  # type: ignore[arg-type]
    valid = read_hidden(corpus, corpus.window_ids("valid"), **seeded)  # type: ignore[arg-type]
    choice = choose_order(counts, ((w.codes, w.hidden) for chunk in valid for w in chunk))
    markov = score_windows(FlankModel(counts, choice.order, choice.strength), corpus, ids, **seeded)  # type: ignore[arg-type]
    difference = summarise_rows({"model": sums, "markov": markov}, n_draws=300, seed=0)["differences"]["markov"]
    assert difference["all"]["loss"]["high"] < 0


def test_soft_masked_bases_are_left_out_of_the_second_column() -> None:
    codes = np.zeros(20_000, np.uint8)
    soft_mask = np.arange(20_000) % 1000 < 500
    codes[soft_mask] = 3
    corpus = corpus_of(codes, soft_mask)
    table = summarise_rows(
        {"model": score_windows(FixedScorer((0.7, 0.1, 0.1, 0.1)), corpus, corpus.window_ids("test"), **SEEDED)},
        n_draws=50,
        seed=0,
    )
    row = table["rows"]["model"]
    assert row["unmasked"]["loss"]["value"] == pytest.approx(-math.log(0.7))
    assert row["unmasked"]["accuracy"]["value"] == 1.0
    n_all, n_unmasked = table["n_bases"]["all"], table["n_bases"]["unmasked"]
    expected = -(n_unmasked * math.log(0.7) + (n_all - n_unmasked) * math.log(0.1)) / n_all
    assert row["all"]["loss"]["value"] == pytest.approx(expected)


def test_sums_are_those_of_a_plain_loop() -> None:
    codes = draw_bases(MIX, 3000, 1)
    codes[700:720] = 4
    soft_mask = np.random.default_rng(0).random(3000) < 0.4
    corpus = corpus_of(codes, soft_mask)
    ids = corpus.window_ids("test")
    sums = score_windows(FixedScorer(MIX), corpus, ids, **SEEDED)
    for column, i in enumerate(ids.tolist()):
        window, soft = corpus.read_window(i)
        hidden = hidden_positions(window, 3, i, 0.15)
        loss, n = [0.0, 0.0], [0, 0]
        for position in np.flatnonzero(hidden):
            for row in range(2):
                if row == 0 or not soft[position]:
                    loss[row] -= math.log(MIX[window[position]])
                    n[row] += 1
        assert sums.loss[:, column] == pytest.approx(loss) and sums.n_bases[:, column].tolist() == n


def test_ties_count_their_share() -> None:
    corpus = corpus_of(draw_bases((0.25,) * 4, 5000, 0))
    sums = score_windows(FixedScorer((0.4, 0.1, 0.1, 0.4)), corpus, corpus.window_ids("test"), **SEEDED)
    all_equal = score_windows(FixedScorer((0.25,) * 4), corpus, corpus.window_ids("test"), **SEEDED)
    assert all_equal.correct[0].sum() == pytest.approx(sums.n_bases[0].sum() / 4)
    assert sums.correct[0].sum() % 0.5 == pytest.approx(0)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = corpus_of(draw_bases(MIX, 9000, 1))
    ids = corpus.window_ids("test")
    whole = score_windows(FixedScorer(MIX), corpus, ids, **SEEDED)
    monkeypatch.setattr("umbel.evaluate.masked_loss.CHUNK_WINDOWS", 3)
    assert score_windows(FixedScorer(MIX), corpus, ids, **SEEDED).to_dict() == whole.to_dict()


def test_sums_survive_json() -> None:
    corpus = corpus_of(draw_bases(MIX, 2000, 1))
    sums = score_windows(FixedScorer(MIX), corpus, corpus.window_ids("test"), **SEEDED)
    assert RowSums.from_dict(sums.to_dict()).to_dict() == sums.to_dict()


def test_differences_are_paired() -> None:
    """Windows vary far more than the two rows do; the paired interval sees the constant gap."""
    rng = np.random.default_rng(0)
    n_bases = np.tile(rng.integers(50, 90, 40), (2, 1))
    loss = rng.normal(1.3, 0.3, 40) * n_bases
    correct = 0.4 * n_bases
    table = summarise_rows(
        {"model": RowSums(loss, correct, n_bases), "other": RowSums(loss + 0.01 * n_bases, correct, n_bases)},
        n_draws=200,
        seed=0,
    )
    difference = table["differences"]["other"]["all"]["loss"]
    assert all(difference[key] == pytest.approx(-0.01) for key in ("value", "low", "high"))
    assert table["rows"]["model"]["all"]["loss"]["high"] - table["rows"]["model"]["all"]["loss"]["low"] > 0.05


def test_rows_with_other_hidden_bases_are_refused() -> None:
    one = RowSums(np.ones((2, 3)), np.ones((2, 3)), np.full((2, 3), 5))
    two = RowSums(np.ones((2, 3)), np.ones((2, 3)), np.full((2, 3), 6))
    with pytest.raises(ValueError, match="row markov did not predict the same hidden bases"):
        summarise_rows({"model": one, "markov": two}, n_draws=5, seed=0)


def test_all_soft_masked_is_said_in_words() -> None:
    corpus = corpus_of(draw_bases(MIX, 2000, 1), np.ones(2000, bool))
    sums = score_windows(FixedScorer(MIX), corpus, corpus.window_ids("test"), **SEEDED)
    table = summarise_rows({"model": sums, "other": sums}, n_draws=20, seed=0)
    assert table["rows"]["model"]["unmasked"] == {"missing": "every hidden base is soft-masked"}
    assert table["differences"]["other"]["unmasked"] == {"missing": "every hidden base is soft-masked"}
    assert "loss" in table["rows"]["model"]["all"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_weights_that_give_no_number_are_refused(bad: float) -> None:
    class Diverged(FixedScorer):
        def masked_log_probs(self, codes: Any, hidden: Any) -> Any:
            return [np.full_like(log_probs, bad) for log_probs in super().masked_log_probs(codes, hidden)]

    corpus = corpus_of(draw_bases(MIX, 2000, 1))
    with pytest.raises(CheckpointError, match=r"model: the prediction for corpus window 0 is not a number.*diverged"):
        score_windows(Diverged(MIX), corpus, corpus.window_ids("test"), **SEEDED, title="model")


def test_chosen_windows_are_seeded_and_sorted() -> None:
    ids = np.arange(100, 200)
    chosen = choose_windows(ids, 10, seed=1)
    assert len(set(chosen.tolist())) == 10 and (np.diff(chosen) > 0).all() and set(chosen) <= set(ids)
    np.testing.assert_array_equal(chosen, choose_windows(ids, 10, seed=1))
    assert chosen.tolist() != choose_windows(ids, 10, seed=2).tolist()
