import struct

import numpy as np
import pytest
from toys import fasta_text, toy_sequences

from umbel.errors import FastaError
from umbel.genome.fasta import read_fasta, read_pieces
from umbel.genome.sequence import decode


def runs(sequence, is_in):
    """Start and length of the runs of letters for which ``is_in`` holds."""
    found, start = [], None
    for place, letter in enumerate([*sequence, ""]):
        inside = bool(letter) and is_in(letter)
        if inside and start is None:
            start = place
        if not inside and start is not None:
            found.append((start, place - start))
            start = None
    return found


def twobit(sequences, order="<", version=0):
    """2bit as UCSC describes it, written with plain loops; letters but A, C, G and T become N."""
    records = []
    for sequence in sequences.values():
        record = struct.pack(f"{order}I", len(sequence))
        for is_in in (lambda letter: letter.upper() not in "ACGT", str.islower):
            blocks = runs(sequence, is_in)
            record += struct.pack(f"{order}I", len(blocks))
            for column in (0, 1):
                record += b"".join(struct.pack(f"{order}I", block[column]) for block in blocks)
        record += struct.pack(f"{order}I", 0)
        for start in range(0, len(sequence), 4):
            byte = 0
            for letter in sequence[start : start + 4].ljust(4, "T"):
                byte = byte << 2 | {"T": 0, "C": 1, "A": 2, "G": 3}.get(letter.upper(), 0)
            record += bytes([byte])
        records.append(record)
    offset = 16 + sum(5 + len(name) for name in sequences)
    index = b""
    for name, record in zip(sequences, records, strict=True):
        index += bytes([len(name)]) + name.encode() + struct.pack(f"{order}I", offset)
        offset += len(record)
    return struct.pack(f"{order}4I", 0x1A412743, version, len(sequences), 0) + index + b"".join(records)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("piece_bp", [1, 3, 64, 1001, 1 << 24])
def test_it_says_the_same_as_the_fasta_it_was_made_from(tmp_path, order, piece_bp):
    # Letters other than N are lost in this format.
    sequences = {name: text.translate(str.maketrans("RYKU", "NNNN")) for name, text in toy_sequences().items()}
    if piece_bp < 64:
        sequences = {name: text[1150:1700] for name, text in sequences.items()}
    # Neither name tells what is inside.
    (tmp_path / "a.2bit").write_text(fasta_text(sequences))
    (tmp_path / "a.fa").write_bytes(twobit(sequences, order))
    ours, other = (list(read_pieces(tmp_path / name, piece_bp)) for name in ("a.fa", "a.2bit"))
    assert len(ours) == len(other)
    for one, two in zip(ours, other, strict=True):
        assert (one.name, one.start, one.end, one.is_last, one.letters) == (
            two.name,
            two.start,
            two.end,
            two.is_last,
            two.letters,
        )
        assert (one.codes == two.codes).all() and (one.soft_mask == two.soft_mask).all()
        assert one.codes.dtype == np.uint8 and one.soft_mask.dtype == bool
        assert one.line == 0


def test_bytes_counted_by_hand_are_read(tmp_path):
    # TCAG is 00 01 10 11; A alone is 10 in the highest bits; N from 1 to 3, lower case from 2 to 4.
    data = struct.pack("<4I", 0x1A412743, 0, 1, 0) + b"\x01x" + struct.pack("<I", 22)
    data += struct.pack("<8I", 5, 1, 1, 2, 1, 2, 2, 0) + bytes([0b00011011, 0b10000000])
    (tmp_path / "x").write_bytes(data)
    (record,) = read_fasta(tmp_path / "x")
    assert decode(record.codes, record.soft_mask) == "TNngA"
    assert (record.name, record.letters) == ("x", {"N": 2})


def test_the_bytes_told_add_up_to_the_size_of_the_file(tmp_path):
    (tmp_path / "x").write_bytes(twobit(toy_sequences()))
    told = []
    list(read_pieces(tmp_path / "x", 1000, told.append))
    assert sum(told) == (tmp_path / "x").stat().st_size


def test_a_truncated_file_is_refused_wherever_it_was_cut(tmp_path):
    whole = twobit({"one": "ACGTNNacgt", "two": "acgtn"})
    for length in range(4, len(whole)):
        (tmp_path / "x").write_bytes(whole[:length])
        with pytest.raises(FastaError, match=r"x: the 2bit file ends within .*: it is truncated") as caught:
            list(read_pieces(tmp_path / "x"))
        if length > len(whole) - 10:
            assert "within contig 'two'" in str(caught.value)


ONE = struct.pack("<4I", 0x1A412743, 0, 1, 0) + b"\x01x" + struct.pack("<I", 22)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (twobit({"a": "ACGT"}, version=1), "2bit of version 1 is not read, only 0"),
        (twobit({}), "the 2bit file holds no contig"),
        (twobit({"a": "ACGT", "b": "AC"}).replace(b"\x01b", b"\x01a"), "contig 'a' is there twice"),
        (twobit({"a": ""}), "contig 'a' has no sequence"),
        (twobit({"": "ACGT"}), "a contig of the 2bit file has no name"),
        (twobit({"a": "ACGT"}).replace(b"\x01a", b"\x01\xff"), "is not UTF-8 text"),
        (
            ONE + struct.pack("<6I", 4, 1, 3, 2, 0, 0) + b"\x00",
            "the runs of N in contig 'x' are not sorted, or go beyond",
        ),
        (
            ONE + struct.pack("<8I", 4, 0, 2, 2, 0, 1, 1, 0) + b"\x00",
            "the runs of soft mask in contig 'x' are not sorted, or go beyond its 4 bases",
        ),
    ],
)
def test_a_bad_file_is_refused_with_the_contig(tmp_path, data, text):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(FastaError) as caught:
        list(read_pieces(tmp_path / "x"))
    assert text in str(caught.value) and str(tmp_path / "x") in str(caught.value)
