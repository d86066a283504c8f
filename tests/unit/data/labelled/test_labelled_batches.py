<<<<<<< HEAD
"""Batches of labelled sequences: every example once an epoch, whatever the budget; outputs back in their order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.data.bpe import BpeTokens
from umbel.data.kmers import KmerTokens
from umbel.data.labelled.batches import (
    TrainingExamples,
    make_batch,
    outputs_of,
    require_places,
    turned_round,
    within_budget,
)
from umbel.data.labelled.examples import Examples
from umbel.data.labelled.task import Task
from umbel.errors import ConfigError, LabelError
from umbel.genome.sequence import revcomp

BINARY = Task("binary", ("no", "yes"))


def examples(lengths, task=BINARY, seed=0):
    rng = np.random.default_rng(seed)
    codes = tuple(rng.integers(0, 5, n).astype(np.uint8) for n in lengths)
    if task.kind == "bases":
        targets = tuple(rng.integers(0, task.n_outputs, n) for n in lengths)
    elif task.kind == "bins":
        targets = tuple(rng.normal(size=(-(-n // task.bin_bp), task.n_outputs)).astype(np.float32) for n in lengths)
    else:
        targets = rng.integers(0, 2, len(lengths))
    return Examples(
        task, tuple(f"e{i}" for i in range(len(lengths))), codes, targets, "a.csv", np.arange(len(lengths)) + 2
    )


def training(found, **changes):
    settings = {"batch_size": 5, "micro_batch_tokens": 64, "revcomp_frac": 0.5, "seed": 3} | changes
    return TrainingExamples(found, KmerTokens(1), **settings)


def test_every_example_comes_once_an_epoch_in_another_order_each_time():
    ours = training(examples(range(5, 28)))
    epochs = [
        [int(i) for step in range(5) for batch in ours.step(5 * epoch + step) for i in batch.indices]
        for epoch in range(3)
    ]
    assert ours.steps_per_epoch == 5
    assert all(sorted(seen) == list(range(23)) for seen in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_step_shows_the_same_whatever_the_budget_and_whatever_was_asked_before():
    found = examples(range(5, 28))
    small, large = training(found, micro_batch_tokens=16), training(found, micro_batch_tokens=10_000)
    for step in (7, 2, 7):
        shown = {}
        for ours in (small, large):
            rows = {}
            for batch in ours.step(step):
                for row, i in enumerate(batch.indices):
                    rows[int(i)] = batch.inputs["input_ids"][row][batch.inputs["attention_mask"][row] == 1].tolist()
            shown[id(ours)] = rows
        assert shown[id(small)] == shown[id(large)]
    assert len(small.step(7)) > len(large.step(7)) == 1


def test_about_half_are_turned_round_and_their_targets_with_them():
    task = Task("bases", ("a", "b", "c"))
    found = examples([40] * 60, task)
    n_turned = 0
    for step in range(12):
        for batch in training(found).step(step):
            for row, i in enumerate(batch.indices):
                codes, target = found.codes[i], found.targets[i]
                ids = batch.inputs["input_ids"][row][1:41] - 7
                is_turned = ids.tolist() == revcomp(codes).tolist()
                assert is_turned or ids.tolist() == codes.tolist()
                assert batch.targets[row].tolist() == (target[::-1] if is_turned else target).tolist()
                n_turned += is_turned
    assert 18 <= n_turned <= 42


def test_a_sequence_with_a_short_last_bin_is_never_turned():
    task = Task("bins", ("t",), bin_bp=8)
    found = examples([20] * 12, task)
    for batch in training(found, revcomp_frac=1.0).step(0):
        for row, i in enumerate(batch.indices):
            assert (batch.inputs["input_ids"][row][1:21] - 7).tolist() == found.codes[i].tolist()
    whole = examples([24] * 12, task)
    batch = training(whole, revcomp_frac=1.0, micro_batch_tokens=10**6).step(0)[0]
    assert batch.targets[0].tolist() == whole.targets[batch.indices[0]][::-1].tolist()


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 60))
def test_groups_hold_all_in_order_within_the_budget(lengths, budget):
    groups = list(within_budget(lengths, budget))
    assert [i for group in groups for i in group] == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or max(lengths[i] for i in group) * len(group) <= budget


@pytest.mark.parametrize("tokens", [KmerTokens(1), KmerTokens(3), KmerTokens(3, overlapping=True)])
def test_places_lead_from_a_base_to_its_letter(tokens):
    found = examples([17, 9], Task("bases", ("a", "b")), seed=5)
    batch = make_batch(found.task, tokens, found.codes, found.targets, [0, 1])
    for row, codes in enumerate(found.codes):
        encoding = tokens.encode(codes)
        for base in range(17):
            token, offset = batch.inputs["token_of_base"][row, base], batch.inputs["offset"][row, base]
            if base >= len(codes):
                assert token == offset == batch.targets[row, base] + 99 == -1
            else:
                assert encoding.starts[token] + offset == base < encoding.ends[token]


@pytest.mark.parametrize("budget", [1, 50, 10_000])
@pytest.mark.parametrize("task", [BINARY, Task("bases", ("a", "b")), Task("bins", ("t",), bin_bp=4)])
def test_outputs_come_back_in_order_and_from_both_strands(budget, task):
    found = examples([12, 30, 7, 8, 19, 24], task)
    seen = []

    def run(inputs):
        """Say of a base 1 where it is an A and 10 where it is a G; of a sequence the sum."""
        value = (inputs["input_ids"] == 7) + 10.0 * (inputs["input_ids"] == 9)
        seen.append(len(value))
        if task.kind == "binary":
            return value.sum(1, keepdims=True)
        each = value[:, 1:-1, None]
        if task.kind == "bases":
            return each
        padded = np.pad(each, ((0, 0), (0, -each.shape[1] % 4), (0, 0)))
        return padded.reshape(len(each), -1, 4).sum(2)[..., None]

    outputs = outputs_of(found, KmerTokens(1), run, both_strands=True, budget=budget)
    for codes, output in zip(found.codes, outputs, strict=True):
        # A and G, and on the other strand T and C.
        along, against = (codes == 0) + 10.0 * (codes == 2), (codes == 3) + 10.0 * (codes == 1)
        mean = (along + against) / 2
        if task.kind == "binary":
            expected = [mean.sum()]
        elif task.kind == "bases":
            expected = mean[:, None]
        else:
            if len(codes) % 4:
                mean = along
            expected = [[mean[i : i + 4].sum()] for i in range(0, len(codes), 4)]
        np.testing.assert_allclose(output, expected)
    assert sum(seen) == 12


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="a task of bases needs tokens with a fixed number of bases"):
        require_places(Task("bases", ("a", "b")), BpeTokens.__new__(BpeTokens))
    with pytest.raises(LabelError, match=r"a.csv, line 3: a sequence of 2 bases, and this model's tokens have 3"):
        TrainingExamples(
            examples([9, 2]),
            KmerTokens(3, overlapping=True),
            batch_size=2,
            micro_batch_tokens=9,
            revcomp_frac=0,
            seed=0,
        )


def test_turning_twice_gives_back():
    targets = np.arange(6)
    task = Task("bases", tuple("abcdef"))
    assert turned_round(task, turned_round(task, targets)).tolist() == targets.tolist()
    assert turned_round(BINARY, np.array(1)) == 1
=======
import numpy as np
import pytest
from labelled_sets import examples_of, random_codes

from umbel.data.kmers import KmerTokens
from umbel.data.labelled.batches import FinetuneBatches, make_batch, prediction_batches
from umbel.data.labelled.task import Task
from umbel.data.vocabulary import CLS_ID, PAD_ID, SEP_ID
from umbel.errors import ConfigError, LabelError
from umbel.genome.sequence import revcomp

LENGTHS = [9, 30, 12, 7, 25, 14, 6, 21, 18, 11, 8]
TOKENS = [KmerTokens(1), KmerTokens(3), KmerTokens(3, overlapping=True)]


def sequences():
    return [codes[:n] for codes, n in zip(random_codes(len(LENGTHS), 40), LENGTHS, strict=True)]


def bases_task():
    targets = tuple(np.arange(n) % 2 for n in LENGTHS)
    return examples_of(sequences(), targets, Task("bases", ("x", "y")))


def shown(batch, row, tokens):
    """Bases of a row, from its tokens."""
    ids = batch.input_ids[row]
    assert ids[0] == CLS_ID and ids[batch.attention_mask[row].sum() - 1] == SEP_ID
    assert (ids[batch.attention_mask[row] == 0] == PAD_ID).all()
    return tokens.decode(ids).tolist()


@pytest.mark.parametrize("tokens", TOKENS, ids=["1", "3", "3 overlapping"])
def test_a_batch_holds_the_bases_and_where_they_are(tokens):
    examples = bases_task()
    turned = np.arange(len(LENGTHS)) % 3 == 0
    batch = make_batch(examples, tokens, range(len(LENGTHS)), turned)
    for row, (codes, n) in enumerate(zip(examples.codes, LENGTHS, strict=True)):
        own = revcomp(codes) if turned[row] else codes
        assert shown(batch, row, tokens) == own.tolist() and batch.n_bases[row] == n
        target = examples.targets[row][::-1] if turned[row] else examples.targets[row]
        assert batch.targets[row].tolist() == target.tolist() + [-100] * (max(LENGTHS) - n)
        assert (batch.token_of_base[row, n:] == -1).all() and (batch.offset[row, n:] == -1).all()
        for base in range(n):
            word = tokens.words[batch.input_ids[row, batch.token_of_base[row, base]]]
            assert word[batch.offset[row, base]] == "ACGT"[own[base]]


def test_targets_of_other_tasks():
    codes = sequences()[:3]
    values = np.array([[0.5, 1], [2, 3], [4, 5]], np.float32)
    batch = make_batch(examples_of(codes, values, Task("regression", ("x", "y"))), KmerTokens(1), [2, 0], [True, False])
    assert batch.targets.tolist() == [[4, 5], [0.5, 1]] and batch.token_of_base is None and batch.offset is None
    bins = tuple(np.arange(n, dtype=np.float32)[:, None] for n in (3, 10, 4))
    examples = examples_of(codes, bins, Task("bins", ("x",), 3))
    batch = make_batch(examples, KmerTokens(1), [0, 2], [True, False])
    np.testing.assert_array_equal(batch.targets[:, :, 0], [[2, 1, 0, np.nan], [0, 1, 2, 3]])
    odd = examples_of(random_codes(1, 10), (np.zeros((4, 1), np.float32),), Task("bins", ("x",), 3))
    assert make_batch(odd, KmerTokens(1), [0]).targets.shape == (1, 4, 1)
    with pytest.raises(ConfigError, match=r"a.csv, row 2: bins of 3 bp cannot be turned round, because 10 bp are no"):
        make_batch(odd, KmerTokens(1), [0], [True])


def batches(seed=0, tokens=TOKENS[0], budget=60, batch_size=4, frac=0.5):
    return FinetuneBatches(bases_task(), tokens, batch_size, budget, frac, seed)


@pytest.mark.parametrize("tokens", TOKENS, ids=["1", "3", "3 overlapping"])
def test_an_epoch_shows_all_once_in_steps_of_one_size_within_the_budget(tokens):
    made = batches(tokens=tokens)
    for epoch in (0, 1):
        steps = list(made.epoch(epoch))
        sizes = [sum(len(micro.index) for micro in step) for step in steps]
        assert sizes == [4, 4, 3] and made.n_steps == 3
        assert sorted(i for step in steps for micro in step for i in micro.index) == list(range(len(LENGTHS)))
        for micro in (micro for step in steps for micro in step):
            assert micro.input_ids.size <= 60 or len(micro.index) == 1
            for row, i in enumerate(micro.index):
                codes = made.examples.codes[i]
                assert shown(micro, row, tokens) == (revcomp(codes) if micro.is_reversed[row] else codes).tolist()


def test_a_step_depends_on_seed_epoch_and_step_alone():
    one, other = batches(), batches()
    list(one.epoch(0))
    for mine, its in zip(one.epoch(1, first_step=1), list(other.epoch(1))[1:], strict=True):
        for a, b in zip(mine, its, strict=True):
            np.testing.assert_array_equal(a.input_ids, b.input_ids)
            np.testing.assert_array_equal(a.targets, b.targets)
    orders = [tuple(batches(seed).order(epoch)) for seed in range(3) for epoch in range(3)]
    turned = [tuple(batches(seed).reversed_in(epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9 and len(set(turned)) == 9


def test_the_budget_changes_the_cut_and_nothing_else():
    def content(budget):
        return [
            sorted((int(i), bool(t)) for micro in step for i, t in zip(micro.index, micro.is_reversed, strict=True))
            for step in batches(budget=budget).epoch(2)
        ]

    assert content(1) == content(60) == content(10**6)
    assert [len(step) for step in batches(budget=1).epoch(0)] == [4, 4, 3]
    assert [len(step) for step in batches(budget=10**6).epoch(0)] == [1, 1, 1]


def test_the_share_of_reverse_complements():
    many = FinetuneBatches(examples_of(random_codes(4000, 8)), KmerTokens(1), 32, 1000, 0.3, 0)
    assert abs(many.reversed_in(5).mean() - 0.3) < 0.03
    assert not batches(frac=0.0).reversed_in(0).any() and batches(frac=1.0).reversed_in(0).all()


def test_prediction_shows_each_once_by_length():
    examples = bases_task()
    found = list(prediction_batches(examples, KmerTokens(1), 60))
    assert sorted(i for batch in found for i in batch.index) == list(range(len(LENGTHS)))
    assert all(batch.input_ids.size <= 60 or len(batch.index) == 1 for batch in found)
    lengths = [LENGTHS[i] for batch in found for i in batch.index]
    assert lengths == sorted(lengths) and not any(batch.is_reversed.any() for batch in found)
    turned = list(prediction_batches(examples, KmerTokens(1), 60, is_reversed=True))
    assert shown(turned[0], 0, KmerTokens(1)) == revcomp(examples.codes[turned[0].index[0]]).tolist()


def test_what_cannot_be_shown():
    with pytest.raises(
        LabelError, match=r"a.csv, line 2: row 2: sequences are shorter than a token of the model, 6 bp"
    ):
        FinetuneBatches(examples_of([np.zeros(5, np.uint8), np.zeros(6, np.uint8)]), KmerTokens(6), 2, 99, 0, 0)
    with pytest.raises(ValueError, match="step 3 is none of 0 to 2"):
        batches().step(0, 3)
>>>>>>> labels
