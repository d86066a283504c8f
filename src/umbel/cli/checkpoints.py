"""``umbel import`` and ``umbel export``: the released PlantBiMoE layout, in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from umbel.cli.options import Checkpoint, Json, Out, finish


def import_(
    source: Annotated[Path, typer.Argument(help="Released PlantBiMoE folder: config.json and weights.")],
    out: Out,
    json: Json = False,
) -> None:
    """Read a released PlantBiMoE folder strictly, and write it as a checkpoint of ours."""
    from umbel.data.kmers import KmerTokens
    from umbel.data.tokenizers import hf_tokenizer
    from umbel.model.backbone import count_parameters
    from umbel.model.checkpoint import RELEASED_WINDOW_BP, import_released

    model = import_released(source, out, hf_tokenizer(KmerTokens(1), RELEASED_WINDOW_BP))
    total, active = count_parameters(model.config.model)
    values = {"checkpoint": str(out), "parameters": total, "active_parameters": active}
    finish(values, [f"{out}: {total:,} parameters, {active:,} active"], json)


def export(
    checkpoint: Checkpoint,
    out: Out,
    json: Json = False,
) -> None:
    """Write a checkpoint in the released PlantBiMoE layout."""
    from umbel.model.checkpoint import export_released

    export_released(checkpoint, out)
    finish({"path": str(out)}, [f"{out}: released PlantBiMoE layout"], json)
