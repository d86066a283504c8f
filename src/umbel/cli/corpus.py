"""``umbel corpus``: build a corpus, and check one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from umbel.cli.options import Json, Out, Quiet, Settings, begin, finish

app = typer.Typer(no_args_is_help=True)


@app.command()
def build(
    manifest: Annotated[Path, typer.Argument(help="TOML or CSV: assemblies, files, roles of contigs.")],
    out: Out,
    recipe: Annotated[str, typer.Option(help="Recipe (or run.json) whose corpus settings to use.")] = "plantbimoe",
    settings: Settings = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; they change the time, not the result.")] = 1,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Pack assemblies and cut them into windows: same inputs and settings, same bytes."""
    from umbel.config import apply_settings
    from umbel.data.corpus.build import build_corpus
    from umbel.train.recipes import load_recipe

    run = apply_settings(load_recipe(recipe), settings or [])
    corpus = build_corpus(manifest, out, run.corpus, workers=workers, reporter=begin(quiet))
    lines = [f"corpus {corpus.path} ({corpus.hash[:12]}), windows of {run.corpus.window_bp:,} bp"]
    for role, tally in corpus.facts["totals"].items():
        lines.append(
            f"  {role:5} {tally['n_bases']:>12,} bases in {tally['n_contigs']:,} contigs: "
            f"{tally['n_windows']:,} windows kept, {tally['n_windows_dropped_for_n']:,} windows dropped for N"
        )
    finish(corpus.facts, lines, json)


@app.command()
def check(
    corpus: Annotated[Path, typer.Argument(help="Folder made by umbel corpus build.")], json: Json = False
) -> None:
    """Compare every file of a corpus with its checksum."""
    from umbel.data.corpus.store import Corpus

    opened = Corpus.open(corpus)
    opened.check()
    finish({"path": str(corpus), "hash": opened.hash, "whole": True}, [f"{corpus}: whole ({opened.hash[:12]})"], json)
