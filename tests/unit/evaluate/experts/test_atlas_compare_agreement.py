"""Agreement beside what loads alone give, drift by group of weights, and saturation."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from comparison_fakes import MemorySource, by_letter, by_pair, checkpoint, noisy, permuted

from umbel.config import ModelConfig
from umbel.errors import ConfigError
from umbel.evaluate.experts.compare.agreement import agreement_rows, saturation_rows, transition_rows
from umbel.evaluate.experts.compare.checkpoints import Checkpoint
from umbel.evaluate.experts.compare.counting import choose_pairs, count
from umbel.evaluate.experts.compare.drift import GROUPS, drift_rows, group_of
from umbel.model.hf import new_model


def rows_of(*checkpoints, source=None):
    source = source or MemorySource(n=24, n_units=8)
    sums = count(checkpoints, choose_pairs(checkpoints, match=False), source, seed=0)
    return agreement_rows(checkpoints, sums, n_draws=200), sums


def test_the_same_checkpoint_agrees_wholly():
    rows, _ = rows_of(checkpoint("a", by_pair, top_k=2), checkpoint("b", by_pair, top_k=2))
    for row in rows:
        assert row["agreement"] == row["agreement_low"] == row["agreement_high"] == 1.0
        assert row["above_chance"] == pytest.approx(1.0) and row["same_first"] == 1.0
        assert row["entropy_change"] == 0 and row["load_js"] == 0
        assert row["random_k"] == 0.5


def test_agreement_and_its_expectation_are_those_of_plain_sums():
    first, second = by_letter, noisy(permuted(by_letter, [0, 1, 3, 2]), 0.2, 5)
    rows, sums = rows_of(checkpoint("a", first), checkpoint("b", second))
    for m, row in enumerate(rows):
        table = sums.pairs[0, 1][m].first / sums.items.sum()
        assert row["agreement"] == pytest.approx(np.trace(table))
        expected = sum(table[e].sum() * table[:, e].sum() for e in range(4))
        assert row["expected"] == pytest.approx(expected)
        assert row["above_chance"] == pytest.approx((np.trace(table) - expected) / (1 - expected))
        assert row["agreement_low"] < row["agreement"] < row["agreement_high"]
    assert [row["layer"] for row in rows] == [1, 3]


def test_independent_choices_agree_as_their_loads_say_and_not_one_in_e():
    def uneven(seed):
        def route(codes, site):
            rng = np.random.default_rng([seed, site, len(codes), *codes[:20].tolist()])
            return rng.choice(4, (len(codes), 1), p=[0.7, 0.1, 0.1, 0.1])

        return route

    rows, _ = rows_of(checkpoint("a", uneven(1)), checkpoint("b", uneven(2)), source=MemorySource(n=60, n_units=20))
    for row in rows:
        assert row["expected"] == pytest.approx(0.52, abs=0.02)
        assert row["agreement"] == pytest.approx(row["expected"], abs=0.03)
        assert abs(row["above_chance"]) < 0.05


def test_one_expert_for_all_leaves_no_room_above_chance():
    def one(codes, site):
        return np.zeros((len(codes), 1), int)

    rows, _ = rows_of(checkpoint("a", one), checkpoint("b", one))
    assert all(row["agreement"] == 1 and row["expected"] == 1 and row["above_chance"] is None for row in rows)


def test_transitions_add_up_to_the_items_of_each_class():
    models = checkpoint("a", by_letter), checkpoint("b", noisy(by_letter, 0.5, 1))
    source = MemorySource()
    sums = count(models, [(0, 1)], source, seed=0)
    classes = {labelling.name: labelling.classes for labelling in source.labellings}
    rows = transition_rows(models, sums, classes)
    for site in (0, 1):
        here = [row for row in rows if row["site"] == site]
        assert sum(row["n"] for row in here if not row["labelling"]) == sums.items.sum()
        group = {name: sum(r["n"] for r in here if r["class"] == name) for name in ("even", "odd")}
        assert group == {"even": sums.items[::2].sum(), "odd": sums.items[1::2].sum()}
    assert not any(row["class"] == "never" or row["n"] == 0 for row in rows)


def test_saturation_is_agreement_with_the_last_of_the_trained():
    models = [checkpoint(f"s{i}", noisy(by_letter, share, i)) for i, share in enumerate((0.9, 0.4, 0.0))]
    models = [dataclasses.replace(model, step=100 * i) for i, model in enumerate(models)]
    rows, _ = rows_of(*models, checkpoint("random", by_letter, is_control=True))
    found = saturation_rows([*models, checkpoint("random", by_letter, is_control=True)], rows)
    assert [(row["checkpoint"], row["step"], row["site"]) for row in found] == [
        ("s0", 0, 0),
        ("s0", 0, 1),
        ("s1", 100, 0),
        ("s1", 100, 1),
    ]
    assert found[0]["agreement"] < found[2]["agreement"] < 1
    assert saturation_rows(models[:2], rows) == []


CONFIG = ModelConfig(n_layers=2, d_model=8, ffn_hidden=16, n_experts=3, top_k=1, n_shared_experts=1)


def weights(seed=0):
    return {name: x.clone() for name, x in new_model(CONFIG, 64, seed).backbone.state_dict().items()}


def test_the_same_weights_have_not_moved():
    rows = drift_rows(weights(), weights())
    assert {row["group"] for row in rows} == {*GROUPS} - {"other"}
    assert all(row["is_frozen"] and row["relative_change"] == 0 and row["moved_share"] == 0 for row in rows)
    # Every weight is in one group.
    total = sum(row["n_parameters"] for row in rows if row["layer"] is None)
    assert total == sum(x.numel() for x in weights().values())


def test_drift_by_group_and_expert_is_that_of_plain_norms():
    before, after = weights(), weights()
    after["layers.1.ffn.up"][2] += 0.5
    after["layers.1.ffn.router.weight"][0, 0] -= 1.0
    rows = {(row["group"], row["layer"], row["expert"]): row for row in drift_rows(before, after)}
    moved = {key for key, row in rows.items() if not row["is_frozen"]}
    assert moved == {
        *itertools.product(["router"], [None, 1], [None]),
        *itertools.product(["experts"], [None, 1], [None]),
        ("experts", 1, 2),
    }

    def flat(values):
        return np.concatenate([values[f"layers.1.ffn.{name}"][2].numpy().ravel() for name in ("gate", "up", "down")])

    a, b = flat(before), flat(after)
    row = rows["experts", 1, 2]
    assert row["relative_change"] == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a), rel=1e-5)
    assert row["cosine"] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-5)
    assert row["moved_share"] == pytest.approx(1 / 3)
    router = before["layers.1.ffn.router.weight"]
    assert rows["router", None, None]["moved_share"] == pytest.approx(1 / router.numel())


@pytest.mark.parametrize(
    ("name", "n_dims", "group"),
    [
        ("model.layers.3.mlp.experts.7.down_proj.weight", 2, "experts"),
        ("model.layers.3.mlp.experts.gate_up_proj", 3, "experts"),
        ("model.layers.3.mlp.shared_expert.up_proj.weight", 2, "shared experts"),
        ("model.layers.3.self_attn.q_proj.weight", 2, "mixer"),
        ("model.layers.3.self_attn.q_norm.weight", 1, "norms"),
        ("model.layers.0.mlp.gate_proj.weight", 2, "dense FFN"),
        ("model.embed_tokens.weight", 2, "embedding"),
        ("lm_head.weight", 2, "other"),
    ],
)
def test_groups_of_other_peoples_names(name, n_dims, group):
    assert group_of(name, n_dims)[0] == group


def test_a_router_is_known_by_its_site_where_its_name_says_nothing():
    site = dataclasses.replace(checkpoint("a", by_letter).sites[0], name="model.layers.3.mlp.gate")
    assert group_of("model.layers.3.mlp.gate.weight", 2) == ("dense FFN", 3)
    assert group_of("model.layers.3.mlp.gate.weight", 2, [site]) == ("router", 3)


def test_experts_that_are_modules_are_told_one_by_one():
    before = {f"layers.0.mlp.experts.{e}.w.weight": torch.ones(2, 2) for e in range(2)}
    after = before | {"layers.0.mlp.experts.1.w.weight": torch.zeros(2, 2)}
    rows = {row["expert"]: row for row in drift_rows(before, after) if row["layer"] == 0}
    assert rows[0]["is_frozen"] and rows[1]["relative_change"] == 1 and rows[1]["cosine"] is None
    assert rows[None]["relative_change"] == pytest.approx(np.sqrt(0.5))


def test_other_shapes_and_adapters_apart_are_refused():
    other = {
        name: x.clone()
        for name, x in new_model(dataclasses.replace(CONFIG, n_experts=5), 64, 0).backbone.state_dict().items()
    }
    with pytest.raises(
        ConfigError, match=r"networks of other shapes have no difference: 4 weights do not fit, such as"
    ):
        drift_rows(weights(), other)
    apart = {"layers.0.mixer.in_proj.base_layer.weight": torch.ones(1, 1)}
    with pytest.raises(ConfigError, match="an adapter stands apart from its weights: merge it"):
        drift_rows(apart, apart)


def test_a_checkpoint_says_what_it_is():
    told = Checkpoint("a", checkpoint("a", by_letter).model, step=3).describe()
    assert told["name"] == "a" and told["step"] == 3 and told["sites"][1]["layer"] == 3
