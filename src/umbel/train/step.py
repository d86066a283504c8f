"""One optimiser step over the batches of all processes, and one validation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from umbel.data.batches import Batch
from umbel.model.heads import IGNORED, label_losses
from umbel.model.hf import UmbelForMaskedLM
from umbel.model.moe import follow_load
from umbel.model.routing import balance_loss, z_loss
from umbel.ops.devices import autocast_to
from umbel.train.health import LayerHealth, RoutingTotals
from umbel.train.learner import Learner
from umbel.train.schedule import learning_rate
from umbel.train.speed import Seen, count_seen

Metrics = dict[str, Any]


@dataclass(frozen=True)
class StepReport:
    """What a step found, the same on every process.

    Attributes
    ----------
    metrics
        Loss, accuracy, rate and gradient norm; what there is none of in the batch is not in them.
    layers
        Health of each layer with experts.
    seen
        Real tokens of the whole step, over all processes.
    problem
        Why the weights were left as they were; None where they moved.
    is_overflow
        It is that float16 was too small for the scaled gradient, which is no fault of the batch.
    is_stopping
        Some process was asked to stop.
    """

    metrics: Metrics
    layers: list[LayerHealth]
    seen: Seen
    problem: str | None
    is_overflow: bool
    is_stopping: bool


@dataclass(frozen=True)
class _Whole:
    """What the batches of all micro-batches and processes hold."""

    weight: float
    n_spans: int
    n_unplaced: int
    n_stopping: int
    seen: Seen


def _count(batches: Sequence[Batch], learner: Learner, is_stopping: bool) -> _Whole:
    seen = count_seen(batches)
    own = [
        sum(float(batch.weights[batch.labels != IGNORED].sum(dtype=np.float64)) for batch in batches),
        sum(_n_spans(batch) for batch in batches),
        sum(batch.n_unplaced for batch in batches),
        int(is_stopping),
        seen.n_tokens,
        seen.n_tokens * seen.mean_length,
    ]
    whole = learner.world.sums(torch.tensor(own, dtype=torch.float64, device=learner.world.device)).tolist()
    weight, n_spans, n_unplaced, n_stopping, n_tokens, length_sum = whole
    n_tokens = max(1.0, n_tokens)
    seen = Seen(round(n_tokens), length_sum / n_tokens)
    return _Whole(max(1e-12, weight), round(n_spans), round(n_unplaced), round(n_stopping), seen)


def _n_spans(batch: Batch) -> int:
    """Count the cut spans."""
    return 0 if batch.placement is None else int((batch.placement < 0).sum())


def _to_device(batch: Batch, device: torch.device, *, places: bool) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Give what the model takes, the labels and their weights.

    A model that ``places`` is always asked to: a head that some process left out would have no gradient there.
    """
    arrays = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if batch.segment_ids is not None:
        arrays["segment_ids"] = batch.segment_ids
    if batch.placement is not None:
        arrays["placement"] = batch.placement
    elif places:
        arrays["placement"] = np.zeros_like(batch.labels)
    arrays |= {"labels": batch.labels, "weights": batch.weights}
    tensors = {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in arrays.items()}
    return tensors, tensors.pop("labels"), tensors.pop("weights")


def train_step(learner: Learner, batches: Sequence[Batch], *, is_stopping: bool = False) -> StepReport:
    """Take one optimiser step over the micro-batches of all processes.

    The loss is the weighted mean over the predicted tokens of the *whole* step, the placement loss the mean over all
    its cut spans, the auxiliary losses means over all its tokens: no process and no micro-batch changes them.

    Parameters
    ----------
    batches
        This process' micro-batches; every process must have as many.
    is_stopping
        This process was asked to stop; the report tells all processes of it.
    """
    run, device = learner.run, learner.world.device
    whole = _count(batches, learner, is_stopping)
    routed = RoutingTotals.of(run.model, device)
    # Loss, placement loss, spans placed right, tokens right, tokens asked: added up on the device.
    sums = torch.zeros(5, dtype=torch.float64, device=device)
    scale = 1.0 if learner.scale is None else learner.scale.value
    learner.model.train()
    for optimizer in learner.optimizers:
        optimizer.zero_grad(set_to_none=True)
    for number, batch in enumerate(batches):
        inputs, labels, weights = _to_device(batch, device, places=learner.model.placement is not None)
        with learner.spread.accumulating(is_last=number == len(batches) - 1):
            with autocast_to(device, learner.dtype):
                output = learner.spread.network(**inputs)
                loss = (label_losses(output.logits, labels) * weights).sum() / whole.weight
                objective = loss
                if output.placed is not None:
                    placement_loss = output.placed.losses.sum() / max(1, whole.n_spans)
                    objective = objective + run.train.placement_coef * placement_loss
                    sums[1] += placement_loss.detach()
                    sums[2] += output.placed.is_right.sum()
                if output.routings and run.train.balance_coef:
                    balance = balance_loss(output.routings, learner.shares, whole.seen.n_tokens)
                    objective = objective + run.train.balance_coef * balance
                if output.routings and run.train.z_coef:
                    objective = objective + run.train.z_coef * z_loss(output.routings, whole.seen.n_tokens)
            (objective * scale).backward()
        asked = labels != IGNORED
        sums[0] += loss.detach()
        sums[3] += (output.logits.argmax(-1) == labels)[asked].sum()
        sums[4] += asked.sum()
        routed.add(output.routings)
    learner.spread.finish_gradients()
    if scale != 1.0:
        for gradient in learner.spread.gradients():
            gradient.div_(scale)
    # One message for everything that is counted.
    everything = learner.world.sums(torch.cat([sums, routed.flat()]))
    loss_sum, placement_sum, n_placed_right, n_right, n_asked = everything[:5].tolist()
    layers = routed.read(everything[5:])
    grad_norm = learner.spread.gradient_norm()
    objective_sum = loss_sum + placement_sum
    is_overflow = _overflows(learner, objective_sum, grad_norm)
    if is_overflow:
        problem: str | None = f"the gradient overflows float16 at a loss scale of {scale:g}"
    else:
        problem = learner.bad_steps.judge(learner.step + 1, objective_sum, grad_norm)
    rate = learning_rate(run.optim, learner.step, run.train.steps)
    if problem is None:
        _move(learner, rate, grad_norm, routed.counts(everything[5:]))
        learner.shares.copy_(routed.shares(everything[5:]))
    metrics: Metrics = {"loss": loss_sum, "accuracy": n_right / n_asked} if n_asked else {}
    if whole.n_spans:
        metrics |= {"placement_loss": placement_sum, "placement_accuracy": n_placed_right / whole.n_spans}
    if run.masking.placement_weight:
        metrics["n_unplaced"] = whole.n_unplaced
    metrics |= {"lr": rate, "grad_norm": grad_norm}
    if learner.scale is not None:
        metrics["loss_scale"] = scale
    return StepReport(metrics, layers, whole.seen, problem, is_overflow, whole.n_stopping > 0)


def _overflows(learner: Learner, loss: float, grad_norm: float) -> bool:
    """Tell whether the scale of a float16 loss is to blame for a gradient that is not finite; the scale follows."""
    if learner.scale is None:
        return False
    is_overflow = math.isfinite(loss) and not math.isfinite(grad_norm) and learner.scale.value > 1
    learner.scale.follow(overflowed=is_overflow)
    return is_overflow


def _move(learner: Learner, rate: float, grad_norm: float, counts: Tensor) -> None:
    """Move the weights, the averages, and the biases that follow the load."""
    run = learner.run
    shrink = min(1.0, run.optim.clip_norm / (grad_norm + 1e-6))
    for gradient in learner.spread.gradients():
        gradient.mul_(shrink)
    for optimizer in learner.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    if learner.ema is not None:
        learner.ema.update()
    for router, counts_E in zip(learner.routers, counts, strict=True):
        if router.gating == "bias":
            follow_load(router, counts_E, run.train.bias_rate)


@torch.no_grad()
def validate(
    model: UmbelForMaskedLM, batches: Sequence[Batch], device: torch.device, dtype: torch.dtype | None
) -> Metrics:
    """Measure masked loss (nats, every masked token weighing 1), accuracy, and each layer's expert load.

    Batches with cut spans are asked for the loss and accuracy of their placement, and count for nothing else.
    """
    model.eval()
    loss_sum, right, predicted = 0.0, 0, 0
    placement_sum, n_right, n_spans = 0.0, 0, 0
    routed = RoutingTotals.of(model.config.model, device)
    for batch in batches:
        inputs, labels, _ = _to_device(batch, device, places=False)
        with autocast_to(device, dtype):
            output = model(**inputs)
        if output.placed is not None:
            placement_sum += float(output.placed.losses.double().sum())
            n_right += int(output.placed.is_right.sum())
            n_spans += _n_spans(batch)
            continue
        asked = labels != IGNORED
        loss_sum += float(label_losses(output.logits, labels).double().sum())
        right += int((output.logits.argmax(-1) == labels)[asked].sum())
        predicted += int(asked.sum())
        routed.add(output.routings)
    measured: Metrics = {}
    if predicted:
        experts = [layer.record(with_load=True) for layer in routed.read(routed.flat())]
        measured = {"loss": loss_sum / predicted, "accuracy": right / predicted, "experts": experts}
    if n_spans:
        measured |= {"placement_loss": placement_sum / n_spans, "placement_accuracy": n_right / n_spans}
    return measured
