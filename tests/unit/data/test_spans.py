from itertools import combinations

import numpy as np
import pytest
from scipy.stats import chisquare

from umbel.data.spans import draw_spans, length_chances, members, scatter, spans_per_place


def by_definition(mean, longest):
    """Stop after each place with chance 1 / mean; renormalised over 1 .. longest."""
    p = 1 / mean
    chances = [p * (1 - p) ** (n - 1) for n in range(1, longest + 1)]
    return [chance / sum(chances) for chance in chances]


@pytest.mark.parametrize(("mean", "longest"), [(3.0, 10), (5.0, 10), (1.0, 10), (40.0, 7), (2.5, 1)])
def test_lengths_are_truncated_geometric(mean, longest):
    assert length_chances(mean, longest).tolist() == pytest.approx(by_definition(mean, longest), rel=1e-12)


@pytest.mark.parametrize(("mean", "longest", "hidden_frac"), [(3.0, 10, 0.15), (5.0, 10, 0.15), (2.0, 4, 0.4)])
def test_drawn_lengths_follow_their_distribution_and_the_share_is_the_wanted_one(mean, longest, hidden_frac):
    """Short lines, where a rule of "until enough" or "where there is room" would bend both."""
    draws = np.random.default_rng(1)
    lengths = [draw_spans(60, hidden_frac, mean, longest, 1, draws)[1] for _ in range(4000)]
    total = sum(map(len, lengths))
    # None of these fills its line, where the last spans would be cut.
    counts = np.bincount(np.concatenate(lengths), minlength=longest + 1)[1:]
    assert chisquare(counts, np.array(by_definition(mean, longest)) * total).pvalue > 0.01
    hidden = np.array([n.sum() for n in lengths])
    assert abs(hidden.mean() / 60 - hidden_frac) < 4 * hidden.std() / 60 / np.sqrt(len(hidden))


def test_every_layout_is_equally_likely():
    """Two spans of 2 and 1 on a line of 5: the layouts are counted by hand."""
    draws = np.random.default_rng(0)
    found = [tuple(scatter(np.array([2, 1]), 2, draws).tolist()) for _ in range(6000)]
    layouts = [(a, b) for a in range(5) for b in range(5) if a + 2 <= b]
    assert set(found) == set(layouts)
    assert chisquare([found.count(layout) for layout in layouts]).pvalue > 0.01
    assert scatter(np.zeros(0, np.int64), 5, draws).tolist() == []


def test_spans_do_not_overlap_and_stay_on_the_line():
    draws = np.random.default_rng(0)
    for n_places in (1, 2, 3, 9, 200):
        for hidden_frac in (0.0, 0.15, 0.9, 1.0):
            starts, lengths = draw_spans(n_places, hidden_frac, 3.0, 10, 1, draws)
            places = members(starts, lengths)
            assert places.tolist() == [p for a, n in zip(starts, lengths, strict=True) for p in range(a, a + n)]
            assert len(set(places.tolist())) == len(places)
            assert not len(places) or (places.min() >= 0 and places.max() < n_places)
            assert (lengths >= 1).all()
            assert (lengths <= min(10, n_places)).all()
            if not hidden_frac:
                assert not len(starts)
    assert [len(part) for part in draw_spans(0, 0.5, 3.0, 10, 1, draws)] == [0, 0]


@pytest.mark.parametrize(("k", "mean"), [(2, 3.0), (6, 2.0), (3, 1.0)])
def test_the_density_hides_the_share_of_covering_tokens(k, mean):
    """By simulation: a long line, and tokens that cover k places each."""
    draws = np.random.default_rng(0)
    hidden = np.zeros(200_000, bool)
    hidden[members(*draw_spans(len(hidden), 0.15, mean, 10, k, draws))] = True
    covered = np.lib.stride_tricks.sliding_window_view(hidden, k).any(1)
    assert abs(covered.mean() - 0.15) < 0.004


def test_single_places_have_the_density_in_closed_form():
    for k in range(1, 7):
        assert spans_per_place(0.15, 1.0, k) == pytest.approx(1 - 0.85 ** (1 / k), rel=1e-9)
    assert spans_per_place(1.0, 2.0, 3) == pytest.approx(0.5)


def test_no_length_and_place_go_together():
    """Long spans begin near an edge as often as short ones: both ends of a line are hidden as often as its middle."""
    draws, hits = np.random.default_rng(0), np.zeros(40)
    for _ in range(6000):
        hits[members(*draw_spans(40, 0.2, 4.0, 8, 1, draws))] += 1
    share = hits / 6000
    # An edge has one side only from which a run can come; nothing else may differ.
    assert abs(share[12:28].mean() - 0.2) < 0.02
    assert abs(share - share[::-1]).max() < 0.03


def test_layouts_of_three_spans_are_those_of_a_full_count():
    draws = np.random.default_rng(3)
    found = {tuple(scatter(np.array([1, 1, 1]), 3, draws).tolist()) for _ in range(800)}
    assert found == set(combinations(range(6), 3))
