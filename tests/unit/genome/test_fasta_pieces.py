import gzip
import tracemalloc

import numpy as np
import pytest
from toys import fasta_text, toy_sequences

from umbel.errors import FastaError
from umbel.genome import lines
from umbel.genome.fasta import read_fasta, read_pieces
from umbel.genome.sequence import decode


def plain_records(data: bytes):
    """Name, header line, letters and raw sequence of each record, line by line."""
    records = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        text = line.rstrip()
        if text.startswith(b">"):
            records.append([text[1:].split()[0].decode(), number, ""])
        elif text:
            records[-1][2] += text.decode()
    return records


def spelled(sequence: str) -> str:
    return "".join(c if c in "ACGTacgt" else "N" if c.isupper() else "n" for c in sequence)


def messy_fasta(rng) -> bytes:
    """Records with lines of any length, blanks behind them, blank lines, either line end, and every letter."""
    out = b""
    for number in range(rng.integers(1, 6)):
        end = [b"\n", b"\r\n"][rng.integers(2)]
        out += f">c{number} some words > here".encode()[: rng.integers(3, 25)] + end
        out += b"".join(end for _ in range(rng.integers(0, 3)))
        for _ in range(rng.integers(1, 8)):
            letters = rng.choice(list("ACGTacgtNnRyuKB"), rng.integers(1, 40))
            out += "".join(letters).encode() + rng.choice([b"", b"", b" ", b"\t ", b"\r"]) + end
            out += rng.choice([b"", b"", b" \n", b"\n\n"])
    return out if rng.integers(2) else out.rstrip()


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 7, 64, 1 << 20])
def test_any_file_read_in_any_blocks_and_pieces_is_what_reading_it_line_by_line_gives(
    tmp_path, monkeypatch, block_bytes
):
    monkeypatch.setattr(lines, "BLOCK_BYTES", block_bytes)
    rng = np.random.default_rng(block_bytes)
    path = tmp_path / "a.fa"
    for _ in range(25):
        data = messy_fasta(rng)
        path.write_bytes(gzip.compress(data) if rng.integers(2) else data)
        piece_bp = int(rng.integers(1, 60))
        pieces = list(read_pieces(path, piece_bp))
        for name, line, sequence in plain_records(data):
            own = [piece for piece in pieces if piece.name == name]
            cut = [sequence[start : start + piece_bp] for start in range(0, len(sequence), piece_bp)]
            assert [decode(piece.codes, piece.soft_mask) for piece in own] == [spelled(part) for part in cut]
            assert [(piece.start, piece.end) for piece in own] == [
                (start, min(start + piece_bp, len(sequence))) for start in range(0, len(sequence), piece_bp)
            ]
            assert [piece.is_last for piece in own] == [False] * (len(cut) - 1) + [True]
            assert {piece.line for piece in own} == {line}
            for piece, part in zip(own, cut, strict=True):
                assert piece.letters == {c: part.upper().count(c) for c in sorted(set(part.upper()) - set("ACGT"))}
        whole = {record.name: decode(record.codes, record.soft_mask) for record in read_fasta(path)}
        assert whole == {name: spelled(sequence) for name, _, sequence in plain_records(data)}


@pytest.mark.parametrize("block_bytes", [1, 3, 16, 1 << 20])
@pytest.mark.parametrize(
    ("data", "line", "text"),
    [
        (b"\n \n\nACGT\n>a\nACGT\n", 4, "does not begin with a '>' header but with 'A"),
        (b">a\nACGT\n>b\n>c\nACGT\n", 3, "contig 'b' has no sequence below its header"),
        (b">a\nACGT\n\n>b  \n \n\n", 4, "contig 'b' has no sequence below its header"),
        (b">a x\nACGT\n>b\nAC\n>a y\nACGT\n", 5, "contig 'a' was already named in line 1"),
        (b">p\nACGT\nACGT\nME\n", 4, "'E' in contig 'p' is no nucleotide letter"),
        (b">a\r\nAC\r\n>b\r\n\r\nAC\r\nAC1\r\n", 6, "'1' in contig 'b' is no nucleotide letter"),
        (b">a\nAC \n\nAC GT\n", 4, "' ' in contig 'a' is no nucleotide letter"),
        (b">a\nAC\rGT\n", 2, "'\\r' in contig 'a' is no nucleotide letter"),
        (b">a\nAC\nAC>b\nGT\n", 3, "'>' in contig 'a' is no nucleotide letter"),
        (b">a\nAC\n >b\nGT\n", 3, "' ' in contig 'a' is no nucleotide letter"),
        (b">a\rACGT\r", 1, "line ends are bare CR"),
        (b">a\nAC\n>b\n>c", 3, "contig 'b' has no sequence below its header"),
        (b">a\nAC\n>b", 3, "contig 'b' has no sequence below its header"),
    ],
)
def test_a_refusal_names_its_line_wherever_blocks_end(tmp_path, monkeypatch, block_bytes, data, line, text):
    monkeypatch.setattr(lines, "BLOCK_BYTES", block_bytes)
    path = tmp_path / "bad.fa"
    path.write_bytes(data)
    with pytest.raises(FastaError) as caught:
        list(read_pieces(path, 3))
    assert text in str(caught.value) and str(path) in str(caught.value)
    assert caught.value.line == line


@pytest.mark.parametrize("packed", [False, True])
def test_the_bytes_told_add_up_to_the_size_of_the_file(tmp_path, monkeypatch, packed):
    monkeypatch.setattr(lines, "BLOCK_BYTES", 1000)
    text = fasta_text(toy_sequences()).encode()
    path = tmp_path / "a.fa"
    path.write_bytes(gzip.compress(text) if packed else text)
    told = []
    list(read_pieces(path, 500, told.append))
    assert sum(told) == path.stat().st_size
    assert packed or len(told) == -(-len(text) // 1000)


def test_one_contig_on_one_line_is_never_whole_in_memory(tmp_path):
    path = tmp_path / "a.fa"
    n_bp = 24 << 20
    with open(path, "wb") as handle:
        handle.write(b">chr1\n")
        for _ in range(24):
            handle.write(b"ACGTacgN" * (1 << 17))
    tracemalloc.start()
    total = sum(len(piece.codes) for piece in read_pieces(path, 1 << 20))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == n_bp
    # A piece of 1 Mbp is 2 MB of codes and mask.
    assert peak < 16e6


def test_pieces_without_bases_are_refused():
    with pytest.raises(ValueError, match="piece_bp is 0: give at least 1"):
        next(read_pieces("a.fa", 0))
