"""Transcripts of GFF3, and what is refused."""

import pytest
from toys import gff3_row

from umbel.errors import AnnotationError
from umbel.genome.transcripts import read_transcripts


def read(tmp_path, rows, lengths=None):
    path = tmp_path / "a.gff3"
    path.write_text("\n".join(rows) + "\n")
    return read_transcripts(path, lengths or {"c": 100})


def test_parts_of_every_kind_make_the_exons(tmp_path):
    rows = [
        gff3_row("c", "mRNA", 0, 60, "+", "ID=t"),
        gff3_row("c", "three_prime_UTR", 50, 60, "+", "Parent=t"),
        gff3_row("c", "CDS", 40, 50, "+", "Parent=t"),
        gff3_row("c", "five_prime_UTR", 0, 5, "+", "Parent=t"),
        gff3_row("c", "CDS", 5, 20, "+", "Parent=t").replace("\t0\t", "\t.\t"),
    ]
    one = read(tmp_path, rows).transcripts[0]
    assert one.exons == ((0, 20), (40, 60))
    assert (one.cds, one.phases) == (((5, 20), (40, 50)), (None, 0))
    assert one.coding == (5, 50)
    assert (one.start, one.end) == (0, 60)


def test_the_top_of_what_has_parts_is_a_gene(tmp_path):
    rows = [
        gff3_row("c", "gene", 0, 60, "-", "ID=g"),
        gff3_row("c", "mRNA", 5, 60, "-", "ID=t;Parent=g"),
        gff3_row("c", "exon", 5, 60, "-", "Parent=t"),
        # Nothing below it.
        gff3_row("c", "pseudogene", 70, 90, "-", "ID=p"),
    ]
    found = read(tmp_path, rows)
    assert [(gene.start, gene.end, gene.strand) for gene in found.genes] == [(0, 60, "-")]
    assert [one.name for one in found.transcripts] == ["t"]


def test_a_transcript_without_cds_takes_the_coding_bounds_below_it(tmp_path):
    rows = [
        gff3_row("c", "gene", 0, 60, "+", "ID=g"),
        gff3_row("c", "exon", 0, 60, "+", "Parent=g"),
        gff3_row("c", "mRNA", 0, 60, "+", "ID=t;Parent=g"),
        gff3_row("c", "CDS", 9, 30, "+", "Parent=t"),
    ]
    found = {one.name: one for one in read(tmp_path, rows).transcripts}
    assert found["g"].coding == found["t"].coding == (9, 30)
    assert found["g"].cds == ()


def test_strands_that_differ_and_contigs_that_differ_are_told_by_an_empty_strand(tmp_path):
    rows = [
        gff3_row("c", "mRNA", 0, 10, "+", "ID=t"),
        gff3_row("d", "mRNA", 0, 10, "+", "ID=t"),
        gff3_row("c", "exon", 0, 10, "+", "Parent=t"),
        gff3_row("d", "exon", 0, 10, "+", "Parent=t"),
        gff3_row("d", "mRNA", 20, 30, "?", "ID=u"),
        gff3_row("d", "exon", 20, 30, "-", "Parent=u"),
    ]
    found = read(tmp_path, rows, {"c": 100, "d": 100})
    assert [(one.name, one.contig, one.strand) for one in found.transcripts] == [
        ("t", "c", ""),
        ("t", "d", ""),
        ("u", "d", "-"),
    ]
    assert found.annotated == {"c", "d"}


def test_parts_without_a_parent_are_a_gene_of_their_own(tmp_path):
    rows = [
        gff3_row("c", "CDS", 0, 9, "-", "ID=a"),
        gff3_row("c", "CDS", 20, 30, "-", "ID=a"),
        gff3_row("c", "exon", 50, 60, "+", "Note=none"),
    ]
    found = read(tmp_path, rows)
    assert [(one.name, one.strand, one.exons, one.coding) for one in found.transcripts] == [
        ("a", "-", ((0, 9), (20, 30)), (0, 30)),
        ("line 3", "+", ((50, 60),), None),
    ]
    assert [(gene.start, gene.end, gene.strand) for gene in found.genes] == [(0, 30, "-"), (50, 60, "+")]


def test_what_is_wrong_is_told_with_its_line(tmp_path):
    with pytest.raises(AnnotationError, match=r"line 2: the exon has Parent=u, but no feature has that ID"):
        read(tmp_path, [gff3_row("c", "mRNA", 0, 9, "+", "ID=t"), gff3_row("c", "exon", 0, 9, "+", "Parent=u")])
    with pytest.raises(AnnotationError, match=r"line 2: a CDS has phase '3', which is none of 0, 1, 2 and '.'"):
        row = gff3_row("c", "CDS", 0, 9, "+", "Parent=t").replace("\t0\tP", "\t3\tP")
        read(tmp_path, [gff3_row("c", "mRNA", 0, 9, "+", "ID=t"), row])
    with pytest.raises(AnnotationError, match="line 1: the gene ends at 101, beyond contig 'c' of 100 bases"):
        read(tmp_path, [gff3_row("c", "gene", 0, 101, "+", "ID=t")])
    with pytest.raises(AnnotationError, match="the file holds no feature"):
        read(tmp_path, ["##gff-version 3"])
