import re
from pathlib import Path

import pytest
from toys import ROLE_OF, write_toy_project

from umbel.data.corpus.manifest import Assembly, read_manifest
from umbel.errors import ManifestError

HEAD = '[[assembly]]\nspecies = "S"\nassembly = "a"\nfasta = "a.fa"\n'
COLUMNS = "species,assembly,fasta,gff3,role,contigs"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.fa").write_text(">c\nACGT\n")
    (tmp_path / "b.fa").write_text(">c\nACGT\n")
    return tmp_path


def refusal(folder, text, suffix=".toml"):
    path = folder / f"m{suffix}"
    path.write_text(text)
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)
    return caught.value


def test_toml_and_csv_say_the_same(tmp_path):
    path = write_toy_project(tmp_path, n_assemblies=2)
    assert read_manifest(path).assemblies == read_manifest(path.with_suffix(".csv")).assemblies


def test_the_toy_manifest_is_read_as_written(tmp_path):
    (assembly,) = read_manifest(write_toy_project(tmp_path)).assemblies
    assert (assembly.species, assembly.name) == ("Planta ludens", "toy0")
    assert assembly.fasta == tmp_path / "toy0.fa" and assembly.gff3 == tmp_path / "toy0.gff3"
    assert {contig: assembly.role_of(contig) for contig in ROLE_OF} == ROLE_OF


def test_a_star_means_every_contig_that_no_role_names(tmp_path):
    assembly = Assembly("S", "a", tmp_path, contigs={"train": ("*",), "test": ("x",)})
    assert (assembly.role_of("x"), assembly.role_of("y")) == ("test", "train")
    assert assembly.named_contigs == ("x",)


def test_csv_from_a_spreadsheet_with_byte_order_mark_and_blanks_is_read(folder):
    path = folder / "m.csv"
    text = "\ufeff" + COLUMNS.replace(",", ", ") + "\r\nS,a,a.fa,, train ,c; d\r\n"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_manifest(path).assemblies[0].contigs == {"train": ("c", "d")}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[assembly]\n", "not readable as TOML"),
        ("", "names no assembly"),
        ("colour = 1\n", "unknown key colour. Known here: assembly"),
        ("assembly = 3\n", "write each assembly as a table"),
        (HEAD + 'colour = "red"\ncontigs.train = ["*"]\n', "assembly 1: unknown key colour"),
        (HEAD.replace('"S"', "3"), "assembly 1, species: 3 must be text in quotes"),
        (HEAD.replace('species = "S"\n', "") + 'contigs.train = ["*"]\n', "assembly 1: species is missing"),
        (HEAD, "assembly 1: no contig has a role"),
        (HEAD + 'contigs = ["c"]\n', "write a role to names"),
        (HEAD + 'contigs.trian = ["c"]\n', "assembly 1, contigs: unknown role trian. Known here: train, valid, test"),
        (HEAD + 'contigs.train = "c"\n', "contigs.train: 'c' must be a list of names"),
        (HEAD + 'contigs.train = ["c"]\ncontigs.test = ["c"]\n', "contig 'c' is in role train and again in test"),
        (HEAD + 'contigs.train = ["*"]\ncontigs.test = ["*"]\n', "every other contig ('*') is in role train and again"),
        (HEAD.replace("a.fa", "no.fa") + 'contigs.train = ["*"]\n', "assembly 1, fasta: no file"),
        (HEAD + 'gff3 = "no.gff3"\ncontigs.train = ["*"]\n', "assembly 1, gff3: no file"),
        (HEAD.replace('"a"', '"../a"') + 'contigs.train = ["*"]\n', "'../a' cannot be a file name"),
        (2 * (HEAD + 'contigs.train = ["*"]\n'), "assembly 2, assembly: 'a' is already there"),
    ],
)
def test_a_wrong_toml_manifest_is_refused_with_its_key(folder, text, told):
    assert told in str(refusal(folder, text))


@pytest.mark.parametrize(
    ("rows", "line", "told"),
    [
        ("species,assembly,fasta\nS,a,a.fa\n", 1, "no column gff3, role, contigs"),
        (f"{COLUMNS},colour\n", 1, "unknown column colour"),
        (f"{COLUMNS}\n", None, "names no assembly"),
        (f"{COLUMNS}\nS,a,a.fa,,train\n", 2, "not as many fields as the 6 columns"),
        (f"{COLUMNS}\nS,a,a.fa,,train,c,d\n", 2, "not as many fields as the 6 columns"),
        (f"{COLUMNS}\nS,a,a.fa,,trian,c\n", 2, "role 'trian' is none of train, valid, test"),
        (f"{COLUMNS}\nS,a,a.fa,,train,c\nS,a,b.fa,,test,d\n", 3, "another fasta than in line 2"),
        (f"{COLUMNS}\nS,a,a.fa,,train,c\nS,a,a.fa,,train,d\n", 3, "a second row for role train"),
        (f"{COLUMNS}\nS,a,a.fa,,train,c\nS,a,a.fa,,test,c;d\n", 2, "contig 'c' is in role train and again in test"),
        (f"{COLUMNS}\nS,a,,,train,c\n", 2, "fasta is missing"),
        (f"{COLUMNS}\nS,a,no.fa,,train,c\n", 2, "no file"),
        (f'{COLUMNS}\nS,a,a.fa,,train,"c\n', 2, "not readable as CSV"),
    ],
)
def test_a_wrong_csv_manifest_is_refused_with_its_row(folder, rows, line, told):
    error = refusal(folder, rows, ".csv")
    assert told in str(error)
    assert error.line == line


def test_a_manifest_that_is_not_there_not_text_or_of_no_known_kind_is_refused(folder):
    with pytest.raises(ManifestError, match="no such file"):
        read_manifest(folder / "none.toml")
    with pytest.raises(ManifestError, match=r"a manifest is a \.toml or a \.csv file"):
        read_manifest(folder / "a.fa")
    (folder / "m.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="not UTF-8"):
        read_manifest(folder / "m.csv")
    (folder / "d.toml").mkdir()
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(folder / "d.toml")


def test_both_manifests_of_the_guide_are_read_and_say_the_same(tmp_path):
    guide = (Path(__file__).parents[4] / "docs/guide/corpus.md").read_text()
    toml = re.search(r"```toml\n(.*?)```", guide, re.DOTALL)[1]
    table = re.search(r"```\n(species,.*?)```", guide, re.DOTALL)[1]
    for name in ("tair10.fa.gz", "tair10.gff3.gz"):
        (tmp_path / name).write_text("only has to be there")
    (tmp_path / "m.toml").write_text(toml)
    (tmp_path / "m.csv").write_text(table)
    (one,), (two,) = (read_manifest(tmp_path / name).assemblies for name in ("m.toml", "m.csv"))
    assert one.contigs == two.contigs == {"train": ("*",), "valid": ("NC_003075.7",), "test": ("NC_003076.8",)}
    assert (one.species, one.name, one.fasta, one.gff3) == (two.species, two.name, two.fasta, two.gff3)
    assert one.licence and one.source
