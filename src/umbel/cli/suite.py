"""``umbel suite``: which benchmark suites there are; fetch one, check your files, join results, make your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from umbel.cli.options import Json, Out, Quiet, begin, finish
from umbel.extras import require_packages

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
    require_packages("umbel suite leaderboard", "train", ("matplotlib", "jinja2"))
    from umbel.evaluate.bench.joining import read_results
    from umbel.evaluate.bench.page import write_pages

    files = [str(file) for file in write_pages(read_results(results), out)]
    finish({"files": files}, files, json)


Roles = Annotated[
    list[str],
    typer.Option(
        "--role", metavar="CONTIG=ROLE", help="train, valid or test; also CONTIG:FIRST-LAST=ROLE. Repeatable."
    ),
]


@app.command()
def annotation(
    fasta: Annotated[Path, typer.Option(help="FASTA or 2bit.")],
    gff3: Annotated[Path, typer.Option(help="Its genes.")],
    transposons: Annotated[Path, typer.Option(help="Its transposable elements: BED, GFF3, .out or a table.")],
    role: Roles,
    out: Out,
    probe_bp: Annotated[int, typer.Option(min=16, help="Length of a window.")] = 512,
    n_per_class: Annotated[int, typer.Option(min=10, help="Most windows of one class in one role.")] = 1_000,
    rename: Annotated[
        list[str] | None, typer.Option("--rename", metavar="OTHER=CONTIG", help="Contig name of the elements' file.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of windows.")] = 0,
    json: Json = False,
) -> None:
    """Make a suite of windows of exon, intron, promoter, TE and intergenic sequence, for umbel bench."""
    from umbel.evaluate.genome_suites import annotation_suite

    suite, facts = annotation_suite(
        out,
        fasta,
        gff3,
        transposons,
        _pairs(role, "--role"),
        probe_bp=probe_bp,
        n_per_class=n_per_class,
        seed=seed,
        contig_names=_pairs(rename or [], "--rename"),
    )
    _finish_suite(suite.name, facts, out, json)


@app.command()
def expression(
    table: Annotated[Path, typer.Option(help="Gene ids, and a column of values for each tissue: CSV, TSV or Parquet.")],
    gff3: Annotated[Path, typer.Option(help="Genes of the assembly.")],
    fasta: Annotated[Path, typer.Option(help="FASTA or 2bit.")],
    role: Roles,
    out: Out,
    length: Annotated[list[int] | None, typer.Option(help="Bases around the start. Repeatable.")] = None,
    json: Json = False,
) -> None:
    """Make a suite of bulk expression from the sequence around each gene's start, at several lengths."""
    from umbel.evaluate.genome_suites import expression_suite

    suite, facts = expression_suite(out, table, gff3, fasta, _pairs(role, "--role"), lengths_bp=length or ())
    _finish_suite(suite.name, facts, out, json)


def _pairs(texts: list[str], option: str) -> dict[str, str]:
    """Read ``NAME=VALUE`` texts."""
    from umbel.errors import ConfigError

    pairs = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not equals or not name or not value:
            raise ConfigError(f"{option} {text}: write NAME=VALUE")
        pairs[name] = value
    return pairs


def _finish_suite(name: str, facts: dict[str, object], out: Path, json: bool) -> None:
    lines = [f"{key}: {value}" for key, value in facts.items()]
    manifest = out / "suite.toml"
    finish(
        {"suite": str(manifest), "facts": facts},
        [*lines, f"suite {name}: umbel bench CKPT --suite {manifest} --data {out} -o RESULTS"],
        json,
    )
