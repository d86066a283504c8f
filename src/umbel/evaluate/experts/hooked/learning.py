"""How a router's answer is to be read: learnt from the rows of one pass, never from what its parts are called.

Families of one library return logits, or probabilities under the name of logits; the chosen experts, or a mask, or
nothing of the kind; and choose by other numbers than those that they return. What is in the rows decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from umbel.errors import ConfigError
from umbel.evaluate.experts.hooked.parsing import (
    ONE,
    Layout,
    Reading,
    biased,
    decide,
    probabilities_of,
    product_logits,
)
from umbel.evaluate.experts.hooked.recorder import Call, Leaf
from umbel.evaluate.experts.hooked.sites import FoundRouter

_TOP_K = ("top_k", "num_experts_per_tok", "moe_top_k", "experts_per_token", "num_experts_per_token", "moe_k")
CLEARLY = 0.25
"""One explanation of the weights is taken when its error is at most this share of the next best one's."""


class UnreadableError(ConfigError):
    """What was taken for a router answers neither with scores nor with a choice for each token."""


def learn(
    call: Call, router: FoundRouter, rows: int, config: Any = None, top_k: int | None = None
) -> tuple[Reading, str]:
    """Learn from one call, of R rows, how a router's answers are read.

    Parameters
    ----------
    config
        Of the model, where nothing else tells how many experts a token takes.
    top_k
        The same, told by the user.

    Returns
    -------
    The reading, and what it rests on, in words.

    Raises
    ------
    ConfigError
        If the answer holds no scores and no choice, or nothing tells how many experts a token takes.
    """
    reading = _layout(call, router, rows, config, top_k)
    own = own_tensors(router.module)
    scores = _scores(call, reading)
    if scores is None:
        return reading, f"{_WORDS[reading.layout]}; no scores are told"
    scores = scores.reshape(rows, reading.n_classes)
    reading, words = _kind(call, reading, scores, own, rows, router, config)
    reading = _choice(call, reading, scores, own, rows, router.name)
    if reading.bias is not None:
        words += ", chosen with a bias"
    return reading, f"{_WORDS[reading.layout]}; {words}"


_WORDS: dict[Layout, str] = {
    "indices": "it returns the experts that it chose",
    "one-hot": "it returns a mask of the expert that it chose, without those that were full",
    "sparse": "it returns weights that are 0 where an expert was not chosen",
    "sorted": "it returns tokens sorted by expert",
    "given": "the experts that it chose are read from what they were given",
    "recomputed": "it returns scores alone, so the experts with the highest are taken, and their scores as weights",
}


def own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Give a module's parameters and buffers by name, those of its parts too."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _layout(call: Call, router: FoundRouter, rows: int, config: Any, top_k: int | None) -> Reading:
    output = call.output
    wide = {at: width for at, leaf in enumerate(output) if (width := _width(leaf, rows, whole=False)) > 1}
    product = next((at for at, leaf in enumerate(output) if _is_product(leaf, rows, router.module)), None)
    if product is not None:
        leaf = output[product]
        assert isinstance(leaf, Tensor)
        n = leaf.shape[-1] ** 2
        k = top_k or _told_top_k(router, config, n)
        return Reading(n, k, "recomputed", "unknown", score_at=product, n_classes=n, is_product=True)
    sizes = next((at for at, leaf in enumerate(output) if isinstance(leaf, tuple) and sum(leaf) % rows == 0), None)
    if sizes is not None:
        flat = {at: leaf for at, leaf in enumerate(output) if isinstance(leaf, Tensor) and leaf.ndim == 1}
        told = output[sizes]
        slots = next((at for at, leaf in flat.items() if not leaf.is_floating_point()), None)
        gates = next((at for at, leaf in flat.items() if leaf.is_floating_point()), None)
        if slots is not None and gates is not None and len(flat[slots]) == sum(told):
            n = len(told)
            score = next((at for at, width in wide.items() if width == n), None)
            return Reading(n, int(sum(told)) // rows, "sorted", "unknown", False, score, slots, gates, sizes, n)
    whole = {at: width for at, leaf in enumerate(output) if (width := _width(leaf, rows, whole=True)) > 0}
    if whole:
        return _told_choice(output, wide, whole, router, rows)
    return _untold_choice(call, wide, router, rows, config, top_k)


def _told_choice(
    output: tuple[Leaf, ...], wide: dict[int, int], whole: dict[int, int], router: FoundRouter, rows: int
) -> Reading:
    at, k = next(iter(whole.items()))
    leaf = output[at]
    assert isinstance(leaf, Tensor)
    chosen = leaf.reshape(rows, k).long()
    if k in wide.values() and _is_mask(chosen) and not hasattr(router.module, "top_k"):
        # Where weights of every expert stand beside the mask, they know of second choices too.
        sparse = next((i for i, width in wide.items() if width == k and _is_sparse(output[i], rows)), None)
        score = next((i for i, width in wide.items() if width == k and i != sparse), None)
        if sparse is not None:
            weights = output[sparse]
            assert isinstance(weights, Tensor)
            most = int((weights.reshape(rows, k) > 0).sum(-1).max())
            return Reading(k, most, "sparse", "unknown", score_at=score, weight_at=sparse, n_classes=k)
        single = next((i for i, one in enumerate(output) if _width(one, rows, whole=False) == 1), None)
        return Reading(k, 1, "one-hot", "unknown", score_at=score, expert_at=at, weight_at=single, n_classes=k)
    least = max(k, int(chosen.max()) + 1)
    fits = {i: width for i, width in wide.items() if width >= least}
    hint = router.n_experts
    score = next((i for i, width in fits.items() if width == hint), None)
    if score is None:
        score = next((i for i, width in fits.items() if hint is None or width > hint), None)
    n_classes = wide[score] if score is not None else (hint or least)
    n = n_classes - 1 if hint is not None and n_classes == hint + 1 else n_classes
    weight = next((i for i, one in enumerate(output) if i != score and _width(one, rows, whole=False) == k), None)
    return Reading(n, k, "indices", "unknown", False, score, at, weight, None, n_classes)


def _untold_choice(
    call: Call, wide: dict[int, int], router: FoundRouter, rows: int, config: Any, top_k: int | None
) -> Reading:
    hint = router.n_experts
    fits = [at for at, width in wide.items() if hint is None or width == hint]
    weights = [p.shape[0] for p in router.module.parameters() if p.ndim == 2]
    fits.sort(key=lambda at: wide[at] not in weights)
    sparse = next((at for at in fits if _is_sparse(call.output[at], rows)), None)
    dense = next((at for at in fits if at != sparse), None)
    if sparse is not None:
        n = wide[sparse]
        leaf = call.output[sparse]
        assert isinstance(leaf, Tensor)
        k = int((leaf.reshape(rows, n) > 0).sum(-1).max())
        return Reading(n, k, "sparse", "unknown", score_at=dense, weight_at=sparse, n_classes=n)
    if dense is None:
        shapes = [tuple(leaf.shape) if isinstance(leaf, Tensor) else leaf for leaf in call.output]
        raise UnreadableError(
            f"{router.name} ({router.how}) was asked about {rows} tokens, and what it returned has neither scores nor "
            f"a choice for each: shapes {shapes}. It cannot be read. "
            "A likely cause: the model drops, repeats or packs tokens before it"
        )
    n = wide[dense]
    for at, leaf in enumerate(call.given):
        k = _width(leaf, rows, whole=True)
        if 0 < k <= n and isinstance(leaf, Tensor) and int(leaf.max()) < n:
            weight = next((i for i, one in enumerate(call.given) if _width(one, rows, whole=False) == k), None)
            return Reading(n, k, "given", "unknown", False, dense, at, weight, None, n)
    k = top_k or _told_top_k(router, config, n)
    return Reading(n, k, "recomputed", "unknown", score_at=dense, n_classes=n)


def _width(leaf: Leaf, rows: int, *, whole: bool) -> int:
    """Give the numbers that a tensor has for each row; 0 if it is not laid out by rows, or of the other kind."""
    if not isinstance(leaf, Tensor) or leaf.ndim < 2 or leaf.is_floating_point() == whole:
        return 0
    return leaf.shape[-1] if leaf.numel() == rows * leaf.shape[-1] else 0


def _is_product(leaf: Leaf, rows: int, module: nn.Module) -> bool:
    if not isinstance(leaf, Tensor) or leaf.ndim != 3 or not leaf.is_floating_point():
        return False
    # Rows of a batch of two would be half of this.
    return leaf.shape[:2] == (2, rows) and leaf.shape[2] == getattr(module, "num_keys", leaf.shape[2])


def _is_mask(chosen: Tensor) -> bool:
    return chosen.shape[1] > 1 and bool(((chosen == 0) | (chosen == 1)).all()) and int(chosen.sum(-1).max()) <= 1


def _is_sparse(leaf: Leaf, rows: int) -> bool:
    if not isinstance(leaf, Tensor):
        return False
    weights = leaf.reshape(rows, -1)
    return bool((weights >= 0).all()) and bool((weights == 0).any(-1).all()) and bool((weights > 0).any())


def _told_top_k(router: FoundRouter, config: Any, n_experts: int) -> int:
    for place in (router.module, router.block, getattr(router.block, "config", None), config):
        for name in _TOP_K:
            value = getattr(place, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= n_experts:
                return value
    raise ConfigError(
        f"{router.name} returns scores of {n_experts} experts, and nothing tells how many of them a token takes: "
        "say it with top_k"
    )


def _scores(call: Call, reading: Reading) -> Tensor | None:
    if reading.score_at is None:
        return None
    leaf = call.output[reading.score_at]
    assert isinstance(leaf, Tensor)
    return product_logits(leaf) if reading.is_product else leaf.float()


def _kind(
    call: Call, reading: Reading, scores: Tensor, own: Mapping[str, Tensor], rows: int, router: FoundRouter, config: Any
) -> tuple[Reading, str]:
    """See what the router makes of its logits, from the weights that it gives to those it chose."""
    if bool((scores >= 0).all()) and bool(((scores.sum(-1) - 1).abs() < ONE).all()):
        return replace(reading, scores="softmax", is_probability=True), "its scores are probabilities already"
    if reading.layout == "recomputed":
        kind = _told_kind(router, config) or "softmax"
        return replace(reading, scores=kind), f"{kind} is assumed"
    found = decide(call, replace(reading, scores="unknown"), own, rows, router.name)
    taken = (found.experts >= 0).all(1) & (found.weights > 0).all(1)
    if reading.weight_at is not None and bool(taken.any()):
        logs = found.weights[taken].log()
        at = found.experts[taken]
        kinds = {
            "softmax": scores.log_softmax(-1),
            "sigmoid": F.logsigmoid(scores),
            "sqrtsoftplus": F.softplus(scores).log() / 2,
        }
        if bool((scores > 0).all()) and bool((scores <= 1).all()):
            kinds["sigmoid, applied"] = scores.log()
        errors = {name: _error(logs, logarithms[taken].gather(1, at)) for name, logarithms in kinds.items()}
        (best, least), (_, second) = sorted(errors.items(), key=lambda pair: pair[1])[:2]
        spread = _error(logs, torch.zeros_like(logs))
        # Weights that are all alike (one expert, made to add up to 1) say nothing.
        if least <= CLEARLY * second and least <= CLEARLY * spread:
            kind, _, applied = best.partition(", ")
            return replace(reading, scores=kind, is_probability=bool(applied)), f"{kind} by its weights"
    kind = _told_kind(router, config) or "softmax"
    return replace(reading, scores=kind), f"its weights do not tell what it makes of its logits: {kind} is assumed"


def _error(logs: Tensor, expected: Tensor) -> float:
    """How far two sets of logarithms are from being a constant apart, row by row (or, with one a row, in all)."""
    apart = (logs - expected).double()
    mean = apart.mean(-1, keepdim=True) if apart.shape[1] > 1 else apart.mean()
    return float((apart - mean).square().mean().sqrt())


def _told_kind(router: FoundRouter, config: Any) -> str | None:
    for place in (router.module, router.block, getattr(router.block, "config", None), config):
        for key, value in (vars(place) if place is not None and hasattr(place, "__dict__") else {}).items():
            if isinstance(value, str) and value in ("softmax", "sigmoid") and "attn" not in key:
                return value
    return None


def _choice(call: Call, reading: Reading, scores: Tensor, own: Mapping[str, Tensor], rows: int, name: str) -> Reading:
    """See whether a bias that only the choice knows explains it better."""
    if reading.layout in ("recomputed", "sparse", "one-hot"):
        return reading
    found = decide(call, reading, own, rows, name)
    wanted = found.experts.sort(-1).values
    probabilities, raw = probabilities_of(scores, reading, name)
    assert probabilities is not None and raw is not None

    def agreement(values: Tensor) -> float:
        return float((values.topk(reading.top_k, -1).indices.sort(-1).values == wanted).all(-1).float().mean())

    # Where a limit to groups disturbs the comparison, a bias that is there is believed to be used.
    agrees = agreement(probabilities)
    best, rank = reading, (agrees == 1, False, agrees)
    candidates: list[tuple[str | int, Tensor]] = [(key, value) for key, value in own.items() if key != "bias"]
    candidates += [(at, leaf) for at, leaf in enumerate(call.inputs) if isinstance(leaf, Tensor)]
    for key, value in candidates:
        # The bias of a layer is in its logits already.
        is_layers = isinstance(key, str) and key.endswith(".bias") and f"{key[:-5]}.weight" in own
        if value.numel() != reading.n_classes or not value.is_floating_point() or is_layers:
            continue
        bias = value.detach().float().flatten()
        is_named = bool((bias != bias[0]).any()) and (isinstance(key, int) or "bias" in key)
        for is_logit_bias in (False, True) if not reading.is_probability else (False,):
            agrees = agreement(biased(scores, raw, bias, is_logit_bias))
            if (agrees == 1, is_named, agrees) > rank and (agrees == 1 or not is_logit_bias):
                rank = (agrees == 1, is_named, agrees)
                best = replace(reading, bias=key, is_logit_bias=is_logit_bias)
    return best
