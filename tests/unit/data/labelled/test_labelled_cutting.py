import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_sets import examples_of

from umbel.data.labelled.cutting import fit_lengths
from umbel.data.labelled.task import Task
from umbel.errors import LabelError


def codes_of(lengths):
    """Sequences whose every base tells where it is from, as long as nothing looks at codes."""
    return [(np.arange(n) % 251).astype(np.uint8) for n in lengths]


def along(lengths, bin_bp=1):
    if bin_bp == 1:
        return examples_of(codes_of(lengths), tuple(np.arange(n) for n in lengths), Task("bases", ("x", "y")))
    targets = tuple(np.arange(-(-n // bin_bp), dtype=np.float32)[:, None] for n in lengths)
    return examples_of(codes_of(lengths), targets, Task("bins", ("x",), bin_bp))


def test_nothing_is_done_where_nothing_is_long():
    examples = examples_of(codes_of([5, 8]))
    for long in ("refuse", "crop_end", "window"):
        fitted = fit_lengths(examples, 8, long)
        assert fitted.examples is examples and not fitted.told and fitted.of.tolist() == [0, 1]
        assert [out.tolist() for out in fitted.merge(np.array([[1.0], [2.0]]))] == [[1], [2]]


def test_long_ones_are_refused_with_their_rows():
    with pytest.raises(LabelError) as error:
        fit_lengths(examples_of(codes_of([5, 9, 30])), 8)
    assert str(error.value) == (
        "a.csv, line 3: 2 of 3 sequences are longer than 8 bp: rows 3, 4; the longest, row-4, has 30 bp. Say what is "
        "to happen to them (long): crop_centre, crop_start, crop_end, or window, which looks at all of a sequence in "
        "parts; or take more at once (max_bp)."
    )


@pytest.mark.parametrize(("long", "start"), [("crop_start", 0), ("crop_centre", 1), ("crop_end", 3)])
def test_crops(long, start):
    fitted = fit_lengths(examples_of(codes_of([4, 11])), 8, long)
    assert fitted.examples.codes[1].tolist() == list(range(start, start + 8))
    assert fitted.examples.ids == ("row-2", f"row-3:{start + 1}-{start + 8}") and fitted.starts.tolist() == [0, start]
    assert "1 of 2 sequences are longer than 8 bp, the longest 11: " in fitted.told
    assert "8 bp are kept, 3 bp in all are not looked at" in fitted.told


@given(st.lists(st.integers(1, 200), min_size=1, max_size=6), st.integers(1, 60))
@settings(deadline=None)
def test_windows_cover_every_base_evenly_and_are_averaged(lengths, max_bp):
    examples = examples_of(codes_of(lengths))
    fitted = fit_lengths(examples, max_bp, "window")
    assert len(set(fitted.examples.ids)) == len(fitted.of)
    for i, n in enumerate(lengths):
        own = np.flatnonzero(fitted.of == i)
        assert len(own) == max(1, -(-n // max_bp))
        starts = fitted.starts[own]
        covered = {
            base for m in own for base in range(fitted.starts[m], fitted.starts[m] + len(fitted.examples.codes[m]))
        }
        assert covered == set(range(n))
        assert np.ptp(np.diff(starts)) <= 1 if len(own) > 2 else True
        for m in own:
            assert len(fitted.examples.codes[m]) == min(n, max_bp)
            assert fitted.examples.codes[m].tolist() == examples.codes[i][fitted.starts[m] :][:max_bp].tolist()
            assert fitted.examples.targets[m] == examples.targets[i] and fitted.examples.rows[m] == examples.rows[i]
    outputs = np.arange(len(fitted.of), dtype=np.float32)[:, None]
    for i, merged in enumerate(fitted.merge(outputs)):
        np.testing.assert_allclose(merged, [np.flatnonzero(fitted.of == i).mean()])


@given(st.lists(st.integers(1, 200), min_size=1, max_size=6), st.integers(1, 20), st.sampled_from([1, 2, 7]))
@settings(deadline=None)
def test_along_the_sequence_windows_are_joined_again(lengths, n_bins, bin_bp):
    examples = along(lengths, bin_bp)
    fitted = fit_lengths(examples, n_bins * bin_bp, "window")
    assert max(map(len, fitted.examples.codes)) <= n_bins * bin_bp
    for merged, target in zip(fitted.merge(fitted.examples.targets), examples.targets, strict=True):
        np.testing.assert_array_equal(merged, target)
    for codes, target in zip(fitted.examples.codes, fitted.examples.targets, strict=True):
        assert len(target) == -(-len(codes) // bin_bp)


@pytest.mark.parametrize("long", ["crop_centre", "crop_start", "crop_end"])
@pytest.mark.parametrize("bin_bp", [1, 4])
def test_crops_cut_targets_alike(long, bin_bp):
    examples = along([31], bin_bp)
    fitted = fit_lengths(examples, 8, long)
    start = int(fitted.starts[0])
    assert start % bin_bp == 0
    codes, target = fitted.examples.codes[0], fitted.examples.targets[0]
    assert codes.tolist() == list(range(start, start + len(codes))) and 8 - bin_bp < len(codes) <= 8
    assert np.ravel(target).tolist() == list(range(start // bin_bp, -(-(start + len(codes)) // bin_bp)))


def test_bins_are_never_cut():
    with pytest.raises(LabelError, match=r"bins have 4 bp, and 10 bp hold no whole number of them. Give a multiple"):
        fit_lengths(along([31], 4), 10, "crop_start")
    with pytest.raises(ValueError, match="max_bp is 0"):
        fit_lengths(along([31]), 0, "window")
    with pytest.raises(ValueError, match="1 outputs for 4 windows"):
        fit_lengths(along([31]), 8, "window").merge(np.zeros((1, 1)))


def test_windows_are_told():
    assert fit_lengths(examples_of(codes_of([5, 17])), 8, "window").told == (
        "1 of 2 sequences are longer than 8 bp, the longest 17: cut into 3 windows, to be averaged"
    )
    assert fit_lengths(along([17]), 8, "window").told.endswith("cut into 3 windows, to be joined")
