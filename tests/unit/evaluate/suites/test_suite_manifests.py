"""The manifests against figures that were typed here a second time, from the notes on the suites."""

from collections import Counter

import pytest

from umbel.evaluate.suites import load_suite, suite_names


def sizes(suite, name):
    dataset = load_suite(suite).dataset(name)
    return tuple(None if file is None else file.rows for file in (dataset.train, dataset.dev, dataset.test))


@pytest.mark.parametrize(
    ("name", "n_datasets", "n_groups"),
    [
        ("mpgb", 31, 11), ("pgb", 31, 8), ("pdllm", 8, 5), ("gue", 28, 7), ("nt", 18, 4), ("nt_revised", 18, 4),
        ("genomic_benchmarks", 9, 6), ("lrb", 9, 4),
    ],
)  # fmt: skip
def test_every_suite_has_its_datasets(name, n_datasets, n_groups):
    suite = load_suite(name)
    assert (suite.name, len(suite.datasets), len(suite.groups)) == (name, n_datasets, n_groups)
    assert suite.page.startswith("https://") and suite.paper and suite.verified
    for dataset in suite.datasets:
        assert dataset.source.licence and dataset.source.page.startswith("https://")
        assert dataset.source.repo or dataset.source.how


def test_the_names_are_all():
    assert suite_names() == ("mpgb", "pgb", "pdllm", "gue", "nt", "nt_revised", "genomic_benchmarks", "lrb")


def test_mpgb_has_the_eleven_tasks_of_the_paper():
    suite = load_suite("mpgb")
    assert Counter(dataset.group for dataset in suite.datasets) == {
        "polyadenylation": 6, "splice_sites": 2, "lncrna": 6, "enhancer_region": 1, "chromatin_access": 6,
        "promoter_strength": 2, "terminator_strength": 2, "histone_modification": 3, "core_promoter": 1,
        "sequence_conservation": 1, "open_chromatin": 1,
    }  # fmt: skip
    metrics = {dataset.group: (dataset.metric, dataset.also) for dataset in suite.datasets}
    assert [g for g, m in metrics.items() if m == ("auroc", ())] == [
        "polyadenylation", "splice_sites", "lncrna", "enhancer_region", "chromatin_access",
    ]  # fmt: skip
    assert metrics["promoter_strength"] == metrics["terminator_strength"] == ("pearson2", ("r2",))
    assert {m for g, m in metrics.items() if metrics[g][0] == "mcc"} == {("mcc", ())}
    uncertain = {dataset.group for dataset in suite.datasets if dataset.uncertain}
    assert uncertain == {"chromatin_access", "open_chromatin"}


def test_mpgb_takes_its_facts_from_where_they_are():
    mpgb, pgb = load_suite("mpgb"), load_suite("pgb")
    used, origin = (suite.dataset("poly_a.medicago_truncatula") for suite in (mpgb, pgb))
    assert (used.train, used.test, used.source) == (origin.train, origin.test, origin.source)
    assert (used.folder, origin.folder) == ("pgb", "")
    assert mpgb.dataset("H3K27ac").folder == "pdllm/plant-multi-species-histone-modifications"
    assert "arabidopis_thaliana" in mpgb.dataset("chromatin_access.arabidopis_thaliana").train.paths[0]


@pytest.mark.parametrize(
    ("suite", "name", "expected"),
    [
        ("pgb", "poly_a.arabidopsis_thaliana", (170_835, None, 30_384)),
        ("pgb", "poly_a.oryza_sativa_japonica_group", (120_621, None, 20_232)),
        ("pgb", "splicing.arabidopsis_thaliana_donor", (2_588_034, None, 377_873)),
        ("pgb", "lncrna.z_mays", (8_423, None, 1_629)),
        ("pgb", "promoter_strength.leaf", (58_179, 6_825, 7_154)),
        ("pgb", "promoter_strength.protoplast", (61_051, 7_162, 7_595)),
        ("pgb", "terminator_strength.leaf", (43_294, 4_806, 5_309)),
        ("pgb", "pro_seq.m_esculenta", (16_852, 1_229, 812)),
        ("pgb", "gene_exp.arabidopsis_thaliana", (25_731, 3_401, 3_402)),
        ("pgb", "gene_exp.zea_mays", (34_493, 4_483, 4_483)),
        ("pdllm", "core_promoters", (66_560, 8_320, 8_320)),
        ("pdllm", "H3K27me3", (79_748, 9_968, 9_968)),
        ("pdllm", "lncRNAs", (40_248, 5_028, 5_032)),
        ("pdllm", "open_chromatin_mini", (118_800, 14_850, 14_850)),
        ("gue", "H3K14ac", (26_438, 3_305, 3_305)),
        ("gue", "mouse_tf_1", (53_952, 6_745, 6_745)),
        ("gue", "human_tf_0", (32_378, 1_000, 1_000)),
        ("gue", "virus_covid", (73_335, 9_166, 9_168)),
        ("nt", "promoter_tata", (5_517, None, None)),
        ("nt_revised", "H3K9me3", (27_438, None, 850)),
        ("genomic_benchmarks", "human_ensembl_regulatory", (231_348, None, 57_713)),
        ("genomic_benchmarks", "drosophila_enhancers_stark", (5_184, None, 1_730)),
        ("lrb", "regulatory_element_enhancer", (1_914_575, None, 192_201)),
        ("lrb", "bulk_rna_expression", (22_827, None, 990)),
    ],
)
def test_sizes(suite, name, expected):
    assert sizes(suite, name) == expected


def test_sets_without_dev_have_none():
    for name in ("nt", "nt_revised", "genomic_benchmarks"):
        assert all(dataset.dev is None for dataset in load_suite(name).datasets)
    without = {dataset.group for dataset in load_suite("pgb").datasets if dataset.dev is None}
    assert without == {"polyadenylation", "splice_sites", "lncrna"}
    assert [dataset.name for dataset in load_suite("lrb").datasets if dataset.dev] == ["cage_prediction"]


def test_the_two_sets_of_eighteen_are_told_apart():
    old, new = load_suite("nt"), load_suite("nt_revised")
    both = {dataset.name for dataset in old.datasets} & {dataset.name for dataset in new.datasets}
    assert {"H3K4me3", "H3K9ac", "promoter_all", "splice_sites_all"} < both
    assert (old.dataset("H3K9ac").length_bp, new.dataset("H3K9ac").length_bp) == ((500, 500), (1000, 1000))
    assert (old.dataset("splice_sites_all").length_bp, new.dataset("splice_sites_all").length_bp) == (
        (400, 400),
        (600, 600),
    )


def test_genomic_benchmarks_order_their_classes_by_name():
    for dataset in load_suite("genomic_benchmarks").datasets:
        assert list(dataset.classes) == sorted(dataset.classes)
