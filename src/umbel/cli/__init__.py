"""The command line: parse, make one library call, print. Imports of torch wait until a command runs."""

from __future__ import annotations

import ctypes
import os
import sys

import typer

from umbel.cli import checkpoints, corpus, doctor, embed, evaluate, pretrain
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
app.command("pretrain")(pretrain.pretrain)
app.command("evaluate")(evaluate.evaluate)
app.command("embed")(embed.embed)
app.command("import")(checkpoints.import_)
app.command("export")(checkpoints.export)

EXIT_ERROR, EXIT_INTERRUPTED = 1, 130


def _keep_freed_memory() -> None:
    """Let glibc reuse freed blocks of any size: handing each back to the kernel costs a third of a CPU run."""
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            trim_threshold, mmap_threshold = -1, -3
            mallopt(mmap_threshold, 1 << 30)
            mallopt(trim_threshold, (1 << 31) - 1)


def main() -> None:
    """Run ``umbel``: exit 0 when done, 1 on a named error, 2 on wrong usage, 130 when interrupted."""
    # Idle OpenMP threads that spin slow everything else down, and torch reads this when it loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _keep_freed_memory()
    try:
        app()
    except UmbelError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(EXIT_ERROR)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command continues from here\n")
        sys.exit(EXIT_INTERRUPTED)
