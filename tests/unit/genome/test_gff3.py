import io

import pytest

from umbel.errors import AnnotationError, ConfigError
from umbel.genome.annotation import gff3_rows
from umbel.genome.gff3 import Gff3Feature, write_gff3
from umbel.genome.gff3_check import check_gff3, require_gff3
from umbel.genome.ontology import SO_TERMS, require_so_type, so_type

GOOD = """##gff-version 3.1.26
##sequence-region chr1 1 1000
##sequence-region sc%3Eaf:7 11 500
# a remark
chr1\t.\tgene\t1\t900\t.\t+\t.\tID=g;Name=one%2Ctwo
chr1\t.\tmRNA\t1\t900\t.\t+\t.\tID=t;Parent=g
chr1\t.\texon\t1\t900\t1e-3\t+\t.\tParent=t
chr1\tus\tCDS\t1\t90\t.\t+\t0\tID=c;Parent=t
chr1\tus\tCDS\t101\t190\t.\t+\t0\tID=c;Parent=t
###
sc%3Eaf:7\t.\tSO:0000657\t11\t500\t-3.5\t.\t.\tNote=a,b;colour=red
chr1\t.\tregion\t5\t6\t.\t?\t.\t.
"""


def write(tmp_path, text):
    path = tmp_path / "a.gff3"
    path.write_bytes(text.encode("latin-1"))
    return path


def test_a_right_file_has_no_problem(tmp_path):
    assert check_gff3(write(tmp_path, GOOD)) == []
    require_gff3(write(tmp_path, GOOD + "##FASTA\n>chr1\nACGT\n"))
    assert check_gff3(write(tmp_path, GOOD.replace("\n", "\r\n"))) == []


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("##gff-version 3.1.26", "##gff-version 2", 1, "first line must be ##gff-version 3"),
        ("##gff-version 3.1.26\n", "", 1, "first line must be ##gff-version 3"),
        ("chr1 1 1000", "chr1 1", 2, "is not ##sequence-region contig start end"),
        ("chr1 1 1000", "chr1 1000 1", 2, "not 1-based with start before end"),
        ("sc%3Eaf:7 11 500\n", "chr1 11 500\n", 3, "a second ##sequence-region of chr1"),
        ("chr1 1 1000", "chr1 1 899", 5, "1 to 900 is not within ##sequence-region chr1 1 899"),
        ("chr1 1 1000", "chr1 2 1000", 5, "1 to 900 is not within"),
        ("\t.\tgene", "\tgene", 5, "8 columns divided by tabs, there must be 9"),
        ("chr1\t.\tgene", "chr1\t\tgene", 5, "column 2 is empty"),
        ("chr1\t.\tgene", "chr 1\t.\tgene", 5, "contig 'chr 1' has characters that must be escaped"),
        ("\tgene\t", "\tGene\t", 5, "type 'Gene' is no term of the Sequence Ontology"),
        ("gene\t1\t", "gene\t0\t", 5, "start 0 and end 900 must be 1-based"),
        ("gene\t1\t", "gene\t901\t", 5, "start 901 and end 900 must be 1-based, with start not beyond end"),
        ("gene\t1\t", "gene\t1.0\t", 5, "start '1.0' and end '900' must be whole numbers"),
        ("1e-3", "high", 7, "score 'high' is no finite number"),
        ("1e-3", "nan", 7, "score 'nan' is no finite number"),
        ("\t?\t", "\tplus\t", 12, "strand 'plus' is none of"),
        ("90\t.\t+\t0", "90\t.\t+\t.", 8, "a CDS without phase"),
        ("90\t.\t+\t0", "90\t.\t+\t3", 8, "phase '3' is none of 0 1 2"),
        ("one%2Ctwo", "one,two", 5, "the value of Name has a comma that is not escaped"),
        ("one%2Ctwo", "a=b", 5, "the value of Name has a = or & that is not escaped"),
        ("one%2Ctwo", "100%", 5, "column 9 has a % that begins no escape"),
        ("one%2Ctwo", "a\x07b", 5, "column 9 has a control character"),
        ("Name=one%2Ctwo", "Name", 5, "attribute 'Name' is not key=value"),
        ("Name=one%2Ctwo", "ID=h", 5, "attribute ID is there twice"),
        ("Name=one%2Ctwo", "Colour=red", 5, "names that begin with a capital are reserved"),
        ("Name=one%2Ctwo", "Name=\xff", 5, "not UTF-8 text"),
        ("ID=t;", "ID=g;", 6, "ID=g is that of another feature, in line 5"),
        ("CDS\t101\t190", "CDS\t1\t90", 9, "ID=c has this place already"),
        ("Parent=g", "Parent=h", 6, "Parent=h, and no feature has that ID"),
        ("ID=t;", "ID=t;\nchr2\t.\texon\t1\t2\t.\t+\t.\t", 7, "Parent=g, which lies on another contig"),
        ("Name=one%2Ctwo", "Derives_from=zz", 5, "Derives_from=zz, and no feature has that ID"),
        ("Name=one%2Ctwo", "Parent=t", 5, "ID=g is its own ancestor"),
    ],
)
def test_one_planted_error_is_found(old, new, line, said, tmp_path):
    assert GOOD.count(old) >= 1
    problems = check_gff3(path := write(tmp_path, GOOD.replace(old, new, 1)))
    assert any(problem.line == line and said in problem.text for problem in problems), problems
    with pytest.raises(AnnotationError, match="this is not valid GFF3"):
        require_gff3(path)


def test_parents_come_before_the_mark_that_says_so(tmp_path):
    rows = GOOD.splitlines(keepends=True)
    late = "".join(rows[:4] + rows[5:10] + rows[4:5] + rows[10:])
    assert [problem.text for problem in check_gff3(write(tmp_path, late))] == ["Parent=g, and no feature has that ID"]
    assert check_gff3(write(tmp_path, late.replace("###\n", ""))) == []


def test_a_circular_contig_has_features_beyond_its_end(tmp_path):
    rows = "##gff-version 3\n##sequence-region c 1 100\nc\t.\tregion\t1\t100\t.\t.\t.\tIs_circular=true\n"
    rows += "c\t.\tgene\t90\t110\t.\t+\t.\tID=g\n"
    assert check_gff3(write(tmp_path, rows)) == []
    assert len(check_gff3(write(tmp_path, rows.replace("=true", "=false")))) == 1


def test_a_file_without_features_is_no_success(tmp_path):
    assert [p.text for p in check_gff3(write(tmp_path, "##gff-version 3\n"))] == ["the file holds no feature"]


def test_many_problems_are_counted(tmp_path):
    bad = "##gff-version 3\n" + "chr1\t.\tbad\t1\t2\t.\t.\t.\t.\n" * 9
    with pytest.raises(AnnotationError, match=r"line 2: type 'bad' .*; and 4 more"):
        require_gff3(write(tmp_path, bad))


def test_what_we_write_is_right_and_reads_back(tmp_path):
    odd = 'sc>af 7|"x"\té%'
    features = [
        Gff3Feature(odd, "exon", 10, 20, 0.98765, "+", {"ID": "a;1", "Name": "</script>, & 100% = ü\n"}),
        Gff3Feature("chr1", "CDS", 0, 3, None, "-", {}, 0),
    ]
    handle = io.StringIO()
    assert write_gff3(handle, {odd: (0, 500), "chr1": (0, 3)}, features) == 2
    path = tmp_path / "a.gff3"
    path.write_text(handle.getvalue(), encoding="utf-8")
    require_gff3(path)
    rows = [row for _, row in gff3_rows(path)]
    assert [(row.contig, row.kind, row.start, row.end, row.strand) for row in rows] == [
        (odd, "exon", 10, 20, "+"),
        ("chr1", "CDS", 0, 3, "-"),
    ]
    assert handle.getvalue().splitlines()[3].split("\t")[5] == "0.9877"


def test_features_that_cannot_be_written():
    with pytest.raises(ValueError, match="do not bound at least one base"):
        Gff3Feature("c", "exon", 3, 3).line()
    with pytest.raises(ValueError, match="a CDS feature needs a phase"):
        Gff3Feature("c", "CDS", 0, 3).line()


def test_labels_and_terms():
    assert all(so_type(term) == term for term in SO_TERMS if term not in ("CDS",))
    assert so_type("</script>") == "sequence_feature"
    assert require_so_type("SO:0000147") == "SO:0000147"
    with pytest.raises(ConfigError, match="CDS feature needs the phase"):
        require_so_type("CDS")
    with pytest.raises(ConfigError, match="'Exon' is no term of the Sequence Ontology that we know"):
        require_so_type("Exon")
