import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from evaluation_fakes import FakeCorpus, draw_bases, draw_chain
from hypothesis import given
from hypothesis import strategies as st

from umbel.evaluate.markov import STRENGTHS, FlankModel, both_strands, choose_order, count_flanks


def words_of(contig: str, word_bp: int) -> Counter[str]:
    """Every word of both strands, by plain python."""
    other = contig[::-1].translate(str.maketrans("ACGT", "TGCA"))
    counts: Counter[str] = Counter()
    for strand in (contig, other):
        for start in range(len(strand) - word_bp + 1):
            word = strand[start : start + word_bp]
            if "N" not in word:
                counts[word] += 1
    return counts


def as_text(codes: Any) -> str:
    return "".join("ACGTN"[code] for code in codes)


def brute_force(counts: list[Counter[str]], text: str, position: int, hidden: Any, order: int, a: float) -> list[float]:
    """The definition, read off the docstring, with dictionaries."""
    known = 0
    while known < order:
        before, after = position - known - 1, position + known + 1
        if before < 0 or after >= len(text) or "N" in (text[before], text[after]) or hidden[before] or hidden[after]:
            break
        known += 1
    total = sum(counts[0][base] + 1 for base in "ACGT")
    p = [(counts[0][base] + 1) / total for base in "ACGT"]
    for k in range(1, known + 1):
        left, right = text[position - k : position], text[position + 1 : position + 1 + k]
        c = [counts[k][left + base + right] for base in "ACGT"]
        p = [(c[i] + a * p[i]) / (sum(c) + a) for i in range(4)]
    return p


@pytest.fixture(scope="module")
def small() -> FakeCorpus:
    codes = draw_bases((0.4, 0.2, 0.1, 0.3), 1000, seed=0)
    codes[[100, 101, 640]] = 4
    other = draw_bases((0.25, 0.25, 0.25, 0.25), 150, seed=1)
    return FakeCorpus({"a": ("train", codes, None, None), "b": ("train", other, None, None)}, window_bp=200)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_counts_are_those_of_a_dictionary(small: FakeCorpus, order: int) -> None:
    table = count_flanks(small, 3).tables[order]  # type: ignore[arg-type]
    expected: Counter[str] = Counter()
    for contig in small.contigs("train"):
        codes, _ = small.read("fake1", contig.contig, 0, contig.length)
        expected += words_of(as_text(codes), 2 * order + 1)
    flat = table.reshape(-1)
    found = {
        "".join("ACGT"[index // 4**i % 4] for i in range(2 * order, -1, -1)): int(flat[index])
        for index in np.flatnonzero(flat)
    }
    assert found == dict(expected)


def test_gap_between_windows_is_not_bridged() -> None:
    corpus = FakeCorpus({"a": ("train", draw_bases((0.25,) * 4, 400, 0), None, None)}, window_bp=100)
    corpus._windows = [corpus._windows[0], corpus._windows[-1]]
    expected: Counter[str] = Counter()
    for i in corpus.window_ids("train"):
        expected += words_of(as_text(corpus.read_window(int(i))[0]), 5)
    assert int(count_flanks(corpus, 2).tables[2].sum()) == expected.total()  # type: ignore[arg-type]


def test_only_train_windows_are_counted(small: FakeCorpus) -> None:
    codes = draw_bases((0.25,) * 4, 300, 5)
    mixed = FakeCorpus({**small._contigs, "v": ("valid", codes, None, None), "t": ("test", codes, None, None)}, 200)
    for table, alone in zip(count_flanks(mixed, 2).tables, count_flanks(small, 2).tables, strict=True):  # type: ignore[arg-type]
        np.testing.assert_array_equal(table, alone)


@given(st.integers(0, 2), st.integers(0, 10_000))
def test_strands_count_alike(order: int, seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 9, 4 ** (2 * order + 1))
    table = both_strands(counts, order).reshape((4,) * (2 * order + 1))
    np.testing.assert_array_equal(table, np.flip(table.transpose()))
    assert table.sum() == 2 * counts.sum()


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("strength", [1.0, 16.0])
def test_predictions_are_brute_force(small: FakeCorpus, order: int, strength: float) -> None:
    """Many hidden bases, some N, and both edges: every kind of fallback occurs."""
    counters = []
    for k in range(order + 1):
        counter: Counter[str] = Counter()
        for contig in small.contigs("train"):
            counter += words_of(as_text(small.read("fake1", contig.contig, 0, contig.length)[0]), 2 * k + 1)
        counters.append(counter)
    rng = np.random.default_rng(order)
    codes = draw_bases((0.25,) * 4, 120, 3)
    codes[rng.random(120) < 0.05] = 4
    hidden = (rng.random(120) < 0.3) & (codes < 4)
    hidden[[0, 1, -1]] = codes[[0, 1, -1]] < 4
    found = FlankModel(count_flanks(small, 3), order, strength).log_probs(codes, hidden)  # type: ignore[arg-type]
    text = as_text(codes)
    expected = [brute_force(counters, text, p, hidden, order, strength) for p in np.flatnonzero(hidden)]
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-12)


def test_a_hidden_base_is_never_looked_at(small: FakeCorpus) -> None:
    model = FlankModel(count_flanks(small, 3), 3, 1.0)  # type: ignore[arg-type]
    codes = draw_bases((0.25,) * 4, 80, 4)
    hidden = np.random.default_rng(0).random(80) < 0.3
    other = np.where(hidden, 3 - codes, codes).astype(np.uint8)
    np.testing.assert_array_equal(model.log_probs(codes, hidden), model.log_probs(other, hidden))


def test_composition_has_no_impossible_base() -> None:
    corpus = FakeCorpus({"a": ("train", np.zeros(200, np.uint8), None, None)}, window_bp=200)
    composition = count_flanks(corpus, 0).composition  # type: ignore[arg-type]
    assert (composition > 0).all() and composition.sum() == pytest.approx(1)


def test_no_hidden_base_is_refused(small: FakeCorpus) -> None:
    counts = count_flanks(small, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no hidden base"):
        choose_order(counts, [(np.zeros(9, np.uint8), np.zeros(9, bool))])


def strand_symmetric_chain(seed: int) -> Any:
    """Transitions ``(4, 4, 4)`` of a chain of order 2 that reads the same on both strands, and its pair shares."""
    transitions = np.random.default_rng(seed).dirichlet((0.4,) * 4, size=(4, 4))
    pairs = np.full((4, 4), 1 / 16)
    for _ in range(500):
        pairs = np.einsum("ab,abc->bc", pairs, transitions)
    triples = pairs[:, :, None] * transitions
    triples = (triples + np.flip(triples.transpose())) / 2
    pairs = triples.sum(axis=2)
    return triples / pairs[:, :, None], pairs


def test_planted_chain_of_order_two_is_found() -> None:
    """Given both flanks of two, the loss of a hidden base comes down to the chain's conditional entropy."""
    transitions, pairs = strand_symmetric_chain(seed=7)
    train, valid, test = (
        draw_chain(transitions, n_bp, seed, 2) for seed, n_bp in enumerate((400_000, 60_000, 200_000))
    )
    corpus = FakeCorpus({"a": ("train", train, None, None)}, window_bp=50_000)
    counts = count_flanks(corpus, 4)  # type: ignore[arg-type]
    hidden_valid, hidden = (np.arange(len(codes)) % 7 == 5 for codes in (valid, test))
    hidden[:20] = hidden[-20:] = False
    choice = choose_order(counts, [(valid, hidden_valid)])
    assert choice.order == 2 and choice.strength in STRENGTHS

    def loss(order: int) -> float:
        log_probs = FlankModel(counts, order, choice.strength).log_probs(test, hidden)
        return float(-np.take_along_axis(log_probs, test[hidden].astype(int)[:, None], 1).mean())

    joint = np.einsum("ab,abx,bxc,xcd->abxcd", pairs, transitions, transitions, transitions)
    entropy = float(-(joint * np.log(joint / joint.sum(axis=2, keepdims=True))).sum())
    assert math.isclose(loss(2), entropy, abs_tol=0.01)
    assert loss(1) > entropy + 0.05


def test_choice_goes_to_json() -> None:
    corpus = FakeCorpus({"a": ("train", draw_bases((0.25,) * 4, 5000, 0), None, None)})
    counts = count_flanks(corpus, 2)  # type: ignore[arg-type]
    codes = draw_bases((0.25,) * 4, 500, 1)
    told = choose_order(counts, [(codes, np.arange(500) % 7 == 0)]).to_dict()
    assert told["order"] == 0, "independent bases need no context"
    assert len(told["valid_loss_by_order"]) == 3 and told["n_valid_bases"] == 72
