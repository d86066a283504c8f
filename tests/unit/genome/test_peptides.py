import numpy as np
import pytest

from umbel.genome.genetic_code import genetic_code
from umbel.genome.peptides import LENGTH, MIN_KINDS, peptide_seeds
from umbel.genome.sequence import N, revcomp

RNG = np.random.default_rng(0)


def peptides_by_hand(codes):
    """Every peptide with its place, by translating each slice of 30 bases and of its reverse complement."""
    code, found = genetic_code(1), []
    for start in range(len(codes) - 3 * LENGTH + 1):
        piece = codes[start : start + 3 * LENGTH]
        for strand in (piece, revcomp(piece)):
            text = code.translate(strand)
            if "*" not in text and "X" not in text and len(set(text)) >= MIN_KINDS:
                found.append((text, start))
    return found


def test_seeds_are_the_peptides_of_all_six_frames():
    codes = RNG.integers(0, 4, 3_000).astype(np.uint8)
    codes[500:503] = N
    codes[1000:1060] = np.tile([0, 1, 2], 20)
    by_hand = peptides_by_hand(codes)
    seeds, places = peptide_seeds(codes, 1)
    assert places.tolist() == [start for _, start in by_hand]
    # Equal seeds where, and only where, the peptides are equal.
    number = {text: i for i, text in enumerate(dict.fromkeys(text for text, _ in by_hand))}
    first = {seed: i for i, seed in enumerate(dict.fromkeys(seeds.tolist()))}
    assert [number[text] for text, _ in by_hand] == [first[seed] for seed in seeds.tolist()]


def test_one_in_so_many_is_kept_and_the_same_ones_everywhere():
    codes = RNG.integers(0, 4, 40_000).astype(np.uint8)
    every, some = set(peptide_seeds(codes, 1)[0].tolist()), set(peptide_seeds(codes, 5)[0].tolist())
    assert some < every
    assert 0.18 < len(some) / len(every) < 0.22
    inside = set(peptide_seeds(codes[10_000:20_000], 5)[0].tolist())
    assert inside == some & set(peptide_seeds(codes[10_000:20_000], 1)[0].tolist())


@pytest.mark.parametrize("length", [0, 1, 29])
def test_what_is_too_short_has_none(length):
    seeds, places = peptide_seeds(np.zeros(length, np.uint8))
    assert len(seeds) == len(places) == 0


def test_one_in_below_one_is_refused():
    with pytest.raises(ValueError, match="one_in is 0; it must be 1 or more"):
        peptide_seeds(np.zeros(40, np.uint8), 0)
