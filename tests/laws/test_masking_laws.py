"""Masked-language corruption: what may change, how often, and what it depends on."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.config import MaskingConfig
from umbel.data import masking
from umbel.data.kmers import KmerTokens
from umbel.data.masking import IGNORED, corrupt, hidden_positions, hide
from umbel.data.objectives import make_example

CONFIG = MaskingConfig()
ONE = KmerTokens(1)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    codes=st.lists(st.integers(0, 4), min_size=1, max_size=200),
    seed=st.integers(0, 2**40),
    step=st.integers(0, 2**40),
    sample=st.integers(0, 2**20),
)
def test_only_real_bases_are_chosen_and_only_the_chosen_change(codes, seed, step, sample):
    codes = np.array(codes, np.uint8)
    soft_mask = codes % 2 == 0
    example = corrupt(codes, soft_mask, CONFIG, seed, step, sample, ONE)
    chosen = example.labels != IGNORED
    assert not chosen[0]
    assert not chosen[-1]
    assert (codes[chosen[1:-1]] < 4).all()
    true_ids = np.concatenate([[0], codes + 7, [1]])
    assert (example.input_ids[~chosen] == true_ids[~chosen]).all()
    assert (example.labels[chosen] == true_ids[chosen]).all()
    assert np.isin(example.input_ids[chosen], [3, 7, 8, 9, 10]).all()
    assert np.allclose(example.weights[1:-1], np.where(soft_mask, 0.1, 1.0))
    again = corrupt(codes, soft_mask, CONFIG, seed, step, sample, ONE)
    assert (again.input_ids == example.input_ids).all()


def test_shares_are_those_of_the_settings():
    """15 % chosen; of these 80 % masked, 10 % drawn evenly from ACGT (so 7.5 % differ), 10 % kept."""
    codes = np.zeros(4000, np.uint8)
    examples = [corrupt(codes, codes > 0, CONFIG, 0, step, 0, ONE) for step in range(100)]
    labels = np.concatenate([e.labels[1:-1] for e in examples])
    shown = np.concatenate([e.input_ids[1:-1] for e in examples])
    chosen = labels != IGNORED
    n = chosen.sum()
    assert abs(chosen.mean() - 0.15) < 0.003
    shares = {token: float((shown[chosen] == token).sum() / n) for token in (3, 7, 8, 9, 10)}
    assert abs(shares[3] - 0.8) < 0.008
    assert abs(shares[7] - 0.125) < 0.006
    for other in (8, 9, 10):
        assert abs(shares[other] - 0.025) < 0.003


def test_the_draw_differs_between_steps_samples_and_seeds():
    codes = np.zeros(500, np.uint8)
    draws = {
        corrupt(codes, codes > 0, CONFIG, seed, step, sample, ONE).input_ids.tobytes()
        for seed in (0, 1)
        for step in (0, 1, 2)
        for sample in (0, 1, 2)
    }
    assert len(draws) == 18


def test_no_base_is_chosen_by_an_n_only_window():
    codes = np.full(50, 4, np.uint8)
    assert (corrupt(codes, codes > 4, CONFIG, 0, 0, 0, ONE).labels == IGNORED).all()
    assert not hidden_positions(codes, 0, 0, 1.0).any()


def test_hidden_positions_are_the_same_every_time_and_differ_by_window():
    codes = np.arange(400, dtype=np.uint8) % 5
    first = hidden_positions(codes, 3, 7, 0.15)
    assert (first == hidden_positions(codes, 3, 7, 0.15)).all()
    assert (first != hidden_positions(codes, 3, 8, 0.15)).any()
    assert not first[codes == 4].any()
    assert 0.08 < first[codes < 4].mean() < 0.22


def test_as_released_the_loss_is_on_every_real_base():
    from umbel.train.recipes import plantbimoe_as_released

    codes = np.array([0, 1, 4, 2, 3] * 200, np.uint8)
    example = corrupt(codes, codes > 4, plantbimoe_as_released().masking, 0, 0, 0, ONE)
    assert (example.labels[1:-1] != IGNORED).sum() == 800
    masked = (example.input_ids == 3).sum() / 800
    assert abs(masked - 0.12) < 0.03


def made_up(n, seed):
    """A sequence and a repeat mask from integers alone, the same on any machine."""
    x = (np.arange(n, dtype=np.uint64) * 2654435761 + seed * 97) % 4294967291
    return (x // 7 % 5).astype(np.uint8), x % 3 == 0


def digest(examples):
    state = hashlib.sha256()
    for example in examples:
        for values, kind in ((example.input_ids, "<i8"), (example.labels, "<i8"), (example.weights, "<f4")):
            state.update(values.astype(kind).tobytes())
    return state.hexdigest()


@pytest.mark.parametrize(
    ("config", "recorded"),
    [
        (CONFIG, "b2445a494d1f817fa79dccf2a1e5acbf1e6a2eac98d41a5334bf82450c0fec07"),
        (
            MaskingConfig(loss_on="real", as_random_frac=0.02, softmask_weight=0.3),
            "3eca765648ad55e611e37f0b745c6a2624b8d75a0c21308cd08974ca9615d7c6",
        ),
        (
            MaskingConfig(mask_frac=1.0, as_mask_frac=0.0, as_random_frac=1.0),
            "9c3e57dd452534d7e1f40a3a06268df1cec2c3c12c176291b899df24e04550ad",
        ),
    ],
)
def test_single_bases_are_corrupted_as_before_there_were_other_tokens(config, recorded):
    """Recorded from commit 1d9a9c3, so that runs of that time go on to the same bits."""
    examples = [
        corrupt(*made_up(n, seed), config, seed, step, sample, ONE)
        for n in (1, 7, 300, 4096)
        for seed, step, sample in ((0, 0, 0), (3, 5, 2), (2**40, 10**6, 31))
    ]
    assert digest(examples) == recorded


def test_single_bases_are_hidden_as_before_there_were_other_tokens():
    examples = [
        hide(ONE.encode(codes), hidden_positions(codes, 5, len(codes), 0.15))
        for codes, _ in (made_up(n, 2) for n in (1, 7, 300, 4096))
    ]
    assert digest(examples) == "d993a9c9308853a9085d2ebdb8f22afbb5cdb4a63a3c1eab4d8195f1a150acc5"


sequences = st.lists(st.sampled_from([0, 1, 2, 3] * 6 + [4]), min_size=6, max_size=120)
vocabularies = st.builds(KmerTokens, st.integers(1, 6), st.booleans())


@settings(max_examples=80, deadline=None, derandomize=True)
@given(codes=sequences, tokens=vocabularies, seed=st.integers(0, 99), softmask_weight=st.sampled_from([0.1, 0.0, 2.5]))
def test_words_of_any_length_by_plain_loops(codes, tokens, seed, softmask_weight):
    codes = np.array(codes, np.uint8)
    soft_mask = codes % 2 == 0
    config = MaskingConfig(mask_frac=0.4, softmask_weight=softmask_weight)
    encoding = tokens.encode(codes)
    example = corrupt(codes, soft_mask, config, seed, 1, 2, tokens)
    assert len(example.input_ids) == len(example.labels) == len(example.weights) == len(encoding.ids)
    assert example.weights.dtype == np.float32
    for i, token in enumerate(encoding.ids):
        bases = range(encoding.starts[i], encoding.ends[i])
        shown, label = example.input_ids[i], example.labels[i]
        if not len(bases):
            assert (shown, label, example.weights[i]) == (token, IGNORED, 1)
            continue
        wanted = sum(softmask_weight if soft_mask[b] else 1.0 for b in bases) / len(bases)
        assert abs(example.weights[i] - wanted) < 1e-6
        if label == IGNORED:
            assert shown == token
        else:
            assert label == token
            assert all(codes[b] < 4 for b in bases)
            # Masked, kept, or a word of exactly k bases.
            assert shown in (3, token) or (len(tokens.words[shown]) == tokens.k and "N" not in tokens.words[shown])


@pytest.mark.parametrize("k", [1, 2, 3, 6])
@pytest.mark.parametrize("overlapping", [False, True])
def test_the_share_of_chosen_tokens_is_that_of_the_settings_for_any_words(k, overlapping):
    codes = np.random.default_rng(0).integers(0, 4, 6000).astype(np.uint8)
    tokens = KmerTokens(k, overlapping)
    labels = [corrupt(codes, codes > 4, CONFIG, 0, step, 0, tokens).labels[1:-1] for step in range(40)]
    assert abs(np.mean(np.concatenate(labels) != IGNORED) - 0.15) < 0.005


def test_random_words_are_drawn_evenly():
    config = MaskingConfig(mask_frac=1.0, as_mask_frac=0.0, as_random_frac=1.0)
    codes = np.zeros(64_000, np.uint8)
    tokens = KmerTokens(2)
    shown = np.concatenate([corrupt(codes, codes > 4, config, 0, step, 0, tokens).input_ids[1:-1] for step in range(5)])
    counts = np.bincount(shown, minlength=28)
    assert not counts[:12].any()
    assert (np.abs(counts[12:] / len(shown) - 1 / 16) < 0.003).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(codes=sequences, k=st.integers(2, 6), seed=st.integers(0, 99), fate=st.sampled_from(["mask", "random", "keep"]))
def test_no_token_shows_a_base_that_an_overlapping_one_hides(codes, k, seed, fate):
    """With one fate for all, the anchors are those bases whose covering tokens are all chosen."""
    codes = np.array(codes, np.uint8)
    tokens = KmerTokens(k, overlapping=True)
    shares = {"mask": (1.0, 0.0), "random": (0.0, 1.0), "keep": (0.0, 0.0)}[fate]
    config = MaskingConfig(mask_frac=0.3, as_mask_frac=shares[0], as_random_frac=shares[1])
    encoding, example = tokens.encode(codes), corrupt(codes, codes > 4, config, seed, 0, 0, tokens)
    cover = [
        [i for i in range(len(encoding.ids)) if encoding.starts[i] <= b < encoding.ends[i]] for b in range(len(codes))
    ]
    chosen = example.labels != IGNORED
    explained = np.zeros(len(chosen), bool)
    for tokens_of_base in cover:
        if all(chosen[i] for i in tokens_of_base):
            explained[tokens_of_base] = True
    assert (explained == chosen).all()
    if fate == "mask":
        assert (example.input_ids[chosen] == 3).all()
    if fate == "keep":
        assert (example.input_ids == encoding.ids).all()


def test_to_be_masked_goes_before_to_be_drawn_and_that_before_to_stay(monkeypatch):
    """Three anchors with fates given by hand in a sequence of overlapping 3-mers."""

    class Draws:
        def random(self, shape, dtype):
            chance, fate = np.ones(shape, dtype)
            chance[[2, 4, 9]] = 0
            fate[[2, 4, 9]] = 0.85, 0.5, 0.99  # drawn, masked, kept
            return chance, fate

        def integers(self, low, high, size):
            return np.full(size, 5)

    monkeypatch.setattr(masking, "stream", lambda *args: Draws())
    codes = np.arange(12, dtype=np.uint8) % 4
    tokens = KmerTokens(3, overlapping=True)
    example = corrupt(codes, codes > 4, CONFIG, 0, 0, 0, tokens)
    true = tokens.encode(codes).ids
    drawn = tokens.first_word + 5
    # Tokens 0 to 9 begin at the base of their number; 2 covers both of the first two anchors.
    assert example.input_ids[1:-1].tolist() == [drawn, drawn, 3, 3, 3, *true[6:11]]
    assert np.flatnonzero(example.labels[1:-1] != IGNORED).tolist() == [0, 1, 2, 3, 4, 7, 8, 9]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(codes=sequences, tokens=vocabularies, data=st.data())
def test_every_token_that_covers_a_hidden_base_is_hidden(codes, tokens, data):
    codes = np.array(codes, np.uint8)
    hidden = np.array(data.draw(st.lists(st.booleans(), min_size=len(codes), max_size=len(codes))))
    encoding = tokens.encode(codes)
    example = hide(encoding, hidden)
    for i, token in enumerate(encoding.ids):
        if any(hidden[encoding.starts[i] : encoding.ends[i]]):
            assert (example.input_ids[i], example.labels[i]) == (3, token)
        else:
            assert (example.input_ids[i], example.labels[i]) == (token, IGNORED)
    assert (example.weights == 1).all()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    codes=sequences,
    tokens=vocabularies,
    weights=st.tuples(*[st.sampled_from([0.0, 1.0])] * 3).filter(any),
    mask_frac=st.sampled_from([0.0, 0.15, 0.7, 1.0]),
    mean=st.floats(1, 50),
    longest=st.integers(1, 40),
    n_spans=st.integers(2, 5),
    span_tokens=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_whatever_is_asked_n_and_framing_stay_and_nothing_is_lost(
    codes, tokens, weights, mask_frac, mean, longest, n_spans, span_tokens, seed
):
    codes = np.array(codes, np.uint8)
    config = MaskingConfig(
        mask_frac=mask_frac,
        uniform_weight=weights[0],
        span_weight=weights[1],
        placement_weight=weights[2],
        span_mean_tokens=mean,
        span_max_tokens=longest,
        placement_spans=n_spans,
        placement_span_tokens=span_tokens,
    )
    ids = tokens.encode(codes).ids
    example = make_example(codes, codes > 2, config, seed, 3, 4, tokens)
    again = make_example(codes, codes > 2, config, seed, 3, 4, tokens)
    assert digest([example]) == digest([again])
    if example.placement is None:
        untouched = example.labels == IGNORED
        assert (example.input_ids[untouched] == ids[untouched]).all()
        assert (example.labels[~untouched] == ids[~untouched]).all()
        assert untouched[(ids < 7) | (ids == 11)].all()
        return
    assert weights[2]
    assert (example.labels == IGNORED).all()
    # All tokens are there once, but for those of overlapping words beside a span.
    shown = example.input_ids[(example.input_ids != 5) & (example.input_ids != 1)]
    left = np.bincount(ids[ids != 1], minlength=tokens.size) - np.bincount(shown, minlength=tokens.size)
    assert (left >= 0).all()
    assert left.sum() == 2 * (tokens.n_covering - 1) * n_spans
    assert not left[11]
    spans = [example.input_ids[example.placement == j] for j in range(1, n_spans + 1)]
    assert {len(span) for span in spans} == {span_tokens}
