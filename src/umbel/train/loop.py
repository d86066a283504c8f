"""The loop around the steps: data, validation, states, bad steps, and an orderly stop."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from umbel.data.batches import Batch, TrainingBatches
from umbel.errors import RunError
from umbel.train.learner import Learner
from umbel.train.speed import SpeedMeter
from umbel.train.step import Metrics, StepReport, train_step, validate


class Keeper(Protocol):
    """Where a run's results go; every process calls it, also where only one of them writes."""

    def record(self, record: Metrics) -> None:
        """Take a ``train``, ``valid`` or ``event`` line of the log."""

    def save(self) -> None:
        """Begin to write a state."""

    def keep_best(self) -> None:
        """Write the weights as they are as the best so far."""

    def roll_back(self, text: str) -> None:
        """Return to the newest state, and tell why."""

    def finish(self) -> None:
        """Wait until everything is written."""


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether SIGINT or SIGTERM has come, so that a step is never cut in half.

    A second SIGINT interrupts at once; a second SIGTERM does not, for schedulers send it to a process and by torchrun.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(number: int, frame: Any) -> None:
        if number == signal.SIGINT and number in asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def fit(
    learner: Learner,
    training: TrainingBatches,
    validation: Sequence[Batch],
    keeper: Keeper,
    speed: SpeedMeter,
) -> None:
    """Train from where the learner is to the end.

    Raises
    ------
    RunError
        After a bad step where ``health.on_bad_step`` is ``stop``, after too many, or when a layer's routing collapsed.
    KeyboardInterrupt
        After SIGINT or SIGTERM to any process, once the step is finished and the state is whole.
    """
    started = time.monotonic()

    def clock() -> float:
        return time.monotonic() - started

    with stop_on_signal() as is_stopping:
        while learner.step < learner.run.train.steps:
            _fit_until_rollback(learner, training, validation, keeper, speed, clock, is_stopping)
    keeper.finish()


def _fit_until_rollback(
    learner: Learner,
    training: TrainingBatches,
    validation: Sequence[Batch],
    keeper: Keeper,
    speed: SpeedMeter,
    clock: Callable[[], float],
    is_stopping: Callable[[], bool],
) -> None:
    """Train to the end, or until a state of an earlier step was taken up again."""
    train, world = learner.run.train, learner.world
    last = learner.cursor + train.steps - learner.step
    coming = training.stream(learner.cursor, last, train.micro_batch_windows, world.rank, world.size)
    while learner.step < train.steps:
        began = clock()
        batches = next(coming)
        waited = clock() - began
        report = train_step(learner, batches, is_stopping=is_stopping())
        learner.step, learner.cursor = learner.step + 1, learner.cursor + 1
        measured = speed.step(clock() - began, waited, report.seen)
        if report.problem is not None and not _live_with(report, learner, keeper):
            return
        # What is not finite is told by the event; JSON has no word for it.
        metrics = {name: value for name, value in report.metrics.items() if math.isfinite(value)}
        record = {"kind": "train", "step": learner.step, **metrics, **measured, "seconds": clock()}
        if report.layers:
            record["experts"] = [layer.record(with_load=False) for layer in report.layers]
        keeper.record(record)
        learner.collapse.look(learner.step, report.layers)
        is_last = learner.step == train.steps
        if learner.step % train.eval_every_steps == 0 or is_last:
            _evaluate(learner, validation, keeper)
        if learner.step % train.save_every_steps == 0 or is_last or report.is_stopping:
            keeper.save()
        if report.is_stopping and not is_last:
            keeper.finish()
            raise KeyboardInterrupt


def _live_with(report: StepReport, learner: Learner, keeper: Keeper) -> bool:
    """Do what the settings say about a bad step; False after a rollback.

    Raises
    ------
    RunError
        If the run is to stop.
    """
    what, step = learner.run.health.on_bad_step, learner.step
    if what == "stop" and not report.is_overflow:
        raise RunError(
            f"step {step}: {report.problem}. The run stopped; its last state is kept. The same command with --set "
            "health.on_bad_step=skip (or rollback) goes past such batches; or lower optim.lr or raise "
            "optim.warmup_steps, and start in a new folder"
        )
    if what == "rollback" and not report.is_overflow:
        keeper.roll_back(str(report.problem))
        return False
    text = f"the weights were left as they were: {report.problem}"
    keeper.record({"kind": "event", "step": step, "event": "skipped", "text": text})
    return True


def _evaluate(learner: Learner, validation: Sequence[Batch], keeper: Keeper) -> None:
    """Validate on every process: all of them need the result, and a model that is cut up needs all of them."""
    device, dtype = learner.world.device, learner.dtype
    measured = validate(learner.model, validation, device, dtype)
    learner.spread.reshard()
    if not measured:
        return
    judged = measured
    if learner.ema is not None:
        with learner.ema.in_place_of_weights():
            judged = validate(learner.model, validation, device, dtype)
            learner.spread.reshard()
        measured |= {f"ema_{name}": judged[name] for name in ("loss", "placement_loss") if name in judged}
    keeper.record({"kind": "valid", "step": learner.step, **measured})
    loss = judged.get("loss", 0.0) + judged.get("placement_loss", 0.0)
    if learner.run.train.keep_best and (learner.best is None or loss < learner.best["loss"]):
        learner.best = {"step": learner.step, "loss": loss}
        keeper.keep_best()
