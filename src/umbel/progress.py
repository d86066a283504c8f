"""Progress of long jobs: a live bar on a terminal, a line now and then in a log, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO

from tqdm import tqdm


class _LogLine(tqdm):
    """A bar whose every state is a line of its own, for files and pipes."""

    @staticmethod
    def status_printer(file: TextIO) -> Callable[[str], None]:
        def show(line: str) -> None:
            if line.strip():
                file.write(line + "\n")
                file.flush()

        return show


class Task:
    """One job of known length; :meth:`advance` is called as parts of it end."""

    def __init__(self, bar: tqdm | None):
        self._bar = bar

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Say that ``amount`` more units are done; ``note`` is shown beside the bar."""
        if self._bar is None:
            return
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(amount)
        if self._bar.total is not None and self._bar.n >= self._bar.total:
            self.close()

    def close(self) -> None:
        """End the bar early; the last state stays on the screen."""
        if self._bar is not None:
            self._bar.close()


class Reporter:
    """Where progress and messages go; any function that takes one also takes ``None`` for silence.

    Parameters
    ----------
    stream
        Text stream for the lines; standard error by default, so that standard output stays data.
    every_s
        Least seconds between two states of one task: 0.2 on a terminal, 5 in a log.
    quiet
        Say nothing at all.
    """

    def __init__(self, stream: TextIO | None = None, every_s: float | None = None, quiet: bool = False):
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._every_s = (0.2 if self._live else 5.0) if every_s is None else every_s
        self._quiet = quiet

    def say(self, message: str) -> None:
        """Print one line that stays, above any bar."""
        if not self._quiet:
            tqdm.write(message, file=self._stream)
            self._stream.flush()

    def start(self, title: str, total: int, unit: str, done: int = 0) -> Task:
        """Begin a task of ``total`` units, of which ``done`` were finished by an earlier run."""
        if self._quiet:
            return Task(None)
        bar = tqdm if self._live else _LogLine
        return Task(
            bar(
                desc=title,
                total=total,
                initial=done,
                unit=f" {unit}",
                unit_scale=total > 100_000,
                file=self._stream,
                mininterval=self._every_s,
                dynamic_ncols=self._live,
                ascii=not self._live,
                ncols=None if self._live else 110,
            )
        )


def reporter_or_silent(reporter: Reporter | None) -> Reporter:
    """Turn the ``None`` that callers may pass into a reporter that says nothing."""
    return Reporter(quiet=True) if reporter is None else reporter
