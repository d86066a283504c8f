import pytest

from umbel.data.labelled.columns import choose_columns
from umbel.errors import LabelError


@pytest.mark.parametrize(
    ("names", "asked", "expected"),
    [
        # Headers as GUE, DNALLM, PGB's CSV mirror and the STARR-seq tables have them.
        (["sequence", "label"], {}, ("sequence", ("label",), None)),
        (["sequence", "labels"], {}, ("sequence", ("labels",), None)),
        (["name", "sequence", "label"], {}, ("sequence", ("label",), "name")),
        (["sp", "sequence", "label"], {}, ("sequence", ("label",), None)),
        (["SEQ", "Target", "ID"], {}, ("SEQ", ("Target",), "ID")),
        (["seq", "enrichment"], {}, ("seq", ("enrichment",), None)),
        (["id", "seq", "GC", "leaf", "proto"], {"label": ["proto", "leaf"]}, ("seq", ("proto", "leaf"), "id")),
        (["a", "b", "c"], {"sequence": "c", "label": "a", "id": "b"}, ("c", ("a",), "b")),
        (["sequence", "seq", "label"], {"sequence": "seq"}, ("seq", ("label",), None)),
        (["sequence", "label", "class"], {"label": "class"}, ("sequence", ("class",), None)),
    ],
)
def test_columns_are_found(names, asked, expected):
    found = choose_columns(names, "a.csv", **asked)
    assert (found.sequence, found.labels, found.id) == expected


@pytest.mark.parametrize(
    ("names", "asked", "text"),
    [
        (["sequence", "seq", "label"], {}, "columns sequence, seq could each be the sequence. The columns are: seq"),
        (["sequence", "label", "class"], {}, r"columns label, class could each be the label.*\(label=\.\.\.\)"),
        (["sequence", "label", "id", "name"], {}, "columns id, name could each be the id"),
        (
            ["set", "sp", "gene", "sequence", "enrichment"],
            {},
            "no column is named as labels usually are. The columns are",
        ),
        (["chrom", "start", "y"], {}, r"no column is named as sequences usually are.*\(sequence=\.\.\.\)"),
        (["sequence", "label"], {"label": "strength"}, "there is no column 'strength' for the label. The columns are"),
        (["sequence", "label"], {"label": ["label", "label"]}, "a label column is named twice"),
        (["sequence", "label"], {"label": "sequence", "sequence": "sequence"}, "one column is to be two things"),
    ],
)
def test_unclear_columns_are_refused(names, asked, text):
    with pytest.raises(LabelError, match=text):
        choose_columns(names, "a.csv", **asked)


def test_what_is_read_can_be_told():
    assert (
        choose_columns(["id", "seq", "y"], "a").told()
        == "sequence from column seq, label from column y, ids from column id"
    )
