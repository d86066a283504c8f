"""Sequences that are too long: told, cropped where one says, or windows that come together again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.data.labelled.examples import Examples
from umbel.data.labelled.lengths import fit_lengths, window_starts
from umbel.data.labelled.task import Task
from umbel.errors import ConfigError, LabelError


def made(task, lengths):
    rng = np.random.default_rng(0)
    codes = tuple(rng.integers(0, 4, n).astype(np.uint8) for n in lengths)
    if task.kind == "bases":
        targets = tuple(codes_i.astype(np.int64) % 2 for codes_i in codes)
    elif task.kind == "bins":
        targets = tuple(np.arange(-(-n // task.bin_bp), dtype=np.float32)[:, None] for n in lengths)
    else:
        targets = np.arange(len(lengths), dtype=np.float32)[:, None]
    return Examples(
        task, tuple(f"e{i}" for i in range(len(lengths))), codes, targets, "a.csv", np.arange(len(lengths)) + 2
    )


@given(st.integers(1, 400), st.integers(1, 60), st.sampled_from([1, 2, 5]))
def test_windows_cover_every_base_and_are_as_few_as_can(n, max_bp, step):
    max_bp = max_bp * step
    starts = window_starts(n, max_bp, step)
    covered = np.zeros(n, bool)
    for start in starts:
        assert start % step == 0
        covered[start : start + max_bp] = True
    assert covered.all()
    assert len(starts) == max(1, -(-n // max_bp)) or step > 1
    assert sorted(set(starts)) == starts
    assert all(start < n for start in starts)


def test_short_ones_are_left_as_they_are():
    examples = made(Task("regression", ("y",)), [4, 9])
    split = fit_lengths(examples, 9, "refuse")
    assert split.whole is split.shown is examples and split.told == ""


def test_a_long_one_is_refused_by_its_row():
    with pytest.raises(LabelError, match=r"a.csv: 2 of 3 sequences are longer than the 8 bases .*longest has 12.*row"):
        fit_lengths(made(Task("regression", ("y",)), [4, 9, 12]), 8, "refuse")


@pytest.mark.parametrize(("long", "start"), [("crop_start", 0), ("crop_end", 5), ("crop_centre", 2)])
@pytest.mark.parametrize("kind", ["regression", "bases"])
def test_cropping_keeps_the_right_bases_and_their_targets(long, start, kind):
    task = Task("regression", ("y",)) if kind == "regression" else Task("bases", ("even", "odd"))
    examples = made(task, [13, 6])
    split = fit_lengths(examples, 8, long)
    assert split.shown.codes[0].tolist() == examples.codes[0][start : start + 8].tolist()
    assert split.shown.codes[1].tolist() == examples.codes[1].tolist()
    if kind == "bases":
        assert all((t == c % 2).all() for t, c in zip(split.shown.targets, split.shown.codes, strict=True))
    assert "1 of 2 sequences are longer than 8 bp" in split.told and split.told.endswith("5 bp go")
    assert split.whole is split.shown


def test_windows_of_bases_come_together_as_they_were():
    examples = made(Task("bases", ("even", "odd")), [50, 8, 23])
    split = fit_lengths(examples, 9, "window")
    assert max(len(codes) for codes in split.shown.codes) == 9 and len(split.shown) > 9
    assert len(set(split.shown.ids)) == len(split.shown)
    said = [np.stack([codes, codes % 2], 1).astype(np.float32) for codes in split.shown.codes]
    for codes, whole in zip(examples.codes, split.fold(said), strict=True):
        assert (whole[:, 0] == codes).all() and (whole[:, 1] == codes % 2).all()


def test_windows_of_bins_come_together_and_are_never_cut_in_two():
    task = Task("bins", ("t",), bin_bp=4)
    examples = made(task, [50, 8, 23])
    split = fit_lengths(examples, 12, "window")
    assert all(len(t) == -(-len(c) // 4) for t, c in zip(split.shown.targets, split.shown.codes, strict=True))
    for target, whole in zip(examples.targets, split.fold(list(split.shown.targets)), strict=True):
        assert (whole == target).all()
    with pytest.raises(ConfigError, match="max_bp is 10, which cuts bins of 4 bp in two"):
        fit_lengths(examples, 10, "window")


def test_outputs_of_a_sequence_are_the_mean_over_its_windows():
    split = fit_lengths(made(Task("regression", ("y",)), [20, 5]), 8, "window")
    assert split.shown.targets[:, 0].tolist() == [0, 0, 0, 1]
    outputs = split.fold([np.array([value], np.float32) for value in (1.0, 2.0, 6.0, 9.0)])
    assert [output.tolist() for output in outputs] == [[3.0], [9.0]]
