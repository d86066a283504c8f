"""Fit one model to labelled examples: epochs, a look at dev after each, and an early stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from umbel.config import FinetuneConfig
from umbel.data.labelled.batches import LabelledBatch, TrainingExamples
from umbel.data.labelled.examples import Examples, is_known
from umbel.data.labelled.lengths import Split
from umbel.data.labelled.task import Task
from umbel.data.tokenizers import Tokens
from umbel.model.bases import to_device
from umbel.model.hf import UmbelConfig
from umbel.model.routing import balance_loss
from umbel.ops.devices import autocast_dtype, autocast_to
from umbel.progress import Reporter, reporter_or_silent
from umbel.progress import Task as Bar
from umbel.train.finetune.learner import FinetuneLearner
from umbel.train.finetune.outputs import Outputs, say_outputs
from umbel.train.health import RoutingTotals
from umbel.train.loop import stop_on_signal
from umbel.train.processes import World
from umbel.train.state import StateWriter, newest_state

Judge = Callable[[Examples, Outputs], float]
"""From examples and what a model says of them to a score; higher is better."""


@dataclass(frozen=True)
class Fitted:
    """What came of a run.

    Attributes
    ----------
    best
        Epoch (from 1), step and dev score of the weights that the model now has; None where nothing was finite.
    history
        Training loss, dev score and seconds of every epoch.
    n_steps, n_tokens, seconds
        Optimiser steps taken, real tokens seen in them, and time, over all sittings.
    problem
        Why the run ended before its time: the loss was not finite. None where it did not.
    """

    best: dict[str, Any] | None
    history: list[dict[str, Any]]
    n_steps: int
    n_tokens: int
    seconds: float
    problem: str | None


def _gradients(learner: FinetuneLearner, batches: Sequence[LabelledBatch], task: Task, config: FinetuneConfig) -> float:
    """Leave a step's gradients in the parameters; give its loss, the weighted mean over the targets of all batches."""
    model, device = learner.model, learner.shares.device
    told = cast(UmbelConfig, model.config)
    weight = max(1e-12, math.fsum(_weight(task, batch.targets, told.class_weights) for batch in batches))
    n_tokens = sum(batch.n_tokens for batch in batches)
    routed = RoutingTotals.of(told.model, device)
    dtype = autocast_dtype(device, config.autocast)
    total = 0.0
    for batch in batches:
        labels = torch.from_numpy(batch.targets).to(device)
        with autocast_to(device, dtype):
            output = model(**to_device(batch.inputs, device), labels=labels)
        loss = (output.losses.values * output.losses.weights).sum() / weight
        total += float(loss.detach())
        if output.routings and config.balance_coef:
            loss = loss + config.balance_coef * balance_loss(output.routings, learner.shares, n_tokens)
            routed.add(output.routings)
        loss.backward()
    if config.balance_coef:
        learner.shares.copy_(routed.shares(routed.flat()))
    learner.counted["tokens"] += n_tokens
    return total


def _weight(task: Task, targets: npt.NDArray[Any], class_weights: Sequence[float] | None) -> float:
    """Say what a batch's targets weigh in the loss, all together."""
    known = targets[is_known(task, targets)]
    return float(len(known) if class_weights is None else np.asarray(class_weights)[known].sum())


def fit(
    model: nn.Module,
    tokens: Tokens,
    train: Examples,
    dev: Split,
    config: FinetuneConfig,
    *,
    lr: float,
    seed: int,
    folder: Path,
    judge: Judge,
    before_first_step: Callable[[Sequence[LabelledBatch]], None] | None = None,
    reporter: Reporter | None = None,
    title: str = "fine-tuning",
) -> Fitted:
    """Fit a model with a head to ``train``, and leave it with the weights that ``judge`` liked best on ``dev``.

    Test examples have no way in. A run that was killed goes on from its last state in ``folder`` when the same is asked
    for again, and ends with the same weights.

    Parameters
    ----------
    model
        On its device; see :mod:`umbel.model.tuned`. What takes a gradient is trained.
    lr
        Peak learning rate; those of the config are the caller's to choose from.
    seed
        Of order and strands.
    folder
        For states; the caller's to delete.
    judge
        Looked at after every epoch.
    before_first_step
        Called with the first step's batches at the very start of a run, for audits.

    Raises
    ------
    KeyboardInterrupt
        After SIGINT or SIGTERM, once the step is finished and the state is whole.
    """
    reporter = reporter_or_silent(reporter)
    device = next(model.parameters()).device
    training = TrainingExamples(
        train,
        tokens,
        batch_size=config.batch_size,
        micro_batch_tokens=config.micro_batch_tokens,
        revcomp_frac=0.0 if config.stranded else config.revcomp_frac,
        seed=seed,
    )
    n_steps = config.epochs * training.steps_per_epoch
    learner = FinetuneLearner(model, config, lr, n_steps)
    world = World(device)
    if (found := newest_state(folder, reporter)) is not None:
        learner.load(*found, world)
    if learner.step == 0 and before_first_step is not None:
        before_first_step(training.step(0))
    writer = StateWriter(folder, 1, world)
    bar = reporter.start(title, n_steps, "steps", done=learner.step)
    try:
        with stop_on_signal() as is_stopping:
            while not learner.is_over(config.patience):
                _take_step(learner, training, dev, config, judge, bar)
                is_over = learner.is_over(config.patience)
                is_epoch = learner.step % training.steps_per_epoch == 0
                if is_epoch or is_over or is_stopping() or learner.step % config.save_every_steps == 0:
                    writer.save(learner.step, learner.tensors(), learner.numbers())
                # Also after the last step: whoever runs several of these is to stop as well.
                if is_stopping():
                    raise KeyboardInterrupt
    finally:
        bar.close()
        writer.close()
    learner.take_best()
    model.eval()
    tokens_seen, seconds = int(learner.counted["tokens"]), learner.counted["seconds"]
    return Fitted(learner.best, learner.history, learner.step, tokens_seen, seconds, learner.problem)


def _take_step(
    learner: FinetuneLearner,
    training: TrainingExamples,
    dev: Split,
    config: FinetuneConfig,
    judge: Judge,
    bar: Bar,
) -> None:
    """Take one step, and at an epoch's end look at dev; a step that is not finite moves nothing."""
    began, counted = time.monotonic(), learner.counted
    learner.model.train()
    loss = _gradients(learner, training.step(learner.step), training.examples.task, config)
    if not math.isfinite(loss):
        learner.problem = f"the loss is {loss} at step {learner.step + 1}"
        return
    learner.move()
    counted["loss"] += loss
    counted["steps"] += 1
    epoch, place = divmod(learner.step, training.steps_per_epoch)
    note = f"loss {loss:.3f}"
    if place == 0 and learner.problem is None:
        outputs = say_outputs(
            learner.model,
            training.tokens,
            dev.shown,
            stranded=config.stranded,
            budget=config.micro_batch_tokens,
            dtype=autocast_dtype(learner.shares.device, config.autocast),
        )
        score = judge(dev.whole, dev.fold(outputs))
        mean = counted["loss"] / counted["steps"]
        learner.history.append({"epoch": epoch, "step": learner.step, "loss": mean, "dev_score": score})
        if math.isfinite(score) and (learner.best is None or score > learner.best["score"]):
            learner.keep_best(epoch, score)
        counted["loss"], counted["steps"] = 0.0, 0
    if learner.history:
        note += f" dev {learner.history[-1]['dev_score']:.4f}"
    counted["seconds"] += time.monotonic() - began
    bar.advance(1, note)
