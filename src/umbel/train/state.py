"""What a killed run needs to go on exactly: weights and optimiser, whole on disk, and the metrics so far."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from umbel.errors import RunError
from umbel.files import whole_file
from umbel.progress import Reporter

_PATTERN = "step-*.pt"


def save_state(folder: Path, step: int, content: dict[str, Any], keep: int) -> None:
    """Write the state after ``step`` steps, then delete all but the newest ``keep``.

    Raises
    ------
    OutputError
        If the disk is full; the earlier states are still there then.
    """
    with whole_file(folder / f"step-{step:09d}.pt") as temporary:
        torch.save({"step": step, **content}, temporary)
    for old in sorted(folder.glob(_PATTERN))[:-keep]:
        old.unlink()


def load_newest_state(folder: Path, device: torch.device, reporter: Reporter) -> dict[str, Any] | None:
    """Read the newest state that is whole; None where there is none.

    A damaged file is named and passed over, and the one before it is used.
    """
    for path in sorted(folder.glob(_PATTERN), reverse=True):
        try:
            return torch.load(path, map_location=device, weights_only=True)
        except Exception as error:
            # A truncated archive fails in many ways (zip, pickle, storage), all of which mean the same here.
            reporter.say(f"warning: {path} is damaged ({type(error).__name__}); going back to the state before it")
    return None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read ``metrics.jsonl``; a last line cut short by a kill is left out.

    Raises
    ------
    RunError
        If any other line is not JSON.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise RunError(f"{path}, line {number}: not JSON ({error}); delete that line") from error
    return records


def rewind_metrics(path: Path, step: int) -> list[dict[str, Any]]:
    """Drop what a killed run wrote after its last state, so that no step is told twice."""
    records = [record for record in read_metrics(path) if record["step"] <= step]
    with whole_file(path) as temporary:
        temporary.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return records
