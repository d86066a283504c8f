import hashlib

import pytest

from umbel.errors import ConfigError
from umbel.evaluate.suites import check_suite, load_suite
from umbel.evaluate.suites.tellings import describe_report

TOY = """
name = "toy"
title = "Toy"
paper = "none"
page = "https://example.org"

[source]
licence = "CC0-1.0"
page = "https://example.org"
how = "Ask the author"

[defaults]
task = "binary"
classes = ["no", "yes"]
metric = "mcc"
reader = "csv"
trust = "counted"
length_bp = [4, 6]
files = { train = "{name}/train.csv", test = "{name}/test.csv" }

[[dataset]]
name = "first"
group = "g"
rows = { train = 3, test = 2 }

[[dataset]]
name = "second"
group = "g"
rows = { train = 2, test = 2 }
trust = "unverified"
"""
TRAIN, TEST = "sequence,label\nACGT,0\nACGTN,1\nnRYACG,1\n", "sequence,label\nACGT,0\nGGTT,1\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "toy.toml").write_text(TOY)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.csv").write_text(TRAIN if name == "first" else TEST)
        (tmp_path / name / "test.csv").write_text(TEST)
    return tmp_path


def check(folder, *datasets):
    return check_suite(load_suite(folder / "toy.toml"), folder, datasets)


def test_what_is_in_whole_files(folder):
    report = check(folder)
    assert report.is_ok() and not report.problems and not report.missing
    first = report.splits[0]
    assert (first.n_rows, first.n_expected, first.class_counts) == (3, 3, {"no": 1, "yes": 2})
    assert (first.shortest_bp, first.longest_bp, first.n_outside_length) == (4, 6, 0)
    assert (first.letters, first.n_rows_with_letters) == ({"N": 2, "R": 1, "Y": 1}, 2)
    lines = describe_report(report)
    assert lines[0].split() == ["dataset", "split", "rows", "expected", "bases", "other", "letters", "classes"]
    assert "first    train  3     3         4-6    2 N, 1 R, 1 Y in 2 rows  no 1, yes 2  ok" in lines
    assert lines[-1] == "toy: ok"


def test_a_missing_file_fails_unless_it_is_allowed(folder):
    (folder / "second/test.csv").unlink()
    report = check(folder)
    assert report.missing == {"second": "Ask the author."}
    assert (report.is_ok(), report.is_ok(allow_missing=True)) == (False, True)
    assert "missing: second. Ask the author." in describe_report(report)
    assert describe_report(report)[-1] == "toy: not ok" and describe_report(report, True)[-1] == "toy: ok"
    assert check(folder, "first").is_ok()
    with pytest.raises(ConfigError, match=r"suite toy has no dataset 'third'"):
        check(folder, "third")


def test_nothing_at_all_is_never_ok(tmp_path):
    report = check_suite(load_suite("gue"), tmp_path)
    assert not report.is_ok(allow_missing=True) and len(report.missing) == 28
    lines = describe_report(report)
    assert f"wrong: no file of gue is in {tmp_path}" in lines
    assert sum(line.startswith("missing: H3, H3K14ac, ") for line in lines) == 1


def test_rows_lengths_and_classes_that_differ(folder):
    (folder / "first/test.csv").write_text("sequence,label\nACGTACGT,0\nACGT,0\nAC,0\n")
    report = check(folder)
    assert report.problems == [
        "first, test: 3 rows, and 2 are expected",
        "first, test: 2 sequences are not of 4 to 6 bases",
        "first, test: no row of class yes",
    ]
    assert not report.is_ok()


def test_what_nobody_verified_is_a_note(folder):
    (folder / "second/test.csv").write_text("sequence,label\nACGT,0\nACGT,1\nAC,1\n")
    report = check(folder)
    assert report.is_ok()
    assert report.splits[3].notes == [
        "3 rows, and 2 are said, unverified",
        "1 sequences are not of 4 to 6 bases",
    ]
    assert "note: second, test: 3 rows, and 2 are said, unverified" in describe_report(report)


def test_a_bad_row_is_told_and_the_rest_is_checked(folder):
    (folder / "first/train.csv").write_text("sequence,label\nACGT,0\nACGT,maybe\n")
    report = check(folder)
    assert len(report.problems) == 1
    assert report.problems[0].endswith("train.csv, line 3: label 'maybe' is no class of first: no, yes.")
    assert report.splits[1].n_rows == 2
    (folder / "first/train.csv").write_text("sequence,label\n")
    assert "first, train: it holds no row" in check(folder).problems


def test_checksums(folder):
    right = hashlib.sha256(TEST.encode()).hexdigest()
    text = TOY.replace("rows = { train = 3, test = 2 }", f'sha256 = {{ test = "{right}" }}')
    (folder / "toy.toml").write_text(text)
    assert [one.is_sha256_right for one in check(folder, "first").splits] == [None, True]
    (folder / "first/test.csv").write_text(TEST + "ACGT,1\n")
    found = hashlib.sha256((TEST + "ACGT,1\n").encode()).hexdigest()
    assert check(folder, "first").problems == [f"first, test: test.csv has sha256 {found}, and {right} is expected"]


def test_coordinates_are_checked_without_the_genome(tmp_path):
    for split in ("train", "test"):
        folder = tmp_path / "human_enhancers_cohn" / split
        folder.mkdir(parents=True)
        for name in ("negative", "positive"):
            (folder / f"{name}.csv").write_text("id,region,start,end,strand\n1,chr7,0,9,+\n")
    report = check_suite(load_suite("genomic_benchmarks"), tmp_path, ["human_enhancers_cohn"])
    assert report.problems == [
        "human_enhancers_cohn, train: 2 rows, and 20,843 are expected",
        "human_enhancers_cohn, test: 2 rows, and 6,948 are expected",
    ]
    assert report.splits[0].class_counts == {"negative": 1, "positive": 1}
    assert report.splits[0].notes == ["coordinates: the sequences themselves were not looked at"]


def test_labels_of_many_are_counted_each(tmp_path):
    (tmp_path / "chromatin_access").mkdir()
    for split in ("train", "valid", "test"):
        (tmp_path / f"chromatin_access/zea_mays_{split}.fa").write_text(f">a|1|1|0\n{'A' * 1000}\n>b|1|0|0\nAC\n")
    report = check_suite(load_suite("pgb"), tmp_path, ["chromatin_access.zea_mays"])
    assert report.splits[2].class_counts == {"0": 2, "1": 1, "2": 0}
    assert report.is_ok() and report.splits[2].notes == ["1 sequences are not of 1,000 bases"]


def test_variants_are_checked_though_they_are_not_read(tmp_path):
    (tmp_path / "variant_effect_causal_eqtl").mkdir()
    path = tmp_path / "variant_effect_causal_eqtl/All_Tissues.csv"
    path.write_text(
        "CHROM,POS,REF,ALT,tissue,label,split,distance_to_nearest_TSS\n"
        "chr1,100,A,T,liver,1,train,5\nchr9,7,A,T,liver,0,test,5\nchr1,3,A,T,liver,0,train,5\n"
    )
    report = check_suite(load_suite("lrb"), tmp_path, ["variant_effect_causal_eqtl"])
    assert [(one.n_rows, one.class_counts) for one in report.splits] == [(2, {"0": 1, "1": 1}), (1, {"0": 1, "1": 0})]
    assert report.problems == [
        "variant_effect_causal_eqtl, train: 2 rows, and 88,717 are claimed",
        "variant_effect_causal_eqtl, test: 1 rows, and 8,846 are claimed",
        "variant_effect_causal_eqtl, test: no row of class 1",
    ]
