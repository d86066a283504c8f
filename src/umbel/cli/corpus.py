"""``umbel corpus``: add assemblies to a manifest, build a corpus, check it, and draw its card."""

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
def add(
    manifest: Annotated[Path, typer.Argument(help="TOML file; made if it is not there.")],
    species: Annotated[str, typer.Option(help="Genus and epithet.")],
    assembly: Annotated[str, typer.Option(help="Your name for it: letters, digits and . _ + -")],
    fasta: Annotated[Path, typer.Option(help="FASTA or 2bit, in the manifest's folder.")],
    gff3: Annotated[Path | None, typer.Option(help="Its genes.")] = None,
    repeats: Annotated[Path | None, typer.Option(help="Its repeats: BED, GFF3 or RepeatMasker's .out.")] = None,
    repeat_mask: Annotated[str, typer.Option(help="keep, import, kmer or none.")] = "",
    taxid: Annotated[int | None, typer.Option(help="Of NCBI Taxonomy.")] = None,
    lineage: Annotated[str, typer.Option(help="Groups from the widest down, divided by ';'.")] = "",
    family: Annotated[str, typer.Option(help="Where neither taxid nor lineage says it.")] = "",
    accession: Annotated[str, typer.Option(help="Such as GCF_000001735.4.")] = "",
    cultivar: Annotated[str, typer.Option(help="Cultivar, accession or strain of the plant.")] = "",
    ploidy: Annotated[int | None, typer.Option(help="Sets of chromosomes.")] = None,
    subgenomes: Annotated[str, typer.Option(help="Their letters, divided by ';'.")] = "",
    homeologs: Annotated[str, typer.Option(help="Regular expression of contig names with (?P<group>...).")] = "",
    licence: Annotated[str, typer.Option(help="What may be done with it.")] = "",
    source: Annotated[str, typer.Option(help="Where it is from.")] = "",
    retrieved: Annotated[str, typer.Option(help="Day as 2026-11-21; today if it is not given.")] = "",
    sha256: Annotated[str, typer.Option(help="What the FASTA should have, where its source tells it.")] = "",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Read an assembly's files, and add it to a manifest with checksum and date."""
    from dataclasses import asdict

    from umbel.data.corpus.adding import add_assembly

    facts = {
        "species": species,
        "assembly": assembly,
        "fasta": fasta,
        "gff3": gff3,
        "repeats": repeats,
        "repeat_mask": repeat_mask,
        "taxid": taxid,
        "lineage": [name.strip() for name in lineage.split(";") if name.strip()],
        "family": family,
        "accession": accession,
        "cultivar": cultivar,
        "ploidy": ploidy,
        "subgenomes": [name.strip() for name in subgenomes.split(";") if name.strip()],
        "homeologs": homeologs,
        "licence": licence,
        "source": source,
        "retrieved": retrieved,
        "sha256": sha256,
    }
    added, found = add_assembly(manifest, facts, begin(quiet))
    lines = [
        f"{manifest}: added {added.name} ({added.species}{f', {added.family}' if added.family else ''})",
        f"  {found.n_bases:,} bases in {found.n_contigs:,} contigs, {100 * found.n_frac:.2f} % N, "
        f"GC {100 * found.gc_frac:.2f} %, soft-masked {100 * found.soft_masked_frac:.2f} %",
        f"  scaffold N50 {found.scaffold_n50:,}, contig N50 {found.contig_n50:,} (at {found.n_gaps:,} gaps of 10 N or "
        f"more), auN {found.scaffold_aun:,.0f} and {found.contig_aun:,.0f}",
        f"  sha256 {added.sha256}, retrieved {added.retrieved}",
    ]
    told = {
        "manifest": str(manifest),
        "assembly": added.name,
        "family": added.family,
        "sha256": added.sha256,
        "retrieved": added.retrieved,
        "statistics": asdict(found),
    }
    finish(told, lines, json)


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
    from umbel.data.corpus.card import missing_for_card
    from umbel.train.recipes import load_recipe

    run = apply_settings(load_recipe(recipe), settings or [])
    reporter, missing = begin(quiet), missing_for_card()
    if missing:
        reporter.say(f"no data card will be drawn: it needs {', '.join(missing)} (pip install 'umbel[train]')")
    corpus = build_corpus(
        manifest,
        out,
        run.corpus,
        workers=workers,
        executor=executor.value,
        memory_gb=memory_gb,
        card=not missing,
        reporter=reporter,
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
def orthologs(
    manifest: Annotated[Path, typer.Argument(help="TOML or CSV with the roles of contigs.")],
    out: Out,
    one_in: Annotated[int, typer.Option(min=1, help="Look at one peptide in so many.")] = 4,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Find what of training is orthologous to what is held out, and write it as BED for [[exclude]] tables."""
    from umbel.data.corpus.orthologs import write_orthologs

    found = write_orthologs(manifest, out, one_in, begin(quiet))
    lines = [
        f"{each.bed}: {each.shared_bp:,} of {each.train_bp:,} bp ({each.shared_bp / max(each.train_bp, 1):.1%}), from "
        f"{each.n_supported:,} pairs of places, where chance gives {each.n_by_chance:,}"
        for each in found
    ]
    facts = [{**vars(each), "bed": str(each.bed)} for each in found]
    finish({"orthologs": facts}, lines, json)


@app.command()
def card(
    corpus: Annotated[Path, typer.Argument(help="Folder made by umbel corpus build.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Page to write.")],
) -> None:
    """Draw the data card of a corpus again: one page with species, losses, copies, splits and licences."""
    from umbel.data.corpus.card import write_card
    from umbel.data.corpus.store import Corpus

    opened = Corpus.open(corpus)
    write_card(opened.facts, out)
    typer.echo(f"{out}")
