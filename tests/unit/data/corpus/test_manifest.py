import re
from pathlib import Path

import pytest
from toys import ROLE_OF, write_toy_project

from umbel.data.corpus.assembly import Assembly, Exclusion, Screen
from umbel.data.corpus.manifest import check_unchanged, read_manifest
from umbel.errors import ManifestError
from umbel.files import sha256_file

HEAD = '[[assembly]]\nspecies = "S"\nassembly = "a"\nfasta = "a.fa"\n'
COLUMNS = "species,assembly,fasta,gff3,role,contigs"


def write_taxdump(folder):
    """A taxdump with a variety, 900, of Arabidopsis thaliana."""
    nodes = [(1, 1, ""), (33090, 1, "kingdom"), (3700, 33090, "family"), (3701, 3700, "genus"), (3702, 3701, "species")]
    names = {
        33090: "Viridiplantae",
        3700: "Brassicaceae",
        3701: "Arabidopsis",
        3702: "Arabidopsis thaliana",
        900: "nova",
    }
    rows = [*nodes, (900, 3702, "varietas")]
    (folder / "nodes.dmp").write_text("".join(f"{a}\t|\t{b}\t|\t{c}\t|\t\t|\n" for a, b, c in rows))
    (folder / "names.dmp").write_text("".join(f"{a}\t|\t{b}\t|\t\t|\tscientific name\t|\n" for a, b in names.items()))


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
        ("assembly = 3\n", "write each assembly as a table [[assembly]]"),
        ("screen = 3\n", "write each screen as a table [[screen]]"),
        (HEAD + 'colour = "red"\ncontigs.train = ["*"]\n', "assembly 1: unknown key colour"),
        (HEAD.replace('"S"', "3"), "assembly 1, species: 3 must be text in quotes"),
        (HEAD.replace('species = "S"\n', "") + 'contigs.train = ["*"]\n', "assembly 1: species is missing"),
        (HEAD + 'contigs = ["c"]\n', "write a role to names"),
        (HEAD + 'contigs.trian = ["c"]\n', "assembly 1, contigs: unknown role trian. Known here: train, valid, test"),
        (HEAD + 'contigs.train = "c"\n', "contigs.train: 'c' must be a list of names"),
        (HEAD + 'contigs.train = ["c"]\ncontigs.test = ["c"]\n', "contig 'c' is in role train and again in test"),
        (HEAD + 'contigs.train = ["*"]\ncontigs.test = ["*"]\n', "every other contig ('*') is in role train and again"),
        (HEAD.replace("a.fa", "no.fa") + 'contigs.train = ["*"]\n', "assembly 1, fasta: no file"),
        (HEAD + 'gff3 = "no.gff3"\ncontigs.train = ["*"]\n', "assembly 1, gff3: no file"),
        (HEAD.replace('"a"', '"../a"') + 'contigs.train = ["*"]\n', "'../a' cannot be a file name"),
        (HEAD + "taxid = '3702'\n", "assembly 1, taxid: '3702' must be a whole number, without quotes"),
        (HEAD + "ploidy = true\n", "assembly 1, ploidy: True must be a whole number"),
        (HEAD + "ploidy = 0\n", "assembly 1, ploidy: 0 must be 1 or more"),
        (HEAD + 'lineage = "Poaceae"\n', "assembly 1, lineage: 'Poaceae' must be a list of names in quotes"),
        (
            HEAD + 'subgenomes = ["A", "A"]\n',
            "assembly 1, subgenomes: ['A', 'A'] has an empty name, or one of them twice",
        ),
        (
            HEAD + "taxid = 1\n",
            "assembly 1, taxid: 1 is not in our table of plants. Check it, or give lineage or family",
        ),
        (HEAD + "taxid = 3702\n", "taxid: 3702 is 'Arabidopsis thaliana', but the species is 'S'. Correct one of them"),
        (
            HEAD + 'family = "Poaceae"\nlineage = ["Brassicaceae"]\n',
            "assembly 1, family: 'Poaceae' is not the family of its lineage, 'Brassicaceae'",
        ),
        (HEAD + 'retrieved = "21.11.2026"\n', "retrieved: '21.11.2026' is no day. Write it as 2026-11-21"),
        (HEAD + 'retrieved = "20261121"\n', "retrieved: '20261121' is no day"),
        (HEAD + "retrieved = 2026-11-21T00:00:00\n", "must be text in quotes"),
        (HEAD + 'sha256 = "abc"\n', "assembly 1, sha256: 'abc' is no SHA-256 of 64 hexadecimal digits"),
        (HEAD + 'homeologs = "chr("\n', "assembly 1, homeologs: 'chr(' is no regular expression: missing )"),
        (HEAD + 'homeologs = "chr(.)"\n', "assembly 1, homeologs: 'chr(.)' has no (?P<group>...)"),
        (HEAD + 'repeat_mask = "soft"\n', "repeat_mask: 'soft' is none of keep, import, kmer, none"),
        (HEAD + 'repeat_mask = "import"\n', "repeat_mask: 'import' needs repeats, the file to import from"),
        (HEAD + 'repeats = "no.bed"\n', "assembly 1, repeats: no file"),
        (
            HEAD.replace('"a.fa"', '"../a.fa"'),
            "assembly 1, fasta: ../a.fa is outside the manifest's folder. Give a path",
        ),
        (HEAD.replace('"a.fa"', '"x/../../a.fa"'), "x/../../a.fa is outside the manifest's folder"),
        (HEAD.replace('"a.fa"', '"/a.fa"'), "assembly 1, fasta: /a.fa is outside the manifest's folder"),
        (HEAD + 'gff3 = "../a"\n', "assembly 1, gff3: ../a is outside the manifest's folder"),
        (HEAD + 'repeats = "../a"\n', "assembly 1, repeats: ../a is outside the manifest's folder"),
        (
            HEAD
            + "homeologs = '(?P<group>.)(?P<subgenome>[ABD])'\n"
            + 'contigs = {train = ["7A", "*"], valid = ["6A"], test = ["7D"]}\n',
            "assembly 1, contigs: '7A' in role train and '7D' in role test are of one homeologous group, '7'",
        ),
        ("taxdump = 3\n" + HEAD, "taxdump: 3 must be text in quotes"),
        ('taxdump = "none"\n' + HEAD, "toml: taxdump: no folder"),
        ('taxdump = "../x"\n' + HEAD, "toml: taxdump: ../x is outside the manifest's folder"),
        (HEAD + '[[screen]]\nfasta = "b.fa"\n', "screen 1: name is missing"),
        (HEAD + '[[screen]]\nname = "cp"\n', "screen 1: fasta is missing"),
        (HEAD + '[[screen]]\nname = "c p"\nfasta = "b.fa"\n', "screen 1, name: 'c p' cannot be a file name"),
        (HEAD + '[[screen]]\nname = "cp"\nfasta = "c.fa"\n', "screen 1, fasta: no file"),
        (HEAD + '[[screen]]\nname = "cp"\nfasta = "../b.fa"\n', "screen 1, fasta: ../b.fa is outside"),
        (HEAD + '[[screen]]\nname = "cp"\nbed = "b.fa"\n', "screen 1: unknown key bed. Known here: name, fasta"),
        (HEAD + 2 * '[[screen]]\nname = "cp"\nfasta = "b.fa"\n', "screen 2, name: 'cp' is already there"),
        (HEAD + '[[exclude]]\nname = "e"\n', "exclude 1: give either fasta, or bed together with the assembly"),
        (HEAD + '[[exclude]]\nname = "e"\nbed = "b.fa"\n', "exclude 1: give either fasta, or bed together"),
        (HEAD + '[[exclude]]\nname = "e"\nfasta = "b.fa"\nassembly = "a"\n', "exclude 1: give either fasta, or bed"),
        (HEAD + '[[exclude]]\nname = "e"\nbed = "b.fa"\nassembly = "x"\n', "the manifest has no assembly 'x'"),
        (HEAD + 2 * '[[exclude]]\nname = "e"\nfasta = "b.fa"\n', "exclude 2, name: 'e' is already there"),
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
        (f"{COLUMNS}\nS,a,a.fa,,,c\n", 2, "role '' is none of train, valid, test"),
        (f"{COLUMNS}\nS,a,../a.fa,,train,c\n", 2, "fasta: ../a.fa is outside the manifest's folder"),
        (f"{COLUMNS},taxid\nS,a,a.fa,,train,c,x\n", 2, "taxid 'x' must be a whole number"),
        (f"{COLUMNS},taxid\nS,a,a.fa,,train,c,1\n", 2, "assembly 'a', taxid: 1 is not in our table of plants"),
        (f"{COLUMNS},taxid\nS,a,a.fa,,train,c,\nS,a,a.fa,,test,d,1\n", 3, "another taxid than in line 2"),
        (f"{COLUMNS},sha256\nS,a,a.fa,,train,c,1\n", 2, "assembly 'a', sha256: '1' is no SHA-256"),
        (f"{COLUMNS}\nS,a,no.fa,,train,c\n", 2, "no file"),
        (f'{COLUMNS}\nS,a,a.fa,,train,"c\n', 2, "not readable as CSV"),
    ],
)
def test_a_wrong_csv_manifest_is_refused_with_its_row(folder, rows, line, told):
    error = refusal(folder, rows, ".csv")
    assert told in str(error)
    assert error.line == line


def test_every_fact_is_read_from_toml_and_csv_alike(folder):
    digest = "0A" * 32
    (folder / "te.out").write_text("")
    (folder / "m.toml").write_text(
        HEAD.replace('"S"', '"Triticum aestivum"')
        + 'accession = "GCA_1.1"\ntaxid = 4565\nlineage = ["Poales", "Poaceae"]\ncultivar = "Chinese Spring"\n'
        + 'ploidy = 4\nsubgenomes = ["A", "B"]\nretrieved = 2026-11-21\nlicence = "free"\nsource = "somewhere"\n'
        + f"homeologs = '(?P<group>.)[AB]'\nsha256 = '{digest}'\nrepeats = 'te.out'\nrepeat_mask = 'kmer'\n"
        + 'contigs = {train = ["7A", "7B"], test = ["6A"]}\n'
    )
    columns = "accession,taxid,lineage,cultivar,ploidy,subgenomes,retrieved,licence,source,homeologs,sha256,repeats"
    facts = "GCA_1.1,4565,Poales; Poaceae,Chinese Spring,4,A;B,2026-11-21,free,somewhere,(?P<group>.)[AB]"
    (folder / "m.csv").write_text(
        f"{COLUMNS},{columns},repeat_mask\n"
        f"Triticum aestivum,a,a.fa,,train,7A;7B,{facts},{digest},te.out,kmer\n"
        f"Triticum aestivum,a,a.fa,,test,6A,{facts},{digest},te.out,kmer\n"
    )
    (one,), (two,) = (read_manifest(folder / name).assemblies for name in ("m.toml", "m.csv"))
    assert one == two
    assert one == Assembly(
        species="Triticum aestivum",
        name="a",
        fasta=folder / "a.fa",
        licence="free",
        source="somewhere",
        contigs={"train": ("7A", "7B"), "test": ("6A",)},
        accession="GCA_1.1",
        taxid=4565,
        lineage=("Poales", "Poaceae"),
        family="Poaceae",
        cultivar="Chinese Spring",
        ploidy=4,
        subgenomes=("A", "B"),
        homeologs="(?P<group>.)[AB]",
        retrieved="2026-11-21",
        sha256=digest.lower(),
        repeats=folder / "te.out",
        repeat_mask="kmer",
    )


def only(folder, more, species="S"):
    """The one assembly of a TOML manifest with these lines."""
    (folder / "m.toml").write_text(HEAD.replace('"S"', f'"{species}"') + more)
    return read_manifest(folder / "m.toml").assemblies[0]


def test_what_a_taxid_says_is_filled_in_where_the_manifest_is_silent(folder):
    found = only(folder, "taxid = 3708\n", "Brassica napus")
    assert (found.family, found.ploidy, found.subgenomes) == ("Brassicaceae", 4, ("A", "C"))
    assert found.lineage[0] == "Viridiplantae" and found.lineage[-1] == "Brassica"
    found = only(folder, 'taxid = 3708\nfamily = "Cruciferae"\nploidy = 2\n', "Brassica napus")
    assert (found.family, found.ploidy, found.subgenomes) == ("Cruciferae", 2, ("A", "C"))
    assert only(folder, 'lineage = ["Poales", "Poaceae", "Zea"]\n').family == "Poaceae"
    assert (only(folder, "").family, only(folder, "").ploidy) == ("", None)


def test_a_taxid_that_our_table_lacks_is_taken_with_a_family_or_from_a_taxdump(folder):
    assert only(folder, 'taxid = 900\nfamily = "Brassicaceae"\n').taxid == 900
    write_taxdump(folder)
    (folder / "dump").symlink_to(folder)
    (folder / "m.toml").write_text(
        'taxdump = "dump"\n' + HEAD.replace('"S"', '"Arabidopsis thaliana"') + "taxid = 900\n"
    )
    (found,) = read_manifest(folder / "m.toml").assemblies
    assert (found.family, found.lineage[-1]) == ("Brassicaceae", "Arabidopsis")
    assert "taxid: 900 is 'Arabidopsis thaliana', but the species is 'S'" in str(
        refusal(folder, 'taxdump = "dump"\n' + HEAD + "taxid = 900\n")
    )
    assert "taxid: 901 is not in our table" in str(refusal(folder, 'taxdump = "dump"\n' + HEAD + "taxid = 901\n"))


def test_repeats_are_imported_where_they_are_given(folder):
    assert only(folder, "").repeat_mask == "keep"
    assert only(folder, 'repeats = "b.fa"\n').repeat_mask == "import"
    assert only(folder, 'repeats = "b.fa"\nrepeat_mask = "none"\n').repeat_mask == "none"


def test_roles_may_be_left_to_the_settings(folder):
    assert only(folder, "").contigs == {}
    (folder / "m.csv").write_text(f"{COLUMNS}\nS,a,a.fa,,,\n")
    assert read_manifest(folder / "m.csv").assemblies[0].contigs == {}


def test_a_link_inside_the_folder_may_lead_out_of_it(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "x.fa"
    elsewhere.write_text(">c\nACGT\n")
    (folder / "link.fa").symlink_to(elsewhere)
    (folder / "m.toml").write_text(HEAD.replace("a.fa", "sub/../link.fa"))
    (folder / "sub").mkdir()
    assert read_manifest(folder / "m.toml").assemblies[0].fasta.read_text() == ">c\nACGT\n"


def test_screens_and_exclusions_are_read_in_order(folder):
    (folder / "m.toml").write_text(
        HEAD
        + '[[screen]]\nname = "plastid"\nfasta = "b.fa"\n[[screen]]\nname = "phix"\nfasta = "a.fa"\n'
        + '[[exclude]]\nname = "bench"\nfasta = "b.fa"\n[[exclude]]\nname = "loci"\nbed = "b.fa"\nassembly = "a"\n'
    )
    manifest = read_manifest(folder / "m.toml")
    assert manifest.screens == (Screen("plastid", folder / "b.fa"), Screen("phix", folder / "a.fa"))
    assert manifest.exclusions == (
        Exclusion("bench", fasta=folder / "b.fa"),
        Exclusion("loci", bed=folder / "b.fa", assembly="a"),
    )


def test_homeologous_groups_are_those_of_the_expression():
    wheat = Assembly("T", "a", Path("a.fa"), homeologs=r"chr(?P<group>\d)(?P<subgenome>[ABD])|(?P<rest>Un)")
    assert [wheat.homeolog_group(name) for name in ("chr1A", "chr1D", "chr7B", "xchr1A", "Un")] == [
        "1",
        "1",
        "7",
        "",
        "",
    ]
    assert Assembly("T", "a", Path("a.fa")).homeolog_group("chr1A") == ""


def test_homeologous_contigs_of_one_role_are_fine_and_the_rest_is_for_the_build(folder):
    more = "homeologs = '(?P<group>.)[AB]'\n" + 'contigs = {train = ["*"], test = ["7A", "7B"], valid = ["6A"]}\n'
    assert only(folder, more).contigs["test"] == ("7A", "7B")


def test_a_changed_file_is_refused_with_both_checksums(folder):
    was = sha256_file(folder / "a.fa")
    found = only(folder, f'sha256 = "{was}"\n')
    assert check_unchanged(folder / "m.toml", found) == was
    (folder / "a.fa").write_text(">c\nACGG\n")
    now = sha256_file(folder / "a.fa")
    with pytest.raises(
        ManifestError, match=f"'a': .*a.fa has changed since it was added: its sha256 was {was} and is now {now}"
    ):
        check_unchanged(folder / "m.toml", found)
    with pytest.raises(ManifestError, match=f"was {was} and is now {'0' * 64}"):
        check_unchanged(folder / "m.toml", found, "0" * 64)
    assert check_unchanged(folder / "m.toml", only(folder, "")) == now
    (folder / "a.fa").unlink()
    with pytest.raises(ManifestError, match=r"fasta .*a\.fa cannot be read: No such file"):
        check_unchanged(folder / "m.toml", found)


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
