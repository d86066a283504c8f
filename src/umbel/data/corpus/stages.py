"""The stages of a build up to the decision what to keep: each a list of jobs, none done twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

from umbel.data.corpus.assembly import Assembly
from umbel.data.corpus.executors import Advance, ExecutorName, run_jobs
from umbel.data.corpus.manifest import Manifest, check_unchanged
from umbel.data.corpus.packing import PackedContig, PackJob, load_contigs, pack_assembly, require_contigs
from umbel.data.corpus.parts import Part
from umbel.data.corpus.pieces import PackedAssembly
from umbel.data.corpus.store import FORMAT_VERSION, nibbles_name
from umbel.errors import ManifestError
from umbel.files import sha256_file, sha256_json
from umbel.progress import Reporter


class StageJob(Protocol):
    """A job that leaves a part behind."""

    @property
    def part(self) -> Part:
        """What it leaves behind."""

    @property
    def size(self) -> int:
        """How much it will report."""


J = TypeVar("J", bound=StageJob)


@dataclass(frozen=True)
class Workshop:
    """Where a corpus grows, and with what.

    Attributes
    ----------
    folder
        ``corpus/`` has its final form, ``parts/`` what finished jobs left.
    memory_bytes
        What one job may take, about; it changes nothing but the time.
    """

    folder: Path
    workers: int
    executor: ExecutorName
    memory_bytes: int
    reporter: Reporter

    def part(self, stage: str, name: str, key: Any) -> Part:
        """Name a job by what decides its result."""
        return Part(
            self.folder, stage, name, sha256_json({"format_version": FORMAT_VERSION, "stage": stage, "of": key})
        )

    def nibbles(self, assembly: str) -> Path:
        """Where the packed bases of an assembly are to be in the end."""
        return self.folder / "corpus" / nibbles_name(assembly)

    def run(
        self, title: str, work: Callable[[J, Advance], dict[str, Any]], jobs: Sequence[J], unit: str = "bp"
    ) -> list[dict[str, Any]]:
        """Do the jobs that no earlier build has done; give the facts of all, in order."""
        facts = {job.part.name: found for job in jobs if (found := job.part.load()) is not None}
        waiting = [job for job in jobs if job.part.name not in facts]
        if facts and waiting:
            self.reporter.say(f"{title}: {len(facts)} of {len(jobs)} jobs were done by an earlier build")
        done = sum(job.size for job in jobs) - sum(job.size for job in waiting)
        for job, found in run_jobs(
            work, waiting, title, self.reporter, workers=self.workers, executor=self.executor, done=done, unit=unit
        ):
            facts[job.part.name] = found
        return [facts[job.part.name] for job in jobs]


@dataclass(frozen=True)
class Step:
    """A job of a module that knows nothing of parts, and what it leaves behind."""

    work: Callable[[Any, Advance], dict[str, Any]]
    job: Any
    part: Part
    size: int
    files: tuple[Path, ...]


def do_step(step: Step, advance: Advance) -> dict[str, Any]:
    """Do one job, and record it as finished."""
    return step.part.save(step.work(step.job, advance), step.files)


@dataclass(frozen=True)
class Packed:
    """An assembly after the first stages.

    Attributes
    ----------
    told
        What ``corpus.json`` says about the assembly, as far as it is known before the files are read.
    facts
        What the pack stage found.
    """

    assembly: Assembly
    told: dict[str, Any]
    facts: dict[str, Any]
    contigs: tuple[PackedContig, ...]
    nibbles: Path
    regions: Path

    @property
    def n_bases(self) -> int:
        """Bases of all contigs."""
        return sum(contig.length for contig in self.contigs)

    def some(self, numbers: Iterable[int]) -> PackedAssembly:
        """Give those of its contigs for reading."""
        chosen = tuple((self.contigs[number].length, self.contigs[number].offset) for number in numbers)
        return PackedAssembly(self.assembly.name, self.nibbles, chosen, self.facts["nibbles"])


def describe_assemblies(manifest: Manifest, reporter: Reporter) -> list[dict[str, Any]]:
    """Give what the manifest says about each assembly, with the SHA-256 of its files.

    Raises
    ------
    ManifestError
        If a file cannot be read, or is not the one whose checksum the manifest has.
    """
    sizes = [each.fasta.stat().st_size for each in manifest.assemblies]
    task = reporter.start("Checksums", total=sum(sizes), unit="B")
    told = []
    for assembly, size in zip(manifest.assemblies, sizes, strict=True):
        told.append(_describe(manifest.path, assembly))
        task.advance(size)
    task.close()
    return told


def _describe(manifest: Path, assembly: Assembly) -> dict[str, Any]:
    files = ("fasta", "gff3", "repeats")
    told: dict[str, Any] = {
        each.name: getattr(assembly, each.name)
        for each in fields(assembly)
        if each.name not in (*files, "name", "contigs", "sha256")
    }
    told["assembly"] = assembly.name
    told["manifest_contigs"] = {role: sorted(names) for role, names in assembly.contigs.items()}
    for kind in files:
        path = getattr(assembly, kind)
        told[kind] = None
        if path is not None:
            try:
                told[kind] = {"name": path.name, "sha256": sha256_file(path)}
            except OSError as error:
                raise ManifestError(f"{kind} {path} cannot be read: {error.strerror}.", manifest) from error
    check_unchanged(manifest, assembly, told["fasta"]["sha256"])
    return told


def pack_stage(workshop: Workshop, manifest: Manifest, told: Sequence[dict[str, Any]]) -> list[Packed]:
    """Pack every assembly."""
    jobs = []
    for assembly, facts in zip(manifest.assemblies, told, strict=True):
        key = [assembly.name, facts["fasta"]["sha256"], facts["gff3"] and facts["gff3"]["sha256"]]
        part = workshop.part("pack", assembly.name, key)
        final = workshop.nibbles(assembly.name)
        nibbles = final if assembly.repeat_mask == "keep" else part.file("nibbles")
        jobs.append(PackJob(manifest.path, assembly, part, nibbles, assembly.fasta.stat().st_size))
    found = workshop.run("Packing", pack_assembly, jobs, "B")
    for job, facts in zip(jobs, found, strict=True):
        if facts["annotation"] and (unknown := facts["annotation"]["unknown_contigs"]):
            workshop.reporter.say(
                f"{job.assembly.name}: {sum(unknown.values())} rows of the GFF3 were skipped, because the FASTA has no "
                f"contig {', '.join(list(unknown)[:5])}{' ...' if len(unknown) > 5 else ''}"
            )
    packed = [
        Packed(job.assembly, tale, facts, tuple(load_contigs(job.part)), job.nibbles, job.part.file("regions.parquet"))
        for job, tale, facts in zip(jobs, told, found, strict=True)
    ]
    for each in packed:
        # A job sees to it as soon as it can; but one that an earlier build did knew other roles.
        require_contigs(manifest.path, each.assembly, [contig.contig for contig in each.contigs])
    return packed
