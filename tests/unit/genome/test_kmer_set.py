"""Sets of k-mers against Python sets, piece by piece or whole."""

import numpy as np
import pytest

from umbel.genome import kmer_set
from umbel.genome.kmer_set import KmerSet
from umbel.genome.sequence import revcomp
from umbel.genome.sketch import mix, sketch


def bases(length, seed, n_frac=0.002):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, length).astype(np.uint8)
    codes[rng.random(length) < n_frac] = 4
    return codes


def made(codes, k, scaled=1):
    return KmerSet(np.unique(sketch(codes, k, scaled)[0]), k, scaled)


def mosaic(source, seed):
    """A sequence with stretches of another one in it, on both strands."""
    rng = np.random.default_rng(seed)
    parts = []
    for number in range(12):
        start = int(rng.integers(len(source) - 200))
        part = source[start : start + int(rng.integers(20, 200))]
        parts += [bases(int(rng.integers(1, 120)), seed + number), revcomp(part) if number % 2 else part]
    return np.concatenate(parts)


def plain_runs(codes, kmers, k, gap_bp):
    members = set(kmers.hashes.tolist())
    covered = [(int(p), int(p) + k) for h, p in zip(*sketch(codes, k, kmers.scaled), strict=True) if int(h) in members]
    runs = []
    for start, end in covered:
        if runs and start - runs[-1][1] < max(gap_bp, 1):
            runs[-1][1] = end
        else:
            runs.append([start, end])
    return runs


@pytest.mark.parametrize("scaled", [1, 4])
@pytest.mark.parametrize("gap_bp", [0, 1, 2, 30])
def test_runs_and_counts_are_those_of_a_plain_loop(gap_bp, scaled):
    source = bases(3000, 1)
    kmers = made(source, 17, scaled)
    for seed in range(5):
        codes = mosaic(source, 100 * seed)
        wanted = plain_runs(codes, kmers, 17, gap_bp)
        assert len(wanted) > 5 and kmers.runs(codes, gap_bp).tolist() == wanted
        asked = sketch(codes, 17, scaled)[0].tolist()
        members = set(kmers.hashes.tolist())
        assert kmers.count(codes) == (sum(hashed in members for hashed in asked), len(asked))


@pytest.mark.parametrize("piece_bp", [1, 7, 100, 5000])
def test_pieces_give_the_runs_of_the_whole(piece_bp):
    source = bases(2000, 1)
    kmers = made(source, 21)
    codes = mosaic(source, 9)
    pieces = ((start, codes[start : start + piece_bp + 20]) for start in range(0, len(codes), piece_bp))
    assert kmers.runs_of_pieces(pieces, 25).tolist() == kmers.runs(codes, 25).tolist()


def test_every_member_is_found_and_no_other_however_full_the_table():
    codes = bases(60_000, 3, n_frac=0)
    kmers = made(codes, 25)
    assert kmers.count(codes) == (60_000 - 24, 60_000 - 24)
    assert kmers.count(bases(60_000, 4, n_frac=0)) == (0, 60_000 - 24)
    # Hashes that crowd in one place, the last of which must go on at the front.
    crowded = np.arange(2**64 - 60, 2**64 - 1, 2, dtype=np.uint64)
    table = KmerSet(crowded, 31)._table
    assert set(table.tolist()) - {int(kmer_set._FREE)} == set(crowded.tolist())
    is_in, waiting = np.zeros(59, bool), np.zeros(59, np.int64)
    kmer_set._ask_block(np.arange(2**64 - 60, 2**64 - 1, dtype=np.uint64), 59, table, np.uint64(1), waiting, is_in)
    assert is_in.tolist() == [i % 2 == 0 for i in range(59)]


def test_what_marks_a_free_slot_is_no_hash_of_a_kmer():
    assert int(mix(np.uint64(2**63))) == int(kmer_set._FREE)


def test_an_empty_set_is_nowhere():
    kmers = KmerSet(np.empty(0, np.uint64), 21)
    assert kmers.runs(bases(500, 1)).shape == (0, 2)
    assert kmers.count(bases(500, 1, n_frac=0)) == (0, 480)


def test_hashes_that_do_not_ascend_are_refused():
    with pytest.raises(ValueError, match="hashes must ascend, each once"):
        KmerSet(np.array([3, 3], np.uint64), 21)
