import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_sets import examples_of, mutated, random_codes

from umbel.data.labelled.copies import MIN_HASHES, CopyRule, find_copies, find_groups
from umbel.data.labelled.sketches import KmerSettings, canonical_keys, fitting_kmers, sketch_all
from umbel.genome.sequence import decode, encode, revcomp
from umbel.genome.sketch import sketch


def kmers(codes, k):
    """Canonical k-mers as text, by slicing."""
    text = decode(codes)
    words = {text[i : i + k] for i in range(len(text) - k + 1)}
    return {min(word, decode(revcomp(encode(word.encode())[0]))) for word in words if "N" not in word}


def brute_force(codes, rule):
    """Near-copies by comparing all pairs as sets of words: a bool matrix."""
    k = fitting_kmers(sum(map(len, codes))).k
    sets = [kmers(one, k) for one in codes]
    near = np.zeros((len(codes), len(codes)), bool)
    for i, a in enumerate(sets):
        for j, b in enumerate(sets):
            fewer = min(len(a), len(b))
            is_same = decode(codes[i]) in (decode(codes[j]), decode(revcomp(codes[j])))
            near[i, j] = i != j and (is_same or (fewer >= MIN_HASHES and len(a & b) >= rule.min_ani**k * fewer))
    return near


def chained(near):
    """Transitive closure, as the least member of each group."""
    group = np.arange(len(near))
    for _ in range(len(near)):
        group = np.array([min([group[i], *group[near[i]]]) for i in range(len(near))])
    return group


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from([1, 0.97, 0.9, 0.8]), st.integers(0, 60), st.booleans()),
        min_size=2,
        max_size=24,
    ),
    st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_groups_and_partners_by_comparing_all_pairs(planted, seed):
    rng = np.random.default_rng(seed)
    ancestors = random_codes(6, 160, seed)
    codes = []
    for which, identity, start, is_turned in planted:
        one = mutated(ancestors[which][start:], identity, rng)
        codes.append(revcomp(one) if is_turned else one)
    rule = CopyRule()
    near = brute_force(codes, rule)
    cut = len(codes) // 2
    found = find_copies([codes[:cut], codes[cut:]], rule)
    np.testing.assert_array_equal(found.group, chained(near))
    for i in range(len(codes)):
        for s, members in enumerate([range(cut), range(cut, len(codes))]):
            there = [j for j in members if near[i, j]]
            assert (found.partner[i, s] in there) if there else (found.partner[i, s] == -1)
    texts = [min(decode(one), decode(revcomp(one))) for one in codes]
    assert found.exact.tolist() == [texts.index(text) for text in texts]


@pytest.mark.parametrize(("identity", "least"), [(1.0, 1.0), (0.98, 0.99), (0.95, 0.95), (0.8, None)])
def test_recall_and_false_merges_by_planted_identity(identity, least):
    rng = np.random.default_rng(1)
    codes = random_codes(3000, 170)
    planted = [mutated(one, identity, rng) for one in codes[:400]]
    planted = [revcomp(one) if i % 2 else one for i, one in enumerate(planted)]
    found = find_copies([codes, planted]).partner[3000:, 0]
    right, none = found == np.arange(400), found == -1
    assert (right | none).all()
    assert right.mean() >= least if least else right.mean() < 0.05


def test_shifted_and_contained_sequences_are_near_copies_and_half_random_ones_are_not():
    one, other, third = random_codes(3, 400)
    groups = find_groups(
        examples_of([one, one[150:], revcomp(one[100:200]), other, np.concatenate([other[:40], third])])
    )
    assert groups.tolist() == [0, 0, 0, 3, 4]


def test_low_complexity_and_short_sequences_have_exact_copies_only():
    repeat = np.array([0, 3] * 60, np.uint8)
    with_repeat = np.concatenate([repeat[:60], random_codes(1, 100)[0]])
    short = np.array([0, 1, 2, 3], np.uint8)
    unknown = np.full(50, 4, np.uint8)
    codes = [repeat, with_repeat, repeat[:90], repeat.copy(), short, short[:3], revcomp(short), unknown, unknown]
    assert find_groups(examples_of(codes)).tolist() == [0, 1, 2, 0, 4, 5, 4, 7, 7]


def test_a_family_beyond_the_bound_on_copies_stays_one_group():
    rng = np.random.default_rng(2)
    ancestor, *others = random_codes(200, 170)
    family = [mutated(ancestor, 0.97, rng) for _ in range(600)]
    found = find_copies([others, family], CopyRule(max_copies=16, neighbours=2))
    assert len(set(found.group[199:])) == 1 and (found.partner[199:, 1] >= 0).mean() > 0.99
    assert found.group[:199].tolist() == list(range(199)) and (found.partner[:199] == -1).all()


def test_a_repeat_in_many_sequences_merges_none_of_them():
    repeat = random_codes(1, 34, 5)[0]
    codes = random_codes(800, 170)
    for one in codes:
        one[60:94] = repeat
    assert find_groups(examples_of(codes)).tolist() == list(range(800))


def test_groups_do_not_depend_on_the_order():
    rng = np.random.default_rng(3)
    codes = [mutated(random_codes(30, 120)[i % 30], 0.92, rng) for i in range(300)]
    group = find_groups(examples_of(codes), CopyRule(max_copies=4, neighbours=2))
    order = rng.permutation(300)
    shuffled = find_groups(examples_of([codes[i] for i in order]), CopyRule(max_copies=4, neighbours=2))
    together = group[:, None] == group
    np.testing.assert_array_equal(shuffled[:, None] == shuffled, together[np.ix_(order, order)])


def test_sampled_kmers_find_most_of_what_all_find():
    rng = np.random.default_rng(4)
    codes = random_codes(200, 800)
    planted = [mutated(one, 0.97, rng) for one in codes]
    found = find_copies([codes, planted], CopyRule(most_hashes=40_000))
    assert found.scaled == 8 and (found.partner[200:, 0] == np.arange(200)).mean() > 0.98


def test_sketches_are_those_of_one_sequence_at_a_time():
    codes = [*random_codes(5, 90), np.full(30, 4, np.uint8), np.zeros(40, np.uint8), np.zeros(3, np.uint8)]
    found = sketch_all(codes, KmerSettings(11, 2))
    for i, one in enumerate(codes):
        own = found.hashes[found.first[i] : found.first[i + 1]]
        assert own.tolist() == sorted(set(sketch(one, 11, 2)[0].tolist()))
    assert found.owners().tolist() == np.repeat(np.arange(8), found.sizes()).tolist()
    assert not len(sketch_all([], KmerSettings(11, 1)).hashes)


def test_keys_tell_sequences_apart_but_not_strands():
    codes = [*random_codes(50, 30), *random_codes(50, 31)]
    keys = canonical_keys(codes)
    assert len(set(keys)) == 100 and canonical_keys([revcomp(one) for one in codes]) == keys


@pytest.mark.parametrize("n", [0, 1])
def test_few_sequences(n):
    found = find_copies([random_codes(n, 50), []])
    assert found.group.tolist() == list(range(n)) and found.partner.shape == (n, 2) and (found.partner == -1).all()
