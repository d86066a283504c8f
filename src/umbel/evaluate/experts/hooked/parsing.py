"""From what a router returned to what it decided: experts, weights, and the probabilities behind the choice.

Shapes: R rows (tokens of a batch, row by row), E experts, K top-k. How the answer is laid out is told by a
:class:`Reading`, which :mod:`umbel.evaluate.experts.hooked.learning` makes from the rows of a first pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from umbel.errors import ConfigError
from umbel.evaluate.experts.hooked.recorder import Call, Leaf

Layout = Literal["indices", "one-hot", "sparse", "sorted", "given", "recomputed"]
ONE = 1e-2
"""Rows of probabilities add up to 1 within this, in any precision."""


@dataclass(frozen=True)
class Reading:
    """How a router's answer is read.

    Attributes
    ----------
    n_experts, top_k
        E and K.
    layout
        Where the choice is. ``indices``: whole numbers ``(R, K)``. ``one-hot``: a mask ``(R, E)``, without a 1 where
        the expert was full. ``sparse``: weights ``(R, E)`` that are 0 where an expert was not chosen. ``sorted``: slots
        sorted by expert, with the number of each. ``given``: only what the experts got tells. ``recomputed``: nobody
        tells, and the K with the highest scores are taken.
    scores
        What the router makes of its logits: ``softmax``, ``sigmoid``, ``sqrtsoftplus`` or ``unknown``.
    is_probability
        Whether that was done already to what is at ``score_at``.
    score_at, expert_at, weight_at, size_at
        Places among the output's tensors (for ``given`` among those that the experts got); None for none. ``size_at``
        is where ``sorted`` has the number of each.
    n_classes
        E, or E + 1 where the last choice is to take no expert.
    is_product
        The scores are two sets of keys, ``(2, R, sqrt E)``, whose sums are the logits.
    bias
        What is added for the choice alone: the name of one of the router's own tensors, or the place among its inputs.
    is_logit_bias
        It is added to the logits rather than to what is made of them.
    """

    n_experts: int
    top_k: int
    layout: Layout
    scores: str
    is_probability: bool = False
    score_at: int | None = None
    expert_at: int | None = None
    weight_at: int | None = None
    size_at: int | None = None
    n_classes: int = 0
    is_product: bool = False
    bias: str | int | None = None
    is_logit_bias: bool = False


@dataclass(frozen=True)
class Decisions:
    """What one router decided in one pass.

    Attributes
    ----------
    experts
        int64 ``(R, K)``, the best first; -1 where the token took none, as its expert was full.
    weights
        float32 ``(R, K)``; 0 at -1.
    probabilities
        float32 ``(R, E)``, rows add up to 1; None where no scores are told.
    choice
        float32 ``(R, E)``: what the choice went by, which is the probabilities, or those plus a bias.
    """

    experts: Tensor
    weights: Tensor
    probabilities: Tensor | None
    choice: Tensor | None

    def entropy(self) -> Tensor:
        """Entropy of the probabilities in nats, ``(R,)``; NaN where there are none."""
        if self.probabilities is None:
            return self.weights.new_full(self.weights.shape[:1], torch.nan)
        return torch.special.entr(self.probabilities).sum(-1)

    def margin(self) -> Tensor:
        """By what the choice went by, the last chosen less the best that was not, ``(R,)``.

        NaN where there are no scores, where a token took fewer experts than K, and where all experts are chosen.
        """
        if self.choice is None or self.experts.shape[1] >= self.choice.shape[1]:
            return self.weights.new_full(self.weights.shape[:1], torch.nan)
        real = self.experts.clamp(min=0)
        last = self.choice.gather(1, real).amin(1)
        best = self.choice.scatter(1, real, -torch.inf).amax(1)
        return (last - best).masked_fill((self.experts < 0).any(1), torch.nan)


def decide(call: Call, reading: Reading, own: Mapping[str, Tensor], rows: int, name: str) -> Decisions:
    """Read one call of a router.

    Parameters
    ----------
    call
        What it returned and got.
    reading
        How to read it.
    own
        The router's own tensors by name, for the bias.
    rows
        Tokens of the batch, padding included: R.
    name
        Of the router, for messages.

    Raises
    ------
    ConfigError
        If it did not answer for R tokens, or not as in the pass that the reading was learnt from.

    Examples
    --------
    >>> logits = torch.tensor([[0.0, 2.0, 1.0]])
    >>> call = Call((logits, torch.tensor([[0.73, 0.27]]), torch.tensor([[1, 2]])), ())
    >>> read = Reading(3, 2, "indices", "softmax", score_at=0, weight_at=1, expert_at=2, n_classes=3)
    >>> decisions = decide(call, read, {}, 1, "gate")
    >>> decisions.experts.tolist(), round(decisions.margin().item(), 3)
    ([[1, 2]], 0.155)
    """
    scores = None
    if reading.score_at is not None:
        leaf = _tensor(call.output, reading.score_at, name)
        scores = product_logits(leaf) if reading.is_product else _matrix(leaf, reading.n_classes, rows, name)
        if scores.shape[0] != rows:
            raise _wrong_rows(name, scores.shape[0], rows)
    probabilities, raw = probabilities_of(scores, reading, name)
    choice = probabilities
    bias = _bias(call, reading, own)
    if bias is not None and scores is not None and raw is not None:
        choice = biased(scores, raw, bias, reading.is_logit_bias)
    experts, weights = _chosen(call, reading, rows, name, choice, raw)
    if reading.n_classes > reading.n_experts:
        experts = experts.masked_fill((weights == 0) | (experts >= reading.n_experts), -1)
    if choice is not None and reading.top_k > 1:
        keys = choice.gather(1, experts.clamp(min=0)).masked_fill(experts < 0, -torch.inf)
        order = keys.sort(dim=1, descending=True, stable=True).indices
        experts, weights = experts.gather(1, order), weights.gather(1, order)
    return Decisions(experts, weights.masked_fill(experts < 0, 0.0), probabilities, choice)


def probabilities_of(scores: Tensor | None, reading: Reading, name: str) -> tuple[Tensor | None, Tensor | None]:
    """Give probabilities whose rows add up to 1, and the numbers before they were made so; ``(R, E)`` each."""
    if scores is None or reading.scores == "unknown":
        return None, None
    if reading.is_probability:
        sums = scores.sum(-1, keepdim=True)
        if reading.scores == "softmax" and bool(((sums - 1).abs() > ONE).any()):
            raise ConfigError(
                f"{name} returned probabilities in the first pass, and now rows that do not add up to 1. "
                "This router cannot be recorded"
            )
        return scores / sums, scores
    raw = make_scores(scores, reading.scores)
    return raw if reading.scores == "softmax" else raw / raw.sum(-1, keepdim=True), raw


def make_scores(logits: Tensor, kind: str) -> Tensor:
    """Make of logits what the router makes of them, before any bias or normalisation."""
    if kind == "sigmoid":
        return logits.sigmoid()
    if kind == "sqrtsoftplus":
        return F.softplus(logits).sqrt()
    return logits.softmax(-1)


def biased(scores: Tensor, raw: Tensor, bias: Tensor, is_logit_bias: bool) -> Tensor:
    """Add the bias where the router does, on the scale of the probabilities."""
    if is_logit_bias:
        moved = (scores + bias).sigmoid()
        return moved / moved.sum(-1, keepdim=True)
    return (raw + bias) / raw.sum(-1, keepdim=True)


def product_logits(keys: Tensor) -> Tensor:
    """Add up the scores of two sets of keys, ``(2, R, n)`` to ``(R, n n)``.

    Examples
    --------
    >>> product_logits(torch.tensor([[[1.0, 2.0]], [[10.0, 20.0]]])).tolist()
    [[11.0, 21.0, 12.0, 22.0]]
    """
    x, y = keys.float()
    return (x[:, :, None] + y[:, None, :]).flatten(1)


def _chosen(
    call: Call, reading: Reading, rows: int, name: str, choice: Tensor | None, raw: Tensor | None
) -> tuple[Tensor, Tensor]:
    k = reading.top_k
    leaves = call.given if reading.layout == "given" else call.output
    weights = None
    if reading.weight_at is not None and reading.layout not in ("sparse", "sorted"):
        weights = _matrix(_tensor(leaves, reading.weight_at, name), k, rows, name)
    if reading.layout in ("indices", "given"):
        assert reading.expert_at is not None
        experts = _matrix(_tensor(leaves, reading.expert_at, name), k, rows, name, whole=True)
    elif reading.layout == "one-hot":
        assert reading.expert_at is not None
        mask = _matrix(_tensor(leaves, reading.expert_at, name), reading.n_experts, rows, name, whole=True)
        value, best = mask.max(-1, keepdim=True)
        experts = best.masked_fill(value == 0, -1)
    elif reading.layout == "sparse":
        assert reading.weight_at is not None
        wide = _matrix(_tensor(leaves, reading.weight_at, name), reading.n_experts, rows, name)
        most = int((wide > 0).sum(-1).max()) if rows else 0
        if most > k:
            raise ConfigError(f"{name} chose {k} experts in the first pass, and now {most}: it cannot be recorded")
        weights, best = wide.topk(k, -1)
        experts = best.masked_fill(weights <= 0, -1)
    elif reading.layout == "sorted":
        return _unsorted(call, reading, rows, name)
    else:
        assert choice is not None
        experts = choice.topk(k, -1).indices
    if weights is None:
        weights = torch.ones_like(experts, dtype=torch.float32) if raw is None else raw.gather(1, experts.clamp(min=0))
    return experts, weights


def _unsorted(call: Call, reading: Reading, rows: int, name: str) -> tuple[Tensor, Tensor]:
    assert reading.expert_at is not None and reading.weight_at is not None and reading.size_at is not None
    slots = _tensor(call.output, reading.expert_at, name)
    gates = _tensor(call.output, reading.weight_at, name).float()
    sizes = torch.as_tensor(call.output[reading.size_at], device=slots.device)
    if len(slots) != rows * reading.top_k:
        raise _wrong_rows(name, len(slots) / reading.top_k, rows)
    ids = torch.arange(reading.n_experts, device=slots.device).repeat_interleave(sizes)
    experts = torch.empty_like(slots).scatter_(0, slots, ids)
    weights = torch.empty_like(gates).scatter_(0, slots, gates)
    return experts.view(rows, -1), weights.view(rows, -1)


def _bias(call: Call, reading: Reading, own: Mapping[str, Tensor]) -> Tensor | None:
    if reading.bias is None:
        return None
    leaf = call.inputs[reading.bias] if isinstance(reading.bias, int) else own[reading.bias]
    assert isinstance(leaf, Tensor)
    return leaf.detach().float().flatten()


def _tensor(leaves: tuple[Leaf, ...], at: int, name: str) -> Tensor:
    leaf = leaves[at] if at < len(leaves) else None
    if not isinstance(leaf, Tensor):
        raise ConfigError(f"{name} returned less than in the first pass: it cannot be recorded")
    return leaf


def _matrix(leaf: Tensor, width: int, rows: int, name: str, *, whole: bool = False) -> Tensor:
    if leaf.numel() != rows * width:
        raise _wrong_rows(name, leaf.numel() / width, rows)
    matrix = leaf.reshape(rows, width)
    return matrix.long() if whole else matrix.float()


def _wrong_rows(name: str, found: float, rows: int) -> ConfigError:
    return ConfigError(
        f"{name} answered for {found:g} tokens, and the batch has {rows}. A likely cause: the model drops, repeats or "
        "packs tokens before this layer (logits_to_keep, unpadding, several tokens predicted at once); "
        "turn that off, or leave the model out"
    )
