import csv
import gzip
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.data.labelled.tables import open_table
from umbel.errors import LabelError

TEXT = "id,sequence,label\na,ACGT,1\nb,AAAA,0\n"
ROWS = [(2, ["a", "ACGT", "1"]), (3, ["b", "AAAA", "0"])]


def rows_of(path, text, columns=("id", "sequence", "label")):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(open_table(path).rows(list(columns)))


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.replace("\n", "\r\n"),
        "\ufeff" + TEXT,
        TEXT.replace(",", "\t"),
        TEXT.replace(",", ";"),
        '"id","sequence","label"\n"a","ACGT","1"\n"b","AAAA","0"\n',
        '"id"\t"sequence"\t"label"\n"a"\t"ACGT"\t"1"\n"b"\t"AAAA"\t"0"\n',
        TEXT + "\n\n",
        TEXT.replace(",", " , "),
        gzip.compress(TEXT.encode()),
    ],
)
def test_a_table_is_the_same_however_it_is_written(tmp_path, text):
    # The name says nothing.
    assert rows_of(tmp_path / "a.xyz", text) == ROWS


def test_rows_are_numbered_by_their_first_line(tmp_path):
    text = '\nsequence,label\n"AC\nGT",1\n\n,\nAA,0\nA\n'
    found = rows_of(tmp_path / "a.csv", text, ["sequence", "label"])
    assert found == [
        (3, ["AC\nGT", "1"]),
        (5, []),
        (6, []),
        (7, ["AA", "0"]),
        (8, "1 fields, the header has 2"),
    ]


@given(st.lists(st.lists(st.text("ACGT,;\t\"'01 ", max_size=6), min_size=2, max_size=2), min_size=1, max_size=5))
def test_cells_come_back_by_pythons_own_writer(tmp_path_factory, rows):
    rows = [row for row in rows if any(cell.strip() for cell in row)] or [["A", "B"]]
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([["x", "y"], *rows])
    found = rows_of(tmp_path_factory.mktemp("t") / "a.csv", text.getvalue(), ["x", "y"])
    assert [cells for _, cells in found] == [[cell.strip() for cell in row] for row in rows]


def test_a_sequence_may_be_longer_than_pythons_own_bound(tmp_path):
    before = csv.field_size_limit()
    assert len(rows_of(tmp_path / "a.csv", f"sequence,label\n{'A' * 300_000},1\n", ["sequence"])[0][1][0]) == 300_000
    assert csv.field_size_limit() == before


def test_parquet_of_many_types(tmp_path):
    table = pa.table(
        {
            "sequence": pa.array(["AC", None, "GT"]).dictionary_encode(),
            "whole": [1, 2, None],
            "single": pa.array([0.1, 2.5, None], pa.float32()),
            "flag": [True, False, None],
            "list": [[1, 2], [], None],
            "bytes": pa.array([b"A", b"C", None]),
        }
    )
    pq.write_table(table, tmp_path / "a.dat", row_group_size=2)
    found = list(open_table(tmp_path / "a.dat").rows(table.column_names))
    assert found == [
        (1, ["AC", "1", "0.1", "True", [1, 2], "A"]),
        (2, ["", "2", "2.5", "False", [], "C"]),
        (3, ["GT", "", "", "", [], ""]),
    ]


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (b"", "a.csv: the file is empty"),
        (b"  \n \n", "the file is empty"),
        (b"ACGTACGTACGTACGT,1\n", "line 1: the first row holds data, not names of columns"),
        (b"sequence,0\nACGT,1\n", "the first row holds data, not names of columns \\('0'\\). Add a header"),
        (b"sequence,,label\nA,1,1\n", "column 2 has no name"),
        (b"label,sequence,label\nA,1,1\n", "two columns are named 'label'"),
        (b"\xff\xfes\0e\0q\0", "UTF-16"),
        (b"seq\0\1\2", "no text and no Parquet"),
        (b"sequence,label\nAC\xe9,1\n", "line 2: the line is not UTF-8"),
        (b'sequence,label\n"AC"GT,1\n', "line 2: the row cannot be read .*Check its quotes"),
        (b"sequence,label\rACGT,1\r", "line ends are bare CR"),
        (b"PAR1 and nothing more", "the Parquet file is damaged"),
        (b"PK\x03\x04", "this is a zip file"),
        (gzip.compress(TEXT.encode())[:-6], "the gzip stream ends too early"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, text, refusal):
    with pytest.raises(LabelError, match=refusal):
        rows_of(tmp_path / "a.csv", text, ["sequence"])


def test_a_file_that_is_not_there_or_has_no_rows(tmp_path):
    with pytest.raises(LabelError, match="no such file"):
        open_table(tmp_path / "b.csv")
    pq.write_table(pa.table({"sequence": pa.array([], pa.string())}), tmp_path / "a.parquet")
    with pytest.raises(LabelError, match="the table has no rows"):
        open_table(tmp_path / "a.parquet")
