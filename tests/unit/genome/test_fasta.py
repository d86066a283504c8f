import gzip
import struct
import zlib

import numpy as np
import pytest
from toys import NAMES, fasta_text, toy_sequences

from umbel.errors import FastaError
from umbel.genome.fasta import read_fasta
from umbel.genome.sequence import decode

BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def bgzip(data: bytes, block_bp: int = 1000) -> bytes:
    """BGZF as the SAM specification has it: gzip members of a known size, then an empty one."""
    blocks = []
    for start in range(0, len(data), block_bp):
        piece = data[start : start + block_bp]
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = deflate.compress(piece) + deflate.flush()
        extra = struct.pack("<BBHH", 66, 67, 2, len(body) + 25)
        header = struct.pack("<4BIBBH", 31, 139, 8, 4, 0, 0, 255, 6)
        blocks.append(header + extra + body + struct.pack("<II", zlib.crc32(piece), len(piece)))
    return b"".join(blocks) + BGZIP_END


def read(path):
    return {record.name: decode(record.codes, record.soft_mask) for record in read_fasta(path)}


def as_read(text: str) -> str:
    return "".join(letter if letter in "ACGTacgt" else "N" if letter.isupper() else "n" for letter in text)


@pytest.mark.parametrize("form", ["plain", "gzip", "bgzip", "crlf", "one line", "no last line end", "blank lines"])
def test_every_form_of_the_same_sequence_reads_the_same(tmp_path, form):
    sequences = toy_sequences()
    text = fasta_text(sequences).encode()
    data = {
        "plain": text,
        "gzip": gzip.compress(text),
        "bgzip": bgzip(text),
        "crlf": fasta_text(sequences, line_end="\r\n").encode(),
        "one line": fasta_text(sequences, width=10**9).encode(),
        "no last line end": text.rstrip(),
        "blank lines": text.replace(b"\n>", b"\n\n>"),
    }[form]
    # The name says nothing about what is inside.
    path = tmp_path / "genome.txt"
    path.write_bytes(data)
    assert read(path) == {name: as_read(sequence) for name, sequence in sequences.items()}


def test_names_are_first_words_verbatim_and_lines_are_those_of_the_headers(tmp_path):
    path = tmp_path / "a.fa"
    path.write_text(fasta_text(toy_sequences()))
    records = list(read_fasta(path))
    assert tuple(record.name for record in records) == NAMES
    lines = path.read_text().splitlines()
    assert all(lines[record.line - 1].startswith(f">{record.name}") for record in records)


def test_letters_are_counted_per_contig(tmp_path):
    path = tmp_path / "a.fa"
    path.write_text(">one\nACGTRryn\nNN\n>two\nUuA\n")
    one, two = read_fasta(path)
    assert one.letters == {"N": 3, "R": 2, "Y": 1}
    assert two.letters == {"U": 2}
    assert two.codes.tolist() == [4, 4, 0]
    assert two.codes.dtype == np.uint8 and two.soft_mask.dtype == bool


@pytest.mark.parametrize(
    ("data", "line", "text"),
    [
        (b"", None, "the file is empty"),
        (b"\n\n", None, "the file is empty"),
        (b"ACGT\n>a\nACGT\n", 1, "does not begin with a '>' header but with 'ACGT'"),
        (b">a\nACGT\n>b\n>c\nACGT\n", 3, "contig 'b' has no sequence below its header"),
        (b">a\nACGT\n>b\n", 3, "contig 'b' has no sequence below its header"),
        (b">\nACGT\n", 1, "no name directly after '>'"),
        (b"> a\nACGT\n", 1, "no name directly after '>'"),
        (b">a x\nACGT\n>b\nAC\n>a y\nACGT\n", 5, "contig 'a' was already named in line 1"),
        (b">p\nACGT\nACGT\nMEFIL\n", 4, "'E' in contig 'p' is no nucleotide letter"),
        (b">a\nAC-GT\n", 2, "'-' in contig 'a' is no nucleotide letter"),
        (b">a\nAC\n>b\n\nAC\nAC1\n", 6, "'1' in contig 'b' is no nucleotide letter"),
        (b">a\rACGT\r", 1, "line ends are bare CR"),
        (b">a\xff\nACGT\n", 1, "the header is not UTF-8"),
        (b"\xfd7zXZ\x00abc", None, "this is a xz file"),
    ],
)
def test_bad_fasta_is_refused_with_line_and_reason(tmp_path, data, line, text):
    path = tmp_path / "bad.fa"
    path.write_bytes(data)
    with pytest.raises(FastaError) as caught:
        list(read_fasta(path))
    assert text in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.line == line


def test_a_truncated_gzip_is_refused_wherever_it_was_cut(tmp_path):
    whole = gzip.compress(fasta_text(toy_sequences()).encode())
    for length in (5, 15, len(whole) // 2, len(whole) - 9, len(whole) - 4, len(whole) - 1):
        path = tmp_path / "cut.fa.gz"
        path.write_bytes(whole[:length])
        with pytest.raises(FastaError, match="truncated"):
            list(read_fasta(path))


def test_a_bgzip_cut_between_blocks_is_refused(tmp_path):
    whole = bgzip(fasta_text(toy_sequences()).encode())
    first_block = struct.unpack("<H", whole[16:18])[0] + 1
    for length in (first_block, len(whole) - len(BGZIP_END), len(whole) - 1):
        path = tmp_path / "cut.fa.gz"
        path.write_bytes(whole[:length])
        with pytest.raises(FastaError, match="truncated"):
            list(read_fasta(path))


def test_a_damaged_gzip_is_refused(tmp_path):
    whole = bytearray(gzip.compress(fasta_text(toy_sequences()).encode()))
    whole[len(whole) // 2] ^= 0xFF
    path = tmp_path / "bad.fa.gz"
    path.write_bytes(whole)
    with pytest.raises(FastaError, match=r"damaged|no nucleotide|no sequence"):
        list(read_fasta(path))


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path):
    with pytest.raises(FastaError, match=r"no such file\. Check the path"):
        list(read_fasta(tmp_path / "none.fa"))
    with pytest.raises(FastaError, match="cannot be read"):
        list(read_fasta(tmp_path))
