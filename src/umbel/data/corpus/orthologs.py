"""Which stretches of training descend from the same ground as what is held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from umbel.data.corpus.assembly import Assembly
from umbel.data.corpus.manifest import read_manifest
from umbel.errors import ManifestError
from umbel.files import whole_file
from umbel.genome.reference import Reference
from umbel.genome.sequence import Codes
from umbel.genome.synteny import Seeded, Synteny, shared_stretches
from umbel.progress import Reporter, reporter_or_silent

HELD_OUT = ("valid", "test")


@dataclass(frozen=True)
class Orthologs:
    """What of one assembly's training sequence is orthologous to held-out sequence.

    Attributes
    ----------
    assembly
        Its name in the manifest.
    bed
        The file written.
    train_bp, shared_bp
        Bases of its training contigs, and those of them in the file.
    n_supported, n_by_chance
        Pairs of places that others support, and how many chance would; see :class:`~umbel.genome.synteny.Synteny`.
    """

    assembly: str
    bed: Path
    train_bp: int
    shared_bp: int
    n_supported: int
    n_by_chance: int


def write_orthologs(
    manifest: str | Path, out: str | Path, one_in: int = 4, reporter: Reporter | None = None
) -> list[Orthologs]:
    """Compare what trains with what is held out, and write for every assembly that trains where they are orthologous.

    The files are for ``[[exclude]]`` tables of the manifest. Roles are those that the manifest gives to contigs.
    Genes are compared as peptides (:func:`umbel.genome.synteny.shared_stretches`), across all assemblies and within
    each, so the copies that old polyploidy left are found too. One gene alone, or one that has moved, is not.

    Parameters
    ----------
    manifest
        TOML or CSV.
    out
        Folder for ``orthologs_ASSEMBLY.bed``; made if it is not there.
    one_in
        Share of the peptides that is looked at; 4 takes about 6 bytes of memory a base.
    reporter
        Told of progress.

    Raises
    ------
    ManifestError
        If the manifest cannot be read, or names no contig that trains, or none that is held out.
    FastaError
        If an assembly cannot be read.
    """
    source, folder = read_manifest(manifest), Path(out)
    training = [x for x in source.assemblies if x.contigs.get("train")]
    held = [x for x in source.assemblies if any(x.contigs.get(role) for role in HELD_OUT)]
    if not training or not held:
        what = "train" if not training else "is held out (valid or test)"
        raise ManifestError(f"no assembly names contigs whose role {what}: there is nothing to compare.", source.path)
    task = reporter_or_silent(reporter).start("compared", len(training) + 1, "assemblies")
    others = Seeded.of((contig for x in held for contig in _contigs(x, HELD_OUT)), one_in)
    task.advance(note="held out")
    found = []
    for assembly in training:
        target = Seeded.of(_contigs(assembly, ("train",)), one_in)
        found.append((assembly, target, shared_stretches(target, others)))
        task.advance(note=assembly.name)
    # Nothing is written until all is known: a file of one day beside files of another would be believed.
    return [_write(folder, assembly, target, synteny) for assembly, target, synteny in found]


def _contigs(assembly: Assembly, roles: tuple[str, ...]) -> Iterator[tuple[str, Codes]]:
    with Reference.open(assembly.fasta) as genome:
        for name, length in genome.lengths.items():
            if assembly.role_of(name) in roles:
                yield name, genome.fetch(name, 0, length)


def _write(folder: Path, assembly: Assembly, target: Seeded, synteny: Synteny) -> Orthologs:
    rows = [(name, start, end) for name, runs in synteny.runs.items() for start, end in runs.tolist()]
    bed = folder / f"orthologs_{assembly.name}.bed"
    with whole_file(bed) as temporary:
        temporary.write_text("".join(f"{name}\t{start}\t{end}\n" for name, start, end in rows))
    shared = sum(end - start for _, start, end in rows)
    n_train = sum(target.lengths.values())
    return Orthologs(assembly.name, bed, n_train, shared, synteny.n_supported, synteny.n_by_chance)
