import gzip

import pytest

from umbel.data.labelled.fasta_labels import find_layout, read_records, split_header
from umbel.errors import LabelError


def test_records_are_read_over_lines_whatever_they_hold(tmp_path):
    text = b"\xef\xbb\xbf>a|1 x\r\nAC\r\n\r\nGT\r\n>b\n>c|0\nA-E \n"
    for name, content in [("a.fa", text), ("a.gz", gzip.compress(text))]:
        (tmp_path / name).write_bytes(content)
        found = [(one.line, one.header, one.letters) for one in read_records(tmp_path / name)]
        assert found == [(1, "a|1 x", b"ACGT"), (5, "b", b""), (6, "c|0", b"A-E")]


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (b"", "holds no FASTA record"),
        (b"ACGT\n>a\nAC\n", "line 1: the file does not begin with a '>' header"),
        (b">\xe9\nAC\n", "line 1: the header is not UTF-8"),
    ],
)
def test_what_is_no_fasta(tmp_path, text, refusal):
    (tmp_path / "a.fa").write_bytes(text)
    with pytest.raises(LabelError, match=refusal):
        list(read_records(tmp_path / "a.fa"))


@pytest.mark.parametrize(
    ("headers", "layout"),
    [
        (["Chr1:1-170|0", "Chr2:5-9|1"], "id|label"),
        (["a b|0.5"], "id|label"),
        (["x promoter", "y none"], "id label"),
    ],
)
def test_layouts_that_are_told(headers, layout):
    assert find_layout(headers, "a.fa") == layout


@pytest.mark.parametrize(
    "headers",
    [
        ["promoter_1", "none_2"],
        ["a|0|1"],
        ["a|0", "b"],
        ["FP000001 AT1G01050_1         :+U  EU:NC; range  -200 to    50."],
    ],
)
def test_layouts_that_have_to_be_named(headers):
    with pytest.raises(LabelError, match=r"Name the layout \(header=\.\.\.\): 'id\|label', 'id\|labels', 'id label'"):
        find_layout(headers, "a.fa")


@pytest.mark.parametrize(
    ("header", "layout", "found"),
    [
        ("a|b|0.5", "id|label", ("a|b", ["0.5"])),
        ("a|0|1|0", "id|labels", ("a", ["0", "1", "0"])),
        ("a two words", "id label", ("a", ["two words"])),
        ("TE_LTR_7 more", "label_n", ("TE_LTR_7", ["TE_LTR"])),
        ("a", "id|label", "header 'a' is not laid out as 'id|label'"),
        ("a", "id|labels", "header 'a' is not laid out as 'id|labels'"),
        ("", "label_n", "header '' is not laid out as 'label_n'"),
        ("promoter_x", "label_n", "header 'promoter_x' is not laid out as 'label_n'"),
    ],
)
def test_headers_are_cut(header, layout, found):
    assert split_header(header, layout) == found
