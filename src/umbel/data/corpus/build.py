"""Build a corpus from a manifest: packed assemblies and an index of windows, as a pure function of both.

Each stage is a list of jobs, so a build may use several processes or machines and go on after it was killed;
the bytes are the same whatever the number of processes and interruptions.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from umbel.config import CorpusConfig, to_dict
from umbel.data.corpus.card import require_card
from umbel.data.corpus.copy_stage import Copies, find_copies, no_copies
from umbel.data.corpus.executors import ExecutorName, executing
from umbel.data.corpus.finishing import Decided, finish
from umbel.data.corpus.manifest import ROLES, read_manifest
from umbel.data.corpus.mask_stage import mask_stage
from umbel.data.corpus.screen_stages import describe_sequences, exclude_stage, screen_stage
from umbel.data.corpus.splits import AssemblyFacts, Roles, assign_roles
from umbel.data.corpus.stages import Packed, Workshop, describe_assemblies, pack_stage
from umbel.data.corpus.store import FORMAT_VERSION, Corpus
from umbel.data.corpus.windows import EXCLUDED, CutContig, WindowJob, cut_assembly
from umbel.errors import CorpusError, RunError, UmbelError
from umbel.files import sha256_json, writing
from umbel.progress import Reporter, reporter_or_silent

_MAX_TOLD = 12


def build_corpus(
    manifest: str | Path,
    out: str | Path,
    config: CorpusConfig,
    *,
    workers: int = 1,
    executor: ExecutorName = "local",
    memory_gb: float = 1.0,
    card: bool = False,
    reporter: Reporter | None = None,
) -> Corpus:
    r"""Build the corpus of a manifest in the folder ``out``, and open it.

    The folder appears whole or not at all. Until then the work is in ``<out>.partial``, from which a later call of
    the same build takes every job that was finished.

    Parameters
    ----------
    manifest
        TOML or CSV, see :func:`umbel.data.corpus.manifest.read_manifest`.
    out
        Folder to make. If it already holds the corpus of the same inputs and settings, it is opened and left as it is.
    config
        What to keep, and how to cut windows.
    workers
        Processes, each working on one job; they change nothing but the time.
    executor
        ``local``, or ``ray``: see :func:`umbel.data.corpus.executors.run_jobs`.
    memory_gb
        What one process may take for sorting and counting, about; it changes nothing but the time.
    card
        Also draw the data card, ``corpus.html``; it needs the extra ``train``.
    reporter
        Where progress goes.

    Raises
    ------
    BackendError
        If the card or Ray is asked for, and what it needs is not installed.
    ManifestError, FastaError, AnnotationError
        If an input is wrong; nothing is left behind but the jobs that were finished.
    CorpusError
        If there would be no training window.
    RunError
        If ``out`` holds something else, or a worker process was killed.
    OutputError
        If the disk is full or not ours to write to.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.fa").write_text(">chr1\n" + "ACGTacgtNR" * 100)
    >>> _ = (folder / "m.toml").write_text('''
    ... [[assembly]]
    ... species = "Arabidopsis thaliana"
    ... assembly = "toy"
    ... fasta = "a.fa"
    ... contigs.train = ["*"]
    ... ''')
    >>> corpus = build_corpus(folder / "m.toml", folder / "corpus", CorpusConfig(window_bp=500, max_n_frac=0.5))
    >>> corpus.n_windows, corpus.window(2)
    (3, Window(assembly='toy', contig='chr1', start=744, end=1000, role='train'))
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}: give at least 1")
    if card:
        require_card()
    reporter = reporter_or_silent(reporter)
    target = Path(os.path.abspath(out))  # noqa: PTH100 - resolve() would follow a link that is to be written
    partial = target.with_name(f"{target.name}.partial")
    read = read_manifest(manifest)
    told = describe_assemblies(read, reporter)
    others = describe_sequences(read)
    inputs = sha256_json({"format_version": FORMAT_VERSION, "settings": to_dict(config), "of": [told, others]})
    if (built := _already_built(target, inputs)) is not None:
        reporter.say(f"{out}: already built from the same inputs and settings (corpus {built.hash[:12]})")
        shutil.rmtree(partial, ignore_errors=True)
        return built
    workshop = Workshop(partial, workers, executor, int(memory_gb * 1e9), reporter)
    try:
        with writing(target), executing(executor, workers):
            (partial / "parts").mkdir(parents=True, exist_ok=True)
            # A killed build leaves its unfinished files, which may be as large as a genome.
            for torn in partial.rglob(".*.tmp"):
                torn.unlink()
            packed = mask_stage(workshop, pack_stage(workshop, read, told), config.repeats)
            screened = screen_stage(workshop, read, packed, config.screen_share, others["screens"])
            roles = assign_roles(
                read.path,
                [
                    AssemblyFacts(
                        each.assembly,
                        {contig.contig: contig.length for contig in each.contigs},
                        each.facts["statistics"]["contig_n50"],
                        found,
                    )
                    for each, found in zip(packed, screened, strict=True)
                ],
                config,
            )
            _tell_decisions(packed, roles, reporter)
            cuts = [_cut_contigs(each, decided) for each, decided in zip(packed, roles, strict=True)]
            copies = find_copies(workshop, packed, cuts, config) if config.duplicates.ani else no_copies(len(packed))
            excluded = exclude_stage(workshop, read, packed, cuts, others["exclusions"])
            facts = _window_stage(workshop, packed, cuts, copies, excluded, config)
            _require_train_windows(read.path, cuts, facts)
            finish(target, workshop.folder, config, inputs, Decided(packed, roles, cuts, copies, facts), others, card)
    except UmbelError:
        if not any((partial / "parts").rglob("*.json")):
            shutil.rmtree(partial, ignore_errors=True)
        raise
    return Corpus.open(out)


def _already_built(target: Path, inputs: str) -> Corpus | None:
    """Open ``target`` if it holds this very corpus; refuse it if it holds anything else."""
    if not target.exists():
        return None
    if target.is_dir() and not any(target.iterdir()):
        return None
    try:
        corpus = Corpus.open(target)
    except CorpusError as error:
        raise RunError(f"{target}: holds something else than a whole corpus ({error}) Choose another -o.") from error
    if corpus.facts["inputs"] != inputs:
        raise RunError(
            f"{target}: holds a corpus of other inputs or settings (corpus {corpus.hash[:12]}). "
            "Choose another -o, or remove it first."
        )
    return corpus


def _tell_decisions(packed: Sequence[Packed], roles: Sequence[Roles], reporter: Reporter) -> None:
    """Say what was decided over whole assemblies; all of it is in ``corpus.json``."""
    lines = [
        f"{each.assembly.name}: {decision}"
        for each, decided in zip(packed, roles, strict=True)
        for decision in decided.decisions
    ]
    for line in lines[:_MAX_TOLD]:
        reporter.say(line)
    if len(lines) > _MAX_TOLD:
        reporter.say(f"and {len(lines) - _MAX_TOLD:,} more such decisions, all of them in corpus.json")


def _cut_contigs(packed: Packed, roles: Roles) -> tuple[CutContig, ...]:
    return tuple(
        CutContig(
            each.contig, each.length, each.offset, roles.role_of[each.contig], roles.reason_of.get(each.contig, "")
        )
        for each in packed.contigs
    )


def _window_stage(
    workshop: Workshop,
    packed: Sequence[Packed],
    cuts: Sequence[tuple[CutContig, ...]],
    copies: Copies,
    excluded: Sequence[np.ndarray],
    config: CorpusConfig,
) -> list[dict[str, Any]]:
    jobs = []
    for number, (each, cut) in enumerate(zip(packed, cuts, strict=True)):
        removed = {EXCLUDED: excluded[number], **copies.removed(number)}
        removed = {removal: rows for removal, rows in removed.items() if len(rows)}
        key = {
            "nibbles": each.facts["nibbles"],
            "contigs": [[contig.name, contig.role] for contig in cut],
            "removed": {
                removal: hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest()
                for removal, rows in removed.items()
            },
            "settings": {
                name: getattr(config, name)
                for name in ("window_bp", "overlap_bp", "max_n_frac", "min_window_bp", "split_n_bp")
            },
        }
        part = workshop.part("windows", each.assembly.name, key)
        jobs.append(WindowJob(each.assembly.name, each.nibbles, cut, removed, config, part, each.n_bases))
    found = workshop.run("Cutting windows", cut_assembly, jobs)
    return [{**facts, "table": job.part.file("windows.parquet")} for job, facts in zip(jobs, found, strict=True)]


def _require_train_windows(
    manifest: Path, cuts: Sequence[tuple[CutContig, ...]], facts: Sequence[dict[str, Any]]
) -> None:
    train = [found["roles"]["train"] for found in facts]
    if sum(tally["n_windows"] for tally in train):
        return
    dropped = sum(tally["n_windows_dropped_for_n"] for tally in train)
    bases = sum(contig.length for cut in cuts for contig in cut if contig.role == "train")
    fates = Counter[str]()
    for found in facts:
        fates.update({fate: n for fate, n in found["fates"].items() if n and fate not in ROLES})
    lost = ", ".join(f"{fate} {n:,}" for fate, n in fates.items())
    raise CorpusError(
        f"{manifest}: no training window: the role train has {bases} bases, and {dropped} windows were dropped for "
        f"N. Give contigs to train, or change corpus.min_window_bp or corpus.max_n_frac."
        + (f" Bases were lost as: {lost}." if lost else "")
    )
