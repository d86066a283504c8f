"""Read the manifest of a suite: one that ships with umbel, or a user's own TOML file with the same keys."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from umbel.errors import ConfigError, ManifestError
from umbel.evaluate.suites.manifest import SPLITS, Dataset, Suite

_PACKAGED = ("mpgb", "pgb", "pdllm", "gue", "nt", "nt_revised", "genomic_benchmarks", "lrb")
_SUITE_KEYS = ("name", "title", "paper", "page", "verified", "notes")
_TABLES = ("source", "defaults", "dataset")
_FILE_KEYS = ("files", "reader", "rows", "sha256")
_CHANGED_BY_USE = ("name", "group", "metric", "also", "uncertain", "notes")


def suite_names() -> tuple[str, ...]:
    """Names of the suites that ship with umbel.

    Examples
    --------
    >>> suite_names()[:2]
    ('mpgb', 'pgb')
    """
    return _PACKAGED


def load_suite(name_or_path: str | Path) -> Suite:
    """Load a suite by its name, or from a TOML file of the user's.

    Parameters
    ----------
    name_or_path
        One of :func:`suite_names`, or a path that ends in ``.toml``. ``docs/guide/suites.md`` shows the keys.

    Raises
    ------
    ConfigError
        No suite of that name, and no path of a TOML file.
    ManifestError
        With file and key: not readable, an unknown or missing key, a value that does not fit.

    Examples
    --------
    >>> load_suite("nt").dataset("H3").test.paths
    ('H3/test.fna',)
    """
    if Path(name_or_path).suffix == ".toml":
        path = Path(name_or_path)
        try:
            return _suite(path, path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise ManifestError("not UTF-8 text. Save it as UTF-8.", path) from error
        except OSError as error:
            raise ManifestError(f"cannot be read: {error.strerror}.", path) from error
    if name_or_path not in _PACKAGED:
        raise ConfigError(
            f"no suite {str(name_or_path)!r}. Name one of {', '.join(_PACKAGED)}, or a file that ends in .toml."
        )
    return _packaged(str(name_or_path))


@cache
def _packaged(name: str) -> Suite:
    text = (files("umbel.evaluate.suites") / f"{name}.toml").read_text(encoding="utf-8")
    return _suite(Path(f"{name}.toml"), text)


def _suite(path: Path, text: str) -> Suite:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"not readable as TOML: {error}.", path) from error
    _refuse_unknown(path, values, (*_SUITE_KEYS, *_TABLES), "")
    tables = values.pop("dataset", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ManifestError("dataset: write each dataset as a table [[dataset]].", path)
    defaults = {"source": values.pop("source", {}), **values.pop("defaults", {})}
    datasets = [_dataset(path, number, table, defaults) for number, table in enumerate(tables, start=1)]
    return _validated(path, Suite, {**values, "datasets": datasets}, "")


def _dataset(path: Path, number: int, table: Mapping[str, Any], defaults: Mapping[str, Any]) -> Dataset:
    where = f"dataset {number}" + (f" ({table['name']})" if isinstance(table.get("name"), str) else "")
    if "use" in table:
        return _used(path, where, table)
    facts = {**defaults, **table}
    for key in ("source", "rows"):
        if isinstance(table.get(key), dict) and isinstance(defaults.get(key), dict):
            facts[key] = {**defaults[key], **table[key]}
    shipped, reader, rows, sums = (facts.pop(key, None) for key in _FILE_KEYS)
    if not isinstance(shipped, dict):
        raise ManifestError(f'{where}, files: write a split to its path, such as test = "a/test.csv".', path)
    for key, value in (("files", shipped), ("rows", rows), ("sha256", sums)):
        if value is not None and not isinstance(value, dict):
            raise ManifestError(f"{where}, {key}: {value!r} must be a table of splits.", path)
        _refuse_unknown(path, value or {}, SPLITS, f"{where}, {key}: ")
    name = str(facts.get("name", ""))
    for split in SPLITS:
        if split in (rows or {}) and split not in shipped:
            raise ManifestError(f"{where}, rows.{split}: there is no files.{split}.", path)
        facts[split] = shipped.get(split) and {
            "paths": _paths(path, f"{where}, files.{split}", shipped[split], name),
            "reader": reader,
            "rows": (rows or {}).get(split),
            "sha256": (sums or {}).get(split),
        }
    return _validated(path, Dataset, facts, f"{where}, ")


def _used(path: Path, where: str, table: Mapping[str, Any]) -> Dataset:
    """Take a dataset of a suite that ships with umbel, with another place, metric or name."""
    _refuse_unknown(path, table, ("use", *_CHANGED_BY_USE), f"{where}: ")
    suite, _, name = str(table["use"]).partition("/")
    try:
        origin = load_suite(suite if suite in _PACKAGED else "").dataset(name)
    except ConfigError as error:
        raise ManifestError(
            f"{where}, use: {table['use']!r} is not 'suite/dataset' of a suite of umbel.", path
        ) from error
    facts = TypeAdapter(Dataset).dump_python(origin)
    facts["folder"] = f"{suite}/{origin.folder}".rstrip("/")
    facts["notes"] = (*origin.notes, *table.get("notes", ()))
    facts |= {key: table[key] for key in _CHANGED_BY_USE if key in table and key != "notes"}
    return _validated(path, Dataset, facts, f"{where}, ")


def _paths(path: Path, where: str, value: Any, name: str) -> tuple[str, ...]:
    """Paths of a split, with {name}, {head} and {tail} (around the first dot of the name) filled in."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ManifestError(f"{where}: {value!r} must be a path in quotes, or a list of them.", path)
    head, _, tail = name.partition(".")
    try:
        filled = tuple(text.format(name=name, head=head, tail=tail) for text in texts)
    except (KeyError, IndexError, ValueError) as error:
        raise ManifestError(f"{where}: only {{name}}, {{head}} and {{tail}} can be filled in.", path) from error
    for text in filled:
        if text.startswith("/") or ".." in Path(text).parts:
            raise ManifestError(f"{where}: {text!r} leaves the suite's folder. Give a path inside it.", path)
    return filled


def _validated(path: Path, kind: type, values: Mapping[str, Any], where: str) -> Any:
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        lines = [
            f"{where}{'.'.join(str(part) for part in item['loc']) or kind.__name__.lower()}: {item['msg']}"
            for item in error.errors()
        ]
        raise ManifestError("; ".join(lines) + ".", path) from error


def _refuse_unknown(path: Path, values: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    if unknown := [str(key) for key in values if key not in known]:
        raise ManifestError(
            f"{where}unknown key {', '.join(repr(key) for key in unknown)}. The keys are {', '.join(known)}.", path
        )
