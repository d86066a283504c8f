"""Contigs of an assembly with the roles train, valid and test, read once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from umbel.errors import ConfigError
from umbel.genome.annotation import some_names
from umbel.genome.fasta import read_fasta
from umbel.genome.sequence import Codes

ROLES = ("train", "valid", "test")


def read_contigs(fasta: str | Path, roles: Mapping[str, str]) -> tuple[dict[str, Codes], dict[str, int]]:
    """Read the contigs that have a role, and the lengths of all.

    Parameters
    ----------
    fasta
        FASTA or 2bit.
    roles
        Contig to ``train``, ``valid`` or ``test``; each role has at least one contig.

    Returns
    -------
    codes
        Contig to its bases, of those with a role.
    lengths
        Contig to its length, of all.

    Raises
    ------
    ConfigError
        If a role is none of the three or has no contig, or a contig is not in the FASTA.
    FastaError
        If the FASTA is broken.
    """
    for contig, role in roles.items():
        if role not in ROLES:
            raise ConfigError(f"contig {contig!r} has the role {role!r}: use {', '.join(ROLES)}")
    for role in ROLES:
        if role not in roles.values():
            raise ConfigError(f"no contig has the role {role!r}: give each of {', '.join(ROLES)} at least one")
    codes: dict[str, Codes] = {}
    lengths: dict[str, int] = {}
    for record in read_fasta(fasta):
        lengths[record.name] = len(record.codes)
        if record.name in roles:
            codes[record.name] = record.codes
    missing = [contig for contig in roles if contig not in lengths]
    if missing:
        raise ConfigError(f"{fasta} has no contig {missing[0]!r}; there are: {some_names(lengths)}")
    return codes, lengths
