import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_sets import examples_of, mutated, random_codes

from umbel.data.labelled.copies import find_groups
from umbel.data.labelled.dev_split import split_dev
from umbel.data.labelled.task import Task
from umbel.errors import LabelError


def families(n, size, seed=0):
    """``n`` ancestors with ``size`` copies each."""
    rng = np.random.default_rng(seed)
    return [mutated(one, 0.97, rng) for one in random_codes(n, 150, seed) for _ in range(size)]


def bytes_of(examples):
    return sorted(codes.tobytes() for codes in examples.codes)


def test_near_copies_stay_together_and_nothing_is_lost():
    examples = examples_of(families(80, 3), np.arange(240) % 2)
    train, dev = split_dev(examples, 0.2, seed=1)
    assert sorted([*train.rows, *dev.rows]) == examples.rows.tolist()
    assert list(train.rows) == sorted(train.rows) and list(dev.rows) == sorted(dev.rows)
    group = find_groups(examples)
    assert not set(group[train.rows - 2]) & set(group[dev.rows - 2])
    assert abs(len(dev) - 48) <= 3


@given(st.integers(0, 10**6), st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_dev_depends_on_content_and_seed_and_not_on_order_or_ids(shuffle, seed):
    codes, targets = families(40, 2), np.repeat(np.arange(40) % 3, 2)
    task = Task("multiclass", ("a", "b", "c"))
    order = np.random.default_rng(shuffle).permutation(80)
    one = split_dev(examples_of(codes, targets, task), 0.15, seed)
    other = split_dev(examples_of([codes[i] for i in order], targets[order], task), 0.15, seed)
    assert bytes_of(one[1]) == bytes_of(other[1]) and bytes_of(one[0]) == bytes_of(other[0])


def test_another_seed_is_another_dev():
    examples = examples_of(random_codes(200, 60))
    devs = {tuple(split_dev(examples, 0.1, seed)[1].ids) for seed in range(5)}
    assert len(devs) == 5


@pytest.mark.parametrize("frac", [0.05, 0.1, 0.3])
def test_classes_have_their_share(frac):
    targets = np.repeat([0, 1, 2], [600, 180, 20])
    examples = examples_of(random_codes(800, 60), targets, Task("multiclass", ("a", "b", "c")))
    counts = np.bincount(split_dev(examples, frac, seed=3)[1].targets, minlength=3)
    np.testing.assert_allclose(counts, [600 * frac, 180 * frac, max(20 * frac, 1)], atol=1)


def test_numbers_have_their_share_of_each_tenth():
    values = np.random.default_rng(0).gamma(1, size=(1000, 1)).astype(np.float32)
    examples = examples_of(random_codes(1000, 60), values, Task("regression", ("y",)))
    dev = split_dev(examples, 0.1, seed=0)[1]
    tenth = np.searchsorted(np.quantile(values, np.arange(0.1, 1, 0.1)), dev.targets[:, 0])
    assert np.bincount(tenth, minlength=10).tolist() == [10] * 10


def test_labels_bases_and_bins_are_split_too():
    rng = np.random.default_rng(0)
    codes = random_codes(300, 60)
    labels = (rng.random((300, 4)) < [0.5, 0.2, 0.1, 0.05]).astype(np.float32)
    dev = split_dev(examples_of(codes, labels, Task("multilabel", tuple("abcd"))), 0.2, 0)[1]
    np.testing.assert_allclose(dev.targets.mean(axis=0), labels.mean(axis=0), atol=0.05)
    bases = tuple(np.where(rng.random(60) < 0.01 * (i % 3), 1, 0) for i in range(300))
    assert abs(len(split_dev(examples_of(codes, bases, Task("bases", ("x", "y"))), 0.2, 0)[1]) - 60) <= 2
    bins = tuple(np.full((6, 1), np.nan if i % 50 == 0 else i, np.float32) for i in range(300))
    assert abs(len(split_dev(examples_of(codes, bins, Task("bins", ("x",), 10)), 0.2, 0)[1]) - 60) <= 2


def test_a_class_in_one_group_stays_in_training():
    codes = [*random_codes(100, 150), *families(1, 8, seed=9)]
    targets = np.array([0] * 50 + [1] * 50 + [2] * 8)
    for seed in range(5):
        train, dev = split_dev(examples_of(codes, targets, Task("multiclass", ("a", "b", "c"))), 0.3, seed)
        assert set(train.targets.tolist()) == {0, 1, 2} and 2 not in dev.targets


def test_groups_that_are_too_large_still_give_a_dev():
    train, dev = split_dev(examples_of(families(3, 30), np.arange(90) % 2), 0.1, 0)
    assert len(dev) == 30 and len(train) == 60


def test_a_dev_that_would_be_far_too_small_is_refused():
    codes = [*random_codes(1, 150, 6) * 60, *random_codes(1, 150, 7) * 60, *random_codes(2, 150, 8)]
    with pytest.raises(LabelError, match=r"has 60 of 122 examples: dev would have 2 in place of about 12. Give a dev"):
        split_dev(examples_of(codes), 0.1, 0)


def test_no_dev_can_be_made_of_one_family():
    with pytest.raises(LabelError, match=r"all 20 examples are near-copies of each other.*Give a dev file"):
        split_dev(examples_of(random_codes(1, 150) * 20), 0.1, 0)
    with pytest.raises(ValueError, match="frac is 1"):
        split_dev(examples_of(families(2, 2)), 1, 0)
