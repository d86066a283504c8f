"""What a run tells as it goes: ``metrics.jsonl``, TensorBoard and the progress bar. Process 0 alone has one."""

from __future__ import annotations

import json
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from umbel.config import RunConfig
from umbel.files import writing
from umbel.progress import Reporter
from umbel.train.state import rewind_metrics

Record = dict[str, Any]

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


class RunLog:
    """Takes records of kind ``train`` (after each step), ``valid`` (at each evaluation) and ``event``.

    The file tells every step once. On opening, and on a rollback, each line of a later step than the state that the run
    goes on from is dropped, whatever its kind, for what it tells will happen again or did not. So the train and valid
    lines of a run that was stopped are those of one that never was. An event stands at the step whose state it belongs
    to: a skipped step at its own, a rollback or a resumption at the step that it went *back to*. It therefore stays as
    long as that state is part of the run; ``from_step`` tells which step a rollback came from.

    Parameters
    ----------
    folder
        Run folder; it must be there.
    run
        Its settings.
    first_step
        Finished steps of the state that the run goes on from.
    reporter
        Where the bar goes.

    Attributes
    ----------
    last
        The newest record of each kind.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with RunLog(folder, RunConfig("demo"), 0, Reporter(quiet=True)) as log:
    ...     log({"kind": "valid", "step": 1, "loss": 1.5, "accuracy": 0.25})
    ...     log.event(2, "skipped", "the loss is nan")
    >>> print((folder / "metrics.jsonl").read_text(), end="")
    {"kind": "valid", "step": 1, "loss": 1.5, "accuracy": 0.25}
    {"kind": "event", "step": 2, "event": "skipped", "text": "the loss is nan"}
    """

    _file: BinaryIO
    _board: Any

    def __init__(self, folder: Path, run: RunConfig, first_step: int, reporter: Reporter):
        self._folder, self._run, self._reporter = folder, run, reporter
        self._path = folder / METRICS_FILE
        self._step = first_step
        self._files = ExitStack()
        self.last: dict[str, Record] = {}

    def __enter__(self) -> RunLog:
        if find_spec("tensorboard") is None:
            self._reporter.say(
                f"tensorboard is not installed (pip install 'umbel[train]'): curves go to {METRICS_FILE} only"
            )
        self._open()
        steps = self._run.train.steps
        self._task = self._reporter.start(f"training {self._run.name}", steps, "steps", done=self._step)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.close()
        self._files.close()

    def __call__(self, record: Record) -> None:
        """Add one record.

        Raises
        ------
        OutputError
            If the disk is full. A line cut short by it is left out when the run goes on.
        """
        line = memoryview((json.dumps(record) + "\n").encode())
        with writing(self._path):
            while line:
                line = line[self._file.write(line) :]
        self.last[record["kind"]] = record
        self._show(record)
        if record["kind"] == "train":
            self._task.advance(record["step"] - self._step, self._note(record))
            self._step = record["step"]

    def event(self, step: int, event: str, text: str, **more: int) -> None:
        """Tell what happened, in a word or two and in a sentence: ``skipped``, ``resumed``, ``saved``."""
        self({"kind": "event", "step": step, "event": event, "text": text, **more})

    def roll_back(self, from_step: int, to_step: int, text: str) -> None:
        """Drop every line after ``to_step``, and tell that a bad ``from_step`` sent the run back to it, and why."""
        self._files.close()
        self._task.advance(to_step - self._step)
        self._step = to_step
        self._open()
        self.event(to_step, "rolled back", text, from_step=from_step)

    def _open(self) -> None:
        earlier = rewind_metrics(self._path, self._step)
        self.last = {record["kind"]: record for record in earlier}
        # Unbuffered: what a full disk refuses must not be tried again on closing, where the error would be another.
        self._file = self._files.enter_context(self._path.open("ab", buffering=0))
        self._board = None
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self._folder / TENSORBOARD_FOLDER), purge_step=self._step + 1)
            self._files.callback(self._board.close)

    def _show(self, record: Record) -> None:
        if self._board is None:
            return
        kind, step = record["kind"], record["step"]
        if kind == "event":
            self._board.add_text("events", f"{record['event']}: {record['text']}", step)
        for name, value in record.items():
            if isinstance(value, float):
                self._board.add_scalar(f"{kind}/{name}", value, step)
        for layer in record.get("experts", ()):
            for name, value in layer.items():
                if isinstance(value, float | int) and name != "layer":
                    self._board.add_scalar(f"experts_{kind}/layer_{layer['layer']}/{name}", value, step)

    def _note(self, record: Record) -> str:
        parts = []
        if "loss" in record:
            parts.append(f"loss {record['loss']:.3f} acc {record['accuracy']:.3f}")
        if "placement_accuracy" in record:
            parts.append(f"placed {record['placement_accuracy']:.3f}")
        parts.append(f"{record['tokens_per_s']:,.0f} tok/s")
        valid = self.last.get("valid", {})
        if "loss" in valid:
            parts.append(f"valid {valid['loss']:.3f}")
        return " ".join(parts)
