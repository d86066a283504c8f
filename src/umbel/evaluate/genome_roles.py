"""Contigs of an assembly, or stretches of them, with the roles train, valid and test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from umbel.errors import ConfigError
from umbel.genome.annotation import some_names
from umbel.genome.fasta import read_fasta
from umbel.genome.interval import Interval
from umbel.genome.sequence import Codes

ROLES = ("train", "valid", "test")


@dataclass(frozen=True)
class Roles:
    """Bases of an assembly, and which of them serve for what."""

    codes: Mapping[str, Codes]
    """Contig to its bases, of those with a role."""
    lengths: Mapping[str, int]
    """Contig to its length, of all."""
    stretches: Mapping[str, tuple[Interval, ...]]
    """Role to its stretches, which do not overlap."""

    def find(self, contig: str, place: int) -> tuple[str, Interval] | None:
        """Role and stretch that a base (0-based) lies in; None: in none."""
        for role, stretches in self.stretches.items():
            for stretch in stretches:
                if stretch.contig == contig and stretch.start <= place < stretch.end:
                    return role, stretch
        return None


def read_roles(fasta: str | Path, roles: Mapping[str, str]) -> Roles:
    r"""Read the contigs that have a role.

    Parameters
    ----------
    fasta
        FASTA or 2bit.
    roles
        Contig, or stretch of one as ``contig:first-last`` (1-based, inclusive), to ``train``, ``valid`` or ``test``;
        each role has at least one. Stretches of one contig hold out neighbourhoods only: prefer whole contigs.

    Raises
    ------
    ConfigError
        If a role is none of the three or has nothing, a contig is not in the FASTA or too short, or stretches overlap.
    FastaError
        If the FASTA is broken.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.fa"
    >>> _ = source.write_text(">c1\nACGTACGT\n>c2\nACGT\n")
    >>> found = read_roles(source, {"c1:1-5": "train", "c1:6-8": "valid", "c2": "test"})
    >>> found.find("c1", 5)
    ('valid', Interval(contig='c1', start=5, end=8, strand='+', name=''))
    """
    for name, role in roles.items():
        if role not in ROLES:
            raise ConfigError(f"contig {name!r} has the role {role!r}: use {', '.join(ROLES)}")
    for role in ROLES:
        if role not in roles.values():
            raise ConfigError(f"no contig has the role {role!r}: give each of {', '.join(ROLES)} at least one")
    wanted = {*roles, *(name.rpartition(":")[0] for name in roles)}
    records: dict[str, Codes] = {}
    lengths: dict[str, int] = {}
    for record in read_fasta(fasta):
        lengths[record.name] = len(record.codes)
        if record.name in wanted:
            records[record.name] = record.codes
    found: dict[str, list[Interval]] = {role: [] for role in ROLES}
    for name, role in roles.items():
        found[role].append(_stretch(fasta, name, lengths))
    every = sorted(stretch for stretches in found.values() for stretch in stretches)
    for a, b in pairwise(every):
        if a.contig == b.contig and b.start < a.end:
            raise ConfigError(f"{a} and {b} overlap: a base has one role")
    codes = {name: codes for name, codes in records.items() if any(name == stretch.contig for stretch in every)}
    return Roles(codes, lengths, {role: tuple(stretches) for role, stretches in found.items()})


def _stretch(fasta: str | Path, name: str, lengths: Mapping[str, int]) -> Interval:
    if name in lengths:
        return Interval(name, 0, lengths[name])
    contig, colon, _ = name.rpartition(":")
    if not colon or contig not in lengths:
        raise ConfigError(f"{fasta} has no contig {contig or name!r}; there are: {some_names(lengths)}")
    stretch = Interval.parse(name)
    if stretch.end > lengths[contig]:
        raise ConfigError(f"{name} ends beyond contig {contig!r} of {lengths[contig]} bases")
    return stretch
