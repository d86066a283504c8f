import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from baseline_examples import drawn
from test_baseline_rows import Composition

from umbel.errors import ConfigError
from umbel.evaluate.baselines.embedding_cache import EmbeddingCache, embedding_key
from umbel.evaluate.baselines.probe import Probe, embed_sequences


@pytest.mark.parametrize("kind", ["bases", "bins"])
def test_bases_and_bins_have_no_probe(kind):
    with pytest.raises(ConfigError, match=f"one embedding a sequence, and this task is of {kind}: leave the probe out"):
        Probe(Composition()).fit(drawn(kind, 5), drawn(kind, 5, 1))


def test_both_strands_are_asked_for_unless_the_task_has_them():
    for stranded, strand in ((False, "both"), (True, "forward")):
        embedder = Composition()
        Probe(embedder, stranded=stranded).fit(drawn("binary", 100), drawn("binary", 30, 1))
        assert {asked for _, asked in embedder.asked} == {strand}
        assert [n for n, _ in embedder.asked] == [64, 36, 30]


def test_chunks_change_nothing():
    codes = drawn("binary", 100).codes
    done = []
    found = embed_sequences(Composition(), codes, on_done=done.append)
    np.testing.assert_array_equal(found, Composition().embed(codes, "both"))
    assert done == [64, 36]


def test_the_cache_knows_sequences_weights_and_strand(tmp_path):
    train, dev, test = drawn("binary", 40), drawn("binary", 30, 1), drawn("binary", 30, 2)
    plain = Probe(Composition()).fit(train, dev).scores(test)
    embedder = Composition()
    row = Probe(embedder, cache=EmbeddingCache(tmp_path))
    # The names of data sets and of examples never matter: dev and test share theirs here.
    test = type(test)(test.task, dev.ids, test.codes, test.targets, dev.source, test.rows)
    np.testing.assert_array_equal(row.fit(train, dev).scores(test), plain)
    n_asked = len(embedder.asked)
    assert n_asked == 3
    np.testing.assert_array_equal(row.fit(train, dev).scores(test), plain)
    assert len(embedder.asked) == n_asked
    Probe(embedder, stranded=True, cache=EmbeddingCache(tmp_path)).fit(train, dev)
    assert len(embedder.asked) == n_asked + 2
    other = Composition()
    other.weights_hash = "other"
    Probe(other, cache=EmbeddingCache(tmp_path)).fit(train, dev)
    assert len(other.asked) == 2


def test_keys_differ_wherever_embeddings_may():
    a, b = np.array([0, 1, 2], np.uint8), np.array([3], np.uint8)
    keys = {
        embedding_key(codes, weights, strand, pooling)
        for codes in ([a, b], [b, a], [np.append(a, b)], [a], [np.array([0, 1], np.uint8), np.array([2, 3], np.uint8)])
        for weights in ("v", "w")
        for strand in ("both", "forward")
        for pooling in ("mean", "max")
    }
    assert len(keys) == 5 * 8


def test_a_damaged_file_is_computed_again(tmp_path):
    cache = EmbeddingCache(tmp_path / "new")
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert cache.get("k", lambda: value) is value
    path = tmp_path / "new" / "k.npy"
    path.write_bytes(path.read_bytes()[:-3])
    np.testing.assert_array_equal(cache.get("k", lambda: value), value)
    np.testing.assert_array_equal(np.load(path), value)
