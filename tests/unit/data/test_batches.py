from dataclasses import replace

import numpy as np
from toys import toy_run

from umbel.config import MaskingConfig
from umbel.data.batches import TrainingBatches, collate
from umbel.data.kmers import KmerTokens
from umbel.data.masking import IGNORED

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
