import pytest

from umbel.config import to_dict
from umbel.errors import ConfigError
from umbel.model.backbone import count_parameters
from umbel.train.ablations import (
    FAMILIES,
    GATINGS,
    SWITCH_COEF,
    component_arms,
    cpu_hour,
    family,
    moe_arms,
    objective_arms,
)
from umbel.train.recipes import hyenamoe_fast, hyenamoe_standard, hyenamoe_tiny

BASES = [hyenamoe_tiny, hyenamoe_standard, hyenamoe_fast]


def changed(base, arm):
    """The settings in which two runs differ."""
    a, b = to_dict(base), to_dict(arm)
    found = {key for key in a if not isinstance(a[key], dict) and a[key] != b[key]}
    sections = [key for key in a if isinstance(a[key], dict)]
    return found | {f"{key}.{name}" for key in sections for name in a[key] if a[key][name] != b[key][name]}


@pytest.mark.parametrize("recipe", BASES)
def test_moe_arms_differ_in_gating_balance_and_experts_alone(recipe):
    base = recipe()
    arms = moe_arms(base)
    assert len(arms) == 4 * 2 * 3
    may = {"name", "model.gating", "model.top_k", "model.n_experts", "train.balance_coef"}
    for name, run in arms.items():
        gating, top_k, n_experts = name.replace("top-", "").replace("of ", "").split()
        assert changed(base, run) <= may
        assert (run.model.top_k, run.model.n_experts) == (int(top_k), int(n_experts))
        assert run.model.gating == GATINGS[gating]
        assert run.train.balance_coef == (SWITCH_COEF if gating == "switch" else 0)
    settings = [str({**to_dict(run), "name": ""}) for run in arms.values()]
    assert len(set(settings)) == len(arms)


def test_an_auxiliary_loss_of_the_recipe_is_left_to_the_switch_arms():
    from dataclasses import replace

    base = hyenamoe_tiny()
    base = replace(base, train=replace(base.train, balance_coef=0.5, z_coef=0.5))
    for name, run in moe_arms(base).items():
        assert run.train.z_coef == 0
        assert run.train.balance_coef == (SWITCH_COEF if name.startswith("switch") else 0)


@pytest.mark.parametrize("recipe", BASES)
def test_component_arms_differ_in_the_pattern_alone(recipe):
    base = recipe()
    arms = component_arms(base)
    assert list(arms) == ["HyenaLite only", "attention only", "hybrid without experts", "hybrid"]
    for run in arms.values():
        assert changed(base, run) <= {"name", "model.pattern"}
        assert len(run.model.layer_kinds) == base.model.n_layers
    assert arms["hybrid"].model == base.model
    kinds = {name: "".join(run.model.layer_kinds) for name, run in arms.items()}
    assert set(kinds["HyenaLite only"]) == {"H", "d"}
    assert set(kinds["attention only"]) == {"A", "d"}
    assert kinds["hybrid without experts"] == kinds["hybrid"].replace("e", "d")


@pytest.mark.parametrize("recipe", BASES)
def test_objective_arms_differ_in_the_weights_alone(recipe):
    base = recipe()
    arms = objective_arms(base)
    weights = {"masking.uniform_weight", "masking.span_weight", "masking.placement_weight"}
    for run in arms.values():
        assert changed(base, run) <= weights | {"name", "tokens.row_tokens"}
        assert changed(arms["uniform"], run) <= weights | {"name"}
    assert arms["uniform"].masking == base.masking
    assert len({str(run.masking) for run in arms.values()}) == len(arms) == 4
    assert arms["spans"].masking.uniform_weight == arms["spans"].masking.placement_weight == 0


def test_active_parameters_of_moe_arms_do_not_depend_on_the_number_of_experts_but_for_the_router():
    base = hyenamoe_tiny()
    arms = moe_arms(base, top_ks=(2,))
    layers = sum(kind[1] == "e" for kind in base.model.layer_kinds)
    active = {n: count_parameters(arms[f"plain top-2 of {n}"].model)[1] for n in (16, 64)}
    assert active[64] - active[16] == layers * (64 - 16) * base.model.d_model


def test_families_have_names():
    base = hyenamoe_tiny()
    for name, arms in FAMILIES.items():
        assert family(name, base) == arms(base)
        assert all(run.name.startswith(base.name) for run in arms(base).values())
    with pytest.raises(ConfigError, match="components"):
        family("mixture", base)


def test_a_cpu_hour_changes_the_length_and_not_the_network():
    base = hyenamoe_tiny()
    short = cpu_hour(base)
    assert all(key == "name" or key.startswith("train.") for key in changed(base, short))
    assert short.train.steps % short.train.eval_every_steps == 0
    # 20 tokens for each expert, one choice a token, are the least; see the docstring.
    assert short.train.eval_windows * (short.corpus.window_bp / 3) > 30 * 20 * 64
