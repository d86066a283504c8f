"""Masked-language corruption: what may change, how often, and what it depends on."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.config import MaskingConfig
from umbel.data.masking import IGNORED, corrupt, hidden_positions

CONFIG = MaskingConfig()


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
    example = corrupt(codes, soft_mask, CONFIG, seed, step, sample)
    chosen = example.labels != IGNORED
    assert not chosen[0]
    assert not chosen[-1]
    assert (codes[chosen[1:-1]] < 4).all()
    true_ids = np.concatenate([[0], codes + 7, [1]])
    assert (example.input_ids[~chosen] == true_ids[~chosen]).all()
    assert (example.labels[chosen] == true_ids[chosen]).all()
    assert np.isin(example.input_ids[chosen], [3, 7, 8, 9, 10]).all()
    assert np.allclose(example.weights[1:-1], np.where(soft_mask, 0.1, 1.0))
    again = corrupt(codes, soft_mask, CONFIG, seed, step, sample)
    assert (again.input_ids == example.input_ids).all()


def test_shares_are_those_of_the_settings():
    """15 % chosen; of these 80 % masked, 10 % drawn evenly from ACGT (so 7.5 % differ), 10 % kept."""
    codes = np.zeros(4000, np.uint8)
    examples = [corrupt(codes, codes > 0, CONFIG, 0, step, 0) for step in range(100)]
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
        corrupt(codes, codes > 0, CONFIG, seed, step, sample).input_ids.tobytes()
        for seed in (0, 1)
        for step in (0, 1, 2)
        for sample in (0, 1, 2)
    }
    assert len(draws) == 18


def test_no_base_is_chosen_by_an_n_only_window():
    codes = np.full(50, 4, np.uint8)
    assert (corrupt(codes, codes > 4, CONFIG, 0, 0, 0).labels == IGNORED).all()
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
    example = corrupt(codes, codes > 4, plantbimoe_as_released().masking, 0, 0, 0)
    assert (example.labels[1:-1] != IGNORED).sum() == 800
    masked = (example.input_ids == 3).sum() / 800
    assert abs(masked - 0.12) < 0.03
