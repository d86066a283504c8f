"""``umbel experts``: what each expert of a model learned, for our models and any mixture of experts on Hugging Face."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from umbel.cli.experts_causal import causal
from umbel.cli.experts_compare import compare
from umbel.cli.experts_inputs import are_sequences, fasta_and_gff3, require_expert_packages
from umbel.cli.options import Device, Json, Out, Quiet, Threads, begin, finish
from umbel.errors import ConfigError
from umbel.model.shipped import model_path

if TYPE_CHECKING:
    from umbel.evaluate.experts.routes import RoutedModel
    from umbel.evaluate.experts.source import Source
    from umbel.predict.predictor import Predictor


class _Group(TyperGroup):
    """A group in which ``atlas`` is meant where no command is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        is_option = bool(args) and args[0].startswith("-") and args[0] != "--help"
        return super().parse_args(ctx, ["atlas", *args] if is_option else args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        return super().resolve_command(ctx, args if args[0] in self.commands else ["atlas", *args])


app = typer.Typer(cls=_Group, no_args_is_help=True, add_completion=False)


app.command("compare")(compare)
app.command("causal")(causal)


@app.command("atlas")
def atlas(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            parser=model_path,
            help="Checkpoint, tuned model or state of ours, mini, or a folder of Hugging Face.",
        ),
    ],
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="FASTA [GFF3]; or tables or FASTA of labelled sequences.")
    ],
    out: Out,
    repeats: Annotated[Path | None, typer.Option(help="Repeats: BED, GFF3 or RepeatMasker's .out.")] = None,
    track: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FILE", help="bigWig or bedGraph, in quantiles. Repeatable.")
    ] = None,
    feature: Annotated[list[str] | None, typer.Option(help="A type of the GFF3, such as tRNA. Repeatable.")] = None,
    bed: Annotated[list[Path] | None, typer.Option(help="BED; its names are classes. Repeatable.")] = None,
    groups: Annotated[Path | None, typer.Option(help="TSV: contig, then columns such as species, subgenome.")] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FASTA[,GFF3]", help="A further genome, to compare routing with. Repeatable."),
    ] = None,
    sequences: Annotated[bool, typer.Option("--sequences", help="The records of FASTA files are sequences.")] = False,
    column: Annotated[str | None, typer.Option(help="Tables: the column of sequences.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Tables: a column of classes. Repeatable.")] = None,
    group: Annotated[str | None, typer.Option(help="Tables: the column of clusters of like sequences.")] = None,
    families: Annotated[int, typer.Option(min=0, help="Sequences: so many largest families are classes.")] = 0,
    contig: Annotated[list[str] | None, typer.Option(help="Only this contig. Repeatable.")] = None,
    regions: Annotated[Path | None, typer.Option(help="Only inside the intervals of this BED file.")] = None,
    stretch_bp: Annotated[int, typer.Option(min=1, help="Bases of a stretch.")] = 65_536,
    n_stretches: Annotated[int, typer.Option(min=0, help="Stretches, evenly spread; 0: the whole genome.")] = 32,
    window_bp: Annotated[int, typer.Option(min=0, help="Bases of a window; 0: as in training.")] = 0,
    overlap_bp: Annotated[int, typer.Option(min=-1, help="Bases that windows share; -1: a quarter.")] = -1,
    n_shifts: Annotated[int, typer.Option(min=0, help="Random shifts of the labels, for p-values.")] = 499,
    n_draws: Annotated[int, typer.Option(min=100, help="Bootstrap draws, for intervals.")] = 1_000,
    items: Annotated[bool, typer.Option("--items", help="Also write what every base took, as Parquet.")] = False,
    ablate: Annotated[
        int, typer.Option(min=0, help="Windows on which each expert is knocked out; 0: none. Our models.")
    ] = 256,
    track_layer: Annotated[
        int, typer.Option(help="Layer of the tracks; -1: where experts tell most; -2: no tracks. Our models.")
    ] = -1,
    random: Annotated[
        int, typer.Option(min=0, help="Networks with random weights beside it, each as long. Our models.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
    device: Device = "auto",
    precision: Annotated[
        str, typer.Option(help="fp32, bf16 or int8; of Hugging Face's also auto, float32, bfloat16, float16.")
    ] = "",
    adapter: Annotated[Path | None, typer.Option(help="Hugging Face: folder of a PEFT adapter.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Hugging Face: run the code in the folder.")
    ] = False,
    threads: Threads = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make an expert atlas: atlas.html, every number as CSV and Parquet, tracks; a stopped one continues.

    The word atlas may be left out: umbel experts MODEL FASTA GFF3 -o atlas/
    """
    require_expert_packages()
    from umbel.evaluate.experts.making import AtlasSettings, make_atlas
    from umbel.evaluate.experts.page.findings import sentences
    from umbel.evaluate.experts.recording import RecordSettings

    reporter = begin(quiet, threads)
    routed, predictor = _open_model(model, device, precision, adapter, trust_remote_code)
    settings = AtlasSettings(RecordSettings(window_bp, overlap_bp, n_shifts, seed, items), n_draws, seed)
    if are_sequences(inputs, sequences):
        from umbel.evaluate.experts.sources.sequence_files import Wanted
        from umbel.evaluate.experts.sources.sequences import sequence_source

        wanted = Wanted(sequence=column, labels=tuple(label) if label else None, group=group)
        source: Source = sequence_source(inputs, wanted, families=families, seed=seed)
        notes = ["Tracks and knocked-out experts are for genomes.", *source.facts.get("notes", [])]
        from umbel.evaluate.experts.genome_atlas import random_twins

        twins = random_twins(predictor, random, seed)
        found = make_atlas(routed, source, out, settings, twins=twins, notes=notes, reporter=reporter)
    else:
        from umbel.evaluate.experts.genome_atlas import GenomeFiles, make_genome_atlas

        files = GenomeFiles(
            *fasta_and_gff3(inputs),
            repeats,
            _named(track or []),
            tuple(feature or ()),
            tuple(bed or ()),
            groups,
            tuple(contig or ()),
            regions,
            _genomes(beside or []),
        )
        found = make_genome_atlas(
            routed,
            predictor,
            files,
            out,
            settings,
            stretch_bp=stretch_bp,
            n_stretches=n_stretches,
            n_ablated=ablate,
            track_layer=track_layer,
            n_random=random,
            reporter=reporter,
        )
    values = {"path": str(out), "page": str(out / "atlas.html"), **found.facts["sample"]}
    finish(values, [f"{out / 'atlas.html'}", *sentences(found)], json)


@app.command("summary")
def summary(
    folder: Annotated[Path, typer.Argument(metavar="ATLAS", help="Folder that umbel experts made.")],
    json: Json = False,
) -> None:
    """Print an atlas in a few lines: load, dead experts, what they are enriched in, and the controls."""
    require_expert_packages()
    from umbel.evaluate.experts.atlas import Atlas
    from umbel.evaluate.experts.page.findings import sentences

    found = Atlas.load(folder)
    finish(found.facts["sample"] | {"layers": found.rows("layers")}, sentences(found), json)


def _open_model(
    path: Path, device: str, precision: str, adapter: Path | None, trust_remote_code: bool
) -> tuple[RoutedModel, Predictor | None]:
    from umbel.evaluate.experts.compare.opening import kind_of, open_checkpoint
    from umbel.evaluate.experts.ours import OurModel

    kind = kind_of(path)
    if kind != "other" and not trust_remote_code:
        import umbel
        from umbel.predict.precision import require_precision

        if adapter is not None:
            raise ConfigError("--adapter is for models of Hugging Face; a tuned model of ours is a folder of its own")
        if kind == "checkpoint":
            predictor = umbel.load(path, device, require_precision(precision or "fp32"))
            return OurModel(predictor), predictor
        if precision:
            raise ConfigError(f"{path}: tuned models and states of a run compute in fp32: leave --precision out")
        opened = open_checkpoint(path.name, path, device)[1]
        assert opened is not None
        return OurModel(opened), opened
    from umbel.evaluate.experts.hooked.model import HookedModel

    model = HookedModel.load(
        path, device, dtype=precision or "auto", trust_remote_code=trust_remote_code, adapter=adapter
    )
    return model, None


def _named(texts: Iterable[str]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for text in texts:
        name, sign, file = text.partition("=")
        if not sign or not name or not file:
            raise ConfigError(f"--track {text!r}: write it as name=file, such as conservation=phastcons.bw")
        named[name] = Path(file)
    return named


def _genomes(texts: Iterable[str]) -> dict[str, tuple[Path, Path | None]]:
    found: dict[str, tuple[Path, Path | None]] = {}
    for text in texts:
        name, sign, files = text.partition("=")
        fasta, _, gff3 = files.partition(",")
        if not sign or not name or not fasta or name in found:
            raise ConfigError(f"--beside {text!r}: write name=genome.fa or name=genome.fa,genes.gff3, each name once")
        found[name] = (Path(fasta), Path(gff3) if gff3 else None)
    return found
