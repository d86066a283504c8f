import datetime
import gzip
import os

import pytest
from toys import gff3_row, toy_gff3, toy_sequences, write_toy_project

from umbel.data.corpus.adding import add_assembly
from umbel.data.corpus.assembly import Assembly
from umbel.data.corpus.manifest import read_manifest
from umbel.errors import AnnotationError, FastaError, ManifestError, OutputError
from umbel.files import sha256_file
from umbel.progress import Reporter

FASTA = ">chr1\nACGTNacgt\n>chr2\nGGCC\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.fa").write_text(FASTA)
    return tmp_path


def facts(folder, **more):
    return {"species": "Zea mays", "assembly": "B73", "fasta": folder / "a.fa", **more}


def test_a_new_manifest_has_everything_that_was_said(folder):
    (folder / "sub").mkdir()
    (folder / "sub/te.bed").write_text("chr1\t0\t4\n")
    (folder / "g.gff3").write_text(
        gff3_row("chr1", "mRNA", 0, 4, "+", "ID=t") + "\n" + gff3_row("chr1", "exon", 0, 4, "+", "Parent=t") + "\n"
    )
    said = facts(
        folder,
        gff3=folder / "g.gff3",
        repeats=folder / "sub/te.bed",
        repeat_mask="kmer",
        taxid=4577,
        lineage=("Poales", "Poaceae"),
        accession="GCA_1.1",
        cultivar='B73 "public" \\ \x7f ü',
        ploidy=2,
        subgenomes=("1", "2"),
        homeologs=r"chr(?P<group>\d)",
        licence="free",
        source="somewhere",
        retrieved="2025-01-02",
    )
    added, statistics = add_assembly(folder / "m.toml", said)
    (read,) = read_manifest(folder / "m.toml").assemblies
    assert (
        added
        == read
        == Assembly(
            species="Zea mays",
            name="B73",
            fasta=folder / "a.fa",
            gff3=folder / "g.gff3",
            licence="free",
            source="somewhere",
            accession="GCA_1.1",
            taxid=4577,
            lineage=("Poales", "Poaceae"),
            family="Poaceae",
            cultivar='B73 "public" \\ \x7f ü',
            ploidy=2,
            subgenomes=("1", "2"),
            homeologs=r"chr(?P<group>\d)",
            retrieved="2025-01-02",
            sha256=sha256_file(folder / "a.fa"),
            repeats=folder / "sub/te.bed",
            repeat_mask="kmer",
        )
    )
    assert (statistics.n_bases, statistics.n_contigs, statistics.scaffold_n50) == (13, 2, 9)
    assert 'repeats = "sub/te.bed"\n' in (folder / "m.toml").read_text()


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\r\n", "\n# a note"])
def test_what_is_there_stays_byte_for_byte(tmp_path, end):
    manifest = write_toy_project(tmp_path)
    before = "\ufeff# Öd\n".encode() + manifest.read_bytes().rstrip() + end.encode()
    manifest.write_bytes(before)
    (tmp_path / "a.fa").write_text(FASTA)
    old = read_manifest(manifest).assemblies
    added, _ = add_assembly(manifest, facts(tmp_path))
    assert manifest.read_bytes().startswith(before)
    assert read_manifest(manifest).assemblies == (*old, added)
    assert added.retrieved == datetime.date.today().isoformat()


def test_a_manifest_of_screens_alone_gets_its_first_assembly(folder):
    (folder / "m.toml").write_text('[[screen]]\nname = "cp"\nfasta = "a.fa"\n')
    add_assembly(folder / "m.toml", facts(folder))
    manifest = read_manifest(folder / "m.toml")
    assert (len(manifest.screens), len(manifest.assemblies)) == (1, 1)


def test_paths_are_those_of_the_working_directory(folder, monkeypatch):
    (folder / "in").mkdir()
    (folder / "in/b.fa").write_text(FASTA)
    monkeypatch.chdir(folder / "in")
    add_assembly("../m.toml", {"species": "S", "assembly": "a", "fasta": "b.fa"})
    assert 'fasta = "in/b.fa"' in (folder / "m.toml").read_text()


def refused(folder, kind, text, manifest="m.toml", **more):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(kind) as caught:
        add_assembly(folder / manifest, facts(folder, **more))
    assert text in str(caught.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_an_assembly_that_is_there_is_refused_and_a_changed_file_with_both_checksums(folder):
    add_assembly(folder / "m.toml", facts(folder))
    was = sha256_file(folder / "a.fa")
    refused(folder, ManifestError, "m.toml: assembly 'B73' is already there. Choose another name, or take the old one")
    (folder / "a.fa").write_text(">c\nACGT\n")
    now = sha256_file(folder / "a.fa")
    refused(
        folder,
        ManifestError,
        f"assembly 'B73' is already there, with sha256 {was}, and this file has {now}: it has changed. Choose another",
    )


def test_a_file_of_another_checksum_than_its_source_tells_is_refused(folder):
    found = sha256_file(folder / "a.fa")
    refused(folder, FastaError, f"a.fa: its sha256 is {found}, and should be {'0' * 64}. Copy", sha256="0" * 64)
    added, _ = add_assembly(folder / "m.toml", facts(folder, sha256=found.upper()))
    assert added.sha256 == found


def test_wrong_files_and_facts_leave_the_manifest_as_it_was(folder):
    (folder / "m.toml").write_text('# mine\n[[screen]]\nname = "cp"\nfasta = "a.fa"\n')
    refused(folder, ManifestError, "assemblies are added to a TOML manifest", manifest="m.csv")
    refused(folder, ManifestError, "assembly 1, taxid: 3702 is 'Arabidopsis thaliana', but the species is", taxid=3702)
    refused(folder, ManifestError, "taxid: 1 is not in our table of plants", taxid=1)
    refused(folder, ManifestError, "retrieved: 'today' is no day", retrieved="today")
    refused(folder, ManifestError, "assembly: 'B 73' cannot be a file name", assembly="B 73")
    refused(folder, ManifestError, "species is missing", species="")
    refused(folder, FastaError, "none.fa: no such file. Check the path", fasta=folder / "none.fa")
    refused(folder, FastaError, "cannot be read: Is a directory", fasta=folder)
    (folder / "te.bed").write_text("chr1\t0\t10\n")
    refused(folder, AnnotationError, "te.bed, line 1: the interval ends at 10, beyond", repeats=folder / "te.bed")
    (folder / "g.gff3").write_text(gff3_row("chr9", "mRNA", 0, 4, "+", "ID=t") + "\n")
    refused(folder, AnnotationError, "none of its contigs (chr9) is in the FASTA", gff3=folder / "g.gff3")
    (folder / "g.gff3").write_text(gff3_row("chr1", "gene", 0, 4, "+", "ID=t") + "\n")
    refused(folder, AnnotationError, "no exon, UTR or CDS on any contig of the FASTA", gff3=folder / "g.gff3")
    (folder / "a.fa").write_text(">c\nACGT\n>c\nACGT\n")
    refused(folder, FastaError, "a.fa, line 3: contig 'c' was already named in line 1")
    (folder / "a.fa").write_bytes(gzip.compress(FASTA.encode())[:-6])
    refused(folder, FastaError, "truncated")
    (folder / "m.toml").write_text("[[assembly]\n")
    refused(folder, ManifestError, "not readable as TOML")
    (folder / "m.toml").write_bytes(b"\xff")
    refused(folder, ManifestError, "not UTF-8")


def test_a_file_outside_the_manifests_folder_is_refused(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "b.fa"
    elsewhere.write_text(FASTA)
    refused(folder, ManifestError, "b.fa is outside the manifest's folder", fasta=elsewhere)


def test_a_manifest_that_is_a_folder_is_refused(folder):
    (folder / "m.toml").mkdir()
    refused(folder, ManifestError, "m.toml: cannot be read: Is a directory")


def test_a_key_that_does_not_exist_is_a_mistake_of_the_caller(folder):
    with pytest.raises(ValueError, match="colour: no key of an assembly; the keys are species, assembly"):
        add_assembly(folder / "m.toml", facts(folder, colour="red"))


def test_a_full_disk_leaves_the_manifest_as_it_was(folder, monkeypatch):
    add_assembly(folder / "m.toml", facts(folder))

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    refused(folder, OutputError, "the disk is full", assembly="other")


def test_rows_of_the_gff3_that_are_left_out_are_told(tmp_path, capsys):
    write_toy_project(tmp_path)
    (tmp_path / "a.fa").write_text("".join(f">{name}\n{text}\n" for name, text in list(toy_sequences().items())[:1]))
    (tmp_path / "a.gff3").write_text(toy_gff3())
    add_assembly(tmp_path / "m.toml", facts(tmp_path, gff3=tmp_path / "a.gff3"), Reporter())
    assert (
        "a.gff3: 28 rows are on contigs that the FASTA does not have, such as scaffold:7_A" in capsys.readouterr().err
    )
