"""The training loop: one optimiser step, one validation, and the loop around them."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from umbel.config import RunConfig
from umbel.data.batches import Batch, TrainingBatches
from umbel.errors import RunError
from umbel.model.heads import IGNORED, label_losses
from umbel.model.moe import Router, follow_load
from umbel.model.routing import Routing, balance_loss, expert_load, z_loss
from umbel.train.schedule import learning_rate

Metrics = dict[str, Any]


def _to_device(batch: Batch, device: torch.device) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Give what the model takes, the labels and their weights."""
    arrays = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if batch.segment_ids is not None:
        arrays["segment_ids"] = batch.segment_ids
    if batch.placement is not None:
        arrays["placement"] = batch.placement
    arrays |= {"labels": batch.labels, "weights": batch.weights}
    tensors = {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in arrays.items()}
    return tensors, tensors.pop("labels"), tensors.pop("weights")


def _precision(device: torch.device, dtype: torch.dtype | None) -> Any:
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def train_step(
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    batches: Sequence[Batch],
    config: RunConfig,
    step: int,
    device: torch.device,
    dtype: torch.dtype | None,
) -> Metrics:
    """Take one optimiser step over all micro-batches.

    The loss is the weighted mean over the predicted tokens of the *whole* batch, and the placement loss the mean over
    all its cut spans, so that neither depends on how the batch is cut; only the auxiliary losses are means over
    micro-batches. What there is none of in the batch is not in the metrics.

    Raises
    ------
    RunError
        If the loss or its gradient is not finite. The weights are untouched then.
    """
    model.train()
    total_weight = max(
        1e-12, float(sum(batch.weights[batch.labels != IGNORED].sum(dtype=np.float64) for batch in batches))
    )
    n_spans = sum(_n_spans(batch) for batch in batches)
    loss_sum, right, predicted = 0.0, 0, 0
    placement_sum, n_right = 0.0, 0
    biased = [m for m in model.modules() if isinstance(m, Router) and m.gating == "bias"]
    counts: dict[int, np.ndarray] = {}
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    for batch in batches:
        inputs, labels, weights = _to_device(batch, device)
        with _precision(device, dtype):
            output = model(**inputs)
            loss = (label_losses(output.logits, labels) * weights).sum() / total_weight
            objective = loss
            if output.placed is not None:
                placement_loss = output.placed.losses.sum() / max(1, n_spans)
                objective = objective + config.train.placement_coef * placement_loss
            if output.routings and config.train.balance_coef:
                objective = objective + config.train.balance_coef * balance_loss(output.routings) / len(batches)
            if output.routings and config.train.z_coef:
                objective = objective + config.train.z_coef * z_loss(output.routings) / len(batches)
        if biased:
            _add_counts(counts, output.routings)
        objective.backward()
        loss_sum += loss.item()
        if output.placed is not None:
            placement_sum += placement_loss.item()
            n_right += int(output.placed.is_right.sum())
        asked = labels != IGNORED
        right += int((output.logits.argmax(-1) == labels)[asked].sum())
        predicted += int(asked.sum())
    grad_norm = float(nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip_norm))
    if not (math.isfinite(loss_sum + placement_sum) and math.isfinite(grad_norm)):
        placing = f", that of span placement {placement_sum}" if n_spans else ""
        raise RunError(
            f"step {step}: the loss is {loss_sum}{placing} and the gradient norm {grad_norm}. The run stopped; its "
            "last state is kept. Lower optim.lr or raise optim.warmup_steps, and start in a new folder."
        )
    rate = learning_rate(config.optim, step, config.train.steps)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    for router in biased:
        follow_load(router, torch.from_numpy(counts[router.layer]), config.train.bias_rate)
    metrics: Metrics = {"loss": loss_sum, "accuracy": right / predicted} if predicted else {}
    if n_spans:
        metrics |= {"placement_loss": placement_sum, "placement_accuracy": n_right / n_spans}
    if config.masking.placement_weight:
        metrics["n_unplaced"] = sum(batch.n_unplaced for batch in batches)
    return metrics | {"lr": rate, "grad_norm": grad_norm}


def _n_spans(batch: Batch) -> int:
    """Count the cut spans."""
    return 0 if batch.placement is None else int((batch.placement < 0).sum())


@torch.no_grad()
def validate(model: nn.Module, batches: Sequence[Batch], device: torch.device, dtype: torch.dtype | None) -> Metrics:
    """Measure masked loss (nats, every masked token weighing 1), accuracy, and each layer's expert load.

    Batches with cut spans are asked for the loss and accuracy of their placement, and count for nothing else.
    """
    model.eval()
    loss_sum, right, predicted = 0.0, 0, 0
    placement_sum, n_right, n_spans = 0.0, 0, 0
    counts: dict[int, np.ndarray] = {}
    for batch in batches:
        inputs, labels, _ = _to_device(batch, device)
        with _precision(device, dtype):
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
        _add_counts(counts, output.routings)
    measured: Metrics = {}
    if predicted:
        experts = [{"layer": layer, **asdict(expert_load(n))} for layer, n in counts.items()]
        measured = {"loss": loss_sum / predicted, "accuracy": right / predicted, "experts": experts}
    if n_spans:
        measured |= {"placement_loss": placement_sum / n_spans, "placement_accuracy": n_right / n_spans}
    return measured


def _add_counts(counts: dict[int, np.ndarray], routings: Sequence[Routing]) -> None:
    for routing in routings:
        new = routing.counts().cpu().numpy()
        counts[routing.layer] = counts.get(routing.layer, 0) + new


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether SIGINT or SIGTERM has come, so that a step is never cut in half.

    A second SIGINT interrupts at once.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def fit(
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    training: TrainingBatches,
    validation: Sequence[Batch],
    config: RunConfig,
    *,
    first_step: int,
    device: torch.device,
    dtype: torch.dtype | None,
    record: Callable[[Metrics], None],
    save: Callable[[int], None],
) -> None:
    """Train from ``first_step`` to the end.

    Parameters
    ----------
    record
        Gets a ``{"kind": "train", ...}`` after each step and a ``{"kind": "valid", ...}`` at each evaluation.
    save
        Called with the number of finished steps whenever a state is due.

    Raises
    ------
    KeyboardInterrupt
        After SIGINT or SIGTERM, once the step is finished and saved.
    """
    steps, started = config.train.steps, time.monotonic()
    with stop_on_signal() as is_stopping:
        for step, batches in enumerate(
            training.stream(first_step, steps, config.train.micro_batch_windows), start=first_step
        ):
            began = time.monotonic()
            metrics = train_step(model, optimizers, batches, config, step, device, dtype)
            done = step + 1
            ended = time.monotonic()
            n_tokens = sum(int(batch.attention_mask.sum()) for batch in batches)
            speed = {"tokens_per_s": n_tokens / (ended - began), "seconds": ended - started}
            record({"kind": "train", "step": done, **metrics, **speed})
            if done % config.train.eval_every_steps == 0 or done == steps:
                measured = validate(model, validation, device, dtype)
                if measured:
                    record({"kind": "valid", "step": done, **measured})
            if done % config.train.save_every_steps == 0 or done == steps or is_stopping():
                save(done)
            if is_stopping() and done < steps:
                raise KeyboardInterrupt
