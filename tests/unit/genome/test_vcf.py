import gzip

import pysam
import pysam.bcftools
import pytest

from umbel.errors import VcfError
from umbel.genome.vcf import COLUMNS, VcfFile, VcfHeader, VcfRecord

HEADER = [
    "##fileformat=VCFv4.2",
    '##FILTER=<ID=LowQual,Description="Low, quality">',
    '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth <ID=X> of \\"reads\\"">',
    '##INFO=<ID=END,Number=1,Type=Integer,Description="End">',
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
    '##contig=<ID=chr1,length=1000,assembly="a,b">',
    "##contig=<ID=HLA*01:01>",
    "\t".join((*COLUMNS, "FORMAT", "s1", "s2")),
]
ROWS = [
    "chr1\t5\trs1;rs2\tA\tC,G\t9.50\tPASS\tDP=007\tGT\t0/1/1/2\t.|1",
    "HLA*01:01\t7\t.\tACG\t<DEL>,*\t.\tLowQual\tEND=9;DP=3\tGT\t0\t./.",
]


def write(folder, rows=ROWS, header=HEADER, name="a.vcf", end="\n"):
    path = folder / name
    data = end.join([*header, *rows, ""]).encode("utf-8", "surrogateescape")
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    return path


@pytest.mark.parametrize("name", ["a.vcf", "a.vcf.gz"])
def test_every_word_comes_back(tmp_path, name):
    file = VcfFile(write(tmp_path, name=name))
    assert [*file.header.lines, file.header.columns] == HEADER
    assert file.header.with_lines(["##x=1"]).splitlines() == [*HEADER[:-1], "##x=1", HEADER[-1]]
    assert [record.with_additions([], []) for record in file.records()] == ROWS
    assert [record.line for record in file.records()] == [9, 10]
    assert [record.line for record in file.records(skip=1)] == [10]


def test_what_a_record_says(tmp_path):
    first, second = VcfFile(write(tmp_path)).records()
    assert (first.contig, first.pos, first.ref, first.alts) == ("chr1", 5, "A", ("C", "G"))
    assert second.alts == ("<DEL>", "*") and second.info("END") == "9" and second.info("EN") is None
    assert VcfRecord(1, ("c", "1", ".", "A", ".", ".", ".", "."), 1).alts == ()


def test_what_the_header_says(tmp_path):
    header = VcfFile(write(tmp_path)).header
    assert header.contigs == {"chr1": 1000, "HLA*01:01": None}
    assert header.ids("INFO") == {"DP", "END"} and header.ids("FILTER") == {"LowQual"}


def test_filters_and_info_are_added_and_nothing_else(tmp_path):
    first, second = VcfFile(write(tmp_path)).records()
    changed = first.with_additions(["X", "Y"], ["S=1,.", "Z=2"]).split("\t")
    assert changed[6:8] == ["X;Y", "DP=007;S=1,.;Z=2"]
    assert changed[:6] + changed[8:] == ROWS[0].split("\t")[:6] + ROWS[0].split("\t")[8:]
    assert second.with_additions(["X", "LowQual"], []).split("\t")[6] == "LowQual;X"
    bare = VcfRecord(1, ("c", "1", ".", "A", "C", ".", ".", "."), 1)
    assert bare.with_additions(["X"], ["S=1"]) == "c\t1\t.\tA\tC\t.\tX\tS=1"


def test_bytes_that_are_no_text_survive(tmp_path):
    row = ROWS[0].replace("rs2", "caf\udce9")
    (record,) = VcfFile(write(tmp_path, [row])).records()
    assert record.with_additions([], []).encode("utf-8", "surrogateescape").count(b"\xe9") == 1


def test_line_ends_of_windows(tmp_path):
    assert [r.with_additions([], []) for r in VcfFile(write(tmp_path, end="\r\n")).records()] == ROWS


def test_bcf_is_read_as_bcftools_shows_it(tmp_path):
    path = tmp_path / "a.bcf"
    pysam.bcftools.view("-Ob", "-o", str(path), str(write(tmp_path)), catch_stdout=False)
    shown = [line for line in pysam.bcftools.view(str(path)).splitlines() if not line.startswith("#")]
    assert [record.with_additions([], []) for record in VcfFile(path).records()] == shown
    assert VcfFile(path).header.contigs == {"chr1": 1000, "HLA*01:01": None}
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(VcfError, match="BCF file is damaged"):
        list(VcfFile(path).records())


@pytest.mark.parametrize(
    "row, problem",
    [
        ("chr1\t5\t.\tA\tC", "line 10: this record has 5 columns divided by tabs, and the #CHROM line names 11"),
        (ROWS[0] + "\t0/0", "line 10: this record has 12 columns"),
        (ROWS[0].replace("\t5\t", "\t5.0\t"), "line 10: POS is '5.0': it must be a whole number"),
        (ROWS[0].replace("\t5\t", "\t-5\t"), "line 10: POS is '-5'"),
        (ROWS[0].replace("C,G", "C,,G"), "line 10: CHROM, REF or an allele of ALT is empty"),
        (ROWS[0].replace("\tA\t", "\t\t"), "line 10: CHROM, REF or an allele of ALT is empty"),
    ],
)
def test_a_broken_record_is_told_with_its_line(tmp_path, row, problem):
    file = VcfFile(write(tmp_path, [ROWS[1], row]))
    with pytest.raises(VcfError) as told:
        list(file.records())
    assert problem in str(told.value)


def test_a_broken_header_is_told(tmp_path):
    with pytest.raises(VcfError, match=r"begins with 'chr1.*Is it a VCF file"):
        VcfFile(write(tmp_path, header=[]))
    with pytest.raises(VcfError, match="line 2: the header must end with a line of #CHROM POS ID"):
        VcfFile(write(tmp_path, header=HEADER[:1]))
    with pytest.raises(VcfError, match="ends within its header"):
        VcfFile(write(tmp_path, [], HEADER[:3]))
    (tmp_path / "empty.vcf").write_text("")
    with pytest.raises(VcfError, match="the file is empty"):
        VcfFile(tmp_path / "empty.vcf")
    with pytest.raises(VcfError, match="no such file"):
        VcfFile(tmp_path / "none.vcf")
    cut = tmp_path / "cut.vcf.gz"
    cut.write_bytes(write(tmp_path, name="b.vcf.gz").read_bytes()[:100])
    with pytest.raises(VcfError, match="truncated"):
        list(VcfFile(cut).records())


def test_a_header_without_declarations():
    header = VcfHeader(("##fileformat=VCFv4.2",), "\t".join(COLUMNS))
    assert header.contigs == {} and header.ids("INFO") == set()
