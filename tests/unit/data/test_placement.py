from itertools import permutations

import numpy as np
import pytest
from scipy.stats import chisquare

from umbel.data.bpe import FIXED, BpeTokens
from umbel.data.kmers import KmerTokens
from umbel.data.placement import cut_spans
from umbel.data.vocabulary import CLS_ID, GAP_ID, SEP_ID, are_real

VOCABULARIES = {
    "k1": KmerTokens(1),
    "k3": KmerTokens(3),
    "overlapping k3": KmerTokens(3, overlapping=True),
    "learnt": BpeTokens([*FIXED, "AC", "GT", "ACG"], [("A", "C"), ("G", "T"), ("AC", "G")]),
}


def window(n, n_frac=0.0, seed=0):
    draws = np.random.default_rng(seed)
    codes = draws.integers(0, 4, n).astype(np.uint8)
    codes[draws.random(n) < n_frac] = 4
    return codes


def rebuilt(ids, placement, n_spans):
    """Put the spans back by plain loops: the answers of a network that makes no mistake."""
    spans = {j: [int(t) for t, p in zip(ids, placement, strict=True) if p == j] for j in range(1, n_spans + 1)}
    context = []
    for t, p in zip(ids[: ids.tolist().index(SEP_ID) + 1], placement, strict=False):
        context += spans[-p] if p < 0 else [int(t)]
    return context


@pytest.mark.parametrize("name", ["k1", "k3", "learnt"])
@pytest.mark.parametrize("n_frac", [0.0, 0.01])
def test_the_spans_put_back_give_the_window(name, n_frac):
    tokens = VOCABULARIES[name]
    for seed in range(20):
        ids = tokens.encode(window(600, n_frac, seed)).ids
        made = cut_spans(ids, 4, 9, 1, np.random.default_rng(seed))
        assert made is not None
        shown, placement = made
        assert rebuilt(shown, placement, 4) == ids.tolist()
        assert len(shown) == len(placement) == len(ids) + 2 * 4
        assert shown.dtype == placement.dtype == np.int64


@pytest.mark.parametrize("name", VOCABULARIES)
def test_the_layout_is_as_told(name):
    tokens = VOCABULARIES[name]
    ids = tokens.encode(window(500, 0.003, 2)).ids
    shown, placement = cut_spans(ids, 3, 7, tokens.n_covering, np.random.default_rng(0))
    assert (shown[placement < 0] == GAP_ID).all()
    assert placement[placement < 0].tolist() == [-1, -2, -3]
    assert (shown == GAP_ID).sum() == 3
    assert (placement[np.isin(shown, [CLS_ID, SEP_ID])] == 0).all()
    assert are_real(shown[placement > 0]).all()
    end = shown.tolist().index(SEP_ID)
    assert shown[0] == CLS_ID
    assert (placement[: end + 1] <= 0).all()
    tail, belongs = shown[end + 1 :].reshape(3, 8), placement[end + 1 :].reshape(3, 8)
    assert (tail[:, -1] == SEP_ID).all()
    assert (belongs[:, :-1] == belongs[:, :1]).all()
    assert sorted(belongs[:, 0]) == [1, 2, 3]
    gaps = np.flatnonzero(placement < 0)
    assert (np.diff(gaps) > 1).all()


def test_no_visible_token_tells_bases_of_a_span_of_overlapping_kmers():
    tokens = KmerTokens(4, overlapping=True)
    for seed in range(20):
        codes = window(300, 0.004, seed)
        encoding = tokens.encode(codes)
        # Tokens with a name of their own, so that each can be found again.
        names = np.where(are_real(encoding.ids), 100 + np.arange(len(encoding.ids)), encoding.ids)
        made = cut_spans(names, 3, 8, tokens.n_covering, np.random.default_rng(seed))
        assert made is not None
        shown, placement = made
        for j in (1, 2, 3):
            span = shown[placement == j] - 100
            assert (np.diff(span) == 1).all()
            bases = range(encoding.starts[span[0]], encoding.ends[span[-1]])
            for token in shown[(placement == 0) & (shown >= 100)] - 100:
                assert encoding.ends[token] <= bases.start or encoding.starts[token] >= bases.stop


def test_neither_order_nor_place_tells_the_answer():
    ids = np.concatenate(([CLS_ID], np.full(30, 7), [SEP_ID]))
    draws = np.random.default_rng(0)
    orders, starts, first_gap_by_first_span = [], [], {1: [], 2: [], 3: []}
    for _ in range(3000):
        _, placement = cut_spans(ids, 3, 4, 1, draws)
        order = tuple(dict.fromkeys(placement[placement > 0].tolist()))
        gaps = np.flatnonzero(placement < 0).tolist()
        orders.append(order)
        starts.append(tuple(gaps))
        first_gap_by_first_span[order[0]].append(gaps[0])
    all_orders = list(permutations((1, 2, 3)))
    assert chisquare([orders.count(order) for order in all_orders]).pvalue > 0.01
    # 30 tokens, 12 of them cut: 18 stay, and gaps stand between them with at least one between two.
    layouts = [(a + 1, b + 2, c + 3) for a in range(19) for b in range(a + 1, 19) for c in range(b + 1, 19)]
    assert set(starts) <= set(layouts)
    assert len(set(starts)) > 0.9 * len(layouts)
    counts = [starts.count(layout) for layout in layouts]
    assert chisquare(counts).pvalue > 0.01
    means = [np.mean(found) for found in first_gap_by_first_span.values()]
    assert max(means) - min(means) < 1


def test_a_window_with_exactly_enough_room_is_cut_and_a_shorter_one_is_not():
    draws = np.random.default_rng(0)
    for n, has_room in ((11, True), (10, False)):
        ids = np.concatenate(([CLS_ID], np.full(n, 8), [SEP_ID]))
        assert (cut_spans(ids, 3, 3, 1, draws) is not None) == has_room


def test_a_window_broken_up_by_n_has_no_room():
    ids = np.concatenate(([CLS_ID], np.tile([7, 8, 9, 11], 40), [SEP_ID]))
    assert cut_spans(ids, 2, 4, 1, np.random.default_rng(0)) is None
    assert cut_spans(ids, 2, 2, 1, np.random.default_rng(0)) is not None
