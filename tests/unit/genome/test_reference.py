import gzip
import hashlib
import os

import numpy as np
import pysam
import pytest
from test_twobit import twobit
from toys import fasta_text, toy_sequences

from umbel.errors import FastaError
from umbel.genome.fasta import read_fasta
from umbel.genome.reference import Reference
from umbel.genome.sequence import decode


def sequences():
    # No letter that 2bit cannot keep.
    return {name: text.translate(str.maketrans("RYKU", "NNNN")) for name, text in toy_sequences().items()}


def bgzipped(path, text):
    with pysam.BGZFile(str(path), "wb") as handle:
        handle.write(text.encode())


WRITERS = {
    "plain": lambda path, text: path.write_text(text),
    "crlf": lambda path, text: path.write_bytes(text.replace("\n", "\r\n").encode()),
    "bgzip": bgzipped,
    "gzip": lambda path, text: path.write_bytes(gzip.compress(text.encode())),
    "uneven": lambda path, text: path.write_text(text.replace("\n", "\n\n", 40)),
    "2bit": lambda path, text: path.write_bytes(twobit(sequences())),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_stretch_is_what_the_whole_file_says(tmp_path, kind):
    source = tmp_path / "here" / "genome"
    source.parent.mkdir()
    WRITERS[kind](source, fasta_text(sequences()))
    rng = np.random.default_rng(0)
    with Reference.open(source) as genome:
        assert genome.lengths == {name: len(text) for name, text in sequences().items()}
        for record in read_fasta(source):
            for _ in range(40):
                start, end = sorted(rng.integers(0, len(record.codes) + 1, 2).tolist())
                codes, soft_mask = genome.fetch_masked(record.name, start, end)
                np.testing.assert_array_equal(codes, record.codes[start:end])
                np.testing.assert_array_equal(soft_mask, record.soft_mask[start:end])
                np.testing.assert_array_equal(genome.fetch(record.name, start, end), codes)
    assert [path.name for path in source.parent.iterdir()] == ["genome"]


def test_an_index_beside_the_file_is_used_only_while_it_is_newer(tmp_path):
    source = tmp_path / "a.fa"
    source.write_text(">c\nACGT\n")
    pysam.faidx(str(source))
    with Reference.open(source) as genome:
        assert genome.lengths == {"c": 4}
    source.write_text(">other\nACGTT\n")
    index = source.with_name("a.fa.fai")
    before = source.stat().st_mtime - 60
    os.utime(index, (before, before))
    with Reference.open(source) as genome:
        assert genome.lengths == {"other": 5}


def test_md5_is_that_of_the_letters(tmp_path):
    source = tmp_path / "a.fa"
    source.write_text(">one\nacgtN\nAC\n>two words\nGGRG\n")
    one, two = (hashlib.md5(text).hexdigest() for text in (b"ACGTNAC", b"GGNG"))
    with Reference.open(source) as genome:
        assert (genome.contig_md5("one"), genome.contig_md5("two")) == (one, two)
        whole = hashlib.md5(f"one\t7\t{one}\ntwo\t4\t{two}\n".encode()).hexdigest()
        assert genome.assembly_md5() == whole


def test_refusals(tmp_path):
    source = tmp_path / "a.fa"
    source.write_text(">one\nACGT\n")
    with Reference.open(source) as genome:
        with pytest.raises(KeyError, match="no contig 'two'"):
            genome.fetch("two", 0, 1)
        for start, end in ((-1, 2), (3, 2), (0, 5)):
            with pytest.raises(ValueError, match="not inside 'one', which has 4"):
                genome.fetch("one", start, end)
        assert decode(genome.fetch("one", 4, 4)) == ""
    for text, message in (
        (">a\nAC\n>a\nGG\n", "line 3: contig 'a' was already named in line 1"),
        (">a\nAC\n>b\n", "contig 'b' has no sequence"),
        ("", "the file is empty"),
        ("ACGT\n", "does not begin with a '>' header"),
    ):
        source.write_text(text)
        with pytest.raises(FastaError, match=message):
            Reference.open(source)
    source.write_text(">a\nACGTE\n")
    with Reference.open(source) as genome, pytest.raises(FastaError, match="'E' at base 5 of contig 'a'"):
        genome.fetch("a", 2, 5)
    with pytest.raises(FastaError, match="no such file"):
        Reference.open(tmp_path / "nothing.fa")


def test_a_file_that_became_shorter_than_its_index_is_told(tmp_path):
    source = tmp_path / "a.fa"
    source.write_text(">a\n" + "ACGTACGTAC\n" * 50)
    pysam.faidx(str(source))
    index = source.with_name("a.fa.fai")
    with source.open("r+b") as handle:
        handle.truncate(100)
    os.utime(index)
    with Reference.open(source) as genome, pytest.raises(FastaError, match="cannot be read up to base 400"):
        genome.fetch("a", 300, 400)
