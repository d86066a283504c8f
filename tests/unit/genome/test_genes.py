import pytest
from toys import gff3_row

from umbel.errors import AnnotationError
from umbel.genome.genes import read_genes, start_site
from umbel.genome.interval import Interval

LENGTHS = {"chr1": 100, "chr2": 50}


def written(tmp_path, *rows):
    path = tmp_path / "a.gff3"
    path.write_text("##gff-version 3\n" + "".join(row + "\n" for row in rows))
    return path


def test_genes_and_transcripts_with_strands(tmp_path):
    path = written(
        tmp_path,
        gff3_row("chr1", "gene", 10, 60, "+", "ID=gene-A"),
        gff3_row("chr1", "mRNA", 10, 50, "+", "ID=a1;Parent=gene-A"),
        gff3_row("chr1", "mRNA", 20, 60, "+", "ID=a2;Parent=gene-A"),
        gff3_row("chr1", "exon", 10, 20, "+", "Parent=a1"),
        gff3_row("chr1", "exon", 20, 60, "+", "Parent=a1,a2"),
        gff3_row("chr2", "gene", 5, 40, "-", "ID=B"),
        gff3_row("chr2", "CDS", 5, 40, "-", "Parent=B"),
        gff3_row("chr1", "pseudogene", 70, 80, "-", "ID=bare"),
        gff3_row("chr9", "gene", 1, 500, "-", "ID=far"),
        gff3_row("chr9", "exon", 1, 500, "-", "Parent=far"),
    )
    found = read_genes(path, LENGTHS)
    gene_a, gene_b = Interval("chr1", 10, 60, "+", "gene-A"), Interval("chr2", 5, 40, "-", "B")
    assert found.genes == (gene_a, gene_b)
    assert found.transcripts == (Interval("chr1", 10, 50, "+", "a1"), Interval("chr1", 20, 60, "+", "a2"), gene_b)
    assert (start_site(gene_a), start_site(gene_b)) == (10, 39)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([gff3_row("chr1", "exon", 1, 9, "+", "Parent=x")], "a feature has Parent=x, but no feature has that ID"),
        (
            [gff3_row("chr1", "mRNA", 1, 9, ".", "ID=x"), gff3_row("chr1", "exon", 1, 9, ".", "Parent=x")],
            "line 2: the mRNA 'x' has strand '.', so nobody can say where it begins",
        ),
        ([gff3_row("chr2", "gene", 1, 51, "+", "ID=x")], "line 2: the gene ends at 51, beyond contig 'chr2' of 50"),
    ],
)
def test_what_has_no_place_is_refused(rows, text, tmp_path):
    with pytest.raises(AnnotationError, match=text):
        read_genes(written(tmp_path, *rows), LENGTHS)
