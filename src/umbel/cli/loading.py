"""A model loaded for a command, in the precision asked for, with what that precision costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from umbel.progress import Reporter

if TYPE_CHECKING:
    from umbel.predict.predictor import Predictor

Precision = Annotated[
    str, typer.Option(help="fp32; bf16, fast on most GPUs; int8, on a CPU, for large models. umbel doctor tells more.")
]


def load_model(checkpoint: Path, device: str, precision: str, reporter: Reporter) -> Predictor:
    """Load a checkpoint; where it does not compute in float32, say what that gains and costs on a few sequences."""
    import umbel
    from umbel.predict.precision import require_precision

    predictor = umbel.load(checkpoint, device, require_precision(precision))
    if predictor.precision != "fp32":
        reporter.say(predictor.precision_report(reporter=reporter).in_words())
    return predictor
