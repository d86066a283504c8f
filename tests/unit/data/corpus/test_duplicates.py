"""Planted copies are found, random sequence is not merged, and what is left out has a copy that stays."""

import numpy as np
import pytest
from packed import mutated, random_bases, write_packed

from umbel.data.corpus.arrays import ArrayFile
from umbel.data.corpus.duplicates import (
    NO_ROLE,
    TEST,
    TRAIN,
    UNIQUE,
    VALID,
    CopyRule,
    clusters,
    containment_of_ani,
    find_leaks,
    keep_best,
)
from umbel.data.corpus.joins import JoinJob, JudgeJob, Pairs, ReduceJob, join_partition, judge_segments, load_pairs
from umbel.data.corpus.joins import reduce_pairs as reduce_some
from umbel.data.corpus.sketches import SketchJob, segment_starts, sketch_assembly
from umbel.genome.sequence import revcomp

K, SCALED = 21, 64
RULE = CopyRule(containment_of_ani(0.95, K), 16)


def compare(folder, assemblies, segment_bp, n_partitions=2):
    """Pairs, judged hashes, and (assembly, contig, start, end) of every segment."""
    made, spans = [], []
    for number, contigs in enumerate(assemblies):
        packed = write_packed(folder / f"{number}.nibbles", contigs, f"toy{number}")
        made.append(folder / f"{number}.sketch")
        sketch_assembly(SketchJob(packed, made[-1], K, SCALED, segment_bp, n_partitions))
        for contig, codes in enumerate(contigs):
            starts = segment_starts(len(codes), segment_bp).tolist()
            ends = [*starts[1:], len(codes)]
            spans += [(number, contig, start, end) for start, end in zip(starts, ends, strict=True)]
    joined = tuple(folder / f"{number}.pairs" for number in range(n_partitions))
    for number, path in enumerate(joined):
        join_partition(JoinJob(tuple(made), number, 50, path))
    judge_segments(JudgeJob(tuple(made), joined, folder / "segments"))
    judged = ArrayFile(folder / "segments").read("judged")
    rule = (RULE.min_share, RULE.min_hashes)
    reduce_some(ReduceJob(joined, folder / "segments", 0, len(judged), *rule, folder / "reduced"))
    return load_pairs([folder / "reduced"]), judged, np.array(spans)


def touching(spans, assembly, contig, start, end):
    """Segments that a stretch touches."""
    a, c, s, e = spans.T
    return np.flatnonzero((a == assembly) & (c == contig) & (s < end) & (e > start))


def plant(segment_bp, stretch_bp, on_grid, seed, n_copies=300):
    """Two assemblies: one random, one of copies of its stretches between random sequence, and what was planted."""
    rng = np.random.default_rng(seed)
    source = [random_bases(length, seed + i) for i, length in enumerate((1_500_000, 800_000, 700_001))]
    target, planted = [[], []], []
    lengths = [0, 0]
    for number in range(n_copies):
        contig = int(rng.integers(3))
        start = int(rng.integers(len(source[contig]) - 2 * stretch_bp))
        start -= start % segment_bp if on_grid else 0
        codes = mutated(source[contig][start : start + stretch_bp], rng.uniform(0, 0.03), seed + number)
        codes = revcomp(codes) if number % 2 else codes
        spacer = random_bases(int(rng.integers(500, 4000)), seed + 10_000 + number)
        to = number % 5 == 0
        begin = lengths[to] + len(spacer)
        planted.append(((0, contig, start, start + stretch_bp), (1, int(to), begin, begin + stretch_bp)))
        target[to] += [spacer, codes]
        lengths[to] = begin + stretch_bp
    ends = [random_bases(30_000, seed + 20_000), random_bases(20_000, seed + 20_001)]
    return [source, [np.concatenate([*parts, end]) for parts, end in zip(target, ends, strict=True)]], planted


@pytest.mark.parametrize(("segment_bp", "on_grid"), [(8192, True), (4096, False)])
def test_planted_copies_are_found_and_nothing_else(tmp_path, segment_bp, on_grid):
    """A segment copied to any place; or 8 kb from any place to any place, with segments of half that."""
    assemblies, planted = plant(segment_bp, 8192, on_grid, seed=1)
    pairs, judged, spans = compare(tmp_path, assemblies, segment_bp)
    cluster = clusters(pairs, judged, RULE)
    found, may_merge = 0, np.zeros(len(spans), bool)
    for source, target in planted:
        here, there = touching(spans, *source), touching(spans, *target)
        found += bool(set(cluster[here]) & set(cluster[there]) - {UNIQUE})
        may_merge[here] = may_merge[there] = True
    assert found >= 0.99 * len(planted)
    assert (~may_merge).sum() > 100
    assert (cluster[~may_merge] == UNIQUE).all()


def test_random_sequence_is_not_merged(tmp_path):
    assemblies = [[random_bases(2_000_000, 1), random_bases(999_999, 2)], [random_bases(2_000_000, 3)]]
    pairs, judged, _ = compare(tmp_path, assemblies, 1024)
    rule = CopyRule(RULE.min_share, 4)
    assert rule.is_judged(judged).mean() > 0.99
    assert (clusters(pairs, judged, rule) != UNIQUE).mean() < 0.001


def test_of_an_accession_and_its_copy_one_stays_whole(tmp_path):
    """With 1 % of substitutions and an insertion, every inner segment of the worse one goes, and none of the better."""
    better = random_bases(200_000, 1)
    worse = mutated(
        np.concatenate((random_bases(3000, 2), better[:90_000], random_bases(500, 3), better[90_000:])), 0.01
    )
    pairs, judged, spans = compare(tmp_path, [[worse], [better]], 8192)
    copy_of = keep_best(pairs, judged, RULE, np.where(spans[:, 0] == 0, 1, 0), np.zeros(len(spans), int))
    assert (copy_of[spans[:, 0] == 1] == UNIQUE).all()
    assert (copy_of[spans[:, 0] == 0] != UNIQUE).all()
    # What each is said to be a copy of lies where it must.
    for segment, (_, _, start, end) in enumerate(spans):
        if copy_of[segment] != UNIQUE:
            shift = 3000 if start < 90_000 else 3500
            assert abs(spans[copy_of[segment]][2] - (start - shift)) <= 8192 + (end - start) / 2


def random_pairs(rng, n=60):
    """Pairs of made-up segments on contigs of 5, with sets of hashes behind them."""
    has_next = np.arange(n) % 5 != 4
    sets = [set(rng.choice(400, rng.integers(10, 60), replace=False).tolist()) for _ in range(n)]
    for segment in rng.choice(n, 25, replace=False):
        half = set(sorted(sets[rng.integers(n)])[: rng.integers(5, 40)])
        sets[segment] |= half
    rows = []
    for s in range(n):
        for t in range(n):
            behind = sets[t + 1] if has_next[t] and t + 1 != s else set()
            if s != t and sets[s] & sets[t]:
                rows.append((s, t, len(sets[s] & sets[t]), len(sets[s] & behind), len(sets[s] & sets[t] & behind)))
    columns = np.array(rows, np.uint32).T
    return Pairs(*columns), np.array([len(found) for found in sets], np.uint32), sets, has_next


@pytest.mark.parametrize("seed", range(6))
def test_keep_best_leaves_out_what_the_kept_hold_and_nothing_else(seed):
    rng = np.random.default_rng(seed)
    pairs, judged, sets, has_next = random_pairs(rng)
    rank, group = rng.integers(0, 8, len(sets)), rng.choice([-1, 0, 1], len(sets), p=[0.1, 0.7, 0.2])
    rule = CopyRule(0.35, 15)
    copy_of = keep_best(pairs, judged, rule, rank, group)
    kept = (copy_of == UNIQUE) & (group >= 0)
    for s in range(len(sets)):
        if group[s] < 0 or judged[s] < 15:
            assert copy_of[s] == UNIQUE
            continue
        before = [t for t in range(len(sets)) if kept[t] and group[t] == group[s] and (rank[t], t) < (rank[s], s)]
        held = 0
        for t in before:
            behind = sets[t + 1] if has_next[t] and t + 1 in before else set()
            held = max(held, len(sets[s] & (sets[t] | behind)))
        assert (copy_of[s] != UNIQUE) == (held >= 0.35 * len(sets[s]))
        if copy_of[s] != UNIQUE:
            assert copy_of[s] in before
    assert 3 < (copy_of != UNIQUE).sum() < len(sets) - 10


@pytest.mark.parametrize("seed", range(4))
def test_clusters_are_the_connected_parts(seed):
    pairs, judged, sets, has_next = random_pairs(np.random.default_rng(seed))
    rule = CopyRule(0.55, 15)
    near = {s: {s} for s in range(len(sets))}
    for s in range(len(sets)):
        for t in range(len(sets)):
            if t == s or len(sets[s]) < 15:
                continue
            parts = [t] + [t + 1] * bool(has_next[t] and t + 1 != s)
            if len(sets[s] & set().union(*(sets[part] for part in parts))) >= 0.55 * len(sets[s]):
                for part in parts:
                    if len(sets[s] & sets[part]) >= 0.25 * 0.55 * len(sets[s]):
                        near[s].add(part)
                        near[part].add(s)
    wanted = []
    for s in range(len(sets)):
        reached, waiting = set(), {s}
        while waiting:
            reached |= waiting
            waiting = set().union(*(near[x] for x in waiting)) - reached
        wanted.append(min(reached) if len(reached) > 1 else UNIQUE)
    assert clusters(pairs, judged, rule).tolist() == wanted
    assert len(set(wanted)) > 2


def test_leaks_are_of_the_role_that_comes_later():
    cluster = np.array([0, 0, 0, 0, 4, 4, 6, 6, 6, UNIQUE, UNIQUE])
    role = np.array([TRAIN, VALID, TEST, NO_ROLE, TRAIN, NO_ROLE, VALID, TRAIN, TRAIN, TRAIN, TEST])
    assert np.flatnonzero(find_leaks(cluster, role)).tolist() == [0, 1, 7, 8]
    # Once they have no role, nothing leaks.
    role[find_leaks(cluster, role)] = NO_ROLE
    assert not find_leaks(cluster, role).any()


def test_without_copies_nothing_happens():
    none = Pairs(*(np.empty(0, np.uint32) for _ in range(5)))
    judged = np.full(4, 100, np.uint32)
    assert clusters(none, judged, RULE).tolist() == [UNIQUE] * 4
    assert keep_best(none, judged, RULE, np.zeros(4), np.zeros(4, int)).tolist() == [UNIQUE] * 4


def test_containment_follows_ani(tmp_path):
    """Containment of a mutated segment is (1 - d)^k within its sampling error, reverse complement or not."""
    for number, d in enumerate((0.01, 0.03)):
        folder = tmp_path / str(number)
        folder.mkdir()
        source = random_bases(30 * 8192, number)
        copy = revcomp(mutated(source, d, number))
        pairs, judged, _ = compare(folder, [[source], [np.concatenate((random_bases(3333, 9), copy))]], 8192)
        best = np.zeros(30)
        ours = pairs.s < 30
        np.maximum.at(best, pairs.s[ours], pairs.union[ours] / judged[pairs.s[ours]])
        assert abs(best.mean() - containment_of_ani(1 - d, K)) < 0.03
