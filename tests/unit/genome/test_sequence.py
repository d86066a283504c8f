import numpy as np
import pytest

from umbel.genome import sequence
from umbel.genome.sequence import decode, encode, first_refused, pack, revcomp, unpack

LETTERS = "ACGTNacgtnRYSWKMBDHVUryswkmbdhvu"


def test_encode_agrees_with_a_plain_loop():
    codes, soft_mask, letters = encode(LETTERS.encode())
    plain = ["ACGT".index(letter) if letter in "ACGT" else 4 for letter in LETTERS.upper()]
    assert codes.tolist() == plain
    assert soft_mask.tolist() == [letter.islower() for letter in LETTERS]
    assert letters == {letter: 2 for letter in sorted("NRYSWKMBDHVU")}


@pytest.mark.parametrize("letter", "EFILPQZJOXeqx*-.?@ 19\n")
def test_letters_that_are_no_nucleotides_are_refused(letter):
    with pytest.raises(ValueError, match=r"at position 3 is no nucleotide letter"):
        encode(f"AC{letter}GT".encode())
    assert first_refused(f"AC{letter}GT".encode()) == 2


def test_every_byte_is_either_iupac_or_refused():
    accepted = {value for value in range(256) if first_refused(bytes([value])) == -1}
    assert accepted == {ord(letter) for letter in sequence.IUPAC + sequence.IUPAC.lower()}


def test_an_empty_sequence_is_fine_everywhere():
    codes, soft_mask, letters = encode(b"")
    assert (len(codes), len(soft_mask), letters) == (0, 0, {})
    assert decode(codes, soft_mask) == ""
    assert len(pack(codes, soft_mask)) == 0
    assert len(unpack(pack(codes, soft_mask), 0, 0)[0]) == 0


def test_revcomp_agrees_with_translating_text():
    text = "ACGTNAAGC"
    assert decode(revcomp(encode(text.encode())[0])) == text.translate(str.maketrans("ACGT", "TGCA"))[::-1]
    rows = np.stack([encode(b"AAC")[0], encode(b"GTN")[0]])
    assert [decode(row) for row in revcomp(rows)] == ["GTT", "NAC"]


def test_strand_words_mean_three_different_things():
    codes = encode(b"AACG")[0]
    assert decode(sequence.reverse(codes)) == "GCAA"
    assert decode(sequence.complement(codes)) == "TTGC"
    assert decode(revcomp(codes)) == "CGTT"


def test_nibbles_are_low_first_and_hold_the_mask_in_bit_3():
    codes, soft_mask, _ = encode(b"CtN")
    assert pack(codes, soft_mask).tolist() == [1 | (3 | 8) << 4, 4]


def test_unpack_refuses_what_is_outside():
    packed = pack(*encode(b"ACGT")[:2])
    for start, end in ((-1, 2), (3, 2), (0, 5)):
        with pytest.raises(ValueError, match="are not inside 0 to 4"):
            unpack(packed, start, end)


def test_pack_refuses_arrays_of_different_length():
    with pytest.raises(ValueError, match="differ in length"):
        pack(np.zeros(3, np.uint8), np.zeros(2, bool))
