"""``umbel suite``: which suites there are, fetch one, check the files that you have, and make a leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from umbel.cli.options import Json, Out, Quiet, begin, finish, require_extra

app = typer.Typer(no_args_is_help=True)

SuiteName = Annotated[str, typer.Argument(metavar="SUITE", help="Name of a suite, or your own manifest (.toml).")]
Chosen = Annotated[list[str] | None, typer.Option("--dataset", help="This dataset only. Repeatable.")]


@app.command("list")
def list_(
    suite: Annotated[
        str | None, typer.Argument(metavar="[SUITE]", help="Say what this suite holds; without it, which there are.")
    ] = None,
    json: Json = False,
) -> None:
    """List the suites, or the datasets of one with sizes, metrics and what to know before believing a score."""
    from dataclasses import asdict

    from umbel.evaluate.suites import load_suite, suite_names
    from umbel.evaluate.suites.tellings import describe_suite, suite_line

    if suite is None:
        suites = [load_suite(name) for name in suite_names()]
        values = {one.name: {"title": one.title, "datasets": len(one.datasets), "page": one.page} for one in suites}
        finish(values, [suite_line(one) for one in suites], json)
        return
    one = load_suite(suite)
    finish(asdict(one), describe_suite(one), json)


@app.command()
def fetch(suite: SuiteName, out: Out, dataset: Chosen = None, quiet: Quiet = False, json: Json = False) -> None:
    """Fetch a suite's files from the Hugging Face Hub, in the publishers' own layout; told licences first."""
    from umbel.evaluate.suites import fetch_suite, load_suite

    one = load_suite(suite)
    files = fetch_suite(one, out, dataset or (), begin(quiet))
    finish({"suite": one.name, "files": [str(file) for file in files]}, [f"{len(files):,} files in {out}"], json)


@app.command()
def check(
    suite: SuiteName,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the suite's files are.", exists=True)],
    dataset: Chosen = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Datasets that are not there are no failure.")
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Compare the files that you have with the manifest; exit 1 if something is wrong."""
    from dataclasses import asdict

    from umbel.evaluate.suites import check_suite, load_suite
    from umbel.evaluate.suites.tellings import describe_report

    report = check_suite(load_suite(suite), folder, dataset or (), begin(quiet))
    is_ok = report.is_ok(allow_missing)
    finish({"ok": is_ok, **asdict(report)}, describe_report(report, allow_missing), json)
    if not is_ok:
        raise typer.Exit(1)


@app.command()
def leaderboard(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="BENCH...", help="Folders of umbel bench, or their bench.json; all of one suite."),
    ],
    out: Out,
    json: Json = False,
) -> None:
    """Put the results of several models or methods on one page: leaderboard.html and leaderboard.md."""
    require_extra("umbel suite leaderboard", "train", ("matplotlib", "jinja2"))
    from umbel.evaluate.bench.joining import read_results
    from umbel.evaluate.bench.page import write_pages

    files = [str(file) for file in write_pages(read_results(results), out)]
    finish({"files": files}, files, json)
