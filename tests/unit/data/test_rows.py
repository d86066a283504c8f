"""Packed rows against a stream that is built whole, window after window."""

from dataclasses import replace

import numpy as np
import pytest
from toys import toy_run

from umbel.config import BalanceConfig, CorpusConfig, MaskingConfig, TokensConfig, apply_settings
from umbel.data.batches import TrainingBatches, collate_rows
from umbel.data.corpus.build import build_corpus
from umbel.data.kmers import KmerTokens, framed
from umbel.data.masking import IGNORED, Example, corrupt, epoch_order, reversed_in_epoch
from umbel.data.rows import PackedRows, count_tokens
from umbel.data.train_windows import choose_windows
from umbel.errors import ConfigError, CorpusError
from umbel.genome.sequence import revcomp

SEEN = MaskingConfig(mask_frac=0.0, revcomp_frac=0.0)
FIELDS = ("input_ids", "labels", "weights")
ONLY = 0
"""The one species of the toy corpora."""


class UnevenTokens:
    """Stands for a learned vocabulary: AA, and single bases; the reverse complement has another number of tokens."""

    size, first_word, n_words, shortest, n_covering = 92, 7, 4, 1, 1

    def encode(self, codes):
        starts, ids, place = [], [], 0
        while place < len(codes):
            pair = codes[place : place + 2].tolist() == [0, 0]
            starts.append(place)
            ids.append(12 if pair else 7 + int(codes[place]))
            place += 2 if pair else 1
        ends = [*starts[1:], len(codes)]
        return framed(np.array(ids), np.array(starts), np.array(ends), len(codes))


VOCABULARIES = [KmerTokens(1), KmerTokens(3), KmerTokens(3, overlapping=True), UnevenTokens()]


@pytest.fixture(scope="module")
def gappy_corpus(toy_manifest, tmp_path_factory):
    """Windows of which some hold N, and a last one that is shorter."""
    config = CorpusConfig(window_bp=256, overlap_bp=64, max_n_frac=1.0)
    return build_corpus(toy_manifest, tmp_path_factory.mktemp("gappy") / "corpus", config)


def packed_rows(corpus, masking, seed, tokens, row_tokens):
    return PackedRows(corpus, choose_windows(corpus, BalanceConfig(), seed), masking, tokens, row_tokens)


def training(corpus, masking, batch_windows, seed, tokens, row_tokens):
    run = toy_run(batch_windows=batch_windows, micro_batch_windows=1, seed=seed)
    return TrainingBatches(corpus, replace(run, masking=masking, tokens=TokensConfig(row_tokens=row_tokens)), tokens)


def stream_by_hand(corpus, masking, seed, tokens, epoch, species=ONLY):
    """Every window of an epoch of a species in its drawn order, one after another."""
    ids = corpus.window_ids("train")
    ids = ids[corpus.window_species(ids) == species]
    turned = reversed_in_epoch(masking, seed, epoch, len(ids), species)
    examples = []
    for place, window in enumerate(epoch_order(len(ids), seed, epoch, species)):
        codes, soft_mask = corpus.read_window(int(ids[window]))
        if turned[window]:
            codes, soft_mask = revcomp(codes), soft_mask[::-1]
        examples.append(corrupt(codes, soft_mask, masking, seed, epoch, (species << 40) + place, tokens))
    return examples


@pytest.mark.parametrize("tokens", VOCABULARIES, ids=["k1", "k3", "k3-overlapping", "uneven"])
@pytest.mark.parametrize("row_tokens", [8, 100, 1000, 100_000])
def test_rows_are_the_stream_cut_evenly(tokens, row_tokens, gappy_corpus):
    masking = MaskingConfig(revcomp_frac=0.5)
    packed = packed_rows(gappy_corpus, masking, 5, tokens, row_tokens)
    number = 0
    for epoch in range(2):
        whole = stream_by_hand(gappy_corpus, masking, 5, tokens, epoch)
        n_tokens = sum(len(example.labels) for example in whole)
        assert packed.n_tokens(ONLY, epoch) == n_tokens
        assert packed.n_rows(ONLY, epoch) == -(-n_tokens // row_tokens)
        made = [packed.row(ONLY, number + row) for row in range(packed.n_rows(ONLY, epoch))]
        number += len(made)
        for field in FIELDS:
            wanted = np.concatenate([getattr(example, field) for example in whole])
            got = np.concatenate([getattr(part, field) for row in made for part in row])
            assert (got == wanted).all()
        assert all(sum(len(part.labels) for part in row) == row_tokens for row in made[:-1])
        # A part begins where a window or a row begins, and nowhere else.
        edges = np.cumsum([0] + [len(example.labels) for example in whole])
        parts = np.cumsum([0] + [len(part.labels) for row in made for part in row])
        assert set(parts) == set(edges) | set(range(0, n_tokens, row_tokens))


@pytest.mark.parametrize("tokens", [KmerTokens(3), UnevenTokens()], ids=["k3", "uneven"])
def test_each_species_has_a_stream_and_rows_of_its_own(tokens, species_corpus):
    masking = MaskingConfig(revcomp_frac=0.5)
    packed = packed_rows(species_corpus, masking, 5, tokens, 70)
    for species in (0, 1, 2):
        number = 0
        for epoch in range(3):
            whole = stream_by_hand(species_corpus, masking, 5, tokens, epoch, species)
            n_rows = packed.n_rows(species, epoch)
            assert packed.find(species, number) == (epoch, 0)
            made = [part for row in range(n_rows) for part in packed.row(species, number + row)]
            number += n_rows
            for field in FIELDS:
                wanted = np.concatenate([getattr(example, field) for example in whole])
                assert (np.concatenate([getattr(part, field) for part in made]) == wanted).all()


def test_windows_at_one_place_of_two_species_are_not_corrupted_alike(species_corpus):
    packed = packed_rows(species_corpus, MaskingConfig(revcomp_frac=0), 0, KmerTokens(1), 258)
    first, second = (packed.row(species, 0)[0].labels >= 0 for species in (1, 2))
    assert len(first) == len(second) and (first != second).mean() > 0.1


def test_samples_of_a_step_are_the_rows_of_the_drawn_species(species_corpus):
    run = replace(toy_run(batch_windows=8), balance=BalanceConfig(alpha=0, beta=0), tokens=TokensConfig(row_tokens=64))
    batches = TrainingBatches(species_corpus, run, KmerTokens(3))
    for step in (0, 11):
        draws = batches.draws.samples(step)
        for row, species, number in zip(batches.rows(step), draws.species, draws.number, strict=True):
            wanted = batches.packed.row(species, number)
            assert len(row) == len(wanted)
            assert all((a.input_ids == b.input_ids).all() for a, b in zip(row, wanted, strict=True))
    assert batches.epoch_sizes.tolist() == [batches.packed.n_rows(species, 0) for species in range(3)]
    assert batches.told()[-1].startswith(f"packed into {batches.epoch_sizes.sum()} rows of 64 tokens an epoch, 9")


def test_an_epoch_of_rows_shows_every_window_once_in_the_drawn_order(gappy_corpus):
    tokens = KmerTokens(3)
    packed = packed_rows(gappy_corpus, SEEN, 2, tokens, 64)
    ids = np.concatenate([part.input_ids for row in range(packed.n_rows(ONLY, 0)) for part in packed.row(ONLY, row)])
    windows = [tokens.decode(part) for part in np.split(ids, np.flatnonzero(ids == 0))[1:]]
    order = gappy_corpus.window_ids("train")[epoch_order(len(windows), 2, 0)]
    assert len(order) == len(gappy_corpus.window_ids("train"))
    for window, codes in zip(order, windows, strict=True):
        assert (codes == gappy_corpus.read_window(int(window))[0]).all()


@pytest.mark.parametrize("tokens", [KmerTokens(3), UnevenTokens()], ids=["k3", "uneven"])
def test_a_row_does_not_depend_on_where_one_starts(tokens, gappy_corpus):
    masking = MaskingConfig()

    def make():
        return training(gappy_corpus, masking, 6, 1, tokens, 200)

    onwards = make()
    batches = [onwards.micro_batches(step, 3) for step in range(30)]
    assert onwards.packed.find(ONLY, 30 * 6)[0] >= 2  # more than two epochs
    for step in (29, 3, 14):
        for a, b in zip(make().micro_batches(step, 3), batches[step], strict=True):
            for field in (*FIELDS, "attention_mask", "segment_ids"):
                assert (getattr(a, field) == getattr(b, field)).all()
    ahead = make().stream(7, 12, 3)
    for step, (a, *_) in enumerate(ahead, start=7):
        assert (a.input_ids == batches[step][0].input_ids).all()


def test_only_the_last_row_of_an_epoch_is_padded(gappy_corpus):
    batches = training(gappy_corpus, SEEN, 1, 0, KmerTokens(3), 300)
    last = batches.packed.n_rows(ONLY, 0) - 1
    for step in range(2 * last):
        (batch,) = batches.micro_batches(step, 1)
        assert batch.input_ids.shape == (1, 300)
        assert (batch.attention_mask.all()) == (step != last)
        assert ((batch.input_ids != 4) == batch.attention_mask).all()
        if step == last:
            n_real = batches.packed.n_tokens(ONLY, 0) - last * 300
            assert batch.attention_mask[0].tolist() == [1] * n_real + [0] * (300 - n_real)
            assert (batch.labels[0, n_real:] == IGNORED).all()
            assert not batch.weights[0, n_real:].any()
        one_sequence = (batch.input_ids[0] == 0).sum() + (batch.input_ids[0, 0] != 0) == 1
        assert (batch.segment_ids is None) == one_sequence


def test_segments_by_plain_loops():
    parts = [Example(np.full(n, i), np.full(n, -100), np.ones(n)) for i, n in enumerate((3, 1, 4, 2, 5))]
    batch = collate_rows([parts[:3], parts[3:4], parts[3:]], row_tokens=9)
    assert batch.segment_ids.tolist() == [
        [0, 0, 0, 1, 2, 2, 2, 2, 3],
        [0, 0, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 1, 1, 1, 1, 1, 2, 2],
    ]
    assert batch.segment_ids.dtype == np.int64
    assert batch.input_ids[2].tolist() == [3, 3, 4, 4, 4, 4, 4, 4, 4]
    assert batch.attention_mask[1].tolist() == [1, 1] + [0] * 7
    assert collate_rows([parts[:1], parts[2:3]]).segment_ids is None


def test_counts_are_those_of_encoding_each_window(gappy_corpus, monkeypatch):
    ids = gappy_corpus.window_ids("train")
    read, plain = [], type(gappy_corpus).read_window
    monkeypatch.setattr(type(gappy_corpus), "read_window", lambda self, i: read.append(i) or plain(self, i))
    for tokens in VOCABULARIES:
        read.clear()
        counts = count_tokens(gappy_corpus, ids, tokens)
        n_read = len(read)
        for i, window in enumerate(ids):
            codes, _ = plain(gappy_corpus, int(window))
            assert counts[0, i] == len(tokens.encode(codes).ids)
            assert counts[1, i] == len(tokens.encode(revcomp(codes)).ids)
        # The toy's first contig has one run of N, in two windows at most.
        assert n_read == len(ids) if isinstance(tokens, UnevenTokens) else 0 < n_read <= 2
    assert (counts[0] != counts[1]).any()


def test_strands_of_an_epoch_are_drawn_afresh_and_in_the_share_asked_for():
    masking = MaskingConfig(revcomp_frac=0.3)
    first, second = (reversed_in_epoch(masking, 0, epoch, 5000) for epoch in (0, 1))
    assert (first == reversed_in_epoch(masking, 0, 0, 5000)).all()
    assert (first != second).any()
    assert abs(first.mean() - 0.3) < 0.03


def test_no_training_window_is_told(toy_corpus):
    empty = replace_role(toy_corpus)
    with pytest.raises(CorpusError, match="no train windows, so there is nothing to train on"):
        training(empty, SEEN, 1, 0, KmerTokens(1), 64)


def replace_role(corpus):
    class Without(type(corpus)):
        def window_ids(self, role):
            return super().window_ids(role)[:0]

    return Without(corpus.path, corpus.facts)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="rows of fewer than 8 tokens"):
        apply_settings(toy_run(), ["tokens.row_tokens=7"])
    with pytest.raises(ConfigError, match=r"windows may have 2 bases and tokens have 3: raise corpus\.min_window_bp"):
        apply_settings(toy_run(), ["tokens.k=3", "corpus.min_window_bp=2"])
    assert apply_settings(toy_run(), ["tokens.row_tokens=0", "tokens.k=6"]).tokens == TokensConfig(k=6)
