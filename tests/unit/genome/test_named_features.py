"""Names of repeats, features and intervals, and what is refused."""

import pytest
from toys import gff3_row

from umbel.errors import AnnotationError
from umbel.genome.named_features import read_bed_names, read_repeat_classes, read_types, told_unknown

OUT = """   SW   perc perc perc  query     position in query    matching  repeat       position in repeat
score   div. del. ins.  sequence  begin end   (left)   repeat    class/family begin  end (left)  ID

  463   1.3  0.6  1.7  chr1         11   20     (30) + ATCOPIA1   LTR/Copia        1   10  (90)   1
  300   1.3  0.6  1.7  chr1         31   35     (15) C (A)n       Simple_repeat    1    5   (0)   2
  300   1.3  0.6  1.7  chr9         31   35     (15) C (A)n       Simple_repeat    1    5   (0)   3
  463   1.3  0.6  1.7  chr1         41   42      (8) + ATCOPIA2   LTR/Copia        1    2  (90)   4
"""


def write(tmp_path, text):
    path = tmp_path / "file"
    path.write_text(text)
    return path


def test_classes_of_repeatmasker_are_read_with_what_was_passed_over(tmp_path):
    found = read_repeat_classes(write(tmp_path, OUT), {"chr1": 50, "chr2": 9})
    assert found.names == ("LTR/Copia", "Simple_repeat")
    assert found.of_contig["chr1"].tolist() == [[10, 20, 0], [30, 35, 1], [40, 42, 0]]
    assert found.counts.tolist() == [2, 1]
    assert found.bases().tolist() == [12, 5]
    assert (found.annotated, found.unknown_contigs) == ({"chr1"}, {"chr9": 1})
    assert told_unknown(found.unknown_contigs, "a.out") == [
        "a.out: 1 row on contigs that are not in the genome was passed over (chr9)."
    ]


def test_types_are_classes_of_gff3_repeats(tmp_path):
    rows = [
        gff3_row("c", "helitron", 0, 9, "+", "ID=a"),
        gff3_row("c", "Copia_LTR_retrotransposon", 20, 30, "+", "ID=b"),
    ]
    found = read_repeat_classes(write(tmp_path, "##gff-version 3\n" + "\n".join(rows)), {"c": 50})
    assert found.names == ("helitron", "Copia_LTR_retrotransposon")
    with pytest.raises(AnnotationError, match=r"a CDS is no repeat. Give a GFF3 of repeats alone"):
        read_repeat_classes(write(tmp_path, gff3_row("c", "CDS", 0, 9, "+", "ID=a")), {"c": 50})


def test_types_that_are_not_there_are_refused_with_those_that_are(tmp_path):
    rows = [gff3_row("c", kind, 0, 9, "+", "ID=a") for kind in ("gene", "tRNA", "gene")]
    rows.append(gff3_row("elsewhere", "rRNA", 0, 9, "+", "ID=a"))
    path = write(tmp_path, "\n".join(rows))
    assert read_types(path, {"c": 9}, ("gene", "tRNA")).counts.tolist() == [2, 1]
    with pytest.raises(AnnotationError, match=r"no feature of type 'rRNA' .* Ask for one of: gene \(2\), tRNA \(1\)\."):
        read_types(path, {"c": 9}, ("tRNA", "rRNA"))


def test_a_file_of_another_assembly_is_refused(tmp_path):
    path = write(tmp_path, "".join(f"chr{i}\t0\t9\n" for i in range(5)))
    with pytest.raises(
        AnnotationError, match=r"none of its contigs \(chr0, chr1, chr2 and 2 more\) is in the FASTA \(1, 2\)"
    ):
        read_bed_names(path, {"1": 10, "2": 10})
    with pytest.raises(AnnotationError, match=r"start 0 and end 9 .* do not lie inside contig 'chr3' of 8 bases"):
        read_bed_names(path, {"chr3": 8})
