"""Divergence between classes by checkpoint, and its split into stages."""

import math

import numpy as np
import pytest
from comparison_fakes import MemorySource, by_letter, checkpoint

from umbel.errors import ConfigError
from umbel.evaluate.experts.compare.counting import choose_pairs, count
from umbel.evaluate.experts.compare.designs import drift_steps, require_design, split_all, stage_rows, stages_of
from umbel.evaluate.experts.compare.differentiation import differentiate, differentiate_all, differentiation_rows
from umbel.evaluate.experts.compare.settings import CompareSettings, as_design

SETTINGS = {"n_draws": 200, "seed": 0}


def knows_halves(strength):
    """Letters decide, but for a share of the left half of a stretch that always takes expert 0.

    Stretches are shorter than a window, so that a place in a window is one in the stretch.
    """

    def route(codes, site):
        found = by_letter(codes, site)
        left = np.arange(len(codes)) < len(codes) // 2
        found[left & (np.arange(len(codes)) % 10 < 10 * strength)] = 0
        return found

    return route


SOURCE = MemorySource(n=24, length=60, n_units=12)


def counted(*strengths, names="abcd"):
    models = [checkpoint(name, knows_halves(s)) for name, s in zip(names, strengths, strict=False)]
    return models, count(models, choose_pairs(models, match=False), SOURCE, seed=0)


def test_divergence_grows_with_what_is_known_and_is_that_of_plain_sums():
    models, sums = counted(0.0, 0.3, 0.9)
    found = differentiate_all(models, sums, ["half", "group"], **SETTINGS)
    values = [found[i, "half", 0] for i in range(3)]
    assert values[0].value < values[1].value < values[2].value
    joint = sums.sites[2][0].joint["half"].sum(0)[:2].astype(float)
    p = joint / joint.sum(1, keepdims=True)
    m = p.mean(0)
    want = np.mean([(row[row > 0] * np.log(row[row > 0] / m[row > 0])).sum() for row in p])
    assert values[2].raw == pytest.approx(want)
    assert values[2].n_classes == 2 and values[2].bound == pytest.approx(math.log(2))
    assert values[2].low < values[2].value < values[2].high
    # What is known of halves is nothing of groups: the interval holds 0, as that of letters alone does.
    assert values[0].low <= 0 <= values[0].high
    assert all(found[2, "group", m].low <= 0.002 for m in (0, 1))
    rows = differentiation_rows(models, found)
    assert len(rows) == 3 * 2 * 2 and {row["layer"] for row in rows} == {1, 3}


def test_one_class_or_one_unit_of_a_class_has_no_divergence():
    one = np.zeros((5, 2, 3), int)
    one[:, 0] = 4
    assert differentiate(one) is None
    one[0, 1] = 9
    assert differentiate(one) is None
    one[1, 1] = 9
    assert differentiate(one, n_draws=10) is not None


def test_a_chain_is_split_and_its_parts_add_up():
    models, sums = counted(0.0, 0.3, 0.9)
    split = split_all(models, sums, ["half"], "chain", **SETTINGS)
    rows = stage_rows(models, split, "chain")
    assert [(row["site"], row["stage"]) for row in rows] == [(0, "b"), (0, "c"), (1, "b"), (1, "c")]
    found = differentiate_all(models, sums, ["half"], **SETTINGS)
    for m in (0, 1):
        here = [row for row in rows if row["site"] == m]
        values = [found[i, "half", m].value for i in range(3)]
        assert here[0]["change"] == pytest.approx(values[1] - values[0])
        assert here[1]["change"] == pytest.approx(values[2] - values[1])
        assert sum(row["change"] for row in here) == pytest.approx(here[0]["total"])
        assert sum(row["share"] for row in here) == pytest.approx(1)
        assert here[0]["order_low"] == here[0]["order_high"] and here[0]["is_order_dependent"]
        assert not here[0]["is_suppressed"] and here[0]["total_low"] > 0


def test_a_two_by_two_design_is_the_mean_of_both_orders():
    models, sums = counted(0.0, 0.2, 0.5, 0.9)
    rows = stage_rows(models, split_all(models, sums, ["half"], "2x2", **SETTINGS), "2x2")
    found = differentiate_all(models, sums, ["half"], **SETTINGS)
    base, a, b, both = (found[i, "half", 0].value for i in range(4))
    here = {row["stage"]: row for row in rows if row["site"] == 0}
    assert here["b"]["change"] == pytest.approx(((a - base) + (both - b)) / 2)
    assert here["c"]["change"] == pytest.approx(((b - base) + (both - a)) / 2)
    assert (here["b"]["order_low"], here["b"]["order_high"]) == pytest.approx(sorted((a - base, both - b)))
    assert not here["b"]["is_order_dependent"]


def test_shares_are_not_told_where_nothing_changed():
    models, sums = counted(0.3, 0.9, 0.3)
    rows = stage_rows(models, split_all(models, sums, ["half"], "chain", **SETTINGS), "chain")
    assert all(row["is_suppressed"] and row["share"] is None for row in rows)
    assert all(row["total_low"] <= 0 <= row["total_high"] for row in rows)
    assert {row["stage"]: row["change"] > 0 for row in rows} == {"b": True, "c": False}


def test_stages_and_steps_of_designs():
    models = [checkpoint(name, by_letter) for name in "abcd"]
    random = checkpoint("random", by_letter, is_control=True)
    with_random = [models[0], random, *models[1:]]
    assert stages_of(with_random, "chain") == {0: (), 2: ("b",), 3: ("b", "c"), 4: ("b", "c", "d")}
    assert stages_of(models, "2x2") == {0: (), 1: ("b",), 2: ("c",), 3: ("b", "c")}
    assert stages_of(models, "none") == {}
    assert stages_of([checkpoint(str(i), by_letter) for i in range(9)], "chain") == {}
    assert drift_steps(with_random, "chain") == [(0, 2), (2, 3), (3, 4), (0, 4)]
    assert drift_steps(models[:2], "chain") == [(0, 1)]
    assert drift_steps(models, "2x2") == [(0, 1), (0, 2), (1, 3), (2, 3), (0, 3)]
    assert drift_steps(models, "none") == []


def test_there_is_no_split_between_models_of_unlike_shape():
    models = [checkpoint("a", knows_halves(0)), checkpoint("b", knows_halves(0.9), n_experts=5)]
    sums = count(models, choose_pairs(models, match=False), SOURCE, seed=0)
    assert sums.pairs == {}
    assert split_all(models, sums, ["half"], "chain", **SETTINGS) == {}
    assert len(differentiate_all(models, sums, ["half"], **SETTINGS)) == 4
    deep = [models[0], checkpoint("c", knows_halves(0.9), n_sites=3)]
    sums = count(deep, [], SOURCE, seed=0)
    assert split_all(deep, sums, ["half"], "chain", **SETTINGS) == {}


def test_unknown_designs_are_refused():
    with pytest.raises(ConfigError, match="design is 'tree', and there are none, chain, 2x2"):
        as_design("tree", match=False)
    with pytest.raises(ConfigError, match="design is 'tree'"):
        CompareSettings(design="tree")
    with pytest.raises(ConfigError, match="n_draws and n_permutations must be 1 or more"):
        CompareSettings(n_draws=0)
    with pytest.raises(ConfigError, match=r"a 2x2 design has four checkpoints, in this order.* these are 1 \(a\)"):
        require_design([checkpoint("a", by_letter)], "2x2")
