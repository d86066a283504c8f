import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from baseline_examples import drawn

from umbel.evaluate.baselines import kmer
from umbel.evaluate.baselines.kmer import FLANK_BP, NEAR_BP, Kmer, Stretches
from umbel.evaluate.baselines.kmer_counts import dense_shares, joined, kmer_frequencies, sparse_shares
from umbel.genome.sequence import decode, revcomp


def words_of(text, k):
    found = Counter(text[i : i + k] for i in range(len(text) - k + 1) if "N" not in text[i : i + k])
    return {word: n / found.total() for word, n in found.items()}


@pytest.mark.parametrize("k", [1, 2, 3, 5, 6])
def test_directed_words_are_those_of_a_dictionary(k):
    examples = drawn("binary", 20)
    names = ["".join("ACGT"[i // 4 ** (k - 1 - j) % 4] for j in range(k)) for i in range(4**k)]
    for row, codes in zip(kmer_frequencies(examples.codes, k, canonical=False), examples.codes, strict=True):
        expected = words_of(decode(codes), k)
        assert {names[i]: row[i] for i in np.flatnonzero(row)} == pytest.approx(expected)


@pytest.mark.parametrize("canonical", [True, False])
def test_sparse_counts_are_dense_counts(canonical):
    rng = np.random.default_rng(0)
    codes, _ = joined(drawn("binary", 20).codes)
    starts = rng.integers(0, len(codes) - 50, 30)
    ends = starts + rng.integers(0, 50, 30)
    for k in (1, 3, 6):
        sparse = sparse_shares(codes, starts, ends, k, canonical)
        np.testing.assert_array_equal(sparse.toarray(), dense_shares(codes, starts, ends, k, canonical))
        assert sparse.has_sorted_indices or not sparse.nnz


def test_stretches_of_bases_are_plain_loops():
    examples = drawn("bases", 3)
    features = Stretches.of(examples).features(2, False).toarray()
    row = 0
    for codes in examples.codes:
        for i in range(len(codes)):
            around = codes[max(0, i - FLANK_BP) : i + FLANK_BP + 1]
            np.testing.assert_array_equal(features[row, :16], kmer_frequencies([around], 2, False)[0])
            near = np.zeros((2 * NEAR_BP + 1, 4))
            for place in range(-NEAR_BP, NEAR_BP + 1):
                if 0 <= i + place < len(codes) and codes[i + place] < 4:
                    near[place + NEAR_BP, codes[i + place]] = 1
            np.testing.assert_array_equal(features[row, 16:], near.ravel())
            row += 1
    assert row == len(features)


def test_stretches_of_bins_are_plain_loops():
    examples = drawn("bins", 3)
    features = Stretches.of(examples).features(2, False)
    row = 0
    for codes in examples.codes:
        for start in range(0, len(codes), 8):
            around = codes[max(0, start - FLANK_BP) : start + 8 + FLANK_BP]
            shares = kmer_frequencies([codes[start : start + 8], around], 2, False)
            np.testing.assert_array_equal(features[row], shares.ravel())
            row += 1
    assert row == len(features)


def test_strands_are_one_unless_the_task_has_them():
    train, dev, test = drawn("binary", 60), drawn("binary", 30, 1), drawn("binary", 20, 2)
    turned = [revcomp(codes) for codes in test.codes]
    flipped = type(test)(test.task, test.ids, tuple(turned), test.targets, test.source, test.rows)
    both, one = (Kmer(word_sizes=(2,), stranded=stranded).fit(train, dev) for stranded in (False, True))
    np.testing.assert_allclose(both.scores(flipped), both.scores(test), atol=1e-6)
    assert np.abs(one.scores(flipped) - one.scores(test)).max() > 1e-3
    assert both.facts["canonical"] and not one.facts["canonical"]
    assert not Kmer(word_sizes=(1,)).fit(drawn("bases", 9), drawn("bases", 9, 1)).facts["canonical"]


def test_what_was_bounded_is_said(monkeypatch):
    train, dev = drawn("binary", 60), drawn("binary", 30, 1)
    found = Kmer(word_sizes=(1, 2), max_rows=25).fit(train, dev).facts
    assert (found["n_train_rows"], found["n_dev_rows"]) == (25, 25)
    monkeypatch.setattr(kmer, "MAX_BYTES", 1000)
    found = Kmer(word_sizes=(1, 2, 3)).fit(train, dev).facts
    assert found["chosen"]["k"] == 1 and found["k_too_large"] == [2, 3]


def test_pieces_of_scores_change_nothing(monkeypatch):
    test = drawn("bases", 9, 2)
    fitted = Kmer(word_sizes=(2,)).fit(drawn("bases", 9), drawn("bases", 9, 1))
    whole = fitted.scores(test)
    monkeypatch.setattr(kmer, "_SCORED_AT_ONCE", 50)
    np.testing.assert_allclose(fitted.scores(test), whole, atol=1e-6)


def test_dev_chooses_k():
    rng = np.random.default_rng(0)
    examples = []
    for seed in range(2):
        codes, truth = [], []
        for _ in range(150):
            sequence = rng.integers(0, 4, 60).astype(np.uint8)
            label = int(rng.integers(2))
            for place in rng.integers(0, 57, 5):
                # The same bases either way: only their order tells.
                sequence[place : place + 3] = (0, 1, 1) if label else (1, 0, 1)
            codes.append(sequence)
            truth.append(label)
        one = drawn("binary", 150, seed)
        examples.append(type(one)(one.task, one.ids, tuple(codes), np.array(truth), one.source, one.rows))
    found = Kmer(word_sizes=(1, 2, 3), stranded=True).fit(*examples).facts
    assert found["chosen"]["k"] > 1
    assert found["chosen"]["dev"] == max(found["dev_of_k"].values())
