import errno
import json
import os
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest

from umbel.errors import AnnotationError, ConfigError, FastaError, InputError, OutputError, RunError
from umbel.genome.fasta import read_fasta
from umbel.genome.sequence import revcomp
from umbel.predict import parts as parts_module
from umbel.predict.embed import EmbedSettings, computing, embed_file
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


def test_windows_of_a_fasta(fasta, predictor, tmp_path):
    result = embed_file(predictor, fasta, tmp_path / "out.parquet")
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
    assert facts["settings"] == {
        "per": "window", "window_bp": 256, "stride_bp": 256, "strand": "both", "layer": -1, "pooling": "mean"
    }  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.fa", "out.parquet"]


@pytest.mark.parametrize("per_part", [1, 2, 3, 7, 4_096])
def test_sequences_are_means_over_their_real_bases(per_part, fasta, predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(computing, "ROWS_PER_PART", per_part)
    settings = EmbedSettings(per="sequence", window_bp=100, strand="forward")
    embed_file(predictor, fasta, tmp_path / "out.parquet", settings=settings)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["name"].to_pylist() == ["one", "tiny", "gap", "three"]
    assert table["n_bases"].to_pylist() == [700, 20, 0, 256]
    codes = next(read_fasta(fasta)).codes
    parts = [predictor.embed([codes[i : i + 100]], "forward")[0] for i in range(0, 700, 100)]
    # 0 to 700 in seven windows of 100 bases.
    np.testing.assert_allclose(vectors(table)[0], np.mean(parts, 0), atol=1e-5)
    assert table["embedding"].is_null().to_pylist() == [False, False, True, False]
    three = {record.name: record.codes for record in read_fasta(fasta)}["three"]
    pieces = predictor.embed([three[:100], three[100:200], three[200:]], "forward")
    np.testing.assert_allclose(vectors(table)[3], (100 * pieces[0] + 100 * pieces[1] + 56 * pieces[2]) / 256, atol=1e-5)


def test_regions_of_a_bed_in_its_order_and_on_its_strand(fasta, predictor, tmp_path):
    bed = tmp_path / "r.bed"
    bed.write_text("three\t10\t60\tlate\t0\t+\none\t100\t700\tlong\t0\t-\none\t0\t30\n")
    settings = EmbedSettings(strand="forward")
    embed_file(predictor, bed, tmp_path / "out.parquet", fasta=fasta, settings=settings)
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
@pytest.mark.parametrize("suffix", ["parquet", "h5ad", "zarr"])
def test_a_killed_run_goes_on_and_gives_the_same_bytes(per, suffix, fasta, predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(computing, "ROWS_PER_PART", 4)
    settings = EmbedSettings(per=per, window_bp=40)
    out, whole = tmp_path / f"out.{suffix}", tmp_path / f"whole.{suffix}"
    embed_file(predictor, fasta, whole, settings=settings)
    calls, real = [], Predictor.embed_tokens

    def dying(self, ids, layer=-1, pooling="mean"):
        calls.append(len(ids))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(self, ids, layer, pooling)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Predictor, "embed_tokens", dying)
        embed_file(predictor, fasta, out, settings=settings)
    assert not out.exists()
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / f"out.{suffix}.parts").glob("part-*")}
    assert len(before) == 2
    with pytest.raises(RunError, match="holds an unfinished table of other inputs or settings"):
        embed_file(predictor, fasta, out)
    # Killed once more, after the last part and before the result is there.
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("umbel.predict.embed.file.write_rows", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        embed_file(predictor, fasta, out, settings=settings)
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / f"out.{suffix}.parts").glob("part-*")}
    assert before.items() < after.items()
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "embed_tokens", None)
        embed_file(predictor, fasta, out, settings=settings)
    assert bytes_of(out) == bytes_of(whole)
    assert not (tmp_path / f"out.{suffix}.parts").exists()


def bytes_of(path):
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {str(file.relative_to(path)): file.read_bytes() for file in files if file.is_file()}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_kill_9(fasta, predictor, tmp_path, monkeypatch):
    """A process that dies while a part is on its way to the disk; this one goes on."""
    monkeypatch.setattr(computing, "ROWS_PER_PART", 4)
    whole, out, settings = tmp_path / "whole.parquet", tmp_path / "out.parquet", EmbedSettings(window_bp=40)
    embed_file(predictor, fasta, whole, settings=settings)
    real = parts_module.pq.write_table

    def dying(table, path):
        real(table, path)
        if "000003" in str(path):
            path.write_bytes(path.read_bytes()[:100])
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        parts_module.pq.write_table = dying
        embed_file(predictor, fasta, out, settings=settings)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    left = sorted(path.name for path in (tmp_path / "out.parquet.parts").iterdir())
    assert [name for name in left if name.startswith("part-")] == [f"part-00000{i}.parquet" for i in range(3)]
    assert not out.exists()
    embed_file(predictor, fasta, out, settings=settings)
    assert out.read_bytes() == whole.read_bytes()


def test_a_full_disk_leaves_the_old_table(fasta, predictor, tmp_path, monkeypatch):
    out = tmp_path / "out.parquet"
    out.write_bytes(b"old")

    def full(table, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(parts_module.pq, "write_table", full)
    with pytest.raises(OutputError, match="the disk is full"):
        embed_file(predictor, fasta, out)
    assert out.read_bytes() == b"old"


def test_bad_inputs_are_refused_before_anything_is_written(fasta, predictor, tmp_path):
    out = tmp_path / "out.parquet"
    bed = tmp_path / "r.bed"
    bed.write_text("nowhere\t0\t10\n")
    with pytest.raises(AnnotationError, match="name it with --fasta"):
        embed_file(predictor, bed, out)
    with pytest.raises(AnnotationError, match=r"r.bed, line 1: .*nowhere"):
        embed_file(predictor, bed, out, fasta=fasta)
    empty = tmp_path / "empty.fa"
    empty.write_text("")
    with pytest.raises(FastaError, match=r"empty.fa"):
        embed_file(predictor, empty, out)
    with pytest.raises(ConfigError, match="--stride-bp 50 is beyond --window-bp 20: bases would be left out"):
        embed_file(predictor, fasta, out, settings=EmbedSettings(window_bp=20, stride_bp=50))
    with pytest.raises(ConfigError, match="--per chromosome: use window or sequence"):
        EmbedSettings(per="chromosome")
    with pytest.raises(ConfigError, match="--strand mean: use forward, revcomp or both"):
        EmbedSettings(strand="mean")
    with pytest.raises(ConfigError, match="--window-bp and --stride-bp must not be negative"):
        EmbedSettings(window_bp=-1)
    with pytest.raises(ConfigError, match="pooling none: a row for every base takes 4 x D bytes"):
        EmbedSettings(pooling="none")
    with pytest.raises(ConfigError, match="layer 2: this model has layers 0 to 1"):
        embed_file(predictor, fasta, out, settings=EmbedSettings(layer=2))
    with pytest.raises(ConfigError, match=r"o.csv: the name says the format, so end it in .parquet, .h5ad or .zarr"):
        embed_file(predictor, fasta, tmp_path / "o.csv")
    with pytest.raises(ConfigError, match="--species goes with --search"):
        embed_file(predictor, fasta, out, species="Planta")
    with pytest.raises(ConfigError, match="--search needs --species NAME"):
        embed_file(predictor, fasta, out, search=tmp_path / "index")
    with pytest.raises(
        ConfigError, match=r"--per sequence --pooling max: one has 700 bases, more than one window of 256"
    ):
        embed_file(predictor, fasta, out, settings=EmbedSettings(per="sequence", pooling="max"))
    with pytest.raises(ConfigError, match="names places on the genome that stands first: leave --fasta out"):
        embed_file(predictor, bed, out, fasta=fasta, regions=["one:1-5"])
    with pytest.raises(
        ConfigError, match=r"region four:1-5: .*in.fa has no contig 'four'; there are, for example, one"
    ):
        embed_file(predictor, fasta, out, regions=["four:1-5"])
    with pytest.raises(ConfigError, match=r"region one:1-701: contig 'one' of .*in.fa has 700 bases"):
        embed_file(predictor, fasta, out, regions=["one:1-701"])
    assert not out.exists()
    assert not (tmp_path / "out.parquet.parts").exists()


def test_a_rest_shorter_than_a_token_joins_the_window_before_it(toy_packed_training, tmp_path):
    source = tmp_path / "in.fa"
    rng = np.random.default_rng(0)
    source.write_text("".join(f">s{n}\n{''.join(rng.choice(list('ACGT'), n))}\n" for n in (20, 21, 22, 23, 3)))
    settings = EmbedSettings(window_bp=10, strand="forward")
    predictor = Predictor.load(toy_packed_training, device="cpu")
    embed_file(predictor, source, tmp_path / "out.parquet", settings=settings)
    table = pq.read_table(tmp_path / "out.parquet")
    places = list(zip(*(table[c].to_pylist() for c in ("contig", "start", "end")), strict=True))
    assert places == [
        ("s20", 0, 10), ("s20", 10, 20),
        ("s21", 0, 10), ("s21", 10, 21),
        ("s22", 0, 10), ("s22", 10, 22),
        ("s23", 0, 10), ("s23", 10, 20), ("s23", 20, 23),
        ("s3", 0, 3),
    ]  # fmt: skip
    codes = {record.name: record.codes for record in read_fasta(source)}
    for (contig, start, end), vector in zip(places, vectors(table), strict=True):
        np.testing.assert_allclose(vector, predictor.embed([codes[contig][start:end]], "forward")[0], atol=1e-5)


def test_what_is_shorter_than_a_token_is_named_and_nothing_written(toy_packed_training, tmp_path):
    predictor = Predictor.load(toy_packed_training, device="cpu")
    source, bed, out = tmp_path / "in.fa", tmp_path / "r.bed", tmp_path / "out.parquet"
    source.write_text(">long\nACGTACGT\n>short one\nAC\n")
    with pytest.raises(InputError, match=r"in\.fa: short has 2 bases, and this model's tokens have 3\. Leave it out"):
        embed_file(predictor, source, out)
    bed.write_text("long\t0\t5\nlong\t2\t4\tmotif\n")
    with pytest.raises(InputError, match=r"r\.bed: motif has 2 bases, and this model's tokens have 3"):
        embed_file(predictor, bed, out, fasta=source)
    bed.write_text("long\t0\t5\n")
    with pytest.raises(ConfigError, match="--window-bp 2 is below the 3 bases of this model's tokens"):
        embed_file(predictor, bed, out, fasta=source, settings=EmbedSettings(window_bp=2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.fa", "r.bed"]


def test_regions_of_a_genome(fasta, predictor, tmp_path):
    embed_file(predictor, fasta, tmp_path / "o.parquet", regions=["three:11-60", "one:101-150(-)"])
    table = pq.read_table(tmp_path / "o.parquet")
    assert table["name"].to_pylist() == ["three:11-60", "one:101-150(-)"]
    assert table["start"].to_pylist() == [10, 100]
    codes = {record.name: record.codes for record in read_fasta(fasta)}
    wanted = predictor.embed([codes["three"][10:60], revcomp(codes["one"][100:150])])
    np.testing.assert_allclose(vectors(table), wanted, atol=1e-5)
    assert json.loads(table.schema.metadata[b"umbel"])["regions"] == ["three:11-60", "one:101-150(-)"]


@pytest.mark.parametrize("strand", ["forward", "revcomp", "both"])
@pytest.mark.parametrize(("layer", "pooling"), [(-1, "max"), (0, "mean"), (1, "first"), (0, "last")])
def test_every_row_is_what_its_window_gives_alone(strand, layer, pooling, fasta, predictor, tmp_path):
    settings = EmbedSettings(window_bp=90, stride_bp=60, strand=strand, layer=layer, pooling=pooling)
    predictor.embed_file(fasta, tmp_path / "o.parquet", settings=settings)
    table = pq.read_table(tmp_path / "o.parquet")
    codes = {record.name: record.codes for record in read_fasta(fasta)}
    for row in table.to_pylist():
        if row["contig"] == "gap":
            assert row["embedding"] is None
            continue
        window = codes[row["contig"]][row["start"] : row["end"]]
        assert row["n_bases"] == len(window)
        alone = predictor.embed([window], strand, layer, pooling)[0]
        np.testing.assert_allclose(row["embedding"], alone, atol=1e-5)


def test_the_genome_is_never_held_and_read_in_order(fasta, predictor, tmp_path, monkeypatch):
    """One request for the neighbours of a part, and none for what an earlier call has computed."""
    from umbel.genome.reference import Reference

    monkeypatch.setattr(computing, "ROWS_PER_PART", 5)
    asked, real = [], Reference.fetch

    def fetch(self, contig, start, end):
        asked.append((contig, start, end))
        return real(self, contig, start, end)

    monkeypatch.setattr(Reference, "fetch", fetch)
    settings = EmbedSettings(window_bp=100, stride_bp=100)
    embed_file(predictor, fasta, tmp_path / "o.parquet", settings=settings)
    assert asked == [("one", 0, 500), ("one", 500, 700), ("tiny", 0, 20), ("gap", 0, 50), ("three", 0, 100),
                     ("three", 100, 256)]  # fmt: skip
