"""``umbel experts compare``: checkpoints side by side over the same sequences."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from umbel.cli.experts_inputs import are_sequences, fasta_and_gff3, require_expert_packages
from umbel.cli.options import Device, Json, Out, Quiet, Threads, begin, finish
from umbel.errors import ConfigError
from umbel.model.shipped import about_shipped, model_path

if TYPE_CHECKING:
    from umbel.evaluate.experts.compare.checkpoints import Checkpoint
    from umbel.evaluate.experts.source import Source


def compare(
    things: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=DIR... SOURCE...",
            help="Checkpoints in order, named or not; then FASTA [GFF3], or tables or FASTA of labelled sequences.",
        ),
    ],
    out: Out,
    design: Annotated[
        str,
        typer.Option(
            help="chain: each goes on from the last; 2x2: base, A, B, both; none: as seeds. By default chain."
        ),
    ] = "",
    match: Annotated[bool, typer.Option("--match", help="Pair experts up, for checkpoints of other seeds.")] = False,
    random: Annotated[int, typer.Option(min=0, help="Networks with random weights beside them, as chance.")] = 3,
    base: Annotated[
        Path | None, typer.Option(parser=model_path, help="Base of an adapter that does not tell it.")
    ] = None,
    contig: Annotated[list[str] | None, typer.Option(help="Only this contig. Repeatable.")] = None,
    regions: Annotated[Path | None, typer.Option(help="Only inside the intervals of this BED file.")] = None,
    repeats: Annotated[Path | None, typer.Option(help="Repeats: BED, GFF3 or RepeatMasker's .out.")] = None,
    bed: Annotated[list[Path] | None, typer.Option(help="BED; its names are classes. Repeatable.")] = None,
    groups: Annotated[Path | None, typer.Option(help="TSV: contig, then columns such as species, subgenome.")] = None,
    sequences: Annotated[bool, typer.Option("--sequences", help="The records of FASTA files are sequences.")] = False,
    stretch_bp: Annotated[int, typer.Option(min=1, help="Bases of a stretch.")] = 16_384,
    n_stretches: Annotated[int, typer.Option(min=0, help="Stretches, evenly spread; 0: the whole genome.")] = 64,
    window_bp: Annotated[int, typer.Option(min=0, help="Bases of a window; 0: what all models read.")] = 0,
    n_draws: Annotated[int, typer.Option(min=10, help="Bootstrap draws, for intervals.")] = 1_000,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Compare checkpoints: compare.html, every number as CSV and Parquet; a stopped comparison continues.

    umbel experts compare base=RUN tuned=FT genome.fa genes.gff3 -o compare/
    """
    require_expert_packages()
    from umbel.evaluate.experts.compare.runner import PAGE_FILE
    from umbel.evaluate.experts.compare.runner import compare as compare_checkpoints
    from umbel.evaluate.experts.compare.settings import CompareSettings, as_design

    reporter = begin(quiet, threads)
    settings = CompareSettings(as_design(design, match=match), match, window_bp, n_draws, seed=seed)
    folders, inputs = sort_out(things)
    with ExitStack() as stack:
        source = _open_source(
            stack, inputs, sequences, contig or [], regions, repeats, bed or [], groups, stretch_bp, n_stretches, seed
        )
        checkpoints = _open_checkpoints(folders, random, device, base)
        found = compare_checkpoints(checkpoints, source, out, settings, reporter=reporter)
    page = out / PAGE_FILE
    lines = [str(page), *found.result["findings"], *found.result["notes"]]
    values = {"path": str(out), "page": str(page), **found.result["sample"], "findings": found.result["findings"]}
    finish(values, lines, json)


def sort_out(things: list[str]) -> tuple[dict[str, Path], list[Path]]:
    """Tell checkpoints, which are folders, from files; a folder without a name is called as it is.

    Raises
    ------
    ConfigError
        If a name is given twice, something is not there, or there is nothing to route.
    """
    folders: dict[str, Path] = {}
    files: list[Path] = []
    for thing in things:
        name, sign, told = thing.partition("=")
        is_named = bool(sign) and not Path(thing).exists()
        path = model_path(told if is_named else thing)
        if not path.exists():
            raise ConfigError(
                f"{path}: not there{about_shipped(path)}. Write checkpoints as NAME=DIR, then the files of sequences"
            )
        if not path.is_dir():
            files.append(path)
            continue
        name = name if is_named else _name_of(path)
        if name in folders:
            raise ConfigError(f"two checkpoints are called {name!r}: name them, as in base=DIR tuned=DIR")
        folders[name] = path
    if not files:
        raise ConfigError("no sequences to route: after the checkpoints name a FASTA, or tables of labelled sequences")
    return folders, files


def _name_of(folder: Path) -> str:
    """Call a folder as it is called, and the state of a run by its step."""
    name = folder.resolve().name
    step = name.removeprefix("step-")
    return f"step {int(step)}" if step != name and step.isdigit() else name


def _open_checkpoints(folders: dict[str, Path], n_random: int, device: str, base: Path | None) -> list[Checkpoint]:
    from umbel.evaluate.experts.compare.checkpoints import random_twins
    from umbel.evaluate.experts.compare.opening import open_checkpoint

    checkpoints, twins = [], None
    for name, path in folders.items():
        checkpoint, predictor = open_checkpoint(name, path, device, base)
        checkpoints.append(checkpoint)
        if twins is None and predictor is not None:
            twins = random_twins(predictor, n_random)
    return checkpoints + (twins or [])


def _open_source(
    stack: ExitStack,
    inputs: list[Path],
    sequences: bool,
    contigs: list[str],
    regions: Path | None,
    repeats: Path | None,
    beds: list[Path],
    groups: Path | None,
    stretch_bp: int,
    n_stretches: int,
    seed: int,
) -> Source:
    if are_sequences(inputs, sequences):
        from umbel.evaluate.experts.sources.sequences import sequence_source

        return sequence_source(inputs, seed=seed)
    from umbel.evaluate.experts.sources.making import genome_source

    genome = genome_source(
        *fasta_and_gff3(inputs),
        repeats=repeats,
        beds=beds,
        groups=groups,
        stretch_bp=stretch_bp,
        n_stretches=n_stretches,
        seed=seed,
        contigs=contigs,
        regions=regions,
    )
    return stack.enter_context(genome)
