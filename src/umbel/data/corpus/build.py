"""Build a corpus from a manifest: packed assemblies and an index of windows, as a pure function of both.

Each assembly is a job of its own, so a build may use several processes and go on after it was killed;
the bytes are the same whatever the number of processes and interruptions.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from umbel.config import CorpusConfig, to_dict
from umbel.data.corpus.manifest import ROLES, Assembly, read_manifest
from umbel.data.corpus.packing import NO_ROLE, AssemblyJob, pack_assembly, write_table
from umbel.data.corpus.store import (
    CONTIGS_FILE,
    FACTS_FILE,
    FORMAT,
    FORMAT_VERSION,
    REGIONS_FILE,
    WINDOWS_FILE,
    Corpus,
    nibbles_name,
)
from umbel.errors import CorpusError, ManifestError, RunError, UmbelError
from umbel.files import sha256_file, sha256_json, write_json, writing
from umbel.progress import Reporter, Task, reporter_or_silent

_TABLES = {CONTIGS_FILE: "contigs", WINDOWS_FILE: "windows", REGIONS_FILE: "regions"}


def build_corpus(
    manifest: str | Path,
    out: str | Path,
    config: CorpusConfig,
    *,
    workers: int = 1,
    reporter: Reporter | None = None,
) -> Corpus:
    r"""Build the corpus of a manifest in the folder ``out``, and open it.

    The folder appears whole or not at all. Until then the work is in ``<out>.partial``, from which a later call of
    the same build takes every assembly that was finished.

    Parameters
    ----------
    manifest
        TOML or CSV, see :func:`umbel.data.corpus.manifest.read_manifest`.
    out
        Folder to make. If it already holds the corpus of the same inputs and settings, it is opened and left as it is.
    config
        How to cut windows.
    workers
        Processes, each working on one assembly; they change nothing but the time.
    reporter
        Where progress goes.

    Raises
    ------
    ManifestError, FastaError, AnnotationError
        If an input is wrong; nothing is left behind but the assemblies that were finished.
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
    reporter = reporter_or_silent(reporter)
    target = Path(os.path.abspath(out))  # noqa: PTH100 - resolve() would follow a link that is to be written
    partial = target.with_name(f"{target.name}.partial")
    read = read_manifest(manifest)
    jobs = [_job(read.path, assembly, config, partial) for assembly in read.assemblies]
    inputs = sha256_json([job.key for job, _ in jobs])
    if (built := _already_built(target, inputs)) is not None:
        reporter.say(f"{out}: already built from the same inputs and settings (corpus {built.hash[:12]})")
        shutil.rmtree(partial, ignore_errors=True)
        return built
    try:
        with writing(target):
            (partial / "parts").mkdir(parents=True, exist_ok=True)
            # A killed build leaves its unfinished files, which may be as large as a genome.
            for torn in partial.rglob(".*.tmp"):
                torn.unlink()
            facts = _pack_all([job for job, _ in jobs], workers, reporter)
            _require_train_windows(read.path, facts)
            _finish(target, partial, config, inputs, jobs, facts)
    except UmbelError:
        if not any(job.done_file.exists() for job, _ in jobs):
            shutil.rmtree(partial, ignore_errors=True)
        raise
    return Corpus.open(out)


def _job(manifest: Path, assembly: Assembly, config: CorpusConfig, folder: Path) -> tuple[AssemblyJob, dict[str, Any]]:
    """Return the job of an assembly and what the manifest says about it, with the hashes of its files."""
    told: dict[str, Any] = {
        "species": assembly.species,
        "family": "",
        "assembly": assembly.name,
        "licence": assembly.licence,
        "source": assembly.source,
        "manifest_contigs": {role: sorted(names) for role, names in assembly.contigs.items()},
    }
    for kind, path in (("fasta", assembly.fasta), ("gff3", assembly.gff3)):
        told[kind] = None
        if path is not None:
            try:
                told[kind] = {"name": path.name, "sha256": sha256_file(path)}
            except OSError as error:
                raise ManifestError(f"{kind} {path} cannot be read: {error.strerror}.", manifest) from error
    key = sha256_json({"format_version": FORMAT_VERSION, "settings": to_dict(config), **told})
    return AssemblyJob(manifest, assembly, config, key, folder), told


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


def _pack_all(jobs: list[AssemblyJob], workers: int, reporter: Reporter) -> list[dict[str, Any]]:
    """Facts of every job, in their order; finished ones are not done again."""
    facts: dict[str, dict[str, Any]] = {job.key: found for job in jobs if (found := job.finished()) is not None}
    waiting = [job for job in jobs if job.key not in facts]
    if facts:
        reporter.say(f"{len(facts)} of {len(jobs)} assemblies were packed by an earlier build")
    task = reporter.start("Packing", total=len(jobs), unit="assembly", done=len(facts))
    try:
        for job, found in _packed(waiting, workers, task):
            facts[job.key] = found
            task.advance(1, job.assembly.name)
    finally:
        task.close()
    for job in jobs:
        annotation = facts[job.key]["annotation"]
        if annotation and (unknown := annotation["unknown_contigs"]):
            reporter.say(
                f"{job.assembly.name}: {sum(unknown.values())} rows of the GFF3 were skipped, because the FASTA has no "
                f"contig {', '.join(list(unknown)[:5])}{' ...' if len(unknown) > 5 else ''}"
            )
    return [facts[job.key] for job in jobs]


def _packed(jobs: list[AssemblyJob], workers: int, task: Task) -> Iterator[tuple[AssemblyJob, dict[str, Any]]]:
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            yield job, pack_assembly(job, lambda name, length: task.advance(0, f"{name}, {length / 1e6:.2f} Mb"))
        return
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(pack_assembly, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise RunError(
                "a worker process was killed, perhaps for lack of memory. Run it again with fewer workers."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _require_train_windows(manifest: Path, facts: Iterable[dict[str, Any]]) -> None:
    train = [found["roles"]["train"] for found in facts]
    if not sum(tally["n_windows"] for tally in train):
        dropped = sum(tally["n_windows_dropped_for_n"] for tally in train)
        bases = sum(tally["n_bases"] for tally in train)
        raise CorpusError(
            f"{manifest}: no training window: the role train has {bases} bases, and {dropped} windows were dropped for "
            "N. Give contigs to train, or change corpus.min_window_bp or corpus.max_n_frac."
        )


def _finish(
    target: Path,
    partial: Path,
    config: CorpusConfig,
    inputs: str,
    jobs: list[tuple[AssemblyJob, dict[str, Any]]],
    facts: list[dict[str, Any]],
) -> None:
    """Join the parts of all assemblies, describe them, and give the folder its name."""
    folder = partial / "corpus"
    names = [nibbles_name(job.assembly.name) for job, _ in jobs]
    for file_name, part in _TABLES.items():
        if part == "regions" and not any(found["annotation"] for found in facts):
            continue
        write_table(folder / file_name, pa.concat_tables([pq.read_table(job.part(part)) for job, _ in jobs]))
        names.append(file_name)
    assemblies = [
        {**told, "content": found["content"], "roles": found["roles"], "annotation": found["annotation"]}
        for (_, told), found in zip(jobs, facts, strict=True)
    ]
    write_json(
        folder / FACTS_FILE,
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "settings": to_dict(config),
            "inputs": inputs,
            "hash": sha256_json(
                {
                    "format_version": FORMAT_VERSION,
                    "settings": to_dict(config),
                    "assemblies": [[told["species"], told["assembly"], told["content"]] for told in assemblies],
                }
            ),
            "assemblies": assemblies,
            "totals": {role: _total([found["roles"][role] for found in facts]) for role in (*ROLES, NO_ROLE)},
            "files": {
                name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)} for name in names
            },
        },
    )
    # What a killed build or another manifest left behind must not come along.
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).as_posix() not in {*names, FACTS_FILE}:
            path.unlink()
    os.replace(folder, target)
    shutil.rmtree(partial, ignore_errors=True)


def _total(tallies: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum the counts of one role over assemblies."""
    total: dict[str, Any] = {key: sum(tally[key] for tally in tallies) for key in tallies[0] if key != "letters"}
    letters = {letter: 0 for letter in sorted({letter for tally in tallies for letter in tally["letters"]})}
    for tally in tallies:
        for letter, count in tally["letters"].items():
            letters[letter] += count
    return {**total, "letters": letters}
