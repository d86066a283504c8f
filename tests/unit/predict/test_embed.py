import errno
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from umbel.errors import AnnotationError, ConfigError, FastaError, InputError, OutputError, RunError
from umbel.genome.fasta import read_fasta
from umbel.genome.sequence import revcomp
from umbel.predict import embed as embed_module
from umbel.predict.embed import EmbedSettings, embed_file
from umbel.predict.predictor import Predictor


@pytest.fixture(scope="module")
def predictor(toy_training):
    return Predictor.load(toy_training, device="cpu")


@pytest.fixture
def fasta(tmp_path):
    rng = np.random.default_rng(0)
    records = {"one": 700, "tiny": 20, "gap": 50, "three": 256}
    lines = []
    for name, length in records.items():
        letters = "N" * length if name == "gap" else "".join(rng.choice(list("ACGTacgt"), length))
        lines += [f">{name} of a kind", letters]
    path = tmp_path / "in.fa"
    path.write_text("\n".join(lines) + "\n")
    return path


def vectors(table):
    return np.array([row if row is not None else [np.nan] * 16 for row in table["embedding"].to_pylist()])


def test_windows_of_a_fasta(fasta, predictor, toy_training, tmp_path):
    result = embed_file(toy_training, fasta, tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    places = list(zip(*(table[c].to_pylist() for c in ("contig", "start", "end")), strict=True))
    assert places == [
        ("one", 0, 256), ("one", 256, 512), ("one", 512, 700), ("tiny", 0, 20), ("gap", 0, 50), ("three", 0, 256)
    ]  # fmt: skip
    assert (result.rows, result.without_bases) == (6, 1)
    assert table["n_bases"].to_pylist() == [256, 256, 188, 20, 0, 256]
    codes = {record.name: record.codes for record in read_fasta(fasta)}
    for (contig, start, end), vector in zip(places, vectors(table), strict=True):
        if contig != "gap":
            np.testing.assert_allclose(vector, predictor.embed([codes[contig][start:end]])[0], atol=1e-5)
    assert table["embedding"].to_pylist()[4] is None
    facts = json.loads(table.schema.metadata[b"umbel"])
    assert facts["weights"] == predictor.weights_hash
    assert facts["settings"] == {"per": "window", "window_bp": 256, "stride_bp": 256, "strand": "both"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.fa", "out.parquet"]


def test_sequences_are_means_over_their_real_bases(fasta, predictor, toy_training, tmp_path):
    settings = EmbedSettings(per="sequence", window_bp=100, strand="forward")
    embed_file(toy_training, fasta, tmp_path / "out.parquet", settings=settings)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["name"].to_pylist() == ["one", "tiny", "gap", "three"]
    assert table["n_bases"].to_pylist() == [700, 20, 0, 256]
    codes = next(read_fasta(fasta)).codes
    parts = [predictor.embed([codes[i : i + 100]], "forward")[0] for i in range(0, 700, 100)]
    np.testing.assert_allclose(vectors(table)[0], np.mean(parts, 0), atol=1e-5)


def test_regions_of_a_bed_in_its_order_and_on_its_strand(fasta, predictor, toy_training, tmp_path):
    bed = tmp_path / "r.bed"
    bed.write_text("three\t10\t60\tlate\t0\t+\none\t100\t700\tlong\t0\t-\none\t0\t30\n")
    settings = EmbedSettings(strand="forward")
    embed_file(toy_training, bed, tmp_path / "out.parquet", fasta=fasta, settings=settings)
    table = pq.read_table(tmp_path / "out.parquet")
    rows = list(zip(*(table[c].to_pylist() for c in ("name", "contig", "start", "end", "strand")), strict=True))
    assert rows == [
        ("late", "three", 10, 60, "+"),
        ("long", "one", 444, 700, "-"),
        ("long", "one", 188, 444, "-"),
        ("long", "one", 100, 188, "-"),
        ("one", "one", 0, 30, "+"),
    ]
    codes = next(read_fasta(fasta)).codes
    np.testing.assert_allclose(vectors(table)[1], predictor.embed([revcomp(codes[444:700])], "forward")[0], atol=1e-5)


@pytest.mark.parametrize("per", ["window", "sequence"])
def test_a_killed_run_goes_on_and_gives_the_same_bytes(per, fasta, toy_training, tmp_path, monkeypatch):
    monkeypatch.setattr(embed_module, "ROWS_PER_PART", 4)
    settings = EmbedSettings(per=per, window_bp=40)
    embed_file(toy_training, fasta, tmp_path / "whole.parquet", settings=settings)
    calls, real = [], Predictor.embed

    def dying(self, codes, strand="both"):
        calls.append(len(codes))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(self, codes, strand)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Predictor, "embed", dying)
        embed_file(toy_training, fasta, tmp_path / "out.parquet", settings=settings)
    assert not (tmp_path / "out.parquet").exists()
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out.parquet.parts").glob("part-*")}
    assert before
    with pytest.raises(RunError, match="holds an unfinished table of other inputs or settings"):
        embed_file(toy_training, fasta, tmp_path / "out.parquet")
    embed_file(toy_training, fasta, tmp_path / "out.parquet", settings=settings)
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not (tmp_path / "out.parquet.parts").exists()


def test_a_full_disk_leaves_the_old_table(fasta, toy_training, tmp_path, monkeypatch):
    out = tmp_path / "out.parquet"
    out.write_bytes(b"old")

    def full(table, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(embed_module.pq, "write_table", full)
    with pytest.raises(OutputError, match="the disk is full"):
        embed_file(toy_training, fasta, out)
    assert out.read_bytes() == b"old"


def test_bad_inputs_are_refused_before_anything_is_written(fasta, toy_training, tmp_path):
    out = tmp_path / "out.parquet"
    bed = tmp_path / "r.bed"
    bed.write_text("nowhere\t0\t10\n")
    with pytest.raises(AnnotationError, match="name it with --fasta"):
        embed_file(toy_training, bed, out)
    with pytest.raises(AnnotationError, match=r"r.bed, line 1: .*nowhere"):
        embed_file(toy_training, bed, out, fasta=fasta)
    empty = tmp_path / "empty.fa"
    empty.write_text("")
    with pytest.raises(FastaError, match=r"empty.fa"):
        embed_file(toy_training, empty, out)
    with pytest.raises(ConfigError, match="--stride-bp 50 is beyond --window-bp 20: bases would be left out"):
        embed_file(toy_training, fasta, out, settings=EmbedSettings(window_bp=20, stride_bp=50))
    with pytest.raises(ConfigError, match="--per chromosome: use window or sequence"):
        EmbedSettings(per="chromosome")
    assert not out.exists()
    assert not (tmp_path / "out.parquet.parts").exists()


def test_a_rest_shorter_than_a_token_joins_the_window_before_it(toy_packed_training, tmp_path):
    source = tmp_path / "in.fa"
    rng = np.random.default_rng(0)
    source.write_text("".join(f">s{n}\n{''.join(rng.choice(list('ACGT'), n))}\n" for n in (20, 21, 22, 23, 3)))
    settings = EmbedSettings(window_bp=10, strand="forward")
    embed_file(toy_packed_training, source, tmp_path / "out.parquet", settings=settings)
    table = pq.read_table(tmp_path / "out.parquet")
    places = list(zip(*(table[c].to_pylist() for c in ("contig", "start", "end")), strict=True))
    assert places == [
        ("s20", 0, 10), ("s20", 10, 20),
        ("s21", 0, 10), ("s21", 10, 21),
        ("s22", 0, 10), ("s22", 10, 22),
        ("s23", 0, 10), ("s23", 10, 20), ("s23", 20, 23),
        ("s3", 0, 3),
    ]  # fmt: skip
    predictor = Predictor.load(toy_packed_training, device="cpu")
    codes = {record.name: record.codes for record in read_fasta(source)}
    for (contig, start, end), vector in zip(places, vectors(table), strict=True):
        np.testing.assert_allclose(vector, predictor.embed([codes[contig][start:end]], "forward")[0], atol=1e-5)


def test_what_is_shorter_than_a_token_is_named_and_nothing_written(toy_packed_training, tmp_path):
    source, bed, out = tmp_path / "in.fa", tmp_path / "r.bed", tmp_path / "out.parquet"
    source.write_text(">long\nACGTACGT\n>short one\nAC\n")
    with pytest.raises(InputError, match=r"in\.fa: short has 2 bases, and this model's tokens have 3\. Leave it out"):
        embed_file(toy_packed_training, source, out)
    bed.write_text("long\t0\t5\nlong\t2\t4\tmotif\n")
    with pytest.raises(InputError, match=r"r\.bed: motif has 2 bases, and this model's tokens have 3"):
        embed_file(toy_packed_training, bed, out, fasta=source)
    bed.write_text("long\t0\t5\n")
    with pytest.raises(ConfigError, match="--window-bp 2 is below the 3 bases of this model's tokens"):
        embed_file(toy_packed_training, bed, out, fasta=source, settings=EmbedSettings(window_bp=2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.fa", "r.bed"]
