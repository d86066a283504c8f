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
    require_places,
    turned_round,
    within_budget,
)
from umbel.data.labelled.examples import Examples
from umbel.data.labelled.outputs import outputs_of
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
        places = inputs["token_of_base"]
        each = np.where(places < 0, 0, np.take_along_axis(value, np.maximum(places, 0), 1))[..., None]
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
