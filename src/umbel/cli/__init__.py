"""The command line: parse, make one library call, print. Imports of torch wait until a command runs."""

from __future__ import annotations

import os
import sys

import typer

from umbel.cli import (
    bench,
    checkpoints,
    corpus,
    doctor,
    embed,
    evaluate,
    experts,
    finetune,
    ism,
    plan,
    predict,
    pretrain,
    report,
    scan,
    search,
    suite,
    tokenizer,
    variants,
    zeroshot,
)
from umbel.errors import UmbelError

app = typer.Typer(
    name="umbel",
    help="Plant-genome foundation models with sparse experts: from FASTA to a trained model and an honest report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("doctor")(doctor.doctor)
app.add_typer(corpus.app, name="corpus", help="Build a corpus from assemblies, and check it.")
app.add_typer(tokenizer.app, name="tokenizer", help="Learn DNA tokens from a corpus.")
app.add_typer(suite.app, name="suite", help="Benchmark suites: list, fetch and check them.")
app.command("plan")(plan.plan)
app.command("pretrain")(pretrain.pretrain)
app.command("report")(report.report)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(
    experts.app, name="experts", help="What each expert learned: an atlas, checkpoints compared, experts knocked out."
)
app.command("finetune")(finetune.finetune)
app.command("bench")(bench.bench)
app.command("predict")(predict.predict)
app.command("embed")(embed.embed)
app.command("search")(search.search)
app.command("scan")(scan.scan)
app.command("ism")(ism.ism)
app.command("zeroshot")(zeroshot.zeroshot)
app.command("variants")(variants.variants)
app.command("import")(checkpoints.import_)
app.command("export")(checkpoints.export)

EXIT_ERROR, EXIT_INTERRUPTED = 1, 130


def main() -> None:
    """Run ``umbel``: exit 0 when done, 1 on a named error, 2 on wrong usage, 130 when interrupted."""
    rank = os.environ.get("RANK", "0")
    try:
        app()
    except UmbelError as error:
        sys.stderr.write(f"error{f' in process {rank}' if rank != '0' else ''}: {error}\n")
        sys.exit(EXIT_ERROR)
    except SystemExit as stop:
        if stop.code == EXIT_INTERRUPTED and rank == "0":
            sys.stderr.write("interrupted; the same command continues from here\n")
        raise
