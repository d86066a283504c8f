"""What is drawn: classes against whole translated proteins, equal numbers from each gene, alleles by frequency."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from planted_genes import OTHER_STRAND, effect, write_planted_genes

from umbel.errors import AnnotationError, ConfigError, VcfError
from umbel.evaluate.zero_shot.allele_rows import draw_from_alleles
from umbel.evaluate.zero_shot.coding_rows import draw_from_genes
from umbel.evaluate.zero_shot.rows import KEYS, N_FOLDS
from umbel.evaluate.zero_shot.settings import ZeroShotSettings
from umbel.genome.reference import Reference

SETTINGS = ZeroShotSettings(n_per_class=40, per_gene=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("genes")


@pytest.fixture(scope="module")
def planted(folder):
    return write_planted_genes(folder)


@pytest.fixture(scope="module")
def drawn(planted, folder):
    with Reference.open(folder / "genes.fa") as reference:
        return draw_from_genes(reference, folder / "genes.gff3", SETTINGS)


def test_classes_are_what_the_proteins_say(drawn, planted):
    rows = drawn.rows
    assert len(rows) == 3 * 40
    for i in range(len(rows)):
        gene = rows.clusters[rows.cluster[i]]
        contig, strand, _ = planted["genes"][gene]
        letters, position = planted["contigs"][contig], int(rows.position[i])
        assert rows.contigs[rows.contig[i]] == contig
        assert letters[position] == "ACGT"[rows.ref[i]]
        assert effect(planted, gene, position, "ACGT"[rows.alt[i]]) == rows.classes[rows.label[i]]
        own = letters[position - 1 : position + 2], "ACGT"[rows.alt[i]]
        around, alt = own if strand == "+" else tuple(text.translate(OTHER_STRAND)[::-1] for text in own)
        assert around == "".join("ACGT"[each[i]] for each in (rows.left, rows.own_ref, rows.right))
        assert alt == "ACGT"[rows.own_alt[i]]
    assert (np.diff(rows.contig) >= 0).all()
    assert (np.diff(rows.position)[np.diff(rows.contig) == 0] >= 0).all()
    assert {planted["genes"][name][1] for name in rows.clusters} == {"+", "-"}


def test_each_gene_gives_as_many_of_every_class(drawn):
    rows = drawn.rows
    per_gene = Counter(zip(rows.cluster.tolist(), rows.label.tolist(), strict=True))
    sizes = [{per_gene[gene, label] for label in range(3)} for gene in range(len(rows.clusters))]
    assert all(len(size) == 1 for size in sizes)
    assert sorted(size.pop() for size in sizes) == [1] + [3] * 13
    assert drawn.facts["genes_used"] == 14
    places = list(zip(rows.contig, rows.position, rows.alt, strict=True))
    assert len(set(places)) == len(places)


def test_counts_are_of_all_substitutions_of_the_genes(drawn, planted):
    rows = drawn.rows
    counts = {name: np.zeros_like(value) for name, value in drawn.counts.items()}
    kinds = {}
    for number, gene in enumerate(rows.clusters):
        contig, strand, parts = planted["genes"][gene]
        letters = planted["contigs"][contig]
        positions = [p for start, end in parts for p in range(start, end)]
        for place, position in enumerate(positions[::-1] if strand == "-" else positions):
            if 3 <= place < len(positions) - 3:
                for alt in "ACGT":
                    if alt != letters[position]:
                        kind = ["synonymous", "missense", "nonsense"].index(effect(planted, gene, position, alt))
                        around = letters[position - 1 : position + 2]
                        if strand == "-":
                            around, alt = around.translate(OTHER_STRAND)[::-1], alt.translate(OTHER_STRAND)
                        left, ref, right = ("ACGT".index(base) for base in around)
                        changed = "ACGT".index(alt)
                        key = {"substitution": 4 * ref + changed, "frame": 16 * (place % 3) + 4 * ref + changed}
                        key["context"] = (key["substitution"] * 4 + left) * 4 + right
                        for name, value in key.items():
                            counts[name][number % N_FOLDS, value, kind] += 1
                        kinds[contig, position, changed if strand == "+" else 3 - changed] = (kind, key)
    for name, value in counts.items():
        np.testing.assert_array_equal(drawn.counts[name], value)
    for i in range(len(rows)):
        kind, key = kinds[rows.contigs[rows.contig[i]], int(rows.position[i]), int(rows.alt[i])]
        assert kind == rows.label[i]
        assert {name: int(KEYS[name](rows)[i]) for name in key} == key


def test_the_seed_decides(folder, drawn):
    with Reference.open(folder / "genes.fa") as reference:
        again = draw_from_genes(reference, folder / "genes.gff3", SETTINGS)
        other = draw_from_genes(reference, folder / "genes.gff3", replace(SETTINGS, seed=1))
        only = draw_from_genes(reference, folder / "genes.gff3", replace(SETTINGS, contigs=("two",), n_per_class=20))
    np.testing.assert_array_equal(again.rows.position, drawn.rows.position)
    assert again.rows.clusters == drawn.rows.clusters
    assert other.rows.clusters != drawn.rows.clusters
    assert set(only.rows.contig.tolist()) == {1}


def test_broken_genes_shared_bases_and_n_are_left_out(tmp_path):
    planted = write_planted_genes(tmp_path, n_genes=12)
    contig, strand, parts = planted["genes"]["gene0"]
    letters = planted["contigs"][contig]
    # Without its start codon.
    broken = letters[: parts[0][0]] + "CTG" + letters[parts[0][0] + 3 :]
    # An N inside gene 4.
    spot = planted["genes"]["gene4"][2][0][0] + 9
    broken = broken[:spot] + "N" + broken[spot + 1 :]
    (tmp_path / "genes.fa").write_text(f">one\n{broken}\n>two\n{planted['contigs']['two']}\n")
    # Another gene on top of the first part of gene 1.
    start, end = planted["genes"]["gene1"][2][0]
    extra = f"two\t.\tCDS\t{start + 1}\t{end}\t.\t-\t.\tParent=top\ntwo\t.\tgene\t{start + 1}\t{end}\t.\t-\t.\tID=top\n"
    with open(tmp_path / "genes.gff3", "a") as handle:
        handle.write(extra)
    settings = ZeroShotSettings(n_per_class=500, per_gene=500)
    with Reference.open(tmp_path / "genes.fa") as reference:
        drawn = draw_from_genes(reference, tmp_path / "genes.gff3", settings)
    assert strand == "+"
    assert drawn.facts["genes_left_out"]["no start codon"] >= 1
    assert "gene0" not in drawn.rows.clusters
    assert "top" not in drawn.rows.clusters
    assert not ((drawn.rows.contig == 1) & (drawn.rows.position >= start) & (drawn.rows.position < end)).any()
    assert not ((drawn.rows.contig == 0) & (abs(drawn.rows.position - spot) <= 1)).any()
    assert drawn.facts["per_class"] < drawn.facts["asked_per_class"] == 500


def test_what_genes_cannot_give_is_refused(folder, planted):
    with Reference.open(folder / "genes.fa") as reference:
        for settings, message in (
            (
                replace(SETTINGS, n_per_class=5),
                "24 genes give only 5 substitutions of each class, and 20 are the least",
            ),
            (
                replace(SETTINGS, contigs=("three",)),
                "--contig three: the FASTA has no such contig; there are, for example",
            ),
        ):
            with pytest.raises(AnnotationError, match=message):
                draw_from_genes(reference, folder / "genes.gff3", settings)
    with pytest.raises(ConfigError, match="per_gene is 0: give 1 or more"):
        ZeroShotSettings(per_gene=0)
    with pytest.raises(ConfigError, match=r"rare_af 0\.1 and common_af 0\.05: give frequencies from 0 to 1, the rare"):
        ZeroShotSettings(rare_af=0.1)


def vcf_of(folder, records):
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    lines += ["\t".join(map(str, record)) for record in records]
    path = folder / "alleles.vcf"
    path.write_text("\n".join(lines) + "\n")
    return path


def record(planted, contig, position, alt, info):
    ref = planted["contigs"][contig][position]
    return (contig, position + 1, ".", ref, alt, ".", ".", info)


def test_alleles_are_common_or_rare(folder, planted):
    letters = planted["contigs"]["one"]
    records, expected = [], {}
    for i in range(60):
        position = 5 + 7 * i
        alt = "ACGT"[("ACGT".index(letters[position]) + 1 + i % 3) % 4]
        info = ("AC=1;AN=40", "AC=8;AN=40", "AF=0.2", "AC=40;AN=40", "AC=2;AN=100")[i % 5]
        records.append(record(planted, "one", position, alt, info))
        if i % 5 < 3:
            expected[position] = "rare" if i % 5 == 0 else "common"
    wrong = "ACGT"[("ACGT".index(letters[500]) + 1) % 4]
    records += [
        ("one", 501, ".", wrong, letters[500], ".", ".", "AF=0.5"),
        ("one", 502, ".", letters[501], letters[501] + "A", ".", ".", "AF=0.5"),
        ("nine", 5, ".", "A", "C", ".", ".", "AF=0.5"),
        ("one", 1, ".", letters[0], "ACGT"["ACGT".index(letters[0]) - 1], ".", ".", "AF=0.5"),
        record(planted, "one", 510, "ACGT"["ACGT".index(letters[510]) - 1], "."),
    ]
    path = vcf_of(folder, records)
    with Reference.open(folder / "genes.fa") as reference:
        with pytest.raises(VcfError, match="it has 24 common and 12 rare single-base alleles, and 20 of each"):
            draw_from_alleles(reference, path, ZeroShotSettings())
        drawn = draw_from_alleles(reference, path, ZeroShotSettings(rare_af=0.03, block_bp=50))
    rows = drawn.rows
    assert (drawn.facts["common"], drawn.facts["rare"], drawn.facts["per_class"]) == (24, 24, 24)
    for i, position in enumerate(rows.position.tolist()):
        assert rows.classes[rows.label[i]] == expected.get(position, "rare")
        assert rows.own_ref[i] in (1, 3)
        assert rows.clusters[rows.cluster[i]] == f"one:{position // 50 * 50 + 1}"
        around = letters[position - 1 : position + 2]
        if letters[position] in "AG":
            around = around.translate(OTHER_STRAND)[::-1]
        assert around == "".join("ACGT"[each[i]] for each in (rows.left, rows.own_ref, rows.right))
    assert drawn.facts["alleles_left_out"] == {
        "REF is not what the reference has": 1,
        "beside an N or an end of the contig": 1,
        "no frequency": 1,
        "not a single base for another": 1,
        "not on the reference": 1,
        "of all samples, or of none": 12,
    }
    assert not rows.is_coding
    assert set(drawn.counts) == {"substitution", "context"}
    assert drawn.counts["substitution"].sum() == 48


def test_a_file_without_frequencies_is_refused(folder, planted):
    alt = "ACGT"["ACGT".index(planted["contigs"]["one"][20]) - 1]
    path = vcf_of(folder, [record(planted, "one", 20, alt, ".")])
    with Reference.open(folder / "genes.fa") as reference, pytest.raises(VcfError, match="1 alleles have neither AC"):
        draw_from_alleles(reference, path, ZeroShotSettings())
