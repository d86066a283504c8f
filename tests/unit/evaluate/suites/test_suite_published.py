"""Cited numbers, beside some that were typed here a second time."""

import pytest

from umbel.evaluate.suites import METRICS, load_suite, published, suite_names


def value(suite, model, metric, *, dataset="", group=""):
    found = [
        row.value
        for row in published(suite)
        if (row.model, row.metric, row.dataset, row.group, row.part) == (model, metric, dataset, group, "")
    ]
    assert len(found) == 1
    return found[0]


def test_task_means_of_mpgb():
    rows = [row for row in published("mpgb") if row.suite == "mpgb"]
    assert len(rows) == 3 * 11 + 3
    assert {row.group for row in rows if row.group} == set(load_suite("mpgb").groups)
    assert value("mpgb", "PlantBiMoE", "auroc", group="polyadenylation") == 0.9363
    assert value("mpgb", "AgroNT", "r2_undefined", group="promoter_strength") == 0.7385
    assert value("mpgb", "PlantDNAMamba", "mcc", group="core_promoter") == 0.6441
    assert value("mpgb", "PlantDNAMamba", "auroc", dataset="poly_a.medicago_truncatula") == 0.696
    assert all(row.trust == "third party" and row.n_seeds is None for row in rows)


def test_numbers_of_dnallm_mark():
    assert value("pgb", "PlantBiMoE", "f1", dataset="poly_a.arabidopsis_thaliana") == 0.0
    assert value("pgb", "PlantCAD2-M", "r2", dataset="promoter_strength.leaf") == 0.801
    assert value("pdllm", "PlantCaduceus_l32", "f1", dataset="core_promoters") == 0.842
    assert value("pdllm", "PlantCAD2-S", "mcc", dataset="open_chromatin_mini") == 0.493
    means = {row.model: row for row in published("dnallm_mark") if row.metric == "mean"}
    assert {model: (row.value, row.training_pflop, row.params_m) for model, row in means.items()} == {
        "PlantBiMoE": (0.775, 1698, 116), "AgroNT": (0.770, 3422, 985), "PlantCAD2-S": (0.798, 6754, 176),
        "PlantCAD2-M": (0.780, 23908, 621), "PlantCaduceus_l32": (0.800, 16246, 225),
        "DNAMamba-6mer": (0.770, 311, 94), "NT-v2-500m": (0.754, 1709, 494),
    }  # fmt: skip
    assert all(row.n_seeds == 1 and "One seed" in row.note for row in means.values())


def test_the_mean_is_that_of_its_rows():
    """Eleven tasks: without polyadenylation, and with the correlation of ranks where there are two metrics."""
    rows = [*published("pgb"), *published("pdllm"), *published("dnallm_mark")]
    for mean in (row for row in published("dnallm_mark") if row.metric == "mean"):
        eleven = [
            row.value
            for row in rows
            if row.model == mean.model
            and row.source.startswith("DNALLM-Mark")
            and row.metric in ("f1", "mcc", "spearman")
            and row.dataset != "poly_a.arabidopsis_thaliana"
        ]
        assert len(eleven) == 11
        assert sum(eleven) / 11 == pytest.approx(mean.value, abs=0.001)


def test_claims_of_hyenamoe():
    assert value("lrb", "HyenaMoE", "auroc", dataset="regulatory_element_enhancer") == 0.82
    assert value("gue", "HyenaMoE, hybrid with experts", "not stated", group="mean of the suite") == 0.838
    assert value("hyenamoe", "HyenaMoE-Expressive", "accuracy", group="mean of all benchmarks") == 0.8287


def test_rows_of_taken_datasets_come_along():
    rows = published("mpgb")
    assert {row.suite for row in rows} == {"mpgb", "pgb", "pdllm"}
    taken = [row for row in rows if row.suite == "pdllm"]
    assert {row.dataset for row in taken} == {
        "core_promoters", "H3K27ac", "H3K27me3", "H3K4me3", "sequence_conservation",
    }  # fmt: skip
    assert published("nothing") == []


def test_every_row_is_of_something_that_there_is():
    for name in (*suite_names(), "dnallm_mark", "hyenamoe"):
        rows = [row for row in published(name) if row.suite == name]
        if name in suite_names():
            suite = load_suite(name)
            datasets = {dataset.name for dataset in suite.datasets}
            assert all(row.dataset in datasets or (not row.dataset and row.group) for row in rows)
        for row in rows:
            assert row.metric in (*METRICS, "r2_undefined", "mean", "not stated")
            assert -1 <= row.value <= 1 and row.source and row.note
