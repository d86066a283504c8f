import copy
import json
import math
from typing import Any

import numpy as np
import pytest
from bench_fakes import result

from umbel.errors import RunError
from umbel.evaluate.bench.cited import OVERALL
from umbel.evaluate.bench.joining import join, read_results
from umbel.evaluate.bench.leaderboard import gather
from umbel.evaluate.bench.means import mean_estimate
from umbel.evaluate.bench.rows import ROWS
from umbel.evaluate.bench.table import MODEL
from umbel.evaluate.bench.wording import BASELINES, ROW_NAMES, judge, sentence, tally

HISTONES = ["H3K27ac", "H3K27me3", "H3K4me3"]


def test_the_rows_that_must_be_there_are_those_of_the_runner() -> None:
    assert (MODEL, *BASELINES) == ROWS == tuple(ROW_NAMES)


def test_a_mean_covers_the_truth_as_often_as_it_says() -> None:
    """Datasets of other sizes, intervals of each by theory: the combined one covers 95 % too."""
    rng = np.random.default_rng(0)
    truths, spreads = np.array([0.2, 0.5, 0.9]), np.array([0.02, 0.05, 0.01])
    hits = 0
    for _ in range(2000):
        values = rng.normal(truths, spreads)
        found = mean_estimate(
            [{"value": v, "low": v - 1.96 * s, "high": v + 1.96 * s} for v, s in zip(values, spreads, strict=True)]
        )
        hits += found["low"] <= truths.mean() <= found["high"]
    assert abs(hits / 2000 - 0.95) < 0.015


def test_a_mean_by_hand() -> None:
    one = {"value": 0.4, "low": 0.3, "high": 0.6, "sd": 0.1, "by_seed": [0.3, 0.5]}
    two = {"value": 0.8, "low": 0.76, "high": 0.83, "sd": 0.0, "by_seed": [0.8, 0.8]}
    found = mean_estimate([one, two])
    assert found["value"] == pytest.approx(0.6)
    assert found["low"] == pytest.approx(0.6 - math.hypot(0.1, 0.04) / 2)
    assert found["high"] == pytest.approx(0.6 + math.hypot(0.2, 0.03) / 2)
    assert found["by_seed"] == pytest.approx([0.55, 0.65]) and found["sd"] == pytest.approx(
        np.std([0.55, 0.65], ddof=1)
    )
    assert mean_estimate([one]) == one
    assert mean_estimate([one, two | {"low": None}])["low"] is None
    assert mean_estimate([one, two | {"value": None}])["value"] is None
    assert mean_estimate([one, two | {"by_seed": [0.8]}])["sd"] is None


def test_means_are_over_whole_tasks_only() -> None:
    board = gather([result([*HISTONES, "promoter_strength.leaf", "core_promoters"])])
    groups = {each.name: each for each in board.groups}
    histone = groups["histone_modification"]
    for entry in board.entries:
        values = [each.cells[entry.key].estimate["value"] for each in board.datasets if each.name in HISTONES]
        assert histone.cells[entry.key].estimate["value"] == pytest.approx(sum(values) / 3)
    assert histone.cells["model:0"].flops == 3 * 3e15
    gaps = [
        board.datasets[i].differences["model"]["random"]["value"]
        for i in range(5)
        if board.datasets[i].name in HISTONES
    ]
    assert histone.differences["model"]["random"]["value"] == pytest.approx(sum(gaps) / 3)
    assert groups["promoter_strength"].cells == {} and groups["promoter_strength"].differences == {}
    assert groups["promoter_strength"].missing == {"model": ("promoter_strength.protoplast",)}
    assert groups["core_promoter"].cells["model:0"].estimate == board.datasets[-1].cells["model:0"].estimate
    assert board.overall.cells == {} and len(board.overall.missing["model"]) == 26


def test_a_whole_suite_has_a_mean_of_each_dataset_once() -> None:
    names = list(result([], suite="genomic_benchmarks")["suite"]["datasets"])
    board = gather([result(names, suite="genomic_benchmarks")])
    values = [each.cells["model:0"].estimate["value"] for each in board.datasets]
    assert board.overall.cells["model:0"].estimate["value"] == pytest.approx(sum(values) / len(names))
    assert board.citations.by_group[OVERALL][0].model.startswith("HyenaMoE")


def test_parts_of_one_model_are_put_together_in_the_order_of_the_suite() -> None:
    (joined,) = join([result(["H3K4me3", "core_promoters"]), result(["H3K27ac"])])
    assert list(joined["datasets"]) == ["H3K27ac", "H3K4me3", "core_promoters"]
    first, other = (
        result(["H3K4me3"]),
        result(["H3K27ac"]) | {"umbel": "0.8.0", "missing": ["H3K4me3", "core_promoters"]},
    )
    (joined,) = join([first, other])
    assert joined["umbel"] == "0.7.0+0123456789ab, 0.8.0" and joined["missing"] == ["core_promoters"]


def test_models_share_the_baselines_that_scored_the_same() -> None:
    a, b = result(HISTONES, name="a"), result(HISTONES, name="b", shares={"model": 0.3, "random": 0.5})
    board = gather([a, b])
    assert [entry.tag for entry in board.entries] == ["A", "B", "random A", "random B", "CNN", "k-mer", "majority"]
    assert [entry.label for entry in board.entries][:3] == [
        "A · a, adapter",
        "B · b, adapter",
        "same network, random weights (beside A)",
    ]
    assert board.entries[4].sources == (0, 1)
    assert set(board.datasets[0].differences) == {"A", "B"}


def test_a_model_on_fewer_datasets_has_no_mean() -> None:
    board = gather([result(HISTONES, name="a"), result(HISTONES[:2], name="b")])
    histone = board.groups[0]
    assert "model:0" in histone.cells and "model:1" not in histone.cells
    assert set(histone.differences) == {"A"} and histone.missing == {"B": ("H3K4me3",)}
    assert "model:1" not in board.datasets[2].cells and "cnn:0" in board.datasets[2].cells


@pytest.mark.parametrize("row", BASELINES)
def test_no_table_without_baselines(row: str) -> None:
    found = copy.deepcopy(result(["core_promoters"]))
    del found["datasets"]["core_promoters"]["rows"][row]
    with pytest.raises(RunError, match=r"core_promoters of toy has no .*: a table without baselines is not made"):
        gather([found])
    found = copy.deepcopy(result(["core_promoters"]))
    del found["datasets"]["core_promoters"]["differences"][row]
    with pytest.raises(RunError, match=r"has no difference to .*: a table without baselines is not made"):
        gather([found])


def test_what_does_not_fit_together_is_refused() -> None:
    a = result(["core_promoters"], name="a")
    with pytest.raises(RunError, match="a was measured on suite mpgb and b on pdllm: a leaderboard is of one suite"):
        gather([a, result(["core_promoters"], suite="pdllm", name="b")])
    changed = copy.deepcopy(result(["core_promoters"], name="b"))
    changed["suite"]["datasets"]["H3K27ac"] = "other"
    with pytest.raises(RunError, match="two suites that are both called mpgb: they differ in H3K27ac"):
        gather([a, changed])
    with pytest.raises(
        RunError,
        match=r"core_promoters: a and b were tested on different data \(120 examples and 90 examples; hashes 0",
    ):
        gather([a, result(["core_promoters"], name="b", n_test=90)])
    other = copy.deepcopy(result(["core_promoters"], name="b"))
    other["datasets"]["core_promoters"]["data"]["test_hash"] = "ff" * 32
    with pytest.raises(
        RunError, match=r"120 examples each, of other sequences, names or targets; hashes 0.* and ffffff"
    ):
        gather([a, other])
    other = copy.deepcopy(result(["core_promoters"], name="b"))
    other["datasets"]["core_promoters"]["metric"] = "auroc"
    with pytest.raises(RunError, match="core_promoters: a was scored as metric mcc and b as auroc"):
        gather([a, other])
    with pytest.raises(RunError, match="core_promoters: two results of a with the same weights and settings"):
        gather([a, a])
    with pytest.raises(RunError, match="there are no results"):
        gather([])
    with pytest.raises(RunError, match="there are no results"):
        gather([result([])])
    stray = copy.deepcopy(a)
    stray["datasets"]["mine"] = stray["datasets"]["core_promoters"]
    with pytest.raises(RunError, match=r"mine of a is no dataset of suite mpgb: bench.json is damaged"):
        gather([stray])


def test_results_are_read_from_folders_and_files(tmp_path: Any) -> None:
    found = result(["core_promoters"])
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(found))
    assert read_results([tmp_path, file]) == 2 * [json.loads(json.dumps(found))]
    with pytest.raises(RunError, match=r"nowhere is not there. Give a folder that umbel bench has finished"):
        read_results([tmp_path / "nowhere"])
    file.write_text(json.dumps(found | {"format_version": 9}))
    with pytest.raises(RunError, match="umbel-bench of version 9, and this umbel reads umbel-bench of version 1"):
        read_results([file])
    for text in ("{", "[]", "{}"):
        file.write_text(text)
        with pytest.raises(RunError, match=r"bench.json is no result of umbel bench \("):
            read_results([tmp_path])


@pytest.mark.parametrize(
    ("value", "low", "high", "p", "verdict"),
    [
        (0.1, 0.01, 0.2, 0.01, "better"),
        (-0.1, -0.2, -0.01, 0.049, "worse"),
        (0.1, 0.01, 0.2, 0.05, "even"),
        (0.1, -0.01, 0.2, 0.01, "even"),
        (0.0, 0.0, 0.0, 1.0, "even"),
        (None, None, None, None, "unknown"),
        (0.1, None, None, None, "unknown"),
    ],
)
def test_judgement_needs_interval_and_p(value: Any, low: Any, high: Any, p: Any, verdict: str) -> None:
    assert judge({"value": value, "low": low, "high": high, "p_holm": p}) == verdict


def test_sentences_follow_the_numbers() -> None:
    good = {"value": 0.2, "low": 0.1, "high": 0.3, "p_holm": 0.008}
    even = {"value": 0.004, "low": -0.01, "high": 0.02, "p_holm": 1.0}
    bad = {"value": -0.2, "low": -0.3, "high": -0.1, "p_holm": 0.0005}
    said = sentence("the model", {"random": even, "cnn": bad, "kmer": good, "majority": good}, "mcc")
    assert said == (
        "In MCC, the model is better than k-mer frequencies (+0.200 [0.100 to 0.300], p = 0.008) and the majority "
        "class (of numbers: the mean) (+0.200 [0.100 to 0.300], p = 0.008); it cannot be told apart from the same "
        "network with random weights (+0.0040 [−0.0100 to 0.0200], p = 1.000); it is worse than a small CNN "
        "(−0.200 [−0.300 to −0.100], p < 0.001). Nothing here shows that its pretraining helped."
    )
    said = sentence("B", {"random": good, "cnn": good, "kmer": even, "majority": good}, "auroc")
    assert said.endswith("Its pretraining helped, but nothing here shows that it sees more than k-mer counts do.")
    said = sentence("B", dict.fromkeys(BASELINES, good), "auroc")
    assert "pretraining" not in said
    unknown = {"value": None, "low": None, "high": None, "p_holm": None}
    said = sentence("B", dict.fromkeys(BASELINES, unknown), "auroc")
    assert said.startswith("In AUROC, B could not be tested against the same network") and "not defined" in said
    assert tally(["worse", "even", "worse"]) == "not told apart on 1 dataset, worse on 2"


def test_planted_qualities_are_told() -> None:
    board = gather([result(["core_promoters"], shares={"model": 0.02, "kmer": 0.7, "cnn": 0.02, "random": 0.6})])
    (each,) = board.datasets
    assert {row: each.verdict("model", row) for row in BASELINES} == {
        "random": "better",
        "cnn": "even",
        "kmer": "better",
        "majority": "better",
    }
    assert "Its pretraining" not in board.sentences(each)[0] and "Nothing here" not in board.sentences(each)[0]
