"""What a manifest names: assemblies with their facts, screens, and sequence to leave out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

ROLES = ("train", "valid", "test")
ALL_OTHERS = "*"

RepeatMask = Literal["keep", "import", "kmer", "none"]
REPEAT_MASKS: tuple[RepeatMask, ...] = get_args(RepeatMask)


@dataclass(frozen=True)
class Assembly:
    """One assembly of a manifest."""

    species: str
    name: str
    fasta: Path
    gff3: Path | None = None
    licence: str = ""
    source: str = ""
    contigs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Role to contig names; ``("*",)`` stands for every contig that no other role names. Empty: the settings decide."""
    accession: str = ""
    taxid: int | None = None
    """Of NCBI Taxonomy."""
    lineage: tuple[str, ...] = ()
    """Names of groups from the widest down, as given, or else as the taxid has them."""
    family: str = ""
    """As given, or else from the lineage, or else from the taxid; ``""`` if none says it."""
    cultivar: str = ""
    ploidy: int | None = None
    """Sets of chromosomes, as given, or else as the taxid has them."""
    subgenomes: tuple[str, ...] = ()
    """Letters of subgenomes, as given, or else as the taxid has them."""
    homeologs: str = ""
    """Regular expression with a group ``group``: whole contig names in which it is the same are homeologous."""
    retrieved: str = ""
    """Day on which the FASTA was fetched, as ``YYYY-MM-DD``."""
    sha256: str = ""
    """Of the FASTA file as it was when it was added; ``""`` if that is not known."""
    repeats: Path | None = None
    """BED, GFF3 or RepeatMasker's .out."""
    repeat_mask: RepeatMask = "keep"
    """Where the repeat mask comes from: the lower case of the FASTA (``keep``), ``repeats`` (``import``), the
    assembly's own k-mer counts (``kmer``), or nowhere (``none``)."""

    def role_of(self, contig: str) -> str:
        """Role of a contig of this assembly, or ``""`` where it has none.

        Examples
        --------
        >>> assembly = Assembly("A. thaliana", "TAIR10", Path("a.fa"), contigs={"train": ("*",), "test": ("chr5",)})
        >>> assembly.role_of("chr1"), assembly.role_of("chr5")
        ('train', 'test')
        """
        everything_else = ""
        for role, names in self.contigs.items():
            if contig in names:
                return role
            if ALL_OTHERS in names:
                everything_else = role
        return everything_else

    @property
    def named_contigs(self) -> tuple[str, ...]:
        """Every contig that a role names outright."""
        return tuple(name for names in self.contigs.values() for name in names if name != ALL_OTHERS)

    def homeolog_group(self, contig: str) -> str:
        r"""Homeologous group of a contig, or ``""`` where it has none.

        Examples
        --------
        >>> wheat = Assembly("T. aestivum", "CS", Path("a.fa"), homeologs=r"chr(?P<group>\d)(?P<subgenome>[ABD])")
        >>> wheat.homeolog_group("chr7A"), wheat.homeolog_group("chr7D"), wheat.homeolog_group("chrUn")
        ('7', '7', '')
        """
        found = re.fullmatch(self.homeologs, contig) if self.homeologs else None
        return (found["group"] or "") if found else ""


@dataclass(frozen=True)
class Screen:
    """Sequence whose look-alikes do not belong into a corpus: organelles, vectors, contaminants."""

    name: str
    fasta: Path


@dataclass(frozen=True)
class Exclusion:
    """Benchmark sequence that must not be learnt: either known by its letters, or by its place in an assembly."""

    name: str
    fasta: Path | None = None
    bed: Path | None = None
    assembly: str = ""
    """Which assembly the places in ``bed`` are of."""


@dataclass(frozen=True)
class Manifest:
    """What a manifest names, in the order of the file; paths are resolved against the manifest's folder."""

    path: Path
    assemblies: tuple[Assembly, ...]
    screens: tuple[Screen, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
