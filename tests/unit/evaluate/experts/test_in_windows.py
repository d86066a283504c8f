from typing import Any

import numpy as np
import pytest
from evaluation_fakes import CDS, INTERGENIC, INTRON, FakeCorpus, draw_bases, planted_regions

from umbel.evaluate.experts import in_windows as experts
from umbel.evaluate.experts.in_windows import count_routes, record_experts


class PlantedRouter:
    """Layer 1 routes by region (CDS 0, intron 1, else 2), layer 3 sends everything to expert 1; top-2 adds expert 3."""

    moe_layers: tuple[int, ...] = (1, 3)
    n_experts = 4

    def __init__(self, corpus: Any, top_k: int = 1):
        self.answers = {}
        self.top_k = top_k
        for i in corpus.window_ids("test").tolist():
            window = corpus.window(i)
            codes, _ = corpus.read_window(i)
            regions = corpus.regions("fake1", window.contig, window.start, window.end)
            by_region = np.full(len(codes), 2, np.uint8)
            if regions is not None:
                by_region[regions == CDS], by_region[regions == INTRON] = 0, 1
            self.answers[codes.tobytes()] = by_region

    def routes(self, codes: Any) -> Any:
        found = []
        for window in codes:
            first = self.answers[window.tobytes()]
            layers = np.stack([first, np.ones_like(first)])[:, :, None]
            more = np.full_like(layers, 3)
            found.append(np.concatenate([layers, more], axis=2)[:, :, : self.top_k])
        return found


@pytest.fixture(scope="module")
def corpus() -> Any:
    codes, regions = planted_regions(30_000, 0)
    codes[100:105] = 4
    soft_mask = (np.arange(30_000) % 1500 < 300) & (regions == INTERGENIC)
    return FakeCorpus({"t": ("test", codes, soft_mask, regions)})


def test_planted_routing_is_read_back(corpus: Any) -> None:
    found = record_experts(PlantedRouter(corpus), corpus, corpus.window_ids("test"), n_draws=100, seed=0)
    first, second = found["layers"]
    assert (first["layer"], second["layer"]) == (1, 3)
    for name, share in {
        "cds": [1, 0, 0, 0],
        "intron": [0, 1, 0, 0],
        "intergenic": [0, 0, 1, 0],
        "repeat": [0, 0, 1, 0],
    }.items():
        assert [entry["value"] for entry in first["share"][name]] == share
        assert [entry["low"] for entry in first["share"][name]] == share
    assert sum(first["load"]) == pytest.approx(1) and max(first["load"]) < 0.4 and first["n_dead"] == 1
    assert second["load"] == [0, 1, 0, 0] and second["n_dead"] == 3 and second["max_over_mean"] == 4
    assert found["missing"] == {
        "utr": "no such bases in these windows",
        "noncoding": "no such bases in these windows",
    }


def test_numbers_of_bases_leave_out_n(corpus: Any) -> None:
    ids = corpus.window_ids("test")
    found = record_experts(PlantedRouter(corpus), corpus, ids, n_draws=10, seed=0)
    assert found["n_bases"]["all"] == sum(int((corpus.read_window(int(i))[0] < 4).sum()) for i in ids)
    assert sum(found["n_bases"][name] for name in ("cds", "intron", "intergenic")) == found["n_bases"]["all"]


def test_two_experts_a_base_share_the_slots(corpus: Any) -> None:
    ids = corpus.window_ids("test")
    one = record_experts(PlantedRouter(corpus), corpus, ids, n_draws=10, seed=0)
    two = record_experts(PlantedRouter(corpus, top_k=2), corpus, ids, n_draws=10, seed=0)
    assert [entry["value"] for entry in two["layers"][0]["share"]["cds"]] == [0.5, 0, 0, 0.5]
    assert two["n_bases"] == one["n_bases"]


def test_counts_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    codes, soft_mask, regions = rng.integers(0, 5, 60), rng.random(60) < 0.5, rng.integers(0, 5, 60)
    routes = rng.integers(0, 3, (2, 60, 2))
    found = count_routes(routes, codes.astype(np.uint8), soft_mask, regions.astype(np.uint8), 3)
    expected = np.zeros((2, 3, 7), int)
    column_of_region = {0: 3, 1: 2, 2: 1, 3: 0, 4: 4}
    for layer in range(2):
        for base in range(60):
            if codes[base] == 4:
                continue
            for expert in routes[layer, base]:
                expected[layer, expert, column_of_region[regions[base]]] += 1
                expected[layer, expert, 5] += soft_mask[base]
                expected[layer, expert, 6] += 1
    np.testing.assert_array_equal(found, expected)


def test_grouping_windows_changes_intervals_only(corpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = corpus.window_ids("test")
    fine = record_experts(PlantedRouter(corpus), corpus, ids, n_draws=50, seed=0)
    monkeypatch.setattr(experts, "MAX_UNITS", 7)
    coarse = record_experts(PlantedRouter(corpus), corpus, ids, n_draws=50, seed=0)
    assert [layer["load"] for layer in fine["layers"]] == [layer["load"] for layer in coarse["layers"]]
    assert fine["n_bases"] == coarse["n_bases"]


def test_no_annotation_is_said_in_words() -> None:
    corpus: Any = FakeCorpus({"t": ("test", draw_bases((0.25,) * 4, 2000, 0), np.ones(2000, bool), None)})
    found = record_experts(PlantedRouter(corpus), corpus, corpus.window_ids("test"), n_draws=10, seed=0)
    assert found["missing"] == dict.fromkeys(
        ("cds", "utr", "intron", "intergenic", "noncoding"), "no annotation (GFF3)"
    )
    assert set(found["layers"][0]["share"]) == {"repeat", "all"}


def test_a_dense_model_says_so(corpus: Any) -> None:
    router = PlantedRouter(corpus)
    router.moe_layers = ()
    found = record_experts(router, corpus, corpus.window_ids("test"), n_draws=10, seed=0)
    assert found == {"missing_all": "The model has no expert layers."}
