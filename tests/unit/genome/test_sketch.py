"""Sketches against a plain loop over strings, and the properties that make them sketches."""

import numpy as np
import pytest

from umbel.genome.sequence import decode, encode, revcomp
from umbel.genome.sketch import max_hash, sketch

M64 = 2**64 - 1


def plain_hash(kmer):
    """Hash of the canonical form of a k-mer, in Python integers."""
    other = kmer[::-1].translate(str.maketrans("ACGT", "TGCA"))
    x = min(int("".join(str("ACGT".index(base)) for base in word), 4) for word in (kmer, other))
    x = (x + 0x9E3779B97F4A7C15) & M64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & M64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & M64
    return x ^ (x >> 31)


def plain_sketch(text, k, scaled):
    found = [(plain_hash(text[i : i + k]), i) for i in range(len(text) - k + 1) if "N" not in text[i : i + k]]
    return [(h, i) for h, i in found if h <= 2**64 // scaled - 1]


def random_codes(length, seed=0, n_frac=0.0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, length).astype(np.uint8)
    codes[rng.random(length) < n_frac] = 4
    return codes


@pytest.mark.parametrize("k", [1, 2, 11, 16, 21, 31])
@pytest.mark.parametrize("scaled", [1, 3, 64])
def test_sketch_is_that_of_a_plain_loop(k, scaled):
    codes = random_codes(1500, seed=k, n_frac=0.01)
    hashes, positions = sketch(codes, k, scaled)
    assert list(zip(hashes.tolist(), positions.tolist(), strict=True)) == plain_sketch(decode(codes), k, scaled)


def test_the_other_strand_gives_the_same_hashes_mirrored():
    codes = random_codes(20_000, n_frac=0.001)
    hashes, positions = sketch(codes, 21, 7)
    other, other_positions = sketch(revcomp(codes), 21, 7)
    assert other[::-1].tolist() == hashes.tolist()
    assert (len(codes) - 21 - other_positions[::-1]).tolist() == positions.tolist()


def test_one_in_scaled_is_kept():
    hashes, _ = sketch(random_codes(1_000_000), 31, 64)
    assert abs(len(hashes) - 1_000_000 / 64) < 5 * (1_000_000 / 64) ** 0.5
    assert hashes.max() <= max_hash(64)


def test_a_sketch_of_a_repeated_motif_outgrows_what_was_expected():
    most = 0
    for motif in ("A", "ACCTGAA", "ACGGT", "TTAGGG"):
        text = (motif * 2000)[:2000]
        for k in (5, 8, 21):
            hashes, positions = sketch(encode(text.encode())[0], k, 4)
            assert list(zip(hashes.tolist(), positions.tolist(), strict=True)) == plain_sketch(text, k, 4)
            most = max(most, len(hashes))
    assert most > 900


def test_the_soft_bit_of_nibbles_plays_no_part():
    codes = random_codes(5000, n_frac=0.01)
    nibbles = codes | (np.arange(5000) % 3 == 0).astype(np.uint8) << 3
    assert [part.tolist() for part in sketch(nibbles, 21, 4)] == [part.tolist() for part in sketch(codes, 21, 4)]


def test_short_and_empty_sequences_have_no_kmer():
    assert len(sketch(random_codes(20), 21, 1)[0]) == 0
    assert len(sketch(random_codes(0), 21, 1)[0]) == 0
    assert len(sketch(random_codes(21), 21, 1)[0]) == 1


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="k is 32: give 1 to 31"):
        sketch(random_codes(50), 32, 1)
    with pytest.raises(ValueError, match="scaled is 0: give at least 1"):
        sketch(random_codes(50), 21, 0)
