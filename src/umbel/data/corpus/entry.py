"""One entry of a manifest: what it says of an assembly, checked, with its taxid looked up."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from umbel.data.corpus.assembly import ALL_OTHERS, REPEAT_MASKS, ROLES, Assembly
from umbel.data.corpus.taxonomy import Taxon, family_of, taxon
from umbel.errors import ManifestError

PATH_KEYS = ("fasta", "gff3", "repeats")
TEXT_KEYS = (
    *("species", "assembly", "fasta", "gff3", "licence", "source", "accession", "family", "cultivar", "homeologs"),
    *("retrieved", "sha256", "repeats", "repeat_mask"),
)
NUMBER_KEYS = ("taxid", "ploidy")
LIST_KEYS = ("lineage", "subgenomes")
KEYS = (*TEXT_KEYS, *NUMBER_KEYS, *LIST_KEYS)

_REQUIRED = ("species", "assembly", "fasta")
# An assembly's name becomes a file name.
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class Entry:
    """What a manifest says of one assembly: text by ``TEXT_KEYS``, numbers or None, tuples, and roles of contigs."""

    source: Path
    where: str
    line: int | None
    facts: Mapping[str, Any]
    roles: Mapping[str, list[str]]

    def refusal(self, key: str, problem: str) -> ManifestError:
        """Error about one key of this entry, or about all of it."""
        place = ", ".join(part for part in (self.where, key) if part)
        return ManifestError(f"{place}: {problem}", self.source, self.line)


def is_in_table(taxid: int) -> bool:
    """Whether the package's own table has a taxid."""
    try:
        taxon(taxid)
    except KeyError:
        return False
    return True


def check_entry(entry: Entry, taxa: Mapping[int, Taxon]) -> Assembly:
    """Turn an entry into an assembly.

    Parameters
    ----------
    entry
        What the manifest says.
    taxa
        Taxa beside those of the package's table, by taxid.

    Raises
    ------
    ManifestError
        If a fact is missing, wrong, or against another one, or a file is not there or not in the manifest's folder.
    """
    facts = dict(entry.facts)
    for key in _REQUIRED:
        if not facts[key]:
            raise entry.refusal("", f"{key} is missing.")
    require_safe_name(entry, "assembly", facts["assembly"])
    for key in PATH_KEYS:
        facts[key] = inner_path(entry, key, facts[key]) if facts[key] else None
    for key in NUMBER_KEYS:
        if facts[key] is not None and facts[key] < 1:
            raise entry.refusal(key, f"{facts[key]} must be 1 or more.")
    for key in LIST_KEYS:
        if not all(facts[key]) or len(set(facts[key])) != len(facts[key]):
            raise entry.refusal(key, f"{list(facts[key])} has an empty name, or one of them twice.")
    _check_texts(entry, facts)
    _add_taxon(entry, facts, taxa)
    name = facts.pop("assembly")
    return Assembly(name=name, contigs=_roles(entry), **facts)


def _check_texts(entry: Entry, facts: dict[str, Any]) -> None:
    """Check what has a form of its own, and fill in the default of ``repeat_mask``."""
    if facts["retrieved"] and not _is_iso_day(facts["retrieved"]):
        raise entry.refusal("retrieved", f"{facts['retrieved']!r} is no day. Write it as 2026-11-21.")
    if facts["sha256"] and not _SHA256.fullmatch(facts["sha256"]):
        raise entry.refusal("sha256", f"{facts['sha256']!r} is no SHA-256 of 64 hexadecimal digits.")
    facts["sha256"] = facts["sha256"].lower()
    if facts["homeologs"]:
        try:
            groups = re.compile(facts["homeologs"]).groupindex
        except re.error as error:
            raise entry.refusal("homeologs", f"{facts['homeologs']!r} is no regular expression: {error}.") from error
        if "group" not in groups:
            raise entry.refusal(
                "homeologs", f"{facts['homeologs']!r} has no (?P<group>...), which tells homeologous contigs."
            )
    facts["repeat_mask"] = facts["repeat_mask"] or ("import" if facts["repeats"] else "keep")
    if facts["repeat_mask"] not in REPEAT_MASKS:
        raise entry.refusal("repeat_mask", f"{facts['repeat_mask']!r} is none of {', '.join(REPEAT_MASKS)}.")
    if facts["repeat_mask"] == "import" and not facts["repeats"]:
        raise entry.refusal("repeat_mask", "'import' needs repeats, the file to import from.")


def _is_iso_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _add_taxon(entry: Entry, facts: dict[str, Any], taxa: Mapping[int, Taxon]) -> None:
    """Fill in what the taxid says and the entry does not, and see that they agree on the species."""
    taxid, lineage, family = facts["taxid"], facts["lineage"], facts["family"]
    if lineage and family and family_of(lineage) not in ("", family):
        raise entry.refusal("family", f"{family!r} is not the family of its lineage, {family_of(lineage)!r}.")
    known = None
    if taxid is not None:
        known = taxon(taxid) if is_in_table(taxid) else taxa.get(taxid)
        if known is None and not (lineage or family):
            raise entry.refusal(
                "taxid",
                f"{taxid} is not in our table of plants. Check it, or give lineage or family too, or name a folder "
                "with NCBI's taxdump as taxdump at the top of a TOML manifest.",
            )
        if known is not None and not known.is_called(facts["species"]):
            raise entry.refusal(
                "taxid", f"{taxid} is {known.species!r}, but the species is {facts['species']!r}. Correct one of them."
            )
    facts["family"] = family or family_of(lineage) or (known.family if known else "")
    if known:
        facts["lineage"] = lineage or known.lineage
        facts["ploidy"] = facts["ploidy"] or known.ploidy
        facts["subgenomes"] = facts["subgenomes"] or known.subgenomes


def _roles(entry: Entry) -> dict[str, tuple[str, ...]]:
    """Contigs by role; each has one, and homeologous ones have the same."""
    role_of: dict[str, str] = {}
    first_of_group: dict[str, str] = {}
    pattern = entry.facts["homeologs"]
    for role, contig in _pairs(entry.roles):
        if contig in role_of:
            what = "every other contig ('*')" if contig == ALL_OTHERS else f"contig {contig!r}"
            raise entry.refusal("", f"{what} is in role {role_of[contig]} and again in {role}. Give it one role.")
        role_of[contig] = role
        found = re.fullmatch(pattern, contig) if pattern and contig != ALL_OTHERS else None
        if found and found["group"]:
            first = first_of_group.setdefault(found["group"], contig)
            if role_of[first] != role:
                raise entry.refusal(
                    "contigs",
                    f"{first!r} in role {role_of[first]} and {contig!r} in role {role} are of one homeologous group, "
                    f"{found['group']!r}: they share much of their sequence. Give them one role.",
                )
    return {role: tuple(entry.roles[role]) for role in ROLES if entry.roles.get(role)}


def _pairs(roles: Mapping[str, list[str]]) -> Iterator[tuple[str, str]]:
    return ((role, contig) for role, contigs in roles.items() for contig in contigs)


def require_safe_name(entry: Entry, key: str, name: str) -> None:
    """Refuse a name that cannot be the name of a file."""
    if not _SAFE_NAME.fullmatch(name):
        raise entry.refusal(key, f"{name!r} cannot be a file name. Use letters, digits and . _ + - only.")


def inner_path(entry: Entry, key: str, text: str, is_folder: bool = False) -> Path:
    """Path of a file of the manifest, which must be there, and by its name inside the manifest's folder.

    A link inside the folder may lead anywhere: only the name is looked at.
    """
    if Path(text).is_absolute() or Path(os.path.normpath(text)).parts[0] == os.pardir:
        raise entry.refusal(
            key,
            f"{text} is outside the manifest's folder. Give a path relative to it that stays in it; "
            "what is elsewhere can be linked into the folder (ln -s).",
        )
    path = entry.source.parent / text
    if not (path.is_dir() if is_folder else path.is_file()):
        what = "folder" if is_folder else "file"
        raise entry.refusal(key, f"no {what} {path}. Paths are relative to the manifest's folder.")
    return path
