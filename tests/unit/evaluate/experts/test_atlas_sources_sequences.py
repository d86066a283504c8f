"""Sequences of FASTA and tables: what is read, clusters against comparing all with all, and what is refused."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from umbel.errors import ConfigError, LabelError
from umbel.evaluate.experts.source import Source
from umbel.evaluate.experts.sources.columns import column_labelling
from umbel.evaluate.experts.sources.sequence_files import Wanted
from umbel.evaluate.experts.sources.sequences import SequenceSource, sequence_source
from umbel.genome.sequence import decode


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    return path


def random_letters(seed, n, length=120):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("ACGT"), length)) for _ in range(n)]


def changed(letters, n, seed):
    rng = np.random.default_rng(seed)
    found = list(letters)
    for place in rng.choice(len(found), n, replace=False):
        found[place] = "CGTA"["ACGT".index(found[place])]
    return "".join(found)


def revcomp(letters):
    return letters[::-1].translate(str.maketrans("ACGT", "TGCA"))


ROWS = [("ACGTNacgt", "leaf", "1"), ("GGGTTT", "root", "0"), ("TTTTCCC", "leaf", "")]


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet", "jsonl"])
def test_every_kind_of_table_gives_the_same_source(tmp_path, form):
    path = tmp_path / f"a.{form}"
    header = ["sequence", "label", "class"]
    if form == "parquet":
        columns = [list(column) for column in zip(*ROWS, strict=True)]
        pq.write_table(pa.table(dict(zip(header, columns, strict=True))), path)
    elif form == "jsonl":
        path.write_text("".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in ROWS))
    else:
        mark = "," if form == "csv" else "\t"
        path.write_text("\n".join(mark.join(row) for row in [header, *ROWS]) + "\n")
    source: Source = sequence_source(path)
    assert [(labelling.name, labelling.classes, labelling.level) for labelling in source.labellings] == [
        ("label", ("leaf", "root"), "sequence"),
        ("class", ("0", "1"), "sequence"),
    ]
    read = [source.stretch(i) for i in range(len(source))]
    assert [decode(stretch.content) for stretch in read] == [row[0].upper() for row in ROWS]
    assert [stretch.classes for stretch in read] == [
        {"label": 0, "class": 1},
        {"label": 1, "class": 0},
        {"label": 0, "class": -1},
    ]
    assert source.facts["class_counts"]["class"] == {"0": 1, "1": 1, "none": 1}
    json.dumps(source.facts)


def test_text_is_kept_as_it_is_and_exact_copies_are_clusters(tmp_path):
    texts = ["Promoter of?", "a b", "Promoter of?", "promoter of?"]
    path = write(
        tmp_path, "a.jsonl", "".join(json.dumps({"text": text, "n": i}) + "\n" for i, text in enumerate(texts))
    )
    source = sequence_source(path)
    assert [source.stretch(i).content for i in range(4)] == texts
    assert [source.stretch(i).unit for i in range(4)] == [0, 1, 0, 2]
    assert source.facts["clusters"] == "exact copies"
    assert source.facts["notes"] == [
        "a.jsonl: no column is named as labels usually are; name those to read (labels=...) among text, n."
    ]
    protein = write(tmp_path, "p.fa", ">a\nMKL\n>b\nMKV\n")
    assert sequence_source(protein, Wanted(kind="text")).stretch(0).content == "MKL"


def test_several_files_are_tasks(tmp_path):
    one = write(tmp_path, "promoters.fa", ">a one\nACGT\n>b\nGGGG\n")
    two = write(tmp_path, "splice.csv", "sequence,label\nTTTTA,1\n")
    source = sequence_source([one, two])
    assert [labelling.name for labelling in source.labellings] == ["task"]
    assert source.labellings[0].classes == ("promoters", "splice")
    assert [(source.stretch(i).name, source.stretch(i).classes["task"]) for i in range(3)] == [
        ("a", 0), ("b", 0), ("row-2", 1),
    ]  # fmt: skip
    assert source.facts["notes"] == [
        "splice.csv: column label is not read, as labels of several files need not mean the same; name it (labels=...) "
        "where they do."
    ]
    three = write(tmp_path, "more.csv", "sequence,label\nTTTAA,0\n")
    both = sequence_source({"x": two, "y": three}, Wanted(labels=("label",)))
    assert [labelling.classes for labelling in both.labellings] == [("x", "y"), ("0", "1")]
    with pytest.raises(ConfigError, match="two files have one name"):
        sequence_source([one, tmp_path / "other" / "promoters.fa"])


def test_headers_of_fasta_carry_labels_where_asked(tmp_path):
    path = write(tmp_path, "a.fa", ">x|1\nACGT\n>y|0\nGGGG\n")
    assert sequence_source(path).labellings == ()
    source = sequence_source(path, Wanted(header="id|label"))
    assert [(source.stretch(i).name, source.stretch(i).classes["label"]) for i in range(2)] == [("x", 1), ("y", 0)]
    with pytest.raises(LabelError, match=r"line 1: header 'x\|1' is not laid out as 'id label'"):
        sequence_source(path, Wanted(header="id label"))


def test_near_copies_on_either_strand_are_one_cluster(tmp_path):
    letters = random_letters(0, 12, 300)
    letters[3] = revcomp(letters[0])
    letters[5] = changed(letters[1], 6, 1)
    letters[7] = changed(letters[5], 6, 2)
    path = write(tmp_path, "a.fa", "".join(f">s{i}\n{one}\n" for i, one in enumerate(letters)))
    source = sequence_source(path)
    units = [source.stretch(i).unit for i in range(12)]

    # All with all: a fifth of the 15-mers in common (0.9 ** 15), on either strand, and chains of such pairs.
    def kmers(one):
        return {min(one[i : i + 15], revcomp(one[i : i + 15])) for i in range(len(one) - 14)}

    sets = [kmers(one) for one in letters]
    group = list(range(12))
    for i in range(12):
        for j in range(i):
            if len(sets[i] & sets[j]) >= 0.9**15 * min(len(sets[i]), len(sets[j])):
                group = [group[j] if own == group[i] else own for own in group]
    assert len(set(group)) == 9
    for i in range(12):
        for j in range(12):
            assert (units[i] == units[j]) == (group[i] == group[j])
    sizes = Counter(group).values()
    assert source.facts["n_clusters"] == 9
    assert source.facts["effective_clusters"] == pytest.approx(12**2 / sum(size**2 for size in sizes))


def test_the_group_column_makes_the_clusters_and_units_are_cut_by_class(tmp_path):
    rows = ["g1,leaf", "g1,root", "g2,leaf", ",leaf", "g1,leaf", ",leaf"]
    lines = [f"{letters},{row}" for letters, row in zip(random_letters(3, 6), rows, strict=True)]
    path = write(tmp_path, "a.csv", "sequence,group,label\n" + "\n".join(lines) + "\n")
    source = sequence_source(path)
    assert [source.stretch(i).unit for i in range(6)] == [0, 1, 2, 3, 0, 4]
    assert source.facts["clusters"] == "column group"
    assert (source.facts["n_clusters"], source.facts["n_straddling"], source.n_units) == (4, 1, 5)
    assert "1 of 4 clusters have members of several classes" in source.facts["notes"][0]
    named = write(tmp_path, "b.csv", (tmp_path / "a.csv").read_text().replace("group", "homology"))
    again = sequence_source(named, Wanted(group="homology"))
    assert [again.stretch(i).unit for i in range(6)] == [0, 1, 2, 3, 0, 4]


def test_too_many_clusters_are_put_together_within_classes(tmp_path):
    lines = [f"{letters},{'ab'[i % 3 == 0]}" for i, letters in enumerate(random_letters(5, 600, 20))]
    path = write(tmp_path, "a.csv", "sequence,label\n" + "\n".join(lines) + "\n")
    source = SequenceSource({"a": path}, max_units=30)
    classes = {}
    for i in range(600):
        classes.setdefault(source.stretch(i).unit, set()).add(source.stretch(i).classes["label"])
    assert sorted(classes) == list(range(30))
    assert all(len(own) == 1 for own in classes.values())
    assert source.facts["unit"] == "neighbouring clusters of the same classes"


def test_families_are_the_largest_groups_of_like_sequences(tmp_path):
    base = random_letters(7, 3, 400)
    letters = [changed(base[0], 35, i) for i in range(4)] + [changed(base[1], 30, i) for i in range(3)] + [base[2]]
    path = write(tmp_path, "a.fa", "".join(f">s{i}\n{one}\n" for i, one in enumerate(letters)))
    source = sequence_source(path, families=5)
    assert source.labellings[0].classes == ("family 1", "family 2")
    assert [source.stretch(i).classes["family"] for i in range(8)] == [0, 0, 0, 0, 1, 1, 1, -1]
    # Looser than clusters: members of a family may be units of their own.
    assert source.n_units > 3
    assert source.labellings[0].facts["sizes"] == [4, 3]
    with pytest.raises(ConfigError, match="0 families have two or more sequences, and a labelling needs two of them"):
        sequence_source(write(tmp_path, "b.fa", f">a\n{base[0]}\n>b\n{base[1]}\n"), families=2)
    with pytest.raises(ConfigError, match="families are of DNA, and these are texts"):
        sequence_source(write(tmp_path, "c.csv", "text,label\nx,1\n"), families=2)


def test_a_draw_takes_as_many_of_each_file_and_keeps_the_order(tmp_path):
    one = write(
        tmp_path, "one.fa", "".join(f">{i}\n{letters}\n" for i, letters in enumerate(random_letters(1, 90, 20)))
    )
    two = write(
        tmp_path, "two.fa", "".join(f">{i}\n{letters}\n" for i, letters in enumerate(random_letters(2, 30, 20)))
    )
    names = {}
    for seed in (0, 0, 1):
        source = sequence_source([one, two], n_sequences=40, seed=seed)
        read = [source.stretch(i) for i in range(len(source))]
        assert Counter(stretch.classes["task"] for stretch in read) == {0: 20, 1: 20}
        told = [(stretch.classes["task"], int(stretch.name)) for stretch in read]
        assert told == sorted(set(told))
        assert names.setdefault(seed, told) == told
    assert names[0] != names[1]
    assert source.facts["n_sequences_read"] == [90, 30]


def test_columns_of_numbers_and_of_many_words_become_few_classes():
    rng = np.random.default_rng(0)
    values = rng.normal(size=200)
    labelling, classes = column_labelling("tpm", [*map(str, values.tolist()), "NA"])
    edges = labelling.facts["edges"]
    assert classes.tolist() == [sum(value > edge for edge in edges) for value in values.tolist()] + [-1]
    assert np.bincount(classes[:-1]).tolist() == [50] * 4
    words = [f"w{i}" for i in range(50) for _ in range(50 - i)]
    labelling, classes = column_labelling("word", words)
    assert len(labelling.classes) == 40
    assert labelling.classes[-1] == "other"
    assert [labelling.classes[c] for c in classes] == [w if int(w[1:]) < 39 else "other" for w in words]
    assert labelling.facts["notes"] == ["Column 'word' has 50 classes: the 11 with fewest sequences are 'other'."]
    assert column_labelling("n", ["10", "9", "1.0"])[0].classes == ("1", "9", "10")
    with pytest.raises(ConfigError, match="column 'x' says nothing of any sequence"):
        column_labelling("x", ["", "NA"])


@pytest.mark.parametrize(
    ("name", "text", "wanted", "message"),
    [
        (
            "a.fa",
            ">x\nACGE\n",
            Wanted(),
            r"line 1: 'E' at place 4 of 'x' is no nucleotide letter. If these are proteins",
        ),
        ("a.fa", ">x\n>y\nAC\n", Wanted(), "line 1: the sequence 'x' is empty"),
        ("a.fa", ">x\nAC\n", Wanted(labels=("y",)), r"this is FASTA, which has no columns. Leave labels out"),
        ("a.fa", ">x\nAC\n", Wanted(group="y"), r"this is FASTA, which has no columns. Leave group out"),
        ("a.csv", "sequence,label\nAC\n", Wanted(), "line 2: 1 fields, the header has 2"),
        ("a.csv", "sequence,label\nAC,1\n", Wanted(labels=("y",)), r"no column 'y'\. The columns are: sequence, label"),
        ("a.csv", "letters,label\nAC,1\n", Wanted(), "no column is named sequence or text"),
        ("a.csv", "sequence,text,label\nAC,AC,1\n", Wanted(), "columns sequence, text could each be meant"),
        ("a.csv", "sequence,label\n", Wanted(), "the table has no rows"),
        ("a.jsonl", '{"sequence": "AC"}\n{"sequence"\n', Wanted(), "line 2: the line is no JSON"),
        ("a.jsonl", '{"sequence": "AC"}\n[1]\n', Wanted(), "line 2: the line is no JSON object"),
        ("a.jsonl", "{}\n", Wanted(), "the file holds no JSON object with a key"),
        ("a.csv", "sequence,label\nAC,1\n", Wanted(header="id|label"), "a layout of headers is for FASTA"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_line(tmp_path, name, text, wanted, message):
    with pytest.raises(LabelError, match=message):
        sequence_source(write(tmp_path, name, text), wanted)


def test_what_cannot_be_is_refused(tmp_path):
    dna, text = write(tmp_path, "a.fa", ">x\nACGT\n"), write(tmp_path, "b.csv", "text,label\nx,1\n")
    with pytest.raises(ConfigError, match="some files hold DNA and others text: record them apart"):
        sequence_source([dna, text])
    with pytest.raises(ConfigError, match="no file of sequences is named"):
        sequence_source([])
    with pytest.raises(ConfigError, match="families is -1, n_sequences 0 and max_units 400"):
        sequence_source(dna, families=-1)
    tasks = write(tmp_path, "c.csv", "sequence,task\nAC,1\n")
    with pytest.raises(ConfigError, match="two labellings are named 'task'"):
        sequence_source({"x": tasks, "y": write(tmp_path, "d.csv", "sequence,task\nAC,1\n")}, Wanted(labels=("task",)))
