import gzip

import numpy as np
import pytest
from toys import NAMES, gff3_row, toy_gff3, toy_sequences

from umbel.errors import AnnotationError
from umbel.genome.annotation import REGIONS, Feature, read_bed, read_gff3, region_runs
from umbel.genome.interval import Interval

LENGTHS = {name: len(sequence) for name, sequence in toy_sequences().items()}


def write(tmp_path, *rows):
    path = tmp_path / "genes.gff3"
    path.write_text("##gff-version 3\n" + "\n".join(rows) + "\n")
    return path


def per_base(path, lengths):
    """Region names of every base, from the runs."""
    runs_of = region_runs(read_gff3(path, lengths).features, lengths)
    spelled = {}
    for contig, runs in runs_of.items():
        assert runs[0, 0] == 0 and runs[-1, 1] == lengths[contig]
        assert (runs[1:, 0] == runs[:-1, 1]).all()
        assert (runs[1:, 2] != runs[:-1, 2]).all()
        spelled[contig] = [REGIONS[code] for start, end, code in runs for _ in range(end - start)]
    return spelled


def short(regions):
    """One letter a base: - intergenic, i intron, u utr, c cds, n noncoding."""
    return "".join("-" if region == "intergenic" else region[0] for region in regions)


def test_toy_genes_are_classed_as_planted(tmp_path):
    path = tmp_path / "toy.gff3"
    path.write_text(toy_gff3())
    regions = per_base(path, LENGTHS)
    gene = "u" * 100 + "c" * 200 + "i" * 300 + "c" * 200 + "u" * 100
    for name in NAMES[:3]:
        planted = ["-"] * LENGTHS[name]
        planted[120:1020] = gene
        planted[3000:3900] = gene
        planted[5600:5900] = "n" * 300
        assert short(regions[name]) == "".join(planted)
    assert short(regions[NAMES[3]]) == "-" * LENGTHS[NAMES[3]]


def test_classes_win_in_the_promised_order(tmp_path):
    path = write(
        tmp_path,
        gff3_row("c", "gene", 0, 40, "+", "ID=g"),
        gff3_row("c", "mRNA", 0, 40, "+", "ID=coding;Parent=g"),
        gff3_row("c", "exon", 0, 12, "+", "Parent=coding"),
        gff3_row("c", "CDS", 4, 12, "+", "Parent=coding"),
        gff3_row("c", "exon", 30, 40, "+", "Parent=coding"),
        gff3_row("c", "lnc_RNA", 0, 40, "+", "ID=silent;Parent=g"),
        gff3_row("c", "exon", 0, 20, "+", "Parent=silent"),
        gff3_row("c", "exon", 28, 34, "+", "Parent=silent"),
    )
    assert short(per_base(path, {"c": 45})["c"]) == "uuuu" + "c" * 8 + "n" * 8 + "i" * 8 + "nn" + "u" * 10 + "-" * 5


def test_exons_below_a_gene_are_coding_if_one_of_its_transcripts_is(tmp_path):
    path = write(
        tmp_path,
        gff3_row("c", "gene", 0, 20, "+", "ID=g"),
        gff3_row("c", "mRNA", 0, 20, "+", "ID=t;Parent=g"),
        gff3_row("c", "CDS", 2, 6, "+", "Parent=t"),
        gff3_row("c", "exon", 0, 6, "+", "Parent=g"),
        gff3_row("c", "exon", 14, 20, "+", "Parent=g"),
    )
    assert short(per_base(path, {"c": 20})["c"]) == "uucccc" + "i" * 8 + "u" * 6


def test_cds_and_utr_rows_without_exons_are_enough(tmp_path):
    path = write(
        tmp_path,
        gff3_row("c", "mRNA", 0, 12, "-", "ID=t"),
        gff3_row("c", "three_prime_UTR", 0, 2, "-", "Parent=t"),
        gff3_row("c", "CDS", 2, 5, "-", "Parent=t"),
        gff3_row("c", "CDS", 8, 12, "-", "Parent=t"),
    )
    assert short(per_base(path, {"c": 12})["c"]) == "uucccciii"[:5] + "iii" + "cccc"


def test_features_with_nothing_below_them_class_nothing(tmp_path):
    path = write(
        tmp_path,
        gff3_row("c", "pseudogene", 0, 10, "+", "ID=p"),
        gff3_row("c", "gene", 10, 20, "+", "ID=g"),
        gff3_row("c", "exon", 12, 14, "+", "."),
    )
    assert short(per_base(path, {"c": 20})["c"]) == "-" * 12 + "nn" + "-" * 6


def test_runs_agree_with_painting_base_by_base():
    rng = np.random.default_rng(0)
    features = []
    for _ in range(60):
        start = int(rng.integers(0, 190))
        features.append(Feature("c", start, start + int(rng.integers(1, 30)), int(rng.integers(1, 5))))
    lengths = {"c": 220}
    rank = {0: 0, 1: 1, 4: 2, 2: 3, 3: 4}
    plain = [
        max((f.region for f in features if f.start <= base < f.end), key=rank.__getitem__, default=0)
        for base in range(220)
    ]
    runs = region_runs(features, lengths)["c"]
    assert [int(code) for start, end, code in runs for _ in range(end - start)] == plain


def test_gzip_crlf_comments_and_a_fasta_section_are_fine(tmp_path):
    text = "##gff-version 3\r\n# note\r\n\r\n" + gff3_row("c", "mRNA", 0, 5, "+", "ID=t") + "\r\n"
    text += gff3_row("c", "exon", 0, 5, "+", "Parent=t") + "\r\n##FASTA\n>c\nACGTA\n"
    path = tmp_path / "a.gff3.gz"
    path.write_bytes(gzip.compress(text.encode()))
    assert short(per_base(path, {"c": 6})["c"]) == "nnnnn-"


def test_rows_of_unknown_contigs_are_counted(tmp_path):
    path = write(
        tmp_path,
        gff3_row("c", "mRNA", 0, 5, "+", "ID=t"),
        gff3_row("c", "exon", 0, 5, "+", "Parent=t"),
        gff3_row("other", "mRNA", 0, 5, "+", "ID=u"),
        gff3_row("other", "exon", 0, 5, "+", "Parent=u"),
    )
    annotation = read_gff3(path, {"c": 10})
    assert annotation.unknown_contigs == {"other": 2}
    assert {feature.contig for feature in annotation.features} == {"c"}


GOOD = gff3_row("c", "mRNA", 0, 5, "+", "ID=t")


@pytest.mark.parametrize(
    ("row", "line", "text"),
    [
        ("c\tx\tgene\t1\t5", 3, "9 fields divided by tabs, this line has 5"),
        (GOOD.replace("\t1\t", "\tone\t"), 3, "must be whole numbers"),
        (GOOD.replace("\t1\t", "\t0\t"), 3, "must be 1-based"),
        (GOOD.replace("\t1\t", "\t9\t"), 3, "start not beyond end"),
        (GOOD.replace("\t+\t", "\tplus\t"), 3, "strand 'plus' is none of"),
        (gff3_row("c", "gene", 5, 11, "+", "ID=x"), 3, "ends at 11, beyond contig 'c' of 10 bases"),
        (gff3_row("c", "exon", 1, 4, "+", "Parent=nobody"), 3, "Parent=nobody, but no feature has that ID"),
        (gff3_row("c", "exon", 1, 4, "+", 'gene_id "g"; transcript_id "t";'), 3, "GTF is not read"),
    ],
)
def test_bad_rows_are_refused_with_line_and_reason(tmp_path, row, line, text):
    path = write(tmp_path, GOOD, row)
    with pytest.raises(AnnotationError) as caught:
        read_gff3(path, {"c": 10})
    assert text in str(caught.value) and str(path) in str(caught.value)
    assert caught.value.line == line


def test_an_annotation_of_another_assembly_is_refused_with_names_of_both(tmp_path):
    path = write(tmp_path, GOOD, GOOD.replace("c\t", "d\t", 1))
    with pytest.raises(
        AnnotationError, match=r"none of its contigs \(c, d\) is in the FASTA \(Chr1, Chr2, Chr3 and 2 more"
    ):
        read_gff3(path, {f"Chr{number}": 10 for number in range(1, 6)})


def test_an_empty_annotation_and_one_that_is_not_there_are_refused(tmp_path):
    with pytest.raises(AnnotationError, match="holds no feature"):
        read_gff3(write(tmp_path), {"c": 10})
    with pytest.raises(AnnotationError, match="no such file"):
        read_gff3(tmp_path / "none.gff3", {"c": 10})


def test_a_circle_of_parents_does_not_hang(tmp_path):
    path = write(
        tmp_path,
        gff3_row("c", "gene", 0, 9, "+", "ID=a;Parent=b"),
        gff3_row("c", "mRNA", 0, 9, "+", "ID=b;Parent=a"),
        gff3_row("c", "CDS", 0, 3, "+", "Parent=b"),
    )
    assert short(per_base(path, {"c": 10})["c"]) == "ccciiiiii-"


def test_bed_gives_intervals_with_name_and_strand(tmp_path):
    path = tmp_path / "a.bed"
    path.write_text("track name=x\n#note\nchr1\t0\t10\nchr1\t5\t6\tpeak\t0\t-\nchr2 3 9 .\n")
    assert read_bed(path) == [
        Interval("chr1", 0, 10),
        Interval("chr1", 5, 6, "-", "peak"),
        Interval("chr2", 3, 9),
    ]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("chr1\t5", "this line has 2"),
        ("chr1\ta\t5", "must be whole numbers"),
        ("chr1\t5\t5", "do not bound at least one base. BED counts from 0"),
        ("chr1\t-1\t5", "do not bound at least one base"),
        ("chr1\t1\t5\tn\t0\t*", "strand is '*'"),
        ("chr9\t1\t5", "no contig 'chr9'; there are, for example, chr1"),
        ("chr1\t1\t50", "ends at 50, beyond contig 'chr1' of 20 bases"),
    ],
)
def test_bad_bed_rows_are_refused_with_line_and_reason(tmp_path, row, text):
    path = tmp_path / "bad.bed"
    path.write_text(f"chr1\t0\t10\n{row}\n")
    with pytest.raises(AnnotationError) as caught:
        read_bed(path, {"chr1": 20})
    assert text in str(caught.value)
    assert caught.value.line == 2


def test_a_bed_file_without_intervals_is_refused(tmp_path):
    path = tmp_path / "empty.bed"
    path.write_text("# nothing\n")
    with pytest.raises(AnnotationError, match="holds no interval"):
        read_bed(path)
