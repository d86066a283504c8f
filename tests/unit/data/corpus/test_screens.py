"""Organelle, contaminant and benchmark sequences in assemblies: planted ones are found, where they are."""

from dataclasses import replace

import numpy as np
import pytest
from packed import mutated, random_bases, write_packed

from umbel.data.corpus import screens
from umbel.data.corpus.arrays import ArrayFile
from umbel.data.corpus.screens import (
    CONTIG_SCALED,
    KmerSetJob,
    ScreenJob,
    find_stretches,
    hit_runs,
    hits_in,
    load_kmer_set,
    screen_contigs,
    write_kmer_set,
)
from umbel.errors import FastaError
from umbel.genome.sequence import decode, revcomp


def write_fasta(path, records):
    path.write_text("".join(f">r{number}\n{decode(codes)}\n" for number, codes in enumerate(records)))
    return path


def test_contigs_of_an_organelle_have_most_of_their_kmers_in_it(tmp_path):
    organelle, nuclear = random_bases(40_000, 1), random_bases(60_000, 2)
    inserted = np.concatenate((nuclear[:30_000], organelle[:6_000], nuclear[30_000:]))
    relative = revcomp(mutated(organelle[5_000:35_000], 0.005, 3))
    toy = write_packed(tmp_path / "a.nibbles", [nuclear, organelle[1000:], relative, inserted, random_bases(20, 4)])
    told = write_kmer_set(
        KmerSetJob((write_fasta(tmp_path / "o.fa", [organelle]),), tmp_path / "o.kmers", scaled=CONTIG_SCALED)
    )
    assert abs(told["n_kmers"] - 40_000 / 16) < 250 and told["n_records"] == 1
    hits = hits_in(toy, load_kmer_set(tmp_path / "o.kmers"))
    shares = hits[:4, 0] / hits[:4, 1]
    assert shares[0] == 0 and shares[1] == 1
    assert abs(shares[2] - 0.995**31) < 0.05
    assert abs(shares[3] - 6 / 66) < 0.02
    assert hits[4].tolist() == [0, 0]
    out = tmp_path / "a.hits"
    assert screen_contigs(ScreenJob(toy, tmp_path / "o.kmers", out)) == {
        "hits": int(hits[:, 0].sum()),
        "asked": int(hits[:, 1].sum()),
    }
    assert ArrayFile(out).read("hits").tolist() == hits[:, 0].tolist()
    assert ArrayFile(out).read("asked").tolist() == hits[:, 1].tolist()


@pytest.mark.parametrize("piece_bp", [501, 1 << 21])
def test_benchmark_sequences_are_found_on_both_strands_to_the_base(tmp_path, piece_bp, monkeypatch):
    monkeypatch.setattr(screens, "PIECE_BP", piece_bp)
    tests = [random_bases(170, seed) for seed in range(3)]
    # One substitution in the middle leaves 31 k-mers out and 0 to 30 bases uncovered on either side of it.
    tests[1][80] = (tests[1][80] + 1) % 4
    given = tests[1].copy()
    given[80] = (given[80] + 1) % 4
    spacer = [random_bases(1000, 10 + i) for i in range(4)]
    contig = np.concatenate((spacer[0], tests[0], spacer[1], revcomp(given), spacer[2], tests[2], spacer[3]))
    toy = write_packed(tmp_path / "a.nibbles", [random_bases(3000, 20), contig, random_bases(5, 21)])
    write_kmer_set(KmerSetJob((write_fasta(tmp_path / "b.fa", tests),), tmp_path / "b.kmers"))
    runs = list(hit_runs(toy, load_kmer_set(tmp_path / "b.kmers")))
    assert [len(found) for found in runs] == [0, 3, 0]
    wanted = np.array([[1000, 1170], [2170, 2340], [3340, 3510]])
    # A random base may go on with the sequence by chance, but not with 31 of it.
    assert runs[1].tolist() == wanted.tolist()
    out = tmp_path / "a.runs"
    assert find_stretches(ScreenJob(toy, tmp_path / "b.kmers", out)) == {"n_runs": 3, "n_bases": 510}
    columns = [ArrayFile(out).read(name).tolist() for name in ("contig", "start", "end")]
    assert columns == [[1, 1, 1], *wanted.T.tolist()]


def test_nothing_found_is_an_empty_table(tmp_path):
    toy = write_packed(tmp_path / "a.nibbles", [random_bases(3000, 20)])
    write_kmer_set(KmerSetJob((write_fasta(tmp_path / "b.fa", [random_bases(99, 1)]),), tmp_path / "b.kmers"))
    assert find_stretches(ScreenJob(toy, tmp_path / "b.kmers", tmp_path / "o")) == {"n_runs": 0, "n_bases": 0}
    assert ArrayFile(tmp_path / "o").length("contig") == 0


def test_records_without_kmers_are_counted_and_files_without_any_refused(tmp_path):
    good = write_fasta(tmp_path / "a.fa", [random_bases(40, 1), random_bases(30, 2), np.full(50, 4, np.uint8)])
    job = KmerSetJob((good,), tmp_path / "o")
    assert write_kmer_set(job) == {"n_kmers": 10, "n_records": 3, "n_without": 2}
    bad = write_fasta(tmp_path / "b.fa", [random_bases(30, 2)])
    (tmp_path / "o").unlink()
    with pytest.raises(FastaError, match=r"b\.fa: no record has a 31-mer to be found by \(one in 1 is kept\)\. Give"):
        write_kmer_set(replace(job, fasta=(good, bad)))
    assert not (tmp_path / "o").exists()


def test_many_records_are_made_into_one_set(tmp_path, monkeypatch):
    monkeypatch.setattr(screens, "_MOST_WAITING", 100)
    records = [random_bases(60, seed) for seed in range(20)] * 2
    told = write_kmer_set(KmerSetJob((write_fasta(tmp_path / "a.fa", records),), tmp_path / "o"))
    assert told == {"n_kmers": 20 * 30, "n_records": 40, "n_without": 0}
