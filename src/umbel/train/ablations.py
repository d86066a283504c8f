"""Families of runs that differ in one thing: how experts are weighed and balanced, and which parts a network has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from umbel.config import RunConfig

GATINGS: dict[str, Literal["softmax", "normalised", "plain", "bias"]] = {
    "normalised": "normalised",
    "plain": "plain",
    "switch": "softmax",
    "bias": "bias",
}
"""Name of an arm to its ``model.gating``; ``switch`` also has the Switch balance loss."""

SWITCH_COEF = 0.01
"""Weight of the balance loss in Fedus et al. 2021, arXiv:2101.03961, section 2.2."""


def moe_arms(
    base: RunConfig, top_ks: Sequence[int] = (1, 2), n_experts: Sequence[int] = (16, 32, 64)
) -> dict[str, RunConfig]:
    """Give every gating with every top-k and number of routed experts; all else is as in ``base``.

    Active parameters grow with top-k alone. A normalised top-1 weight is the constant 1, so the routers of
    ``normalised`` and ``bias`` get no gradient from it: such arms choose by chance, evened by the bias or not.

    Examples
    --------
    >>> from umbel.train.recipes import hyenamoe_tiny
    >>> arms = moe_arms(hyenamoe_tiny())
    >>> len(arms), arms["switch top-1 of 16"].model.gating, arms["switch top-1 of 16"].train.balance_coef
    (24, 'softmax', 0.01)
    """
    return {
        f"{gating} top-{top_k} of {n}": replace(
            base,
            name=f"{base.name}, {gating} top-{top_k} of {n}",
            model=replace(base.model, gating=GATINGS[gating], top_k=top_k, n_experts=n),
            train=replace(base.train, balance_coef=SWITCH_COEF if gating == "switch" else 0.0, z_coef=0.0),
        )
        for n in n_experts
        for top_k in top_ks
        for gating in GATINGS
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
