import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from umbel.genome.runs import as_runs, merge, n_bases, runs_where, subtract

LENGTH = 40
PAIRS = st.lists(st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH)).map(lambda p: tuple(sorted(p))), max_size=8)


def painted(pairs):
    flags = np.zeros(LENGTH, bool)
    for start, end in pairs:
        flags[start:end] = True
    return flags


@given(PAIRS)
def test_merged_runs_are_the_painted_bases(pairs):
    assert np.array_equal(merge(as_runs(pairs)), runs_where(painted(pairs)))
    assert n_bases(merge(as_runs(pairs))) == painted(pairs).sum()


@given(PAIRS, PAIRS)
def test_a_difference_is_the_bases_painted_by_one_alone(pairs, others):
    left = subtract(merge(as_runs(pairs)), merge(as_runs(others)))
    assert np.array_equal(left, runs_where(painted(pairs) & ~painted(others)))


@given(PAIRS, st.integers(0, 6))
def test_gaps_up_to_the_limit_are_closed(pairs, gap_bp):
    flags = painted(pairs)
    wanted = flags.copy()
    for start, end in runs_where(~flags):
        if start and end < LENGTH and end - start <= gap_bp:
            wanted[start:end] = True
    assert np.array_equal(merge(as_runs(pairs), gap_bp), runs_where(wanted))
