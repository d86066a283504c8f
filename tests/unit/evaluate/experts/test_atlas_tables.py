"""The tables of an atlas against plain loops over the routing of every base."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from atlas_toys import RuleModel, ToySource

from umbel.evaluate.experts.accumulator import TOP_BP
from umbel.evaluate.experts.atlas import SCHEMAS
from umbel.evaluate.experts.recording import RecordSettings, record
from umbel.evaluate.experts.stretches import Reading, route_stretches
from umbel.evaluate.experts.tables import make_tables

SETTINGS = RecordSettings(overlap_bp=10, n_shifts=19, seed=1)


class Source(ToySource):
    """Six units, so that there is something to draw."""

    def __init__(self):
        super().__init__((420, 300, 350, 410, 333, 280), n_units=6)

    def stretch(self, i):
        """Labelling ``short`` follows the composition: class 1 is mostly A and C, class 2 mostly G and T."""
        stretch = super().stretch(i)
        rng = np.random.default_rng(i)
        codes = stretch.content
        short = np.where(rng.random(len(codes)) < 0.3, rng.integers(0, 2, len(codes)), codes // 2 % 2).astype(np.int16)
        return replace(stretch, labels={**stretch.labels, "short": short})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    source, model = Source(), RuleModel()
    recording = record(model, source, tmp_path_factory.mktemp("tables") / "r", SETTINGS)
    ablation = [
        {
            "site": 1,
            "layer": 2,
            "expert": 3,
            "labelling": name,
            "class": c,
            "n_bases": 9,
            "delta": d,
            "low": d,
            "high": d,
        }
        for name, c, d in (("all", "all", 0.5), ("long", "y", 0.25))
    ]
    tables = make_tables(recording, source, ablation, n_draws=50)
    stretches = [source.stretch(i) for i in range(len(source))]
    return source, model, {name: table.to_pylist() for name, table in tables.items()}, stretches


def everything(model, stretches, site):
    """Class labels and choices of every counted base."""
    for stretch, routed in zip(stretches, route_stretches(model, stretches, Reading(overlap_bp=10)), strict=True):
        for t in np.flatnonzero(routed.counted).tolist():
            labels = {name: int(row[t]) for name, row in stretch.labels.items()} | dict(stretch.classes)
            yield labels, routed.sites[site].experts[t].tolist(), float(routed.sites[site].weights[t].sum())


def test_loads(made):
    _, model, tables, stretches = made
    for site in (0, 1):
        n_experts = model.sites[site].n_experts
        counts, weight_of, n_items = [0] * n_experts, 0.0, 0
        for _, experts, weight in everything(model, stretches, site):
            n_items += 1
            weight_of += weight
            for e in experts:
                counts[e] += 1
        rows = [row for row in tables["experts"] if row["site"] == site]
        assert [row["n_choices"] for row in rows] == counts
        assert [row["load"] for row in rows] == pytest.approx([c / sum(counts) for c in counts])
        assert sum(row["weight_share"] for row in rows) == pytest.approx(1)
        assert all(row["load_low"] <= row["load"] <= row["load_high"] for row in rows)
        layer = tables["layers"][site]
        assert (layer["n_items"], layer["layer"], layer["top_k"]) == (n_items, (0, 2)[site], (1, 2)[site])
        assert layer["max_over_mean"] == pytest.approx(max(counts) / (sum(counts) / n_experts))
        # T has no entropy in this model, and its site 1 no margin.
        assert layer["margin"] == (pytest.approx(0.25) if site == 0 else None)
        assert 0 < layer["router_entropy"] < 0.21
    assert [row["ablation"] for row in tables["experts"] if row["site"] == 1] == [None, None, None, 0.5, None]
    (knocked,) = tables["ablation"]
    assert (knocked["labelling"], knocked["class"], knocked["delta"]) == ("long", "y", 0.25)


def test_enrichment_and_divergence(made):
    source, model, tables, stretches = made
    for labelling in source.labellings:
        joint = np.zeros((len(labelling.classes), 5))
        for labels, experts, _ in everything(model, stretches, 1):
            if labels[labelling.name] >= 0:
                for e in experts:
                    joint[labels[labelling.name], e] += 1
        rows = [row for row in tables["enrichment"] if row["labelling"] == labelling.name and row["site"] == 1]
        assert len(rows) == joint.size
        for row in rows:
            c, e = labelling.classes.index(row["class"]), row["expert"]
            inside, outside = joint[c, e], joint[:, e].sum() - joint[c, e]
            other, rest = joint[c].sum() - inside, joint.sum() - joint[c].sum() - outside
            odds = math.log2((inside + 0.5) * (rest + 0.5) / ((other + 0.5) * (outside + 0.5)))
            assert row["n_joint"] == inside and row["n_class"] == joint[c].sum()
            assert row["share_in_class"] == pytest.approx(inside / joint[c].sum())
            assert row["log2_odds"] == pytest.approx(odds)
            assert row["level"] == labelling.level
            assert row["p"] is None or (row["p"] >= 2 / 20 and row["q"] >= row["p"] - 1e-12)
        for row in tables["divergence"]:
            if row["labelling"] == labelling.name and row["site"] == 1:
                p, q = (joint[labelling.classes.index(row[k])] for k in ("class_a", "class_b"))
                p, q = p / p.sum(), q / q.sum()
                m = (p + q) / 2
                js = sum(0.5 * x * math.log(x / y) for a in (p, q) for x, y in zip(a, m, strict=True) if x)
                assert row["js"] == pytest.approx(js)
                assert row["js_bits"] == pytest.approx(js / math.log(2)) and row["js_share"] == pytest.approx(
                    js / math.log(2)
                )


def test_a_router_that_looks_at_the_base_is_explained_by_it(made):
    """Site 0 goes by the base alone: all that its experts tell of a class is the composition of the class."""
    _, _, tables, _ = made
    told = {row["labelling"]: row for row in tables["information"] if row["site"] == 0}
    assert told["short"]["mi"] > 10 * told["short"]["chance"]
    # Bases near N and at the ends of stretches have no word of six around them, which is why it is not 1 exactly.
    assert told["short"]["context_base"] == pytest.approx(1, abs=0.1)
    # Blocks of bases drawn alike: nothing to explain.
    assert told["long"]["context_base"] is None
    assert all(row["context_token"] is None for row in tables["information"])


def test_top_windows_name_their_class(made):
    _, _, tables, stretches = made
    rows = [row for row in tables["top_windows"] if row["site"] == 0 and row["expert"] == 3]
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:
        stretch = next(each for each in stretches if each.name == row["contig"])
        start = row["start"] - stretch.start
        codes = stretch.content[start : start + TOP_BP]
        assert row["end"] - row["start"] == TOP_BP and row["share"] == pytest.approx(
            (codes == 3).sum() / (codes < 4).sum()
        )
        told = dict(part.split("=") for part in row["classes"].split("; "))
        assert told["kind"] == "pq"[stretch.classes["kind"]]
        values, counts = np.unique(stretch.labels["long"][start : start + TOP_BP], return_counts=True)
        most = values[counts == counts.max()]
        assert told.get("long", "-") in ["-" if c < 0 else "xyz"[c] for c in most]


def test_logos_and_paths_add_up(made):
    _, _, tables, _ = made
    for site in (0, 1):
        for e in range((4, 5)[site]):
            own = [row for row in tables["logos"] if (row["site"], row["expert"]) == (site, e)]
            centre = {row["base"]: row["n"] for row in own if row["offset"] == 0}
            if site == 0:
                assert [base for base, n in centre.items() if n] == ["ACGT"[e]]
    n = sum(row["n"] for row in tables["paths"])
    assert n == tables["layers"][0]["n_items"]
    pairs = [row for row in tables["coactivation"] if row["site"] == 1]
    assert len(pairs) == 20 and {row["site"] for row in tables["coactivation"]} == {1}
    assert sum(row["n"] for row in pairs) == 2 * n


class Dropping(RuleModel):
    """Expert 0 of site 1 is full: tokens that chose it second lose it."""

    def route(self, sequences):
        for routed in super().route(sequences):
            first, second = routed.sites
            dropped = second.experts[:, 1] == 0
            second.experts[dropped, 1] = -1
            yield replace(routed, sites=(first, second))


def test_dropped_tokens_are_nobodys(tmp_path):
    recording = record(Dropping(), Source(), tmp_path / "r", replace(SETTINGS, n_shifts=0))
    tables = make_tables(recording, n_draws=20)
    layer = tables["layers"].to_pylist()[1]
    experts = [row for row in tables["experts"].to_pylist() if row["site"] == 1]
    assert sum(row["n_choices"] for row in experts) < 2 * layer["n_items"]
    assert sum(row["load"] for row in experts) == pytest.approx(1)
    assert layer["max_over_mean_bound"] == 2.5
    assert tables["coactivation"].num_rows == 0 and tables["top_windows"].num_rows == 0
    # Nothing was turned: no p-values of bases; sequences cannot be permuted either.
    assert {row["p"] for row in tables["enrichment"].to_pylist()} == {None}
    assert set(tables) == set(SCHEMAS)
