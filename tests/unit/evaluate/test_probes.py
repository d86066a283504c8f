from collections import Counter
from typing import Any

import numpy as np
import pytest
from evaluation_fakes import CDS, INTERGENIC, CompositionPredictor, FakeCorpus, draw_bases, planted_regions

from umbel.evaluate import probes
from umbel.evaluate.probes import (
    CLASSES,
    find_all_windows,
    find_windows,
    fit_embedding_probe,
    fit_kmer_probes,
    kmer_frequencies,
    summarise_probes,
)


@pytest.fixture(scope="module")
def planted() -> Any:
    contigs = {}
    for seed, (role, n_bp) in enumerate((("train", 120_000), ("valid", 60_000), ("test", 120_000))):
        codes, regions = planted_regions(n_bp, seed)
        contigs[role] = (role, codes, None, regions)
    return FakeCorpus(contigs)


@pytest.fixture(scope="module")
def windows(planted: Any) -> Any:
    found, reason = find_all_windows(planted, 128, 100, seed=0)
    assert reason is None
    return found


def test_windows_are_clear_cases(planted: Any) -> None:
    found = find_windows(planted, "test", 128, 10_000, seed=0)
    assert found is not None
    _, codes, _, regions = planted._contigs["test"]
    expected = []
    for start in range(0, len(codes) - 127, 128):
        for label, name in enumerate(CLASSES):
            code = probes.REGIONS.index(name)
            if sum(regions[start : start + 128] == code) >= 0.9 * 128:
                expected.append((start, label))
    assert [label for _, label in expected] == found.labels.tolist()
    for (start, _), window in zip(expected, found.codes, strict=True):
        np.testing.assert_array_equal(window, codes[start : start + 128])
    assert len(set(found.blocks.tolist())) == 12


def test_reading_in_pieces_changes_nothing(planted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = find_windows(planted, "train", 128, 50, seed=4)
    monkeypatch.setattr(probes, "_READ_BP", 1000)
    pieces = find_windows(planted, "train", 128, 50, seed=4)
    assert whole is not None and pieces is not None
    np.testing.assert_array_equal(np.array(whole.codes), np.array(pieces.codes))


def test_at_most_n_of_a_class(windows: Any) -> None:
    assert all(found.class_counts == dict.fromkeys(CLASSES, 100) for found in windows.values())


def test_windows_with_n_are_no_clear_cases() -> None:
    codes = draw_bases((0.25,) * 4, 1280, 0)
    codes[:10] = 4
    corpus: Any = FakeCorpus({"a": ("test", codes, None, np.full(1280, CDS, np.uint8))})
    found = find_windows(corpus, "test", 128, 99, seed=0)
    assert found is not None and found.class_counts["cds"] == 9


def test_planted_regions_are_found(windows: Any) -> None:
    rows: Any = {"model": fit_embedding_probe(CompositionPredictor(), windows), **fit_kmer_probes(windows)}
    table = summarise_probes(rows, windows, n_draws=200, seed=0)
    for name in ("model", "kmer"):
        assert table["rows"][name]["macro_f1"]["low"] > 0.9, name
        assert table["rows"][name]["mcc"]["low"] > 0.85, name
    assert table["class_counts"]["test"] == dict.fromkeys(CLASSES, 100)
    assert table["n_blocks"] == 12
    assert "predictions" not in table["rows"]["model"]


def test_shuffled_labels_give_chance(windows: Any) -> None:
    rng = np.random.default_rng(0)
    shuffled = {
        role: probes.ProbeWindows(found.codes, rng.permutation(found.labels), found.blocks)
        for role, found in windows.items()
    }
    rows = {"model": fit_embedding_probe(CompositionPredictor(), shuffled)}
    mcc = summarise_probes(rows, shuffled, n_draws=200, seed=0)["rows"]["model"]["mcc"]
    assert abs(mcc["value"]) < 0.15 and mcc["low"] < 0.05


def test_random_embeddings_lose_and_the_difference_says_so(windows: Any) -> None:
    model = CompositionPredictor()
    rows = {
        "model": fit_embedding_probe(model, windows),
        "random": fit_embedding_probe(model.with_random_weights(0), windows),
    }
    table = summarise_probes(rows, windows, n_draws=200, seed=0)
    assert abs(table["rows"]["random"]["mcc"]["value"]) < 0.15
    assert table["differences"]["random"]["mcc"]["low"] > 0.5


def test_both_strands_are_asked_for(windows: Any) -> None:
    asked: list[str] = []

    class Nosy(CompositionPredictor):
        def embed(self, codes: Any, strand: str = "forward") -> Any:
            asked.append(strand)
            return super().embed(codes)

    fit_embedding_probe(Nosy(), windows)
    assert set(asked) == {"both"}


@pytest.mark.parametrize("k", [1, 2, 3])
def test_kmers_are_those_of_a_dictionary(k: int) -> None:
    codes = draw_bases((0.4, 0.3, 0.2, 0.1), 200, 0)
    codes[[50, 51, 120]] = 4
    text = "".join("ACGTN"[code] for code in codes)
    counts: Counter[str] = Counter()
    for start in range(len(text) - k + 1):
        word = text[start : start + k]
        if "N" not in word:
            counts[min(word, word[::-1].translate(str.maketrans("ACGT", "TGCA")))] += 1
    found = kmer_frequencies([codes], k)[0]
    assert sorted(found[found > 0].tolist()) == pytest.approx(sorted(n / counts.total() for n in counts.values()))
    np.testing.assert_allclose(found, kmer_frequencies([np.where(codes < 4, 3 - codes, 4)[::-1]], k)[0])
    assert found.shape == ({1: 2, 2: 10, 3: 32}[k],)


def test_a_sequence_without_words_has_no_frequencies() -> None:
    features = kmer_frequencies([np.full(9, 4, np.uint8), np.zeros(1, np.uint8)], 2)
    assert not features.any() and np.isfinite(features).all()


def test_no_annotation_is_said_in_words() -> None:
    codes = draw_bases((0.25,) * 4, 2000, 0)
    corpus: Any = FakeCorpus({role: (role, codes, None, None) for role in ("train", "valid", "test")})
    assert find_all_windows(corpus, 128, 9, 0)[1] == (
        "The corpus has no annotation (GFF3) on its train contigs, so windows have no classes."
    )


def test_a_role_without_contigs_is_said_in_words(planted: Any) -> None:
    corpus: Any = FakeCorpus({"a": planted._contigs["train"]})
    assert find_all_windows(corpus, 128, 100, 0)[1] == "The corpus has no valid contigs."


def test_a_class_that_is_not_there_is_said_in_words(planted: Any) -> None:
    codes = draw_bases((0.25,) * 4, 20_000, 0)
    only = ("test", codes, None, np.full(20_000, INTERGENIC, np.uint8))
    corpus: Any = FakeCorpus({**planted._contigs, "test": only})
    assert find_all_windows(corpus, 128, 100, 0)[1] == (
        "The test contigs have only 0 cds and 0 intron windows of 128 bp that are at least 90% of one class; "
        "the probe needs 10 of each."
    )
