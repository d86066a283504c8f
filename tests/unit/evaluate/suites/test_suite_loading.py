import pytest

from umbel.errors import ConfigError, ManifestError
from umbel.evaluate.suites import load_suite

MINE = """
name = "mine"
title = "Mine"
paper = "none"
page = "https://example.org"

[source]
licence = "CC0-1.0"
page = "https://example.org"

[defaults]
task = "binary"
classes = ["no", "yes"]
metric = "mcc"
reader = "csv"
files = { train = "{name}/train.csv", test = "{head}/{tail}.csv" }

[[dataset]]
name = "tss.wheat"
group = "tss"
rows = { test = 3 }

[[dataset]]
use = "pgb/poly_a.trifolium_pratense"
name = "clover"
metric = "auprc"
"""


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_a_users_own_suite(tmp_path):
    suite = load_suite(written(tmp_path, MINE))
    tss, clover = suite.datasets
    assert (tss.train.paths, tss.test.paths, tss.test.rows, tss.dev) == (
        ("tss.wheat/train.csv",),
        ("tss/wheat.csv",),
        3,
        None,
    )
    assert (clover.name, clover.metric, clover.group, clover.folder) == ("clover", "auprc", "polyadenylation", "pgb")
    assert suite.licences == ("CC0-1.0", "CC-BY-NC-SA-4.0")
    with pytest.raises(ConfigError, match=r"suite mine has no dataset 'x'. It has tss.wheat, clover."):
        suite.dataset("x")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('metric = "mcc"', 'metric = "kappa"', r"mine.toml: dataset 1 \(tss.wheat\), metric: Input should be"),
        ('task = "binary"', 'task = "multiclass"', r"\(tss.wheat\), dataset: .*a multiclass task with 2 names"),
        ('classes = ["no", "yes"]\n', "", r"classes are missing, and a binary task needs them"),
        ('group = "tss"\n', "", r"dataset 1 \(tss.wheat\), group: Field required"),
        ('group = "tss"', 'group = "tss"\ncolour = 1', r"dataset 1 \(tss.wheat\), colour: Unexpected keyword argument"),
        ('title = "Mine"\n', "", r"mine.toml: title: Field required"),
        ('title = "Mine"', "titel = 1", r"mine.toml: unknown key 'titel'. The keys are name, title"),
        ("rows = { test = 3 }", "rows = { dev = 3 }", r"rows.dev: there is no files.dev"),
        ("rows = { test = 3 }", "rows = { tests = 3 }", r"rows: unknown key 'tests'. The keys are train, dev, test"),
        ("rows = { test = 3 }", "rows = 3", r"rows: 3 must be a table of splits"),
        ("rows = { test = 3 }", 'sha256 = { test = "abc" }', r"test.sha256: String should match pattern"),
        ("rows = { test = 3 }", "length_bp = [9, 3]", r"length_bp 9 to 3 is no range"),
        ('"{head}/{tail}.csv"', '"{species}.csv"', r"files.test: only \{name\}, \{head\} and \{tail\} can be"),
        ('"{head}/{tail}.csv"', '"../a.csv"', r"files.test: '../a.csv' leaves the suite's folder"),
        ('"{head}/{tail}.csv"', "3", r"files.test: 3 must be a path in quotes, or a list of them"),
        ('files = { train = "{name}/train.csv", test = "{head}/{tail}.csv" }', "", r"files: write a split to its path"),
        ("pgb/poly_a.trifolium_pratense", "pgb/x", r"dataset 2 \(clover\), use: 'pgb/x' is not 'suite/dataset'"),
        ('metric = "auprc"', "rows = { test = 3 }", r"dataset 2 \(clover\): unknown key 'rows'. The keys are use"),
        ('name = "clover"', 'name = "tss.wheat"', r"dataset 'tss.wheat' is there twice"),
        ("[[dataset]]\nuse", "[dataset2]\nuse", r"unknown key 'dataset2'"),
        ('name = "mine"', "name = mine", r"mine.toml: not readable as TOML"),
    ],
)  # fmt: skip
def test_refusals_name_file_and_key(tmp_path, old, new, said):
    assert old in MINE
    with pytest.raises(ManifestError, match=said):
        load_suite(written(tmp_path, MINE.replace(old, new)))


def test_a_suite_without_datasets(tmp_path):
    with pytest.raises(ManifestError, match=r"datasets: .*at least 1 item"):
        load_suite(written(tmp_path, MINE.split("[defaults]")[0]))
    with pytest.raises(ManifestError, match=r"dataset: write each dataset as a table"):
        load_suite(written(tmp_path, "dataset = 3\n" + MINE.split("[defaults]")[0]))


def test_no_such_suite(tmp_path):
    with pytest.raises(ConfigError, match=r"no suite 'mpgp'. Name one of mpgb, pgb, .* or a file that ends in .toml"):
        load_suite("mpgp")
    with pytest.raises(ManifestError, match=r"none.toml: cannot be read: No such file"):
        load_suite(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "caf\xe9"')
    with pytest.raises(ManifestError, match=r"latin.toml: not UTF-8 text"):
        load_suite(tmp_path / "latin.toml")
