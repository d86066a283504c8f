import re

import numpy as np
import pytest

from umbel.data.corpus.statistics import StatisticsBuilder
from umbel.genome.fasta import read_pieces


def statistics(folder, sequences, piece_bp):
    path = folder / "a.fa"
    path.write_text("".join(f">c{number}\n{sequence}\n" for number, sequence in enumerate(sequences)))
    builder = StatisticsBuilder()
    for piece in read_pieces(path, piece_bp):
        builder.add(piece)
    return builder.result()


def n50(lengths):
    """The definition, length by length."""
    for length in sorted(lengths, reverse=True):
        if 2 * sum(other for other in lengths if other >= length) >= sum(lengths):
            return length
    return 0


def plain(sequences):
    text = "".join(sequences)
    upper = text.upper()
    unknown = re.compile("[^ACGT]{10,}")
    contigs = [len(part) for sequence in sequences for part in unknown.split(sequence.upper()) if part]
    scaffolds = [len(sequence) for sequence in sequences]
    known = sum(letter in "ACGT" for letter in upper)
    return {
        "n_bases": len(text),
        "n_contigs": len(sequences),
        "scaffold_n50": n50(scaffolds),
        "contig_n50": n50(contigs),
        "scaffold_aun": sum(n * n for n in scaffolds) / sum(scaffolds),
        "contig_aun": sum(n * n for n in contigs) / sum(contigs) if contigs else 0,
        "n_frac": 1 - known / len(text),
        "gc_frac": sum(letter in "GC" for letter in upper) / known if known else 0,
        "soft_masked_frac": sum(letter.islower() for letter in text) / len(text),
        "n_gaps": sum(len(unknown.findall(sequence.upper())) for sequence in sequences),
    }


@pytest.mark.parametrize("piece_bp", [1, 2, 7, 10, 33, 1 << 24])
def test_they_agree_with_counting_letters_however_the_pieces_are_cut(tmp_path, piece_bp):
    rng = np.random.default_rng(piece_bp)
    for _ in range(12):
        sequences = []
        for _ in range(rng.integers(1, 5)):
            parts = []
            for _ in range(rng.integers(1, 6)):
                parts.append("".join(rng.choice(list("ACGTacgtG"), rng.integers(0, 50))))
                parts.append("".join(rng.choice(list("NNNNnR"), rng.choice([0, 1, 9, 10, 11, 25]))))
            sequences.append("".join(parts) or "A")
        assert vars(statistics(tmp_path, sequences, piece_bp)) == pytest.approx(plain(sequences))


def test_they_are_what_was_counted_by_hand(tmp_path):
    # Contigs of 4, 6, 10 and 2, because a run of 9 N divides nothing; 10 alone is less than half of 22.
    found = statistics(tmp_path, ["GGCA" + "N" * 10 + "aattgg", "N" * 9 + "A", "CC"], 5)
    assert (found.n_bases, found.n_contigs, found.n_gaps) == (32, 3, 1)
    assert (found.scaffold_n50, found.contig_n50) == (20, 6)
    assert found.contig_aun == pytest.approx((16 + 36 + 100 + 4) / 22)
    assert (found.gc_frac, found.n_frac, found.soft_masked_frac) == pytest.approx((7 / 13, 19 / 32, 6 / 32))


def test_an_assembly_of_n_alone_has_no_contigs(tmp_path):
    found = statistics(tmp_path, ["N" * 40], 7)
    assert (found.scaffold_n50, found.contig_n50, found.contig_aun, found.gc_frac, found.n_gaps) == (40, 0, 0, 0, 1)


def test_half_of_all_bases_is_enough_for_n50(tmp_path):
    assert statistics(tmp_path, ["A" * 5, "A" * 3, "A" * 2], 100).scaffold_n50 == 5
    assert statistics(tmp_path, ["A" * 4, "A" * 3, "A" * 3], 100).scaffold_n50 == 3
