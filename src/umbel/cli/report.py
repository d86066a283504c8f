"""``umbel report``: the page of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from umbel.cli.options import Json, finish


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of an umbel pretrain, finished or not.")],
    json: Json = False,
) -> None:
    """Draw run.html in a run folder, and print what stands out."""
    from umbel.train.run_page import write_run_page

    page = write_run_page(run)
    values = {"path": str(page.path), "findings": [vars(finding) for finding in page.findings]}
    finish(values, [f"{page.path}", *(f"  {each.about}: {each.text}" for each in page.findings)], json)
