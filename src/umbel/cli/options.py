"""Options that mean the same in every command, and how a command starts and ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from umbel.model.shipped import model_path
from umbel.progress import Reporter

Checkpoint = Annotated[
    Path,
    typer.Argument(
        metavar="CKPT", parser=model_path, help="Checkpoint or run folder; or mini, the model that comes with umbel."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads; 0 leaves the choice to torch.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no messages.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, as in optim.lr=1e-3. Repeatable."),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Where the result goes.")]


def begin(quiet: bool, threads: int = 0) -> Reporter:
    """Set torch's threads where asked to, and make the reporter."""
    if threads:
        import torch

        torch.set_num_threads(threads)
    return Reporter(quiet=quiet)


def estimate_text(found: dict[str, Any]) -> str:
    """Write an estimate of :mod:`umbel.evaluate.scores`, with its interval where it has one.

    Examples
    --------
    >>> estimate_text({"value": 0.5, "low": 0.4, "high": 0.625})
    '0.5000 (0.4000 to 0.6250)'
    """
    if found["value"] is None:
        return "not defined"
    return f"{found['value']:.4f}" + ("" if found["low"] is None else f" ({found['low']:.4f} to {found['high']:.4f})")


def finish(values: dict[str, Any], lines: list[str], as_json: bool) -> None:
    """Print the result on standard output: ``values`` as JSON, or ``lines`` for people."""
    typer.echo(json.dumps(values, indent=2, default=str) if as_json else "\n".join(lines))
