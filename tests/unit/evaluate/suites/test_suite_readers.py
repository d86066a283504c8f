"""Files of a few rows in the publishers' own formats, read beside plain loops or values that were planted."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from umbel.errors import LabelError
from umbel.evaluate.suites import load_suite, read_dataset
from umbel.genome.sequence import decode

PGB, GUE, NT, NEW, PDLLM = (load_suite(name) for name in ("pgb", "gue", "nt", "nt_revised", "pdllm"))


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def letters(examples):
    return [decode(codes) for codes in examples.codes]


def test_pgb_classes(tmp_path):
    write(tmp_path / "poly_a/trifolium_pratense_train.fa", ">seq_1|1\nACGT\nNN\n>seq_2|0\nggta\n")
    write(tmp_path / "poly_a/trifolium_pratense_test.fa", ">chr1:5-9|x|0\nTTRA\n")
    read = read_dataset(PGB, "poly_a.trifolium_pratense", tmp_path)
    assert list(read) == ["train", "test"]
    train, test = read["train"], read["test"]
    assert (train.task.kind, train.task.names) == ("binary", ("0", "1"))
    assert (train.ids, letters(train), train.targets.tolist()) == (("seq_1", "seq_2"), ["ACGTNN", "GGTA"], [1, 0])
    assert train.targets.dtype == np.int64 and train.rows.tolist() == [1, 4]
    assert train.source.endswith("poly_a/trifolium_pratense_train.fa")
    assert (test.ids, letters(test), test.targets.tolist()) == (("chr1:5-9|x",), ["TTNA"], [0])


@pytest.mark.parametrize("word", ["validation", "valid", "val", "dev"])
def test_pgb_numbers_and_the_spellings_of_dev(tmp_path, word):
    folder = tmp_path / "promoter_strength"
    write(folder / "leaf_train.fa", ">AT1G01010_At|-0.25\nACGT\n>x_Zm|1e-1\nAC\n")
    write(folder / f"leaf_{word}.fa", ">y_Sb|2\nAA\n")
    write(folder / "leaf_test.fa", ">z_Sb|3.5\nCC\n")
    read = read_dataset(PGB, "promoter_strength.leaf", tmp_path)
    assert {split: part.targets.tolist() for split, part in read.items()} == {
        "train": [[-0.25], [np.float32(0.1)]],
        "dev": [[2.0]],
        "test": [[3.5]],
    }
    assert read["train"].targets.dtype == np.float32 and read["train"].task.kind == "regression"


def test_pgb_many_outputs(tmp_path):
    values = np.arange(14) / 4
    text = ">gene|" + "|".join(map(str, values)) + "\nACGT\n"
    for split in ("train", "dev", "test"):
        write(tmp_path / f"gene_exp/glycine_max_{split}.fa", text)
    read = read_dataset(PGB, "gene_exp.glycine_max", tmp_path)
    np.testing.assert_array_equal(read["test"].targets, values[None].astype(np.float32))
    write(tmp_path / "gene_exp/glycine_max_test.fa", text + ">short|1|2\nAC\n")
    with pytest.raises(
        LabelError, match=r"glycine_max_test.fa, line 3: header 'short\|1\|2' is not 'name\|label' with 14"
    ):
        read_dataset(PGB, "gene_exp.glycine_max", tmp_path)


@pytest.mark.parametrize("sep", ["|", ""])
def test_pgb_many_labels(tmp_path, sep):
    """Nobody says how many labels a species has: the first row does, and all must agree."""
    row = sep.join("0110")
    for split in ("train", "valid", "test"):
        write(tmp_path / f"chromatin_access/zea_mays_{split}.fa", f">a|{row}\nAC\n>b|{sep.join('0000')}\nGT\n")
    read = read_dataset(PGB, "chromatin_access.zea_mays", tmp_path)
    assert read["dev"].task.names == ("0", "1", "2", "3")
    assert read["dev"].targets.tolist() == [[0, 1, 1, 0], [0, 0, 0, 0]]
    write(tmp_path / "chromatin_access/zea_mays_test.fa", f">a|{row}\nAC\n>b|{sep.join('000')}\nGT\n")
    with pytest.raises(LabelError, match=r"zea_mays_test.fa, line 3: 3 labels where chromatin_access.zea_mays has 4"):
        read_dataset(PGB, "chromatin_access.zea_mays", tmp_path)


def test_names_that_repeat_get_their_row(tmp_path):
    for split in ("train", "test"):
        write(tmp_path / f"splice_sites_all/{split}.fna", ">chr1|2\nAC\n>chr1|0\nGT\n>chr1|1\nAA\n")
    read = read_dataset(NT, "splice_sites_all", tmp_path)["train"]
    assert (read.ids, read.targets.tolist()) == (("chr1", "chr1#3", "chr1#5"), [2, 0, 1])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (">a\nAC\n", r"test.fna, line 1: header 'a' is not 'name\|label' with a label"),
        (">a|1\nAC\n>b|0\n>c|1\nAC\n", r"test.fna, line 3: the sequence is empty"),
        (">a|1\nACXG\n", r"test.fna, line 1: the sequence is not DNA: 'X' at position 3"),
        ("ACGT\n>a|1\nAC\n", r"test.fna, line 1: the file does not begin with a '>' header"),
        ("\n\n", r"test.fna: the file holds no record"),
        (">a|2\nAC\n", r"test.fna, line 1: label '2' is no class of H3: 0, 1"),
        (">a|1.0\nAC\n", r"test.fna, line 1: label '1.0' is no class of H3: 0, 1"),
    ],
)
def test_fasta_that_is_not_as_described(tmp_path, text, said):
    write(tmp_path / "H3/train.fna", ">a|1\nAC\n")
    write(tmp_path / "H3/test.fna", text)
    with pytest.raises(LabelError, match=said):
        read_dataset(NT, "H3", tmp_path)


def test_numbers_that_are_none(tmp_path):
    for split in ("train", "dev", "test"):
        write(tmp_path / f"promoter_strength/leaf_{split}.fa", ">a|1\nAC\n")
    for text, said in ((">a|nan\nAC\n", "a label is not a finite number"), (">a|high\nAC\n", "'high' is not a number")):
        write(tmp_path / "promoter_strength/leaf_test.fa", text)
        with pytest.raises(LabelError, match=said):
            read_dataset(PGB, "promoter_strength.leaf", tmp_path)


def test_gue_tables(tmp_path):
    for split in ("train", "dev", "test"):
        write(tmp_path / f"GUE/virus/covid/{split}.csv", "sequence,label\nACGT,8\nGG,0\n")
    read = read_dataset(GUE, "virus_covid", tmp_path)
    assert list(read) == ["train", "dev", "test"]
    assert read["dev"].targets.tolist() == [8, 0]
    assert read["dev"].task.kind == "multiclass" and read["dev"].task.n_outputs == 9
    assert (read["dev"].ids, read["dev"].rows.tolist()) == (("2", "3"), [2, 3])


def test_tables_name_classes_and_pass_over_other_columns(tmp_path):
    folder = tmp_path / "plant-multi-species-open-chromatin/mini_datasets"
    for split in ("train", "dev", "test"):
        write(folder / f"{split}.csv", "\ufeffsp,sequence,label\r\nbd30,ACGT,2\r\nbd30,AC,0\r\nbd30,A,1\r\n")
    read = read_dataset(PDLLM, "open_chromatin_mini", tmp_path)["train"]
    assert read.task.names == ("not_open_chromatin", "full_open_chromatin", "partial_open_chromatin")
    assert read.targets.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sequence,labels\nAC,1\n", r"test.csv, line 1: no column label; the first line has sequence, labels"),
        ("", r"test.csv, line 1: no column sequence, label; the first line has nothing"),
        ("sequence,label\nAC,1\nAC\n", r"test.csv, line 3: 1 fields where the first line has 2"),
        ("sequence,label\n,1\n", r"test.csv, line 2: the sequence is empty"),
        ("sequence,label\nAC,\n", r"test.csv, line 2: the label is empty"),
        ("sequence,label\nAC-G,1\n", r"test.csv, line 2: the sequence is not DNA: '-' at position 3"),
        ("sequence,label\nAC,yes\n", r"test.csv, line 2: label 'yes' is no class of H3: 0, 1"),
        ('sequence,label\n"AC,1\n', r"test.csv, line 2: not readable as CSV"),
        ("sequence,label\n", r"test.csv: no row of H3, test"),
    ],
)
def test_tables_that_are_not_as_described(tmp_path, text, said):
    for split in ("train", "dev"):
        write(tmp_path / f"GUE/EMP/H3/{split}.csv", "sequence,label\nACGT,1\n")
    write(tmp_path / "GUE/EMP/H3/test.csv", text)
    with pytest.raises(LabelError, match=said):
        read_dataset(GUE, "H3", tmp_path)


def parquet(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def test_revised_nt(tmp_path):
    rows = {"sequence": ["ACGT", "GG", "TT"], "name": ["chr1:1-5", "chr1:7-9", "chr2:1-3"], "label": [1, 0, 1]}
    parquet(tmp_path / "H3K9me3/train.parquet", **rows, task=["H3K9me3", "H3K9me3", "enhancers"])
    parquet(tmp_path / "H3K9me3/test.parquet", **rows)
    read = read_dataset(NEW, "H3K9me3", tmp_path)
    assert (read["train"].ids, read["train"].targets.tolist()) == (("chr1:1-5", "chr1:7-9"), [1, 0])
    assert (letters(read["test"]), read["test"].rows.tolist()) == (["ACGT", "GG", "TT"], [1, 2, 3])


def test_parquet_that_is_not_as_described(tmp_path):
    parquet(tmp_path / "H3K9me3/train.parquet", sequence=["AC"], label=[1])
    target = tmp_path / "H3K9me3/test.parquet"
    parquet(target, sequence=["AC", None], label=[1, 0])
    with pytest.raises(LabelError, match=r"test.parquet, line 2: sequence or label is null"):
        read_dataset(NEW, "H3K9me3", tmp_path)
    parquet(target, sequence=["AC"], labels=[1])
    with pytest.raises(LabelError, match=r"test.parquet: no column label; there are sequence, labels"):
        read_dataset(NEW, "H3K9me3", tmp_path)
    target.write_text("no")
    with pytest.raises(LabelError, match=r"test.parquet: not readable as Parquet"):
        read_dataset(NEW, "H3K9me3", tmp_path)


def test_a_missing_file_is_told_with_how_to_get_it(tmp_path):
    with pytest.raises(LabelError, match=r"H3 has no train file here. Get it with: umbel suite fetch nt -o FOLDER"):
        read_dataset(NT, "H3", tmp_path)
    with pytest.raises(LabelError, match=r"H3 has no train file here. Download GUE.zip from https://drive.google.com"):
        read_dataset(GUE, "H3", tmp_path)


def test_gzip_is_read_too(tmp_path):
    write(tmp_path / "H3/train.fna", ">a|1\nAC\n")
    (tmp_path / "H3/test.fna").write_bytes(gzip.compress(b">a|0\nGG\n"))
    assert letters(read_dataset(NT, "H3", tmp_path)["test"]) == ["GG"]
