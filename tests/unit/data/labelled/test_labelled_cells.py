import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.data.labelled.cells import class_name, is_flags, is_missing, is_number, parts, sorted_names


@given(st.one_of(st.floats(allow_nan=False), st.integers(-(10**12), 10**12)))
def test_every_number_that_python_writes_is_one(number):
    assert is_number(str(number))


@pytest.mark.parametrize("text", ["", "abc", "1,5", "1_000", "0x1", "NaN", "1e", "--1", "1 2", "١"])
def test_what_is_no_number(text):
    assert not is_number(text)


@pytest.mark.parametrize("text", ["", "NA", "N/A", "<NA>", "NaN", "nan", "NULL", "null", ".", []])
def test_what_is_missing(text):
    assert is_missing(text)


@pytest.mark.parametrize("text", ["none", "None", "0", "na ", "no", [0]])
def test_what_is_not_missing(text):
    assert not is_missing(text)


@given(st.integers(-(10**9), 10**9))
def test_a_whole_number_is_one_class_however_it_is_spelled(number):
    spellings = {str(number), f"{number}.0", f"{number}.", f" {number} ", str(float(number))}
    assert {class_name(text) for text in spellings} == {str(number)} and class_name(np.int64(number)) == str(number)


@given(st.lists(st.integers(0, 100), min_size=1, unique=True))
def test_numbers_are_sorted_as_numbers(numbers):
    assert sorted_names({str(n) for n in numbers}) == tuple(map(str, sorted(numbers)))


@given(st.lists(st.sampled_from(["0", "1", "0.5", "-2"]), min_size=2, max_size=9))
def test_parts_come_back_whatever_separates_them(values):
    for text in (";".join(values), "|".join(values), ",".join(values), f"[{', '.join(values)}]", " ".join(values)):
        assert parts(text) == values
    assert parts([float(value) for value in values]) == [str(float(value)) for value in values]


def test_only_one_separator_counts_and_quotes_of_lists_go():
    assert (
        parts("a,b;c") == ["a,b", "c"]
        and parts("['a', \"b\"]") == ["a", "b"]
        and parts("not a promoter") == ["not a promoter"]
    )
    assert is_flags("01") and not is_flags("0") and not is_flags("0;1")
