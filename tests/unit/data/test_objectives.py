from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare
from toys import toy_run

from umbel.config import BalanceConfig, MaskingConfig, RunConfig, TokensConfig, apply_settings
from umbel.data.batches import TrainingBatches, collate, collate_rows
from umbel.data.bpe import FIXED, BpeTokens
from umbel.data.kmers import KmerTokens
from umbel.data.masking import IGNORED, Example, corrupt
from umbel.data.objectives import draw_objective, make_example
from umbel.data.rows import PackedRows
from umbel.data.train_windows import choose_windows
from umbel.errors import ConfigError

MIXED = MaskingConfig(uniform_weight=1, span_weight=2, placement_weight=3, placement_spans=2, placement_span_tokens=8)
SPANS = MaskingConfig(uniform_weight=0, span_weight=1)
PLACEMENT = replace(MIXED, uniform_weight=0, span_weight=0)
LEARNT = BpeTokens([*FIXED, "AC", "GT", "ACG"], [("A", "C"), ("G", "T"), ("AC", "G")])
VOCABULARIES = [KmerTokens(1), KmerTokens(3), KmerTokens(3, overlapping=True), LEARNT]
NAMES = ["k1", "k3", "k3-overlapping", "learnt"]


def window(n, n_frac=0.0, seed=0):
    draws = np.random.default_rng(seed)
    codes = draws.integers(0, 4, n).astype(np.uint8)
    codes[draws.random(n) < n_frac] = 4
    return codes, draws.random(n) < 0.3


def same(a, b):
    fields = ("input_ids", "labels", "weights", "placement")
    return all(np.array_equal(getattr(a, f), getattr(b, f)) for f in fields) and a.is_unplaced == b.is_unplaced


def test_objectives_are_drawn_by_their_weights():
    names = [draw_objective(MIXED, 0, step, sample) for step in range(100) for sample in range(30)]
    counts = [names.count(name) for name in ("uniform", "spans", "placement")]
    assert chisquare(counts, [500, 1000, 1500]).pvalue > 0.01
    without = [draw_objective(MIXED, 0, step, 0, has_room=False) for step in range(3000)]
    assert chisquare([without.count(name) for name in ("uniform", "spans")], [1000, 2000]).pvalue > 0.01
    # Whether a window has room is no hint at what else it is asked.
    asked = [s for s in range(6000) if draw_objective(MIXED, 0, s, 0) == "placement"]
    instead = [draw_objective(MIXED, 0, s, 0, has_room=False) for s in asked]
    assert (
        chisquare([instead.count(name) for name in ("uniform", "spans")], [len(asked) / 3, len(asked) * 2 / 3])[1]
        > 0.01
    )


@pytest.mark.parametrize("name", ["uniform_weight", "span_weight", "placement_weight"])
def test_one_weight_alone_is_no_draw(name):
    config = MaskingConfig(**{"uniform_weight": 0, "span_weight": 0, "placement_weight": 0, name: 0.3})
    wanted = {"uniform_weight": "uniform", "span_weight": "spans", "placement_weight": "placement"}[name]
    assert {draw_objective(config, 0, step, 0) for step in range(50)} == {wanted}


@pytest.mark.parametrize("tokens", VOCABULARIES, ids=NAMES)
def test_a_sample_is_what_its_objective_alone_would_make_it(tokens):
    """So uniform runs are what they were, and a mixture changes no sample beyond its choice."""
    codes, soft_mask = window(400)
    alone = {"uniform": MaskingConfig(), "spans": SPANS, "placement": PLACEMENT}
    for step in range(40):
        made = make_example(codes, soft_mask, MIXED, 7, step, 3, tokens)
        objective = draw_objective(MIXED, 7, step, 3)
        assert same(made, make_example(codes, soft_mask, alone[objective], 7, step, 3, tokens))
        if objective == "uniform":
            assert same(made, corrupt(codes, soft_mask, MaskingConfig(), 7, step, 3, tokens))
        assert (made.placement is not None) == (objective == "placement")


@pytest.mark.parametrize("tokens", VOCABULARIES, ids=NAMES)
def test_runs_of_hidden_tokens_by_plain_loops(tokens):
    """What is chosen, shown and asked: N and special tokens never, and the shown one of three kinds."""
    for seed in range(20):
        codes, soft_mask = window(300, 0.02, seed)
        encoding = tokens.encode(codes)
        example = make_example(codes, soft_mask, SPANS, seed, 4, 5, tokens)
        assert example.weights == pytest.approx(corrupt(codes, soft_mask, SPANS, 0, 0, 0, tokens).weights)
        for i, token in enumerate(encoding.ids):
            bases = range(encoding.starts[i], encoding.ends[i])
            shown, label = example.input_ids[i], example.labels[i]
            if label == IGNORED:
                assert shown == token
            else:
                assert label == token
                assert len(bases)
                assert all(codes[b] < 4 for b in bases)
                assert shown in (3, token) or tokens.first_word <= shown < tokens.first_word + tokens.n_words


@pytest.mark.parametrize("tokens", VOCABULARIES, ids=NAMES)
@pytest.mark.parametrize("mean", [1.0, 3.0])
def test_the_share_of_hidden_tokens_stays_that_of_the_settings(tokens, mean):
    codes, soft_mask = window(3000)
    config = replace(SPANS, span_mean_tokens=mean)
    labels = [make_example(codes, soft_mask, config, 0, step, 0, tokens).labels[1:-1] for step in range(60)]
    assert abs(np.mean(np.concatenate(labels) != IGNORED) - 0.15) < 0.007


def runs_of(marked):
    """Lengths of the stretches of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], marked.astype(int), [0]))))
    return edges[1::2] - edges[::2]


def test_a_run_has_one_fate():
    """With a small share runs hardly touch, so a stretch is masked whole or not at all, 80 % of them masked."""
    config = replace(SPANS, mask_frac=0.002)
    codes = np.zeros(4000, np.uint8)
    shares = []
    for step in range(800):
        example = make_example(codes, codes > 4, config, 0, step, 0, KmerTokens(1))
        stretches = np.split(np.arange(4002), np.flatnonzero(np.diff(example.labels >= 0)) + 1)[1::2]
        shares += [np.mean(example.input_ids[stretch] == 3) for stretch in stretches]
        # What is neither masked nor kept is a base drawn evenly.
        assert set(example.input_ids[example.labels >= 0].tolist()) <= {3, 7, 8, 9, 10}
    shares = np.array(shares)
    assert len(shares) > 1500
    assert ((shares > 0) & (shares < 1)).mean() < 0.01
    assert abs((shares == 1).mean() - 0.8) < 0.03


def test_hidden_runs_are_as_long_as_told():
    """With a small share runs hardly touch: their lengths in the labels are the drawn ones."""
    config = replace(SPANS, mask_frac=0.002)
    codes = np.zeros(4000, np.uint8)
    found = np.concatenate(
        [runs_of(make_example(codes, codes > 4, config, 0, s, 0, KmerTokens(1)).labels >= 0) for s in range(1500)]
    )
    chances = np.array([(2 / 3) ** n for n in range(10)])
    counts = np.bincount(found, minlength=11)
    assert counts[11:].sum() < 0.01 * len(found)
    assert chisquare(counts[1:11], chances / chances.sum() * counts[1:11].sum()).pvalue > 0.01


def test_overlapping_words_of_a_run_are_hidden_whole():
    """A run of m bases hides m + k - 1 words: with one fate for all, hidden stretches are at least k long."""
    tokens = KmerTokens(4, overlapping=True)
    config = replace(SPANS, mask_frac=0.05, as_mask_frac=1.0, as_random_frac=0.0, span_mean_tokens=2.0)
    codes, soft_mask = window(3000)
    example = make_example(codes, soft_mask, config, 0, 0, 0, tokens)
    lengths = runs_of(example.labels >= 0)
    inner = lengths[1:-1]
    assert len(inner) > 10
    assert inner.min() >= 4
    assert len(set(inner.tolist())) > 3


def test_a_window_without_room_asks_for_hidden_tokens_and_says_so():
    codes, soft_mask = window(17)
    made = make_example(codes, soft_mask, PLACEMENT, 0, 0, 0, KmerTokens(1))
    assert not made.is_unplaced
    codes, soft_mask = codes[:16], soft_mask[:16]
    made = make_example(codes, soft_mask, PLACEMENT, 0, 0, 0, KmerTokens(1))
    assert made.is_unplaced
    assert made.placement is None
    assert same(replace(made, is_unplaced=False), corrupt(codes, soft_mask, MaskingConfig(), 0, 0, 0, KmerTokens(1)))
    with_spans = make_example(codes, soft_mask, replace(PLACEMENT, span_weight=1), 0, 1, 0, KmerTokens(1))
    only_spans = make_example(codes, soft_mask, SPANS, 0, 1, 0, KmerTokens(1))
    assert same(replace(with_spans, is_unplaced=False), only_spans)


def test_a_mixture_is_a_pure_function_of_seed_step_and_sample(toy_corpus):
    def make():
        run = toy_run(batch_windows=6, micro_batch_windows=1, seed=1)
        return TrainingBatches(toy_corpus, replace(run, masking=MIXED), KmerTokens(1))

    def flat(batch):
        arrays = (batch.input_ids, batch.labels, batch.weights, batch.placement)
        return [None if array is None else array.tobytes() for array in arrays]

    onwards = make()
    told = [[flat(batch) for batch in onwards.micro_batches(step, 3)] for step in range(6)]
    for step in (5, 0, 3):
        assert [flat(batch) for batch in make().micro_batches(step, 3)] == told[step]
    ahead = make().stream(2, 6, 3)
    assert [[flat(batch) for batch in batches] for batches in ahead] == told[2:]
    rows = onwards.rows(2)
    assert [row[0].placement is not None for row in rows] == [
        draw_objective(MIXED, 1, 2, sample) == "placement" for sample in range(6)
    ]


def test_batches_lay_placement_out_and_count_windows_without_room():
    plain = Example(*np.ones((3, 4)))
    placed = Example(*np.ones((3, 3)), np.array([0, -1, 1]))
    unplaced = Example(*np.ones((3, 2)), is_unplaced=True)
    batch = collate([plain, placed, unplaced])
    assert batch.placement.tolist() == [[0] * 4, [0, -1, 1, 0], [0] * 4]
    assert batch.placement.dtype == np.int64
    assert batch.n_unplaced == 1
    assert collate([plain, unplaced]).placement is None
    assert collate_rows([[plain, plain]]).n_unplaced == 0


def test_rows_take_spans_and_refuse_to_part_a_placement(toy_corpus):
    """Hidden runs go into packed rows; cut spans would be parted from their gaps."""
    tokens = KmerTokens(3)
    packed = PackedRows(toy_corpus, choose_windows(toy_corpus, BalanceConfig(), 0), SPANS, tokens, 100)
    codes, soft_mask = toy_corpus.read_window(int(toy_corpus.window_ids("train")[0]))
    labels = np.concatenate([part.labels for row in range(6) for part in packed.row(0, row)])
    assert runs_of(labels >= 0).mean() > 2
    with pytest.raises(ValueError, match="cannot be cut: give every window a row of its own"):
        make_example(codes, soft_mask, PLACEMENT, 0, 0, 0, tokens).part(slice(0, 5))
    run = replace(toy_run(), tokens=TokensConfig(k=3, row_tokens=100))
    with pytest.raises(ConfigError, match=r"part cut spans from their gaps: set tokens.row_tokens=0 or masking"):
        apply_settings(run, ["masking.placement_weight=0.5"])
    assert apply_settings(RunConfig("a"), ["masking.placement_weight=0.5"]).masking.placement_weight == 0.5
    with pytest.raises(ConfigError, match="are all 0: nothing would be asked"):
        apply_settings(run, ["masking.uniform_weight=0"])
