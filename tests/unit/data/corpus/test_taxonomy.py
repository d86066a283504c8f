import csv
from importlib.resources import files

import pytest

from umbel.data.corpus.taxonomy import family_of, read_taxdump, taxon
from umbel.errors import ManifestError

ROWS = [
    row
    for row in csv.reader(
        (line for line in (files("umbel.data.corpus") / "taxa.tsv").read_text().splitlines() if line[0] != "#"),
        delimiter="\t",
    )
][1:]


def test_the_table_is_whole_and_agrees_with_itself():
    assert len(ROWS) > 100
    assert len({row[0] for row in ROWS}) == len(ROWS)
    for row in ROWS:
        found = taxon(int(row[0]))
        assert found.lineage[0] == "Viridiplantae"
        assert found.lineage[-1].split()[0] == found.species.split()[0]
        assert found.order in found.lineage and found.order.endswith("ales")
        assert family_of(found.lineage) == found.family
        assert found.lineage.index(found.order) < found.lineage.index(found.family)
        assert found.ploidy is None or 1 <= found.ploidy <= 8
        # Each subgenome comes with two sets of chromosomes.
        assert not found.subgenomes or 2 * len(found.subgenomes) == found.ploidy
        assert found.is_called(found.species)


@pytest.mark.parametrize(
    ("taxid", "species", "family", "ploidy", "subgenomes"),
    [
        (3702, "Arabidopsis thaliana", "Brassicaceae", 2, ()),
        (3708, "Brassica napus", "Brassicaceae", 4, ("A", "C")),
        (4565, "Triticum aestivum", "Poaceae", 6, ("A", "B", "D")),
        (39947, "Oryza sativa", "Poaceae", 2, ()),
        (4577, "Zea mays", "Poaceae", 2, ()),
        (3635, "Gossypium hirsutum", "Malvaceae", 4, ("A", "D")),
        (38785, "Arabidopsis arenosa", "Brassicaceae", None, ()),
        (3218, "Physcomitrium patens", "Funariaceae", 1, ()),
    ],
)
def test_well_known_plants_are_what_textbooks_say(taxid, species, family, ploidy, subgenomes):
    found = taxon(taxid)
    assert (found.species, found.family, found.ploidy, found.subgenomes) == (species, family, ploidy, subgenomes)


def test_species_are_recognised_by_genus_and_epithet_and_by_other_names():
    assert taxon(3747).is_called("Fragaria × ananassa") and taxon(3747).is_called("Fragaria ×ananassa")
    assert taxon(3747).is_called("fragaria ananassa")
    assert taxon(4565).is_called("Triticum aestivum subsp. spelta")
    assert taxon(4543).is_called("Pennisetum glaucum")
    assert not taxon(4565).is_called("Triticum turgidum") and not taxon(4565).is_called("Triticum")


def test_a_taxid_that_is_not_there_is_a_key_error():
    with pytest.raises(KeyError):
        taxon(9606)


NODES = [
    (1, 1, "no rank"),
    (131567, 1, "no rank"),
    (2759, 131567, "superkingdom"),
    (33090, 2759, "kingdom"),
    (71240, 33090, "clade"),
    (3699, 71240, "order"),
    (3700, 3699, "family"),
    (3701, 3700, "genus"),
    (3702, 3701, "species"),
    (900, 3702, "varietas"),
    (562, 561, "species"),
    (561, 2, "genus"),
    (2, 131567, "superkingdom"),
]
NAMES = [
    (1, "root", "scientific name"),
    (131567, "cellular organisms", "scientific name"),
    (2759, "Eukaryota", "scientific name"),
    (33090, "Viridiplantae", "scientific name"),
    (33090, "green plants", "common name"),
    (71240, "eudicots", "scientific name"),
    (3699, "Brassicales", "scientific name"),
    (3700, "Brassicaceae", "scientific name"),
    (3701, "Arabidopsis", "scientific name"),
    (3702, "Arabidopsis thaliana", "scientific name"),
    (3702, "Arabis thaliana", "synonym"),
    (3702, "mouse-ear cress", "common name"),
    (900, "Arabidopsis thaliana var. nova", "scientific name"),
    (2, "Bacteria", "scientific name"),
    (561, "Escherichia", "scientific name"),
    (562, "Escherichia coli", "scientific name"),
]


def write_taxdump(folder):
    (folder / "nodes.dmp").write_text("".join(f"{a}\t|\t{b}\t|\t{c}\t|\tXX\t|\t0\t|\n" for a, b, c in NODES))
    (folder / "names.dmp").write_text("".join(f"{a}\t|\t{b}\t|\t\t|\t{c}\t|\n" for a, b, c in NAMES))
    return folder


def test_a_taxdump_says_the_same_as_its_tree(tmp_path):
    found = read_taxdump(write_taxdump(tmp_path), [3702, 900, 562, 12345, 10**8])
    assert sorted(found) == [562, 900, 3702]
    lineage = ("Viridiplantae", "eudicots", "Brassicales", "Brassicaceae", "Arabidopsis")
    for taxid in (900, 3702):
        assert (found[taxid].species, found[taxid].family, found[taxid].order, found[taxid].lineage) == (
            "Arabidopsis thaliana",
            "Brassicaceae",
            "Brassicales",
            lineage,
        )
        assert (found[taxid].ploidy, found[taxid].subgenomes) == (None, ())
    assert found[3702].other_names == ("Arabis thaliana",)
    assert found[900].other_names == ("Arabidopsis thaliana var. nova", "Arabis thaliana")
    assert found[900].is_called("Arabis thaliana")
    assert found[562].lineage == ("cellular organisms", "Bacteria", "Escherichia")
    assert found[562].family == ""


@pytest.mark.parametrize(
    ("file", "text", "line", "told"),
    [
        ("nodes.dmp", None, None, "no such file"),
        ("names.dmp", None, None, "no such file"),
        ("nodes.dmp", "1\t|\t1\t|\n", 1, "this line has 2 fields divided by '|', a taxdump 4 or more"),
        ("nodes.dmp", "1\t|\t1\t|\tno rank\t|\t\t|\nx\t|\t1\t|\tclade\t|\t\t|\n", 2, "the taxid 'x' is no number"),
        ("names.dmp", "-1\t|\troot\t|\t\t|\tscientific name\t|\n", 1, "the taxid '-1' is no number"),
    ],
)
def test_a_bad_taxdump_is_refused_with_file_and_line(tmp_path, file, text, line, told):
    write_taxdump(tmp_path)
    (tmp_path / file).unlink() if text is None else (tmp_path / file).write_text(text)
    with pytest.raises(ManifestError) as caught:
        read_taxdump(tmp_path, [3702])
    assert told in str(caught.value) and str(tmp_path / file) in str(caught.value)
    assert caught.value.line == line
