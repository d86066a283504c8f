"""The manifest of a corpus: which assemblies, and which of their contigs train, validate and test.

TOML and CSV say the same of assemblies; ``docs/guide/corpus.md`` shows both.
"""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from umbel.data.corpus.assembly import ROLES, Assembly, Exclusion, Manifest, Screen
from umbel.data.corpus.entry import (
    KEYS,
    LIST_KEYS,
    NUMBER_KEYS,
    Entry,
    check_entry,
    inner_path,
    is_in_table,
    require_safe_name,
)
from umbel.data.corpus.taxonomy import Taxon, read_taxdump
from umbel.errors import ManifestError
from umbel.files import sha256_file

__all__ = ["ROLES", "Assembly", "Exclusion", "Manifest", "Screen", "check_unchanged", "parse_manifest", "read_manifest"]

_CSV_COLUMNS = (*KEYS, "role", "contigs")
_CSV_REQUIRED = ("species", "assembly", "fasta", "gff3", "role", "contigs")
_TOML_TABLES = {
    "assembly": (*KEYS, "contigs"),
    "screen": ("name", "fasta"),
    "exclude": ("name", "fasta", "bed", "assembly"),
}


def read_manifest(path: str | Path) -> Manifest:
    r"""Read a manifest from TOML (``.toml``) or CSV (``.csv``).

    Raises
    ------
    ManifestError
        With file and key (TOML) or row (CSV): not readable, unknown or missing key, unknown role, a contig in two
        roles, homeologous contigs in two roles, two assemblies of one name, a file that is not there or outside the
        manifest's folder, a taxid that is not known or of another species.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.fa").write_text(">chr1\nACGT\n")
    >>> _ = (folder / "m.csv").write_text(
    ...     "species,assembly,fasta,gff3,role,contigs,taxid\nArabidopsis thaliana,TAIR10,a.fa,,train,*,3702\n"
    ... )
    >>> assembly = read_manifest(folder / "m.csv").assemblies[0]
    >>> assembly.contigs, assembly.family
    ({'train': ('*',)}, 'Brassicaceae')
    """
    source = Path(path)
    if source.suffix not in (".toml", ".csv"):
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
    return parse_manifest(source, text)


def parse_manifest(source: Path, text: str, may_be_empty: bool = False) -> Manifest:
    """Read a manifest whose text is at hand; ``source`` says where its files are, and what errors name."""
    manifest = _read_toml(source, text) if source.suffix == ".toml" else _read_csv(source, text)
    if not manifest.assemblies and not may_be_empty:
        raise ManifestError("it names no assembly. Add one with species, assembly, fasta and contigs.", source)
    return manifest


def check_unchanged(manifest: str | Path, assembly: Assembly, sha256: str | None = None) -> str:
    """See that the FASTA of an assembly is the file that the manifest means, and return its SHA-256.

    Parameters
    ----------
    manifest
        The manifest, for the message.
    assembly
        Its ``sha256`` is what the file should have; ``""`` allows any.
    sha256
        What the file has, if it is known already.

    Raises
    ------
    ManifestError
        With both checksums, if they differ; or if the file cannot be read.
    """
    try:
        found = sha256_file(assembly.fasta) if sha256 is None else sha256
    except OSError as error:
        raise ManifestError(f"fasta {assembly.fasta} cannot be read: {error.strerror}.", manifest) from error
    if assembly.sha256 and found != assembly.sha256:
        raise ManifestError(
            f"assembly {assembly.name!r}: {assembly.fasta} has changed since it was added: its sha256 was "
            f"{assembly.sha256} and is now {found}. Put the old file back, or add the new one under another name.",
            manifest,
        )
    return found


def _read_toml(source: Path, text: str) -> Manifest:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"not readable as TOML: {error}.", source) from error
    _refuse_unknown(source, values, (*_TOML_TABLES, "taxdump"), "")
    tables = {kind: _toml_tables(source, values, kind) for kind in _TOML_TABLES}
    entries: dict[str, Entry] = {}
    for number, table in enumerate(tables["assembly"], start=1):
        where = f"assembly {number}"
        facts = {key: _toml_value(source, where, key, table.get(key)) for key in KEYS}
        if facts["assembly"] in entries:
            raise ManifestError(
                f"{where}, assembly: {facts['assembly']!r} is already there. Give each its own name.", source
            )
        entries[facts["assembly"]] = Entry(source, where, None, facts, _toml_roles(source, where, table))
    top = Entry(source, "", None, {}, {})
    taxdump = values.get("taxdump", "")
    if not isinstance(taxdump, str):
        raise ManifestError(f"taxdump: {taxdump!r} must be text in quotes.", source)
    folder = inner_path(top, "taxdump", taxdump, is_folder=True) if taxdump else None
    assemblies = _assemblies(entries.values(), folder)
    screens = [_screen(source, number, table) for number, table in enumerate(tables["screen"], start=1)]
    exclusions = [_exclusion(source, number, table, entries) for number, table in enumerate(tables["exclude"], start=1)]
    for kind, named in (("screen", screens), ("exclude", exclusions)):
        names = [item.name for item in named]
        for number, name in enumerate(names, start=1):
            if name in names[: number - 1]:
                raise ManifestError(
                    f"{kind} {number}, name: {name!r} is already there. Give each its own name.", source
                )
    return Manifest(source, assemblies, tuple(screens), tuple(exclusions))


def _toml_tables(source: Path, values: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    tables = values.get(kind, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ManifestError(f"{kind}: write each {kind} as a table [[{kind}]].", source)
    for number, table in enumerate(tables, start=1):
        _refuse_unknown(source, table, _TOML_TABLES[kind], f"{kind} {number}")
    return tables


def _toml_value(source: Path, where: str, key: str, value: Any) -> Any:
    """Text, a number or a tuple of texts, as the key wants it; what is not there becomes empty or None."""
    if key in NUMBER_KEYS:
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise ManifestError(f"{where}, {key}: {value!r} must be a whole number, without quotes.", source)
        return value
    if key in LIST_KEYS:
        value = [] if value is None else value
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise ManifestError(f"{where}, {key}: {value!r} must be a list of names in quotes.", source)
        return tuple(value)
    if key == "retrieved" and isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    value = "" if value is None else value
    if not isinstance(value, str):
        raise ManifestError(f"{where}, {key}: {value!r} must be text in quotes.", source)
    return value


def _toml_roles(source: Path, where: str, table: Mapping[str, Any]) -> dict[str, list[str]]:
    roles = table.get("contigs", {})
    if not isinstance(roles, dict):
        raise ManifestError(f'{where}, contigs: write a role to names, such as train = ["chr1"].', source)
    _refuse_unknown(source, roles, ROLES, f"{where}, contigs", "role")
    for role, names in roles.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ManifestError(f"{where}, contigs.{role}: {names!r} must be a list of names in quotes.", source)
    return roles


def _texts(source: Path, where: str, table: Mapping[str, Any], kind: str) -> tuple[Entry, dict[str, str]]:
    """Texts of a table ``[[screen]]`` or ``[[exclude]]``; its name can be a file name."""
    texts = {key: _toml_value(source, where, key, table.get(key)) for key in _TOML_TABLES[kind]}
    entry = Entry(source, where, None, texts, {})
    if not texts["name"]:
        raise entry.refusal("", "name is missing.")
    require_safe_name(entry, "name", texts["name"])
    return entry, texts


def _screen(source: Path, number: int, table: Mapping[str, Any]) -> Screen:
    entry, texts = _texts(source, f"screen {number}", table, "screen")
    if not texts["fasta"]:
        raise entry.refusal("", "fasta is missing.")
    return Screen(texts["name"], inner_path(entry, "fasta", texts["fasta"]))


def _exclusion(source: Path, number: int, table: Mapping[str, Any], assemblies: Iterable[str]) -> Exclusion:
    entry, texts = _texts(source, f"exclude {number}", table, "exclude")
    if bool(texts["fasta"]) == bool(texts["bed"]) or bool(texts["bed"]) != bool(texts["assembly"]):
        raise entry.refusal("", "give either fasta, or bed together with the assembly that it is of.")
    if texts["assembly"] and texts["assembly"] not in assemblies:
        raise entry.refusal("assembly", f"the manifest has no assembly {texts['assembly']!r}.")
    fasta, bed = (inner_path(entry, key, texts[key]) if texts[key] else None for key in ("fasta", "bed"))
    return Exclusion(texts["name"], fasta, bed, texts["assembly"])


def _read_csv(source: Path, text: str) -> Manifest:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    facts_of: dict[str, dict[str, Any]] = {}
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
            facts = {key: _csv_value(source, line, key, row.get(key, "").strip()) for key in KEYS}
            name, role, contigs = facts["assembly"], row["role"].strip(), _listed(row["contigs"])
            if role not in ROLES and (role or contigs):
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
            if role:
                roles[role] = list(contigs)
    except csv.Error as error:
        raise ManifestError(f"not readable as CSV: {error}.", source, rows.reader.line_num) from error
    entries = [Entry(source, f"assembly {name!r}", line_of[name], facts_of[name], roles_of[name]) for name in facts_of]
    return Manifest(source, _assemblies(entries, None))


def _csv_value(source: Path, line: int, key: str, text: str) -> Any:
    if key in LIST_KEYS:
        return _listed(text)
    if key not in NUMBER_KEYS:
        return text
    try:
        return int(text) if text else None
    except ValueError as error:
        raise ManifestError(f"{key} {text!r} must be a whole number.", source, line) from error


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(";") if part.strip())


def _assemblies(entries: Iterable[Entry], taxdump: Path | None) -> tuple[Assembly, ...]:
    """Check every entry; taxids that our table lacks are looked up together, as a taxdump is long."""
    entries = list(entries)
    taxa: dict[int, Taxon] = {}
    if taxdump:
        asked = {entry.facts["taxid"] for entry in entries} - {None}
        if unknown := [taxid for taxid in asked if not is_in_table(taxid)]:
            taxa = read_taxdump(taxdump, unknown)
    return tuple(check_entry(entry, taxa) for entry in entries)


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
