import pytest
from toys import gff3_row

from umbel.errors import AnnotationError
from umbel.genome.transposons import read_transposons

LENGTHS = {"chr1": 100, "chr2": 50}
UCSC_HEAD = (
    "#bin\tswScore\tmilliDiv\tmilliDel\tmilliIns\tgenoName\tgenoStart\tgenoEnd\tgenoLeft\tstrand\trepName\trepClass"
)


def ucsc_row(contig, start, end, kind):
    return f"10\t444\t191\t54\t76\t{contig}\t{start}\t{end}\t-9\t-\tName\t{kind}"


TEXTS = {
    "ucsc": "\n".join(
        (
            UCSC_HEAD,
            ucsc_row("chr1", 10, 20, "LTR"),
            ucsc_row("chr1", 30, 40, "Simple_repeat"),
            ucsc_row("chr1", 15, 25, "DNA?"),
            ucsc_row("chr7", 15, 25, "RC"),
        )
    ),
    "tair": "Chr\tstart\tend\tstrand\tName\nchr1\t11\t20\t-\tA\nchr1\t16\t25\t+\tB\nchr7\t16\t25\t+\tB",
    "bed": "chr1\t10\t20\nchr1\t15\t25\nchr7\t15\t25",
    "gff3": "##gff-version 3\n"
    + "\n".join(
        gff3_row(contig, "transposable_element", start, end, "+", "ID=r")
        for contig, start, end in (("chr1", 10, 20), ("chr1", 15, 25), ("chr7", 15, 25))
    ),
    "out": "\n".join(
        f"463 1.3 0.6 1.7 {contig} {start} {end} (30) + X {kind} 1 10 (90) 1"
        for contig, start, end, kind in (
            ("chr1", 11, 20, "LTR/Copia"),
            ("chr1", 31, 40, "Low_complexity"),
            ("chr1", 16, 25, "RC/Helitron"),
            ("chr7", 16, 25, "LINE/L1"),
        )
    ),
}


@pytest.mark.parametrize("form", TEXTS)
def test_every_format_says_the_same(form, tmp_path):
    path = tmp_path / "te"
    path.write_text(TEXTS[form] + "\n")
    found = read_transposons(path, LENGTHS)
    assert {contig: runs.tolist() for contig, runs in found.runs.items()} == {"chr1": [[10, 25]], "chr2": []}
    assert found.n_other == (form in ("ucsc", "out")) and found.unknown_contigs == {"chr7": 1}
    renamed = read_transposons(path, LENGTHS, {"chr7": "chr2", "chr1": "elsewhere"})
    assert renamed.runs["chr2"].tolist() == [[15, 25]] and set(renamed.unknown_contigs) == {"elsewhere"}


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("chr7\t1\t9", "no transposable element on chr1, chr2 .*other contigs: chr7.*go by other names"),
        (f"{UCSC_HEAD}\n{ucsc_row('chr1', 1, 9, 'Satellite')}", r"no transposable element on chr1, chr2 \(1 other"),
        ("Chr\tstart\tend\nchr1\t11\t101", "line 2: start 10 and end 101 .* contig 'chr1' of 100 bases"),
        ("Chr\tstart\tend\nchr1\tx\t9", "line 2: start 'x' and end '9' must be whole numbers"),
        ("Chr\tstart\tend\nchr1\t9", "line 2: the header names 3 columns, this line has 2"),
        ("463 1.3 0.6 1.7 chr1 1 2 (9) + A LTR 1 1 1 1\n463 1.3", "line 2: .* more columns than 2"),
    ],
)
def test_what_is_broken_is_refused(text, refusal, tmp_path):
    path = tmp_path / "te"
    path.write_text(text + "\n")
    with pytest.raises(AnnotationError, match=refusal):
        read_transposons(path, LENGTHS)
