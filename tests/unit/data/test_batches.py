import re
from dataclasses import replace

import numpy as np
import pytest
from toys import SPECIES, toy_run

from umbel.config import BalanceConfig, MaskingConfig, TokensConfig
from umbel.data.batches import TrainingBatches, collate
from umbel.data.kmers import KmerTokens
from umbel.data.masking import IGNORED
from umbel.errors import ConfigError
from umbel.genome.sequence import revcomp

SEEN = MaskingConfig(mask_frac=0.0, revcomp_frac=0.0)


ONE = KmerTokens(1)


def training(corpus, masking, batch_windows, seed, **train):
    run = toy_run(batch_windows=batch_windows, micro_batch_windows=1, seed=seed, **train)
    return TrainingBatches(corpus, replace(run, masking=masking), ONE)


def examples(batches, step):
    return [example for row in batches.rows(step) for example in row]


def letters(example):
    return tuple(example.input_ids[1:-1] - 7)


def test_an_epoch_sees_every_window_once(toy_corpus):
    wanted = sorted(tuple(toy_corpus.read_window(int(i))[0]) for i in toy_corpus.window_ids("train"))
    batches = training(toy_corpus, SEEN, len(wanted), seed=4)
    first, second = ([letters(e) for e in examples(batches, step)] for step in (0, 1))
    assert sorted(first) == sorted(second) == wanted
    assert first != second


def test_a_batch_may_run_over_the_end_of_an_epoch(toy_corpus):
    count = len(toy_corpus.window_ids("train"))
    one = training(toy_corpus, SEEN, 1, seed=4)
    many = training(toy_corpus, SEEN, count - 1, seed=4)
    singles = [letters(examples(one, step)[0]) for step in range(2 * (count - 1))]
    assert [letters(e) for step in (0, 1) for e in examples(many, step)] == singles


def test_reverse_complement_by_hand(toy_corpus):
    plain = examples(training(toy_corpus, SEEN, 6, seed=0), 3)
    turned = examples(training(toy_corpus, replace(SEEN, revcomp_frac=1.0), 6, seed=0), 3)
    pair = {0: 3, 1: 2, 2: 1, 3: 0, 4: 4}
    for a, b in zip(plain, turned, strict=True):
        assert letters(b) == tuple(pair[base] for base in reversed(letters(a)))
        assert (a.weights[1:-1][::-1] == b.weights[1:-1]).all()


def test_about_a_third_is_reversed(toy_corpus):
    masking = replace(SEEN, revcomp_frac=0.3)
    plain, mixed = (examples(training(toy_corpus, m, 400, seed=0), 0) for m in (SEEN, masking))
    share = np.mean([letters(a) != letters(b) for a, b in zip(plain, mixed, strict=True)])
    assert 0.23 < share < 0.37


def test_prepared_ahead_is_the_same_as_asked_for(toy_corpus):
    batches = training(toy_corpus, MaskingConfig(), 5, seed=1)
    for step, ahead in enumerate(batches.stream(2, 6, micro_batch_windows=2), start=2):
        direct = batches.micro_batches(step, 2)
        assert [len(batch.input_ids) for batch in direct] == [2, 2, 1]
        for a, b in zip(ahead, direct, strict=True):
            assert (a.input_ids == b.input_ids).all()
            assert (a.labels == b.labels).all()


def test_padding_of_a_batch_is_never_a_label(toy_corpus):
    run = toy_run()
    made = examples(training(toy_corpus, run.masking, 30, seed=0), 0)
    short = replace(made[0], **{k: getattr(made[0], k)[:50] for k in ("input_ids", "labels", "weights")})
    batch = collate([short, made[1]])
    assert batch.attention_mask[0].sum() == 50
    assert (batch.input_ids[0, 50:] == 4).all()
    assert (batch.labels[0, 50:] == IGNORED).all()
    assert not batch.weights[0, 50:].any()


def balanced(corpus, masking=SEEN, balance=None, **train):
    run = toy_run(**{"batch_windows": 8, "micro_batch_windows": 4, **train})
    return TrainingBatches(corpus, replace(run, masking=masking, balance=balance or BalanceConfig()), ONE)


EVEN = BalanceConfig(alpha=0, beta=0)


def test_several_species_are_drawn_by_their_chances_each_in_epochs_of_its_own(species_corpus):
    batches = balanced(species_corpus, balance=EVEN)
    windows, shown = batches.windows, [[] for _ in SPECIES]
    letters_of = {int(i): tuple(species_corpus.read_window(int(i))[0]) for i in windows.ids}
    for step in range(30):
        draws = batches.draws.samples(step)
        for example, species, number in zip(examples(batches, step), draws.species, draws.number, strict=True):
            assert letters(example) == letters_of[windows.drawn(species, number)]
            shown[species].append((number, letters(example)))
    for species, seen in enumerate(shown):
        n = windows.n_windows[species]
        in_order = [text for _, text in sorted(seen)]
        assert len(seen) == pytest.approx(80, abs=3) and len(in_order) > n
        for epoch in range(len(in_order) // n):
            assert sorted(in_order[epoch * n :][:n]) == sorted(letters_of[int(i)] for i in windows.of(species))


@pytest.mark.parametrize("row_tokens", [0, 100])
def test_ranks_together_make_the_step_whatever_their_number(species_corpus, row_tokens):
    run = toy_run(batch_windows=8, micro_batch_windows=4)
    run = replace(run, balance=EVEN, tokens=TokensConfig(row_tokens=row_tokens))

    def texts(rows):
        return [tuple(part.input_ids.tobytes() + part.labels.tobytes() for part in row) for row in rows]

    whole = texts(TrainingBatches(species_corpus, run, ONE).rows(5))
    for world_size in (1, 2, 3, 8):
        # Each process has an object of its own, which made nothing before.
        parts = [texts(TrainingBatches(species_corpus, run, ONE).rows(5, r, world_size)) for r in range(world_size)]
        assert [parts[i % world_size][i // world_size] for i in range(8)] == whole


def test_what_a_step_shows_can_be_told_as_places_and_strands(species_corpus):
    batches = balanced(species_corpus, replace(SEEN, revcomp_frac=0.5), EVEN)
    strands = []
    for step in range(5):
        told = batches.shown(step, rank=1, world_size=2)
        assert len(told) == 4
        for (window, is_reversed), row in zip(told, batches.rows(step, rank=1, world_size=2), strict=True):
            codes, _ = species_corpus.read(window.assembly, window.contig, window.start, window.end)
            assert letters(row[0]) == tuple(revcomp(codes) if is_reversed else codes)
            strands.append(is_reversed)
    assert 0 < sum(strands) < len(strands)
    packed = replace(toy_run(), tokens=TokensConfig(row_tokens=64))
    with pytest.raises(ConfigError, match=r"a packed row holds parts of several windows: set tokens\.row_tokens=0"):
        TrainingBatches(species_corpus, packed, ONE).shown(0)


def test_caps_hold_over_a_run_and_too_long_a_run_is_refused(species_corpus):
    balance = replace(EVEN, max_epochs=2.0)
    batches = balanced(species_corpus, balance=balance, steps=12)
    n_draws = batches.draws.n_before(12)
    assert (n_draws <= 2 * batches.windows.n_windows + 2).all()
    uncapped = balanced(species_corpus, balance=EVEN, steps=12).draws.n_before(12)
    assert n_draws[1] < uncapped[1] and n_draws[0] > uncapped[0]
    with pytest.raises(
        ConfigError, match=r"max_epochs is 2, and 60 steps of 8 windows .* train\.steps to at most 1\d,"
    ):
        balanced(species_corpus, balance=balance, steps=60)


def test_every_step_shows_as_many_species_as_promised_or_the_run_does_not_start(species_corpus):
    batches = balanced(species_corpus, balance=replace(EVEN, min_species=3))
    for step in range(20):
        assert len({species_corpus.window_species(w)[0] for w in shown_ids(batches, step)}) == 3
    with pytest.raises(ConfigError, match=r"min_species is 3, and a step of 2 windows can have as few as 2 species"):
        balanced(species_corpus, balance=replace(EVEN, min_species=3), batch_windows=2, micro_batch_windows=2)
    with pytest.raises(ConfigError, match=r"min_species is 4, and this run draws from 3 species"):
        balanced(species_corpus, balance=replace(EVEN, min_species=4))


def shown_ids(batches, step):
    draws = batches.draws.samples(step)
    return [np.array([batches.windows.drawn(s, n)]) for s, n in zip(draws.species, draws.number, strict=True)]


def test_what_is_told_of_a_run(species_corpus, toy_corpus):
    epochs = 12 * 8 / len(toy_corpus.window_ids("train"))
    assert balanced(toy_corpus).told() == [f"species: 1, effective 1.0: Planta ludens 100.00 % ({epochs:.2f} epochs)"]
    text, pool = balanced(species_corpus, balance=replace(EVEN, pool_bp=2_000)).told()
    assert text.startswith("species: 3, effective 3.0, at least 3 in every step: Alpha prima 33.33 % (")
    assert re.fullmatch(r"pool: [12],\d{3} of 1\d,\d{3} bases, in \d+ windows", pool)
