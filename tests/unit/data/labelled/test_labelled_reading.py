import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from umbel.data.labelled.problems import Problem, raise_problems
from umbel.data.labelled.reading import read_classes, read_labelled
from umbel.data.labelled.task import Task
from umbel.errors import LabelError
from umbel.genome.sequence import decode

GOOD = "id,sequence,label\na,ACGTT,leaf\nb,AAAA,root\nc,CCGC,leaf\n"


@pytest.fixture
def write(tmp_path):
    def put(text, name="a.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return put


def test_all_formats_give_the_same_examples(write, tmp_path):
    table = pa.table({"id": ["a", "b", "c"], "sequence": ["ACGTT", "AAAA", "CCGC"], "label": ["leaf", "root", "leaf"]})
    pq.write_table(table, tmp_path / "a.parquet")
    fasta = ">a|leaf\nACG\nTT\n>b|root\nAAAA\n>c|leaf\nccgc\n"
    readings = [
        read_labelled(path)
        for path in (
            write(GOOD),
            write(GOOD.replace(",", "\t"), "a.tsv"),
            write(gzip.compress(GOOD.encode()), "a.csv.gz"),
            tmp_path / "a.parquet",
            write(fasta, "a.fa"),
            write(fasta.replace("|", " "), "b.fa"),
        )
    ]
    assert len({reading.examples.content_hash() for reading in readings}) == 1
    examples = readings[0].examples
    assert examples.ids == ("a", "b", "c") and [decode(codes) for codes in examples.codes] == ["ACGTT", "AAAA", "CCGC"]
    assert examples.task == Task("binary", ("leaf", "root")) and examples.targets.tolist() == [0, 1, 0]
    assert [reading.examples.rows.tolist() for reading in readings] == [
        [2, 3, 4],
        [2, 3, 4],
        [2, 3, 4],
        [1, 2, 3],
        [1, 4, 6],
        [1, 4, 6],
    ]
    assert readings[0].told() == [
        f"{tmp_path / 'a.csv'}: 3 examples; binary, because column label holds 2 values: leaf (2), root (1); root is "
        "the positive class",
        "sequence from column sequence, label from column label, ids from column id",
    ]


def test_class_order_is_not_file_order(write):
    one = read_labelled(write("sequence,label\nAC,z\nAG,a\nAT,m\n")).examples
    other = read_labelled(write("sequence,label\nAT,m\nAC,z\nAG,a\n")).examples
    assert one.task == other.task == Task("multiclass", ("a", "m", "z"))
    assert one.targets.tolist() == [2, 0, 1] and other.targets.tolist() == [1, 2, 0]


def test_ambiguity_letters_become_n_and_are_told(write):
    reading = read_labelled(write("sequence,label\nACRYn,0\nACGT,1\nACNN,1\n"))
    assert decode(reading.examples.codes[0]) == "ACNNN"
    assert "letters that became N, in 2 sequences: N 3, R 1, Y 1" in reading.told()


# Each fault, the rows it is told of, the rows that stay when bad ones are skipped, and words of the message.
FAULTS = [
    ("ragged row", "x,AAAC,root,9\ny,AAAG\n", [6, 7], "4 fields, the header has 3"),
    ("empty row", "\n,,\nz,AAAT,root\n", [6, 7], "every field is empty"),
    ("no sequence", "x,,root\n", [6], "the sequence is empty"),
    ("not DNA", "x,ACEF,root\ny,AC-T,root\nz,ACU,root\nw,A CG,leaf\n", [6, 7, 8, 9], "'E' at base 3"),
    ("no bases", "x,NNRN,root\n", [6], "none of 4 letters is A, C, G or T"),
    ("no label", "x,AAAC,\ny,AAAG,NA\n", [6, 7], "column label is empty"),
    ("mixed labels", "x,AAAC,0.5\n", [6], "a number among text: '0.5'"),
    ("no id", ",AAAC,root\n", [6], "the id is empty"),
    ("duplicated id", "a,AAAC,root\n", [6], "'a' is also row 2"),
    ("conflict", "x,AAAA,leaf\n", [3, 6], "row 6 has the same sequence and another label"),
]


@pytest.mark.parametrize(("kind", "rows", "bad", "text"), FAULTS)
def test_each_fault_stops_with_its_rows_or_is_left_out_and_listed(write, kind, rows, bad, text):
    path = write(GOOD + "d,TTTA,root\n" + rows)
    with pytest.raises(LabelError) as error:
        read_labelled(path)
    named = f"rows {', '.join(map(str, bad))} (row {bad[0]}: " if len(bad) > 1 else f"row {bad[0]} ("
    assert f"\n  {kind}: {named}" in str(error.value) and text in str(error.value)
    assert f"{path}, line {bad[0]}: {len(bad)} row" in str(error.value) and 'on_bad="skip"' in str(error.value)
    reading = read_labelled(path, on_bad="skip")
    assert [problem.row for problem in reading.problems] == bad
    assert {problem.kind for problem in reading.problems} == {kind} and text in reading.problems[0].reason
    kept = {2, 3, 4, 5, 8} if kind == "empty row" else {2, 3, 4, 5}
    assert set(reading.examples.rows.tolist()) == kept - set(bad)
    assert reading.told()[-1].startswith(f"{len(bad)} row{'s' if len(bad) > 1 else ''} left out, the first: ")


def test_several_faults_are_told_at_once(write):
    with pytest.raises(LabelError) as error:
        read_labelled(write("sequence,label\nACGT,0\nACXT,1\n,1\nAAAA,\nAAAC,1\n"))
    assert str(error.value).count("\n  ") == 3 and ": 3 rows cannot be used." in str(error.value)


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("sequence,label\nACGT,1\nAAAA,1\n", "one class only: 1 \\(2\\)"),
        ("sequence,label\n", "there is no row below the header"),
        ("sequence,strength,GC\nACGT,1,2\n", "no column is named as labels usually are"),
        ("ACGTACGTACGTAC,1\nAAAA,0\n", "the first row holds data"),
        (">a|1|0\nACGT\n", "Name the layout"),
    ],
)
def test_what_no_skipping_mends(write, text, refusal):
    for on_bad in ("stop", "skip"):
        with pytest.raises(LabelError, match=refusal):
            read_labelled(write(text), on_bad=on_bad)


def test_nothing_left_is_an_error(write):
    with pytest.raises(LabelError, match="no row is left: every one is bad"):
        read_labelled(write("sequence,label\nXX,1\n,0\n"), on_bad="skip")


def test_the_task_of_training_holds_for_the_others(write):
    task = read_labelled(write(GOOD)).examples.task
    other = read_labelled(write("sequence,label\nACGT,root\nAAAA,root\n"), task=task)
    assert other.examples.targets.tolist() == [1, 1] and other.reason == "binary, as the training file"
    path = write("sequence,label\nACGT,root\nAAAA,stem\nCCCC,1\n")
    with pytest.raises(
        LabelError, match=r"unseen class: rows 3, 4 \(row 3: 'stem' is none of the 2 classes: leaf, root"
    ):
        read_labelled(path, task=task)
    assert [problem.row for problem in read_labelled(path, task=task, on_bad="skip").problems] == [3, 4]


def test_a_kind_of_task_may_be_asked_for(write):
    path = write("sequence,label\nACGT,0\nAAAA,1\nAAAC,2\n")
    assert read_labelled(path, task="regression").examples.targets.tolist() == [[0], [1], [2]]
    mixed = write("sequence,label\nACGT,0\nAAAA,1\nAAAC,unknown\n", "b.csv")
    assert read_labelled(mixed, task="multiclass").examples.task.names == ("0", "1", "unknown")
    with pytest.raises(LabelError, match="wrong label: row 4 \\('unknown' is no number\\)"):
        read_labelled(mixed, task=Task("regression", ("label",)))


def test_conflicts_may_be_kept_and_numbers_have_none(write):
    path = write("sequence,label\nACGT,0\nACGT,1\nAAAA,1\n")
    reading = read_labelled(path, keep_conflicts=True)
    assert len(reading.examples) == 3 and not reading.problems
    assert "1 sequences come with two labels or more, in 2 rows; all are kept" in reading.notes
    assert len(read_labelled(write("sequence,label\nACGT,0.5\nACGT,1.5\n")).examples) == 2


def test_several_outputs_must_all_be_there(write):
    path = write("sequence,leaf,proto\nACGT,0.5,1\nAAAA,,1\nAAAC,2,NA\n")
    with pytest.raises(LabelError, match=r"no label: rows 3, 4 \(row 3: column leaf is empty\)"):
        read_labelled(path, label=["leaf", "proto"])
    examples = read_labelled(path, label=["proto", "leaf"], on_bad="skip").examples
    assert examples.task == Task("regression", ("proto", "leaf")) and examples.targets.tolist() == [[1, 0.5]]


def test_words_are_joined_as_dnallm_gives_genes(write):
    # The first rows of AT5G26280 and made-up ones: zhangtaolab/DNALLM (MIT), tests/test_data/token_classification.
    text = "gene,sequence,labels\nAT5G26280,GATCAA,0\nAT5G26280,ACAAGT,0\nAT5G26280,T,2\nAT1,ATGAAT,3\nAT1,CC,\n"
    examples = read_labelled(write(text), words=True).examples
    assert examples.ids == ("AT5G26280", "AT1") and examples.task == Task("bases", ("0", "2", "3"))
    assert decode(examples.codes[0]) == "GATCAAACAAGTT" and examples.rows.tolist() == [2, 5]
    assert [target.tolist() for target in examples.targets] == [[0] * 12 + [1], [2] * 6 + [-100] * 2]
    with pytest.raises(LabelError, match="if rows are words of one sequence, say so"):
        read_labelled(write(text.replace("T,2", "TT,2")), id="gene")
    with pytest.raises(LabelError, match="duplicated id: row 5 "):
        read_labelled(write("gene,sequence,labels\na,AC,0\na,AG,1\nb,AT,1\na,A,0\n"), words=True)
    with pytest.raises(LabelError, match="no column says of which sequence"):
        read_labelled(write("sequence,labels\nAC,0\n"), words=True)


def test_bins_of_parquet(tmp_path):
    table = pa.table({"sequence": ["ACGTA", "ACGT"], "signal": [[0.5, 1.0, None], [2.0, 3.0]]})
    pq.write_table(table, tmp_path / "a.parquet")
    examples = read_labelled(tmp_path / "a.parquet", bin_bp=2).examples
    assert examples.task == Task("bins", ("signal",), 2)
    np.testing.assert_array_equal(examples.targets[0], [[0.5], [1], [np.nan]])
    with pytest.raises(LabelError, match="3 bins, a sequence of 5 bp has 2 of 3 bp"):
        read_labelled(tmp_path / "a.parquet", bin_bp=3)
    with pytest.raises(LabelError, match="bins of 3 bp, and the task has bins of 2 bp"):
        read_labelled(tmp_path / "a.parquet", bin_bp=3, task=examples.task)


def test_fasta_layouts_that_are_named(write):
    several = read_labelled(write(">a|0|1\nACGT\n>b|1|1\nAAAA\n", "a.fa"), header="id|labels").examples
    assert several.task == Task("multilabel", ("label-0", "label-1")) and several.targets.tolist() == [[0, 1], [1, 1]]
    numbered = read_labelled(write(">none_1\nACGT\n>promoter_1\nAAAA\n", "a.fa"), header="label_n").examples
    assert numbered.ids == ("none_1", "promoter_1") and numbered.targets.tolist() == [0, 1]
    with pytest.raises(LabelError, match="wrong label: row 3 \\(1 labels, other headers have 2\\)"):
        read_labelled(write(">a|0|1\nACGT\n>b|1\nAAAA\n", "a.fa"), header="id|labels")
    with pytest.raises(LabelError, match="no label: row 3 \\(header 'b' is not laid out as 'id"):
        read_labelled(write(">a|0\nACGT\n>b\nAAAA\n>c|1\nAAAC\n", "a.fa"), header="id|label")
    with pytest.raises(LabelError, match="this is FASTA, which has no columns"):
        read_labelled(write(">a|0\nACGT\n", "a.fa"), label="label")
    with pytest.raises(LabelError, match="a layout of headers is for FASTA"):
        read_labelled(write(GOOD), header="id|label")


def test_classes_by_file_as_epd_gives_them(write):
    tata = write(">FP000001 AT1G01050_1  :+U  EU:NC; range  -200 to    50.\nCAAGTATCCT\nACATA\n", "tata.fa")
    none = write(">unnamed protein product   [AB1 ]\nCATTC\n>unnamed protein product   [AB2 ]\nCATTA\n", "none.fa")
    reading = read_classes({"promoter": tata, "none": none})
    assert reading.examples.ids == ("promoter:FP000001", "none:line-1", "none:line-3")
    assert reading.examples.task == Task("binary", ("none", "promoter")) and reading.examples.targets.tolist() == [
        1,
        0,
        0,
    ]
    assert f"{none}: headers are no names, so examples are named by the line of their header" in reading.notes
    both = write(">x\nCATTC\n>y\nAXA\n", "both.fa")
    with pytest.raises(LabelError) as error:
        read_classes({"promoter": both, "none": none})
    assert f"{none}, row 1 has the same sequence" in str(error.value) and "'X' at base 2" in str(error.value)
    with pytest.raises(ValueError, match="no files are named"):
        read_classes({})


def test_problems_are_few_lines_however_many(write):
    raise_problems([])
    many = [Problem("a.csv", row, "", "no label", "column label is empty") for row in range(2, 5000)]
    with pytest.raises(
        LabelError, match=r"4998 rows cannot be used.\n  no label: rows 2, 3, 4, 5, 6, ... \(4998 in all\)"
    ):
        raise_problems(many)
    assert str(many[0]) == "a.csv, row 2: no label: column label is empty"
