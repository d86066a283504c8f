import errno
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pyarrow.parquet as pq
import pytest
from toys import NAMES, fasta_text, gff3_row, toy_sequences, write_toy_project

from umbel.config import CorpusConfig
from umbel.data.corpus import executors, packing, stages
from umbel.data.corpus.build import build_corpus
from umbel.data.corpus.windows import cut_windows
from umbel.errors import AnnotationError, CorpusError, FastaError, ManifestError, OutputError, RunError
from umbel.progress import Reporter

CONFIG = CorpusConfig(window_bp=512, overlap_bp=128)


def folder_bytes(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_one(folder, fasta, gff3=None, train='["*"]'):
    """Manifest of one assembly with the given FASTA text."""
    folder.mkdir(exist_ok=True)
    (folder / "a.fa").write_bytes(fasta if isinstance(fasta, bytes) else fasta.encode())
    rows = ["[[assembly]]", 'species = "S"', 'assembly = "a"', 'fasta = "a.fa"']
    if gff3:
        (folder / "a.gff3").write_text(gff3)
        rows.append('gff3 = "a.gff3"')
    manifest = folder / "m.toml"
    manifest.write_text("\n".join([*rows, f"contigs.train = {train}"]) + "\n")
    return manifest


def letters(n, seed=0):
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), n))


@pytest.mark.parametrize(
    ("length", "spans", "n_lost"),
    [
        (512, [(0, 512)], 0),
        (100, [(0, 100)], 0),
        (64, [(0, 64)], 0),
        (63, [], 63),
        (513, [(0, 512), (384, 513)], 0),
        (896, [(0, 512), (384, 896)], 0),
        (897, [(0, 512), (384, 896), (768, 897)], 0),
    ],
)
def test_windows_are_cut_as_counted_by_hand(length, spans, n_lost):
    windows, lost = cut_windows(length, CONFIG)
    assert [tuple(window) for window in windows.tolist()] == spans
    assert lost == n_lost


def test_a_tail_below_the_least_length_is_counted_as_lost():
    windows, lost = cut_windows(600, CorpusConfig(window_bp=512, overlap_bp=64, min_window_bp=300))
    assert windows.tolist() == [[0, 512]] and lost == 88


def test_everything_in_the_folder_is_as_planted(tmp_path):
    corpus = build_corpus(write_toy_project(tmp_path), tmp_path / "corpus", CONFIG)
    sequences = toy_sequences()
    rows = pq.read_table(corpus.path / "contigs.parquet").to_pylist()
    offset = 0
    for row, (name, sequence) in zip(rows, sequences.items(), strict=True):
        role = dict(zip(NAMES, ("train", "valid", "test", ""), strict=True))[name]
        wanted = {"assembly": "toy0", "contig": name, "length": len(sequence), "role": role, "offset": offset}
        assert row == {**wanted, "reason": "" if role else "no role"}
        offset += (len(sequence) + 1) // 2
    assert (corpus.path / "assemblies/toy0.nibbles").stat().st_size == offset
    for row in pq.read_table(corpus.path / "windows.parquet").to_pylist():
        piece = sequences[row["contig"]][row["start"] : row["end"]]
        assert row["n_bases"] == sum(letter in "ACGTacgt" for letter in piece)
        assert row["soft_masked"] == sum(letter.islower() for letter in piece)
        assert len(piece) - row["n_bases"] <= 0.02 * len(piece)


def test_counts_in_the_description_agree_with_counting_text(tmp_path):
    corpus = build_corpus(write_toy_project(tmp_path), tmp_path / "corpus", CONFIG)
    sequences = toy_sequences()
    totals = corpus.facts["totals"]
    for name, role in zip(NAMES, ("train", "valid", "test", "none"), strict=True):
        text = sequences[name]
        assert totals[role]["n_bases"] == len(text)
        assert totals[role]["soft_masked"] == sum(letter.islower() for letter in text)
        other = {letter: text.upper().count(letter) for letter in sorted(set(text.upper()) - set("ACGT"))}
        assert totals[role]["letters"] == other
    assert totals["train"]["letters"] == {"N": 80}
    assert totals["valid"]["letters"] == {"K": 1, "R": 1, "U": 1, "Y": 1}
    # The 80 N of the first contig, from 1200 on, are in the windows that begin at 768 and 1152.
    assert totals["train"]["n_windows_dropped_for_n"] == 2
    starts = [corpus.window(i).start for i in corpus.window_ids("train")]
    assert sorted({*range(0, 5_489, 384), 5_760} - set(starts)) == [768, 1152]
    assert totals["none"]["n_windows"] == 0


def test_toml_and_csv_manifests_give_the_same_bytes(tmp_path):
    manifest = write_toy_project(tmp_path / "in", n_assemblies=2)
    one = build_corpus(manifest, tmp_path / "one", CONFIG)
    two = build_corpus(manifest.with_suffix(".csv"), tmp_path / "two", CONFIG)
    assert folder_bytes(one.path) == folder_bytes(two.path)


def test_the_hash_names_content_and_settings_and_not_names_or_compression(tmp_path):
    manifest = write_toy_project(tmp_path / "in")
    first = build_corpus(manifest, tmp_path / "one", CONFIG).hash
    moved = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "in", moved)
    text = (moved / "toy0.fa").read_bytes()
    (moved / "toy0.fa").unlink()
    (moved / "other.fa.gz").write_bytes(gzip.compress(text))
    (moved / "manifest.toml").write_text(manifest.read_text().replace("toy0.fa", "other.fa.gz"))
    assert build_corpus(moved / "manifest.toml", tmp_path / "two", CONFIG).hash == first
    assert build_corpus(manifest, tmp_path / "three", CorpusConfig(window_bp=600)).hash != first
    other = write_toy_project(tmp_path / "other", seed=1)
    assert build_corpus(other, tmp_path / "four", CONFIG).hash != first


def test_a_second_build_opens_what_is_there(tmp_path, capsys):
    manifest = write_toy_project(tmp_path)
    first = build_corpus(manifest, tmp_path / "corpus", CONFIG)
    times = {path: path.stat().st_mtime_ns for path in first.path.rglob("*")}
    again = build_corpus(manifest, tmp_path / "corpus", CONFIG, reporter=Reporter())
    assert again.hash == first.hash
    assert {path: path.stat().st_mtime_ns for path in first.path.rglob("*")} == times
    assert "already built from the same inputs and settings" in capsys.readouterr().err


def test_another_corpus_in_the_folder_is_refused_and_left_whole(tmp_path):
    manifest = write_toy_project(tmp_path)
    first = build_corpus(manifest, tmp_path / "corpus", CONFIG)
    before = folder_bytes(first.path)
    with pytest.raises(RunError, match="a corpus of other inputs or settings"):
        build_corpus(manifest, tmp_path / "corpus", CorpusConfig(window_bp=600))
    assert folder_bytes(first.path) == before


def test_a_folder_of_something_else_is_refused_and_an_empty_one_used(tmp_path):
    manifest = write_toy_project(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("precious")
    with pytest.raises(RunError, match="something else than a whole corpus"):
        build_corpus(manifest, tmp_path / "full", CONFIG)
    assert (tmp_path / "full/thesis.txt").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    assert build_corpus(manifest, tmp_path / "empty", CONFIG).n_windows


def refused(manifest, kind, text):
    """Build into a folder beside earlier output: refused with ``text``, and nothing is left or touched."""
    parent = manifest.parent
    (parent / "earlier").mkdir()
    (parent / "earlier/result").write_text("whole")
    before = {path.name for path in parent.iterdir()}
    with pytest.raises(kind) as caught:
        build_corpus(manifest, parent / "corpus", CONFIG)
    assert text in str(caught.value)
    assert {path.name for path in parent.iterdir()} == before
    assert (parent / "earlier/result").read_text() == "whole"


@pytest.mark.parametrize(
    ("fasta", "text"),
    [
        ("", "a.fa: the file is empty"),
        (">c\n>d\nACGT\n", "a.fa, line 1: contig 'c' has no sequence"),
        (">c\nACGT\n>c\nACGT\n", "a.fa, line 3: contig 'c' was already named in line 1"),
        (">c\nACGT\nMEEPQL\n", "a.fa, line 3: 'E' in contig 'c' is no nucleotide letter"),
    ],
)
def test_bad_fasta_leaves_nothing_behind(tmp_path, fasta, text):
    refused(write_one(tmp_path, fasta), FastaError, text)


def test_a_truncated_gzip_leaves_nothing_behind(tmp_path):
    whole = gzip.compress(f">c\n{letters(5000)}\n".encode())
    refused(write_one(tmp_path, whole[: len(whole) // 2]), FastaError, "truncated")


def test_a_contig_that_the_fasta_does_not_have_is_named_with_some_that_it_has(tmp_path):
    manifest = write_one(tmp_path, f">one\n{letters(600)}\n>two\n{letters(600)}\n", train='["one", "chr9"]')
    refused(manifest, ManifestError, "names contig 'chr9', not found in")
    with pytest.raises(ManifestError, match="There are 2 contigs, such as one, two"):
        build_corpus(manifest, tmp_path / "corpus", CONFIG)


def test_an_annotation_of_another_assembly_leaves_nothing_behind(tmp_path):
    gff3 = gff3_row("Chr1", "mRNA", 0, 9, "+", "ID=t") + "\n" + gff3_row("Chr1", "exon", 0, 9, "+", "Parent=t") + "\n"
    manifest = write_one(tmp_path, f">one\n{letters(600)}\n", gff3)
    refused(manifest, AnnotationError, "none of its contigs (Chr1) is in the FASTA (one)")


def test_an_annotation_without_exons_is_refused(tmp_path):
    manifest = write_one(tmp_path, f">one\n{letters(600)}\n", gff3_row("one", "gene", 0, 9, "+", "ID=t") + "\n")
    refused(manifest, AnnotationError, "no exon, UTR or CDS on any contig")


@pytest.mark.parametrize(("fasta", "dropped"), [(">c\nACGT\n", 0), (f">c\n{(letters(40) + 'N' * 60) * 6}\n", 2)])
def test_a_corpus_without_training_windows_is_refused(tmp_path, fasta, dropped):
    manifest = write_one(tmp_path, fasta)
    with pytest.raises(CorpusError, match=f"no training window: .* and {dropped} windows were dropped for N"):
        build_corpus(manifest, tmp_path / "corpus", CONFIG)
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize("file", ["nibbles", "table", "facts"])
def test_a_full_disk_leaves_no_half_folder_and_a_later_call_the_same_bytes(tmp_path, monkeypatch, file):
    manifest = write_toy_project(tmp_path / "in")
    whole = folder_bytes(build_corpus(manifest, tmp_path / "whole", CONFIG).path)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if file == "nibbles":
            patch.setattr(packing, "pack", full)
        elif file == "table":
            patch.setattr(pq, "write_table", full)
        else:
            patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="the disk is full"):
            build_corpus(manifest, tmp_path / "corpus", CONFIG)
    assert {path.name for path in tmp_path.iterdir()} == {"in", "whole"}
    assert folder_bytes(build_corpus(manifest, tmp_path / "corpus", CONFIG).path) == whole


def test_an_error_in_one_assembly_keeps_the_finished_ones_for_the_next_call(tmp_path, monkeypatch):
    manifest = write_toy_project(tmp_path / "in", n_assemblies=2)
    whole = folder_bytes(build_corpus(manifest, tmp_path / "whole", CONFIG).path)
    good = (tmp_path / "in/toy1.fa").read_text()
    (tmp_path / "in/toy1.fa").write_text(good + ">late\nEFIL\n")
    with pytest.raises(FastaError, match="no nucleotide"):
        build_corpus(manifest, tmp_path / "corpus", CONFIG)
    assert not (tmp_path / "corpus").exists()
    assert (tmp_path / "corpus.partial/parts/pack/toy0.json").exists()
    (tmp_path / "in/toy1.fa").write_text(good)
    packed = []
    plain = stages.pack_assembly
    monkeypatch.setattr(stages, "pack_assembly", lambda job, note: packed.append(job.assembly.name) or plain(job, note))
    assert folder_bytes(build_corpus(manifest, tmp_path / "corpus", CONFIG).path) == whole
    assert packed == ["toy1"]
    assert not (tmp_path / "corpus.partial").exists()


def test_roles_that_changed_since_an_assembly_was_packed_are_checked_again(tmp_path):
    manifest = write_one(tmp_path, f">one\n{letters(600)}\n")
    with open(manifest, "a") as handle:
        handle.write('[[assembly]]\nspecies = "S"\nassembly = "b"\nfasta = "b.fa"\ncontigs.train = ["*"]\n')
    (tmp_path / "b.fa").write_text("")
    with pytest.raises(FastaError):
        build_corpus(manifest, tmp_path / "corpus", CONFIG)
    assert (tmp_path / "corpus.partial/parts/pack/a.json").exists()
    (tmp_path / "b.fa").write_text(f">one\n{letters(700)}\n")
    manifest.write_text(manifest.read_text().replace('contigs.train = ["*"]', 'contigs.train = ["chr9"]', 1))
    with pytest.raises(ManifestError, match="assembly 'a' names contig 'chr9', not found in"):
        build_corpus(manifest, tmp_path / "corpus", CONFIG)


def test_what_a_killed_build_left_is_not_trusted_blindly(tmp_path):
    manifest = write_toy_project(tmp_path / "in", n_assemblies=2)
    whole = folder_bytes(build_corpus(manifest, tmp_path / "whole", CONFIG).path)
    good = (tmp_path / "in/toy1.fa").read_text()
    (tmp_path / "in/toy1.fa").write_text("")
    with pytest.raises(FastaError):
        build_corpus(manifest, tmp_path / "corpus", CONFIG)
    (tmp_path / "in/toy1.fa").write_text(good)
    partial = tmp_path / "corpus.partial"
    (partial / "corpus/assemblies/toy0.nibbles").write_bytes(b"torn")
    (partial / "corpus/assemblies/.toy0.nibbles.99.tmp").write_bytes(b"torn")
    (partial / "corpus/corpus.json").write_text("{")
    (partial / "corpus/assemblies/left_out_now.nibbles").write_bytes(b"of another manifest")
    assert folder_bytes(build_corpus(manifest, tmp_path / "corpus", CONFIG).path) == whole


def test_kill_9_at_any_moment_and_the_same_command_give_the_same_bytes(tmp_path):
    manifest = write_toy_project(tmp_path / "in", contig_bp=40_000, n_assemblies=3)
    whole = folder_bytes(build_corpus(manifest, tmp_path / "whole", CONFIG).path)
    program = (
        "import sys, time, umbel.files as f, os\n"
        "plain = os.replace\n"
        "def slow(*a):\n    time.sleep(0.02); plain(*a); time.sleep(0.02)\n"
        "os.replace = slow\n"
        "from umbel.data.corpus.build import build_corpus\n"
        "from umbel.config import CorpusConfig\n"
        "print('go', flush=True)\n"
        "build_corpus(sys.argv[1], sys.argv[2], CorpusConfig(window_bp=512, overlap_bp=128))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    for wait_s in (0.03, 0.15, 0.35, 0.6):
        command = [sys.executable, "-c", program, str(manifest), str(tmp_path / "corpus")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            process.stdout.readline()
            time.sleep(wait_s)
            process.send_signal(signal.SIGKILL)
        if (tmp_path / "corpus").exists():
            assert folder_bytes(tmp_path / "corpus") == whole
    assert folder_bytes(build_corpus(manifest, tmp_path / "corpus", CONFIG).path) == whole
    assert {path.name for path in tmp_path.iterdir()} == {"in", "whole", "corpus"}


def test_an_error_in_a_worker_process_arrives_with_file_and_line(tmp_path):
    manifest = write_toy_project(tmp_path / "in", n_assemblies=2)
    (tmp_path / "in/toy1.fa").write_text(fasta_text(toy_sequences()) + ">late\nACGT\nEFIL\n")
    with pytest.raises(FastaError) as caught:
        build_corpus(manifest, tmp_path / "corpus", CONFIG, workers=2)
    assert "'E' in contig 'late' is no nucleotide letter" in str(caught.value)
    assert str(caught.value).count("toy1.fa") == 1
    assert caught.value.path == tmp_path / "in/toy1.fa"
    assert not (tmp_path / "corpus").exists()


def test_a_killed_worker_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    class Broken:
        def result(self):
            raise BrokenProcessPool

    manifest = write_toy_project(tmp_path / "in", n_assemblies=2)
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor.submit", lambda self, *args: Broken())
    monkeypatch.setattr(executors, "as_completed", list)
    with pytest.raises(RunError, match=r"a worker process was killed.* with fewer workers"):
        build_corpus(manifest, tmp_path / "corpus", CONFIG, workers=2)
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def test_an_input_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    def denied(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    manifest = write_toy_project(tmp_path)
    monkeypatch.setattr(stages, "sha256_file", denied)
    with pytest.raises(ManifestError, match=r"toy0\.fa cannot be read: Permission denied"):
        build_corpus(manifest, tmp_path / "corpus", CONFIG)


def test_skipped_annotation_rows_are_reported(tmp_path, capsys):
    manifest = write_toy_project(tmp_path)
    with open(tmp_path / "toy0.gff3", "a") as handle:
        handle.write(gff3_row("Mt", "gene", 0, 9, "+", "ID=mt") + "\n")
    corpus = build_corpus(manifest, tmp_path / "corpus", CONFIG, reporter=Reporter())
    assert corpus.facts["assemblies"][0]["annotation"]["unknown_contigs"] == {"Mt": 1}
    assert "toy0: 1 rows of the GFF3 were skipped, because the FASTA has no contig Mt" in capsys.readouterr().err


def test_the_description_holds_no_path_and_no_time(tmp_path):
    corpus = build_corpus(write_toy_project(tmp_path), tmp_path / "corpus", CONFIG)
    text = (corpus.path / "corpus.json").read_text()
    assert str(tmp_path) not in text
    assert json.loads(text)["assemblies"][0]["fasta"]["name"] == "toy0.fa"


def test_workers_must_be_at_least_one(tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        build_corpus(tmp_path / "m.toml", tmp_path / "c", CONFIG, workers=0)
