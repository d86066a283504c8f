"""The manifest of a corpus: which assemblies, and which of their contigs train, validate and test.

TOML and CSV say the same things; ``docs/guide/corpus.md`` shows both.
"""

from __future__ import annotations

import csv
import io
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from umbel.errors import ManifestError

ROLES = ("train", "valid", "test")
ALL_OTHERS = "*"

_TEXT_KEYS = ("species", "assembly", "fasta", "gff3", "licence", "source")
_REQUIRED = ("species", "assembly", "fasta")
_CSV_COLUMNS = (*_TEXT_KEYS, "role", "contigs")
_CSV_REQUIRED = ("species", "assembly", "fasta", "gff3", "role", "contigs")
# An assembly's name becomes a file name.
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


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
    """Role to contig names; ``("*",)`` stands for every contig that no other role names."""

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


@dataclass(frozen=True)
class Manifest:
    """Assemblies in the order of the file; paths are resolved against the manifest's folder."""

    path: Path
    assemblies: tuple[Assembly, ...]


def read_manifest(path: str | Path) -> Manifest:
    r"""Read a manifest from TOML (``.toml``) or CSV (``.csv``).

    Raises
    ------
    ManifestError
        With file and key (TOML) or row (CSV): not readable, unknown or missing key, unknown role, a contig in two
        roles, two assemblies of one name, a FASTA or GFF3 that is not there.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.fa").write_text(">chr1\nACGT\n")
    >>> _ = (folder / "m.csv").write_text(
    ...     "species,assembly,fasta,gff3,role,contigs\nArabidopsis thaliana,TAIR10,a.fa,,train,*\n"
    ... )
    >>> read_manifest(folder / "m.csv").assemblies[0].contigs
    {'train': ('*',)}
    """
    source = Path(path)
    readers = {".toml": _read_toml, ".csv": _read_csv}
    if source.suffix not in readers:
        raise ManifestError(f"{source.suffix or 'no suffix'}: a manifest is a .toml or a .csv file.", source)
    try:
        # The byte-order mark is what spreadsheet programs put before CSV.
        text = source.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ManifestError("no such file. Check the path.", source) from error
    except UnicodeDecodeError as error:
        raise ManifestError("not UTF-8 text. Save it as UTF-8.", source) from error
    except OSError as error:
        raise ManifestError(f"cannot be read: {error.strerror}.", source) from error
    assemblies = readers[source.suffix](source, text)
    if not assemblies:
        raise ManifestError("it names no assembly. Add one with species, assembly, fasta and contigs.", source)
    return Manifest(source, assemblies)


def _read_toml(source: Path, text: str) -> tuple[Assembly, ...]:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"not readable as TOML: {error}.", source) from error
    _refuse_unknown(source, values, ("assembly",), "")
    tables = values.get("assembly", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ManifestError("assembly: write each assembly as a table [[assembly]].", source)
    found: dict[str, Assembly] = {}
    for number, table in enumerate(tables, start=1):
        where = f"assembly {number}"
        _refuse_unknown(source, table, (*_TEXT_KEYS, "contigs"), where)
        facts = {key: table.get(key, "") for key in _TEXT_KEYS}
        for key, value in facts.items():
            if not isinstance(value, str):
                raise ManifestError(f"{where}, {key}: {value!r} must be text in quotes.", source)
        roles = table.get("contigs", {})
        if not isinstance(roles, dict):
            raise ManifestError(f'{where}, contigs: write a role to names, such as train = ["chr1"].', source)
        _refuse_unknown(source, roles, ROLES, f"{where}, contigs", "role")
        for role, names in roles.items():
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ManifestError(f"{where}, contigs.{role}: {names!r} must be a list of names in quotes.", source)
        if facts["assembly"] in found:
            raise ManifestError(
                f"{where}, assembly: {facts['assembly']!r} is already there. Give each its own name.", source
            )
        found[facts["assembly"]] = _assembly(source, where, None, facts, roles)
    return tuple(found.values())


def _read_csv(source: Path, text: str) -> tuple[Assembly, ...]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    facts_of: dict[str, dict[str, str]] = {}
    roles_of: dict[str, dict[str, list[str]]] = {}
    line_of: dict[str, int] = {}
    try:
        columns = [column.strip() for column in rows.fieldnames or ()]
        rows.fieldnames = columns
        missing = [column for column in _CSV_REQUIRED if column not in columns]
        if missing:
            raise ManifestError(f"no column {', '.join(missing)}. The first row names the columns.", source, 1)
        _refuse_unknown(source, dict.fromkeys(columns), _CSV_COLUMNS, "", "column", 1)
        for row in rows:
            line = rows.line_num
            if None in row or None in row.values():
                raise ManifestError(f"not as many fields as the {len(columns)} columns of the first row.", source, line)
            facts = {key: row.get(key, "").strip() for key in _TEXT_KEYS}
            name, role = facts["assembly"], row["role"].strip()
            if role not in ROLES:
                raise ManifestError(f"role {role!r} is none of {', '.join(ROLES)}.", source, line)
            if facts_of.setdefault(name, facts) != facts:
                differing = ", ".join(key for key in facts if facts_of[name][key] != facts[key])
                raise ManifestError(
                    f"assembly {name!r} has another {differing} than in line {line_of[name]}. "
                    "All rows of an assembly must agree.",
                    source,
                    line,
                )
            roles = roles_of.setdefault(name, {})
            line_of.setdefault(name, line)
            if role in roles:
                raise ManifestError(
                    f"assembly {name!r} has a second row for role {role}. Join the contigs with ';'.", source, line
                )
            roles[role] = [contig.strip() for contig in row["contigs"].split(";") if contig.strip()]
    except csv.Error as error:
        raise ManifestError(f"not readable as CSV: {error}.", source, rows.reader.line_num) from error
    return tuple(
        _assembly(source, f"assembly {name!r}", line_of[name], facts_of[name], roles_of[name]) for name in facts_of
    )


def _assembly(
    source: Path, where: str, line: int | None, facts: Mapping[str, str], roles: Mapping[str, list[str]]
) -> Assembly:
    """Check what both forms have in common."""
    for key in _REQUIRED:
        if not facts[key]:
            raise ManifestError(f"{where}: {key} is missing.", source, line)
    name = facts["assembly"]
    if not _SAFE_NAME.fullmatch(name):
        raise ManifestError(
            f"{where}, assembly: {name!r} cannot be a file name. Use letters, digits and . _ + - only.", source, line
        )
    paths: dict[str, Path | None] = {}
    for key in ("fasta", "gff3"):
        paths[key] = source.parent / facts[key] if facts[key] else None
        if (file := paths[key]) is not None and not file.is_file():
            raise ManifestError(
                f"{where}, {key}: no file {file}. Paths are relative to the manifest's folder.", source, line
            )
    role_of: dict[str, str] = {}
    for role, contig in _pairs(roles):
        if contig in role_of:
            what = "every other contig ('*')" if contig == ALL_OTHERS else f"contig {contig!r}"
            raise ManifestError(
                f"{where}: {what} is in role {role_of[contig]} and again in {role}. Give it one role.", source, line
            )
        role_of[contig] = role
    if not role_of:
        raise ManifestError(f'{where}: no contig has a role. Add, for example, train = ["*"].', source, line)
    fasta = paths["fasta"]
    assert fasta is not None
    contigs = {role: tuple(roles[role]) for role in ROLES if roles.get(role)}
    return Assembly(facts["species"], name, fasta, paths["gff3"], facts["licence"], facts["source"], contigs)


def _pairs(roles: Mapping[str, list[str]]) -> Iterator[tuple[str, str]]:
    return ((role, contig) for role, contigs in roles.items() for contig in contigs)


def _refuse_unknown(
    source: Path,
    values: Mapping[str, Any],
    known: tuple[str, ...],
    where: str,
    what: str = "key",
    line: int | None = None,
) -> None:
    unknown = [str(key) for key in values if key not in known]
    if unknown:
        prefix = f"{where}: " if where else ""
        raise ManifestError(
            f"{prefix}unknown {what} {', '.join(unknown)}. Known here: {', '.join(known)}.", source, line
        )
