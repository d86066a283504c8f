"""Joins of sketches against sets in plain Python, and that nothing but the sketches decides them."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from packed import mutated, random_bases, write_packed

from umbel.data.corpus import joins, sketches
from umbel.data.corpus.arrays import ArrayFile
from umbel.data.corpus.joins import (
    JoinJob,
    JudgeJob,
    ReduceJob,
    first_segments,
    join_partition,
    judge_segments,
    load_pairs,
    plan_ranges,
    reduce_pairs,
    sort_rows,
)
from umbel.data.corpus.sketches import SketchJob, segment_starts, sketch_assembly
from umbel.errors import CorpusError
from umbel.genome.sequence import revcomp
from umbel.genome.sketch import sketch

K, SCALED, SEGMENT = 11, 4, 256


def assemblies_of_toys():
    """Three assemblies with copies of all kinds: aligned, shifted, reversed, in tandem, many times."""
    source, motif = random_bases(2200, 1), random_bases(60, 2)
    first = [source, random_bases(300, 3)]
    second = [
        np.concatenate((random_bases(77, 4), mutated(source[300:1500], 0.02, 5), random_bases(500, 6))),
        revcomp(mutated(source[700:1900], 0.01, 7)),
        random_bases(60, 8),
    ]
    tandem = np.tile(random_bases(256, 9), 4)
    third = [tandem, np.concatenate([np.concatenate((motif, random_bases(200, 20 + i))) for i in range(12)])]
    return [first, second, third]


def run(folder, assemblies, n_partitions=2, memory_bytes=1 << 20, max_copies=6, min_share=0.0, n_ranges=None):
    """All stages after each other; gives the pairs and the judged hashes."""
    folder.mkdir()
    made = []
    for number, contigs in enumerate(assemblies):
        packed = write_packed(folder / f"{number}.nibbles", contigs, f"toy{number}")
        job = SketchJob(packed, folder / f"{number}.sketch", K, SCALED, SEGMENT, n_partitions)
        sketch_assembly(replace(job, memory_bytes=memory_bytes))
        made.append(job.out)
    joined = [folder / f"{number}.pairs" for number in range(n_partitions)]
    told = [
        join_partition(JoinJob(tuple(made), number, max_copies, path, memory_bytes))
        for number, path in enumerate(joined)
    ]
    segments = folder / "segments"
    judge_segments(JudgeJob(tuple(made), tuple(joined), segments))
    judged = ArrayFile(segments).read("judged")
    ranges = plan_ranges(joined, len(judged), memory_bytes)
    if n_ranges:
        edges = np.linspace(0, len(judged), n_ranges + 1).astype(int).tolist()
        ranges = list(pairwise(edges))
    reduced = [folder / f"{first}.reduced" for first, _ in ranges]
    for (first, last), out in zip(ranges, reduced, strict=True):
        reduce_pairs(ReduceJob(tuple(joined), segments, first, last, min_share, 4, out))
    return load_pairs(reduced), judged, told


def plain(assemblies, max_copies):
    """Sets of hashes of each segment without the dropped ones, and which segments have one behind them."""
    found, has_next = [], []
    for codes in (codes for contigs in assemblies for codes in contigs):
        starts = segment_starts(len(codes), SEGMENT)
        sets = [set() for _ in starts]
        for hashed, position in zip(*sketch(codes, K, SCALED), strict=True):
            sets[int(np.searchsorted(starts, position, side="right")) - 1].add(int(hashed))
        found += sets
        has_next += [True] * (len(sets) - 1) + [False]
    copies = {}
    for hashes in found:
        for hashed in hashes:
            copies[hashed] = copies.get(hashed, 0) + 1
    return [{hashed for hashed in hashes if copies[hashed] <= max_copies} for hashes in found], has_next


@pytest.fixture(scope="module")
def toys():
    return assemblies_of_toys()


@pytest.mark.parametrize("max_copies", [3, 6, 100])
def test_shared_hashes_are_those_of_plain_sets(toys, tmp_path, max_copies):
    pairs, judged, told = run(tmp_path / "a", toys, max_copies=max_copies)
    sets, has_next = plain(toys, max_copies)
    assert judged.tolist() == [len(hashes) for hashes in sets]
    wanted = []
    for s, ours in enumerate(sets):
        for t, theirs in enumerate(sets):
            if s != t and ours & theirs and len(ours) >= 4:
                behind = sets[t + 1] if has_next[t] and t + 1 != s else set()
                wanted.append((s, t, len(ours & theirs), len(ours & behind), len(ours & theirs & behind)))
    assert list(zip(*(column.tolist() for column in pairs), strict=True)) == wanted
    assert any(row[4] for row in wanted) or max_copies == 3
    unions = [len(sets[s] & (sets[t] | (sets[t + 1] if has_next[t] and t + 1 != s else set()))) for s, t, *_ in wanted]
    assert pairs.union.tolist() == unions
    assert sum(part["n_dropped"] for part in told) > 0 or max_copies == 100


def test_partitions_memory_and_ranges_change_nothing(toys, tmp_path, monkeypatch):
    wanted, wanted_judged, _ = run(tmp_path / "a", toys)
    monkeypatch.setattr(sketches, "_FEWEST_ROWS", 50)
    for number, (n_partitions, memory_bytes, n_ranges) in enumerate([(1, 1, None), (7, 1, 5), (7, 4000, 17)]):
        found, judged, _ = run(tmp_path / f"b{number}", toys, n_partitions, memory_bytes, n_ranges=n_ranges)
        assert judged.tolist() == wanted_judged.tolist()
        assert [column.tolist() for column in found] == [column.tolist() for column in wanted]
    # Little memory did make more runs, and ranges.
    assert ArrayFile(tmp_path / "b0" / "0.pairs").facts["n_runs"] > 3
    assert len(list((tmp_path / "b0").glob("*.reduced"))) > 3


def test_jobs_done_again_leave_the_same_bytes(toys, tmp_path):
    run(tmp_path / "a", toys)
    run(tmp_path / "b", toys)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_pairs_with_little_in_common_are_left_out(toys, tmp_path):
    pairs, judged, _ = run(tmp_path / "a", toys)
    few, _, _ = run(tmp_path / "b", toys, min_share=0.3)
    is_kept = pairs.union >= 0.3 * judged[pairs.s]
    assert 0 < is_kept.sum() < len(is_kept)
    assert [column.tolist() for column in few] == [column[is_kept].tolist() for column in pairs]


def test_a_motif_500_times_does_not_blow_up_the_join(tmp_path):
    motif = random_bases(2000, 1)
    genome = np.concatenate([np.concatenate((motif, random_bases(100, i))) for i in range(500)])
    _, judged, told = run(tmp_path / "a", [[genome]], 1, max_copies=50)
    assert told[0]["n_dropped"] > 400
    # 500 kept hashes in some 4000 segments would be millions of pairs.
    assert told[0]["n_pairs"] < 200_000
    assert len(judged) == len(genome) // SEGMENT + 1 or len(judged) == len(genome) // SEGMENT


def test_rows_are_sorted_by_key_and_stay_in_order():
    rng = np.random.default_rng(0)
    for width in (1, 5, 2**11, 2**40 + 7, 2**58):
        lowest = 3 * width
        keys = rng.integers(lowest, min(lowest + width, lowest + 1000 if width == 5 else lowest + width), 5000)
        keys = keys.astype(np.uint64)
        values = np.arange(5000, dtype=np.uint32)
        order = np.argsort(keys, kind="stable")
        found = sort_rows(keys.copy(), values.copy(), lowest, width)
        assert found[0].tolist() == keys[order].tolist()
        assert found[1].tolist() == values[order].tolist()


def test_too_many_segments_are_refused():
    class Large:
        n_segments = 2**30

    assert first_segments([Large()])[-1] == 2**30
    with pytest.raises(CorpusError, match=r"there are 2147483648 segments, at most 2147483647 can be compared"):
        first_segments([Large(), Large()])


def test_no_segments_in_common_is_no_pair(tmp_path):
    pairs, judged, _ = run(tmp_path / "a", [[random_bases(300, 1)], [random_bases(10, 2)]])
    assert len(pairs.s) == 0 and len(judged) == 2
    assert joins.plan_ranges([tmp_path / "a" / "0.pairs"], 2, 1) == [(0, 2)]
