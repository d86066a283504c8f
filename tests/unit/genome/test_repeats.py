import gzip

import numpy as np
import pytest
from toys import gff3_row

from umbel.errors import AnnotationError
from umbel.genome.repeats import read_repeats

LENGTHS = {"chr1": 100, "chr2": 50, "chr3": 10}
SPANS = [("chr1", 40, 60), ("chr1", 10, 20), ("chr2", 0, 5), ("chr1", 15, 30), ("chr1", 60, 61), ("chr2", 45, 50)]
RUNS = {"chr1": [[10, 30], [40, 61]], "chr2": [[0, 5], [45, 50]], "chr3": []}

OUT_HEAD = """   SW   perc perc perc  query     position in query    matching  repeat      position in repeat
score   div. del. ins.  sequence  begin end   (left)   repeat    class/family begin  end    (left)  ID

"""


def bed():
    return "# repeats\n" + "".join(f"{contig}\t{start}\t{end}\tCopia\n" for contig, start, end in SPANS)


def gff3():
    rows = [gff3_row(contig, "dispersed_repeat", start, end, "+", "ID=r") for contig, start, end in SPANS]
    return "##gff-version 3\n" + "\n".join(rows) + "\n"


def out_row(contig, start, end):
    left = LENGTHS.get(contig, 0) - end
    return f"  463   1.3  0.6  1.7  {contig}  {start + 1}  {end}  ({left}) C  ATREP3  RC/Helitron  (9) 20 1  7 *\n"


def out():
    return OUT_HEAD + "".join(out_row(*span) for span in SPANS)


@pytest.mark.parametrize(
    "text", [bed(), gff3(), out(), out().removeprefix(OUT_HEAD)], ids=["bed", "gff3", "out", "rows"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_each_format_is_told_by_its_content_and_gives_the_same_runs(tmp_path, text, packed):
    path = tmp_path / "repeats.txt"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    found = read_repeats(path, LENGTHS)
    assert {contig: runs.tolist() for contig, runs in found.items()} == RUNS
    assert all(runs.dtype == np.int64 and runs.shape[1] == 2 for runs in found.values())


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        (bed() + "chr1\t90\t101\n", 8, "ends at 101, beyond contig 'chr1' of 100 bases"),
        (bed() + "chr9\t0\t1\n", 8, "no contig 'chr9'; there are, for example, chr1, chr2, chr3"),
        (bed() + "chr1\tx\t1\n", 8, "must be whole numbers"),
        (gff3() + gff3_row("chr1", "repeat", 90, 101, "+", "ID=r"), 8, "the repeat ends at 101, beyond contig 'chr1'"),
        (gff3() + gff3_row("chr9", "repeat", 0, 1, "+", "ID=r"), 8, "no contig 'chr9'; there are"),
        (gff3() + gff3_row("chr1", "mRNA", 0, 1, "+", "ID=r"), 8, "a mRNA is no repeat. Give a GFF3 of repeats alone"),
        (gff3_row("chr1", "region", 0, 100, "+", "ID=r"), 1, "a region is no repeat"),
        (gff3() + "chr1\n", 8, "has 9 fields divided by tabs, this line has 1"),
        (out() + out_row("chr1", 90, 101), 10, "the repeat ends at 101, beyond contig 'chr1' of 100 bases. Do FASTA"),
        (out() + out_row("chr9", 0, 1), 10, "no contig 'chr9'; there are"),
        (out() + "463 1.3 0.6\n", 10, "has at least 14 columns, this line has 3"),
        (out() + out_row("chr1", 5, 4), 10, "begin '6' and end '4' must be whole numbers from 1 on"),
        (out() + out_row("chr1", 5, 4).replace(" 4 ", " x "), 10, "begin '6' and end 'x' must be whole numbers"),
        (">chr1\nACGT\n", 1, "neither BED nor GFF3 nor RepeatMasker's .out. Convert it to BED"),
        ("There were no repetitive sequences detected in a.fa\n", 1, "neither BED nor GFF3"),
        ("# nothing\n\n", None, "the file holds no repeat"),
        ("##gff-version 3\n", None, "the file holds no repeat"),
        (OUT_HEAD, None, "the file holds no repeat"),
    ],
)
def test_a_bad_file_is_refused_with_line_and_reason(tmp_path, text, line, told):
    path = tmp_path / "bad"
    path.write_text(text)
    with pytest.raises(AnnotationError) as caught:
        read_repeats(path, LENGTHS)
    assert told in str(caught.value) and str(path) in str(caught.value)
    assert caught.value.line == line


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match="no such file"):
        read_repeats(tmp_path / "none", LENGTHS)
