"""Families of runs that differ in one thing: experts' gating and balance, a network's parts, what windows ask of it.

``benchmarks/ablation.py`` trains them; ``docs/guide/ablations.md`` tells how, at CPU-hour size and at full size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from umbel.config import RunConfig
from umbel.errors import ConfigError

Gating = Literal["softmax", "normalised", "plain", "bias"]

GATINGS: dict[str, Gating] = {"normalised": "normalised", "plain": "plain", "switch": "softmax", "bias": "bias"}
"""Name of an arm -> ``model.gating``; ``switch`` is softmax gating with the Switch balance loss."""

SWITCH_COEF = 0.01
"""Weight of the balance loss in Fedus et al. 2021, arXiv:2101.03961, section 2.2."""

OBJECTIVES = {
    "uniform": (1.0, 0.0, 0.0),
    "spans": (0.0, 1.0, 0.0),
    "uniform and placement": (1.0, 0.0, 1.0),
    "all three": (1.0, 1.0, 1.0),
}
"""Name of an arm -> weights of hidden single tokens, hidden runs of tokens, and spans to put back."""


def moe_arms(
    base: RunConfig, top_ks: Sequence[int] = (1, 2), n_experts: Sequence[int] = (16, 32, 64)
) -> dict[str, RunConfig]:
    """Give every gating with every top-k and number of routed experts; all else is as in ``base``.

    Active parameters grow with top-k, and by one key per expert in the router. A normalised top-1 weight is the
    constant 1, so the routers of ``normalised`` and ``bias`` get no gradient from it: such arms keep choosing as
    their first keys happen to, evened by the bias or not.

    Examples
    --------
    >>> from umbel.train.recipes import hyenamoe_tiny
    >>> arms = moe_arms(hyenamoe_tiny())
    >>> len(arms), arms["switch top-1 of 16"].model.gating, arms["switch top-1 of 16"].train.balance_coef
    (24, 'softmax', 0.01)
    """
    return {
        f"{name} top-{top_k} of {n}": replace(
            base,
            name=f"{base.name}, {name} top-{top_k} of {n}",
            model=replace(base.model, gating=gating, top_k=top_k, n_experts=n),
            train=replace(base.train, balance_coef=SWITCH_COEF if name == "switch" else 0.0, z_coef=0.0),
        )
        for n in n_experts
        for top_k in top_ks
        for name, gating in GATINGS.items()
    }


def component_arms(base: RunConfig) -> dict[str, RunConfig]:
    """Give ``base`` (a hybrid with experts) without experts, and of one mixer alone without experts.

    Without experts an attention layer gets the dense MLP of the HyenaLite layers.

    Examples
    --------
    >>> from umbel.train.recipes import hyenamoe_tiny
    >>> {name: arm.model.pattern for name, arm in component_arms(hyenamoe_tiny()).items()}
    {'HyenaLite only': 'Hd', 'attention only': 'Ad', 'hybrid without experts': 'Hd Ad', 'hybrid': 'Hd Ae'}
    """
    patterns = {
        "HyenaLite only": "Hd",
        "attention only": "Ad",
        "hybrid without experts": base.model.pattern.replace("e", "d"),
        "hybrid": base.model.pattern,
    }
    return {
        name: replace(base, name=f"{base.name}, {name}", model=replace(base.model, pattern=pattern))
        for name, pattern in patterns.items()
    }


def objective_arms(base: RunConfig) -> dict[str, RunConfig]:
    """Give ``base`` with each mixture of objectives in :data:`OBJECTIVES`.

    Validation hides the same single tokens in all arms. No arm packs rows, which cut spans do not go into. Where half
    of the windows place spans, half as many are left that ask for hidden tokens.

    Examples
    --------
    >>> from umbel.train.recipes import tiny
    >>> {name: arm.masking.placement_weight for name, arm in objective_arms(tiny()).items()}
    {'uniform': 0.0, 'spans': 0.0, 'uniform and placement': 1.0, 'all three': 1.0}
    """
    return {
        name: replace(
            base,
            name=f"{base.name}, {name}",
            tokens=replace(base.tokens, row_tokens=0),
            masking=replace(base.masking, uniform_weight=uniform, span_weight=spans, placement_weight=placement),
        )
        for name, (uniform, spans, placement) in OBJECTIVES.items()
    }


FAMILIES: dict[str, Callable[[RunConfig], dict[str, RunConfig]]] = {
    "moe": moe_arms,
    "components": component_arms,
    "objectives": objective_arms,
}


def family(name: str, base: RunConfig) -> dict[str, RunConfig]:
    """Give the arms of a family by its name.

    Raises
    ------
    ConfigError
        If there is no such family.

    Examples
    --------
    >>> from umbel.train.recipes import hyenamoe_standard
    >>> len(family("moe", hyenamoe_standard()))
    24
    """
    if name not in FAMILIES:
        raise ConfigError(f"{name}: no such family of ablations. There are {', '.join(FAMILIES)}")
    return FAMILIES[name](base)


def cpu_hour(base: RunConfig) -> RunConfig:
    """Shorten a tiny recipe so that 24 arms with three seeds fit into an hour of two CPU cores.

    200 steps, and 250 validation windows at each quarter of the way: with windows of 510 bp and 3-mers some 43,000
    tokens, 34 times the 20 E / k below which a dead expert of 64 may be a chance finding. The selection bias goes in
    steps of 0.005, because 200 steps of the usual 0.001 could not move a score by more than 0.2. So short a run
    learns little more than how common tokens are: it shows where the load goes, not which arm predicts best.

    Examples
    --------
    >>> from umbel.train.recipes import hyenamoe_tiny
    >>> cpu_hour(hyenamoe_tiny()).train.steps
    200
    """
    train = replace(
        base.train,
        steps=200,
        eval_every_steps=50,
        eval_windows=250,
        save_every_steps=50,
        keep_states=1,
        bias_rate=5e-3,
    )
    return replace(base, name=f"{base.name}, CPU hour", train=train)
