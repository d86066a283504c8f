"""``umbel corpus``: build a corpus, check one, and draw its card."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from umbel.cli.options import Json, Out, Quiet, Settings, begin, finish

app = typer.Typer(no_args_is_help=True)


class ExecutorChoice(StrEnum):
    """Where the jobs of a build run."""

    local = "local"
    ray = "ray"


@app.command()
def build(
    manifest: Annotated[Path, typer.Argument(help="TOML or CSV: assemblies, files, roles of contigs.")],
    out: Out,
    recipe: Annotated[str, typer.Option(help="Recipe (or run.json) whose corpus settings to use.")] = "plantbimoe",
    settings: Settings = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; they change the time, not the result.")] = 1,
    executor: Annotated[
        ExecutorChoice, typer.Option(help="Where jobs run: here, or on the Ray cluster of RAY_ADDRESS.")
    ] = ExecutorChoice.local,
    memory_gb: Annotated[float, typer.Option(min=0.05, help="What a process may take for sorting, about.")] = 1.0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Screen, mask, deduplicate, split and cut assemblies into windows: same inputs and settings, same bytes."""
    from umbel.config import apply_settings
    from umbel.data.corpus.build import build_corpus
    from umbel.train.recipes import load_recipe

    run = apply_settings(load_recipe(recipe), settings or [])
    corpus = build_corpus(
        manifest,
        out,
        run.corpus,
        workers=workers,
        executor=executor.value,
        memory_gb=memory_gb,
        reporter=begin(quiet),
    )
    lines = [f"corpus {corpus.path} ({corpus.hash[:12]}), windows of {run.corpus.window_bp:,} bp"]
    for role, tally in corpus.facts["totals"].items():
        lines.append(
            f"  {role:5} {tally['n_bases']:>12,} bases in {tally['n_contigs']:,} contigs: "
            f"{tally['n_windows']:,} windows kept, {tally['n_windows_dropped_for_n']:,} windows dropped for N"
        )
    finish(corpus.facts, lines, json)


@app.command()
def check(
    corpus: Annotated[Path, typer.Argument(help="Folder made by umbel corpus build.")],
    deep: Annotated[
        bool, typer.Option("--deep", help="Look for copies again, in the stored bases themselves.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes of --deep.")] = 1,
    memory_gb: Annotated[float, typer.Option(min=0.05, help="What a process of --deep may take, about.")] = 1.0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """See that a corpus is whole and that no copy crosses from training to validation or test."""
    from umbel.data.corpus.check import check_corpus

    found = check_corpus(corpus, deep=deep, workers=workers, memory_gb=memory_gb, reporter=begin(quiet))
    finish(vars(found), [str(found)], json)


@app.command()
def card(
    corpus: Annotated[Path, typer.Argument(help="Folder made by umbel corpus build.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Page to write.")],
) -> None:
    """Draw the data card of a corpus again: one page with species, losses, copies, splits and licences."""
    from umbel.data.corpus.card import write_card
    from umbel.data.corpus.store import Corpus

    opened = Corpus.open(corpus)
    write_card(opened.facts, out, opened.path.resolve().name)
    typer.echo(f"{out}")
