"""Runs of classes against arrays painted base by base."""

import numpy as np
import pytest

from umbel.genome.class_runs import paint


@pytest.mark.parametrize("seed", range(20))
def test_painting_gives_what_painting_base_by_base_gives(seed):
    rng = np.random.default_rng(seed)
    length = int(rng.integers(1, 60))
    starts = rng.integers(-5, 60, 15)
    features = np.column_stack((starts, starts + rng.integers(-2, 20, 15), rng.integers(-1, 4, 15)))
    order, rest = rng.permutation([0, 1, 3, -1]).tolist(), int(rng.integers(-1, 5))
    expected = [rest] * length
    for one in order:
        for start, end, number in features.tolist():
            for place in range(max(start, 0), min(end, length)):
                if number == one:
                    expected[place] = one
    runs = paint(features, order, length, rest)
    for start, end in ((0, length), (length // 3, length // 2 + 1), (length, length)):
        found = runs.labels(start, end)
        assert found.dtype == np.int16
        assert found.tolist() == expected[start:end]
    # No more runs than needed: neighbours that touch differ, and none is empty.
    assert (runs.ends > runs.starts).all()
    assert (np.diff(runs.classes)[runs.ends[:-1] == runs.starts[1:]] != 0).all()


def test_memory_grows_with_features_and_not_with_the_contig():
    runs = paint(np.array([[10**9, 2 * 10**9, 0]]), (0,), 3 * 10**9, 1)
    assert len(runs.starts) == 3
    assert runs.labels(10**9 - 2, 10**9 + 2).tolist() == [1, 1, 0, 0]


def test_no_features_are_one_run_or_none():
    assert paint(np.empty((0, 3)), (0,), 5).labels(0, 5).tolist() == [-1] * 5
    assert paint(np.empty((0, 3)), (0,), 5, 2).labels(3, 5).tolist() == [2, 2]
